//! How long a node may go by what it last read of Secrets and ConfigMaps: the longer, the more nodes there
//! are (kube-controller-manager: pkg/controller/ttl, v1.37).

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::action::Action;

/// The annotation that tells it, in seconds.
const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Sizes of clusters from and to, and the seconds that go with them. They overlap, so that a cluster near a
/// border does not change its mind all the time.
const STEPS: [(usize, usize, u32); 5] =
    [(0, 100, 0), (90, 500, 15), (450, 1000, 30), (900, 2000, 60), (1800, usize::MAX, 300)];

/// On which step the cluster is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size(usize);

impl Size {
    /// Takes in how many nodes there are.
    pub fn count(&mut self, nodes: usize) {
        while nodes > STEPS[self.0].1 {
            self.0 += 1;
        }
        while nodes < STEPS[self.0].0 {
            self.0 -= 1;
        }
    }

    /// What to do about a node.
    pub fn decide(self, node: &Node) -> Vec<Action> {
        let (_, _, seconds) = STEPS[self.0];
        let told = node.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
        if told.and_then(|text| text.parse().ok()) == Some(seconds) {
            return Vec::new();
        }
        vec![Action::patch(node, json!({"metadata": {"annotations": {ANNOTATION: seconds.to_string()}}}))]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn seconds_grow_with_the_cluster_and_do_not_waver() {
        let mut size = Size::default();
        let cases = [
            (1, 0),
            (100, 0),
            (101, 15),
            (95, 15),
            (89, 0),
            (501, 30),
            (460, 30),
            (449, 15),
            (3000, 300),
            (1, 0),
        ];
        for (nodes, seconds) in cases {
            size.count(nodes);
            let node: Node = object(json!({"metadata": {"name": "n"}}));
            let line =
                format!(r#"patch Node n {{"metadata":{{"annotations":{{"{ANNOTATION}":"{seconds}"}}}}}}"#);
            assert_eq!(size.decide(&node).iter().map(summary).collect::<Vec<_>>(), [line], "{nodes}");
        }
    }

    #[test]
    fn a_node_that_knows_is_left_alone() {
        for (annotation, writes) in [(json!("0"), 0), (json!("15"), 1), (json!("x"), 1), (Value::Null, 1)] {
            let node: Node =
                object(json!({"metadata": {"name": "n", "annotations": {ANNOTATION: annotation}}}));
            assert_eq!(Size::default().decide(&node).len(), writes, "{annotation}");
        }
    }
}
