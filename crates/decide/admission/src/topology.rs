//! PodTopologyLabels: pods carry the zone and region of their node.

use serde_json::{Value, json};

const LABELS: [&str; 2] = ["topology.k8s.io/zone", "topology.k8s.io/region"];

/// Gives a pod on `node` the labels that it does not have itself.
pub fn label(pod: &mut Value, node: &Value) {
    for label in LABELS {
        let value = &node["metadata"]["labels"][label];
        if !value.is_string() || pod["metadata"]["labels"][label].is_string() {
            continue;
        }
        if !pod["metadata"]["labels"].is_object() {
            pod["metadata"]["labels"] = json!({});
        }
        pod["metadata"]["labels"][label] = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_labelled_like_their_node() {
        let node = json!({"metadata": {"labels": {LABELS[0]: "a", LABELS[1]: "b", "other": "c"}}});
        let mut pod = json!({"metadata": {"labels": {LABELS[0]: "own"}}});
        label(&mut pod, &node);
        assert_eq!(pod["metadata"]["labels"], json!({LABELS[0]: "own", LABELS[1]: "b"}));
        let mut bare = json!({"metadata": {}});
        label(&mut bare, &json!({"metadata": {}}));
        assert_eq!(bare, json!({"metadata": {}}));
    }
}
