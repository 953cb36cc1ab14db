//! How default roles and bindings that are there already are brought up to date: what is missing is added,
//! what users added stays (component-helpers: auth/rbac/reconciliation, v1.37).

use serde_json::{Map, Value};

use crate::bootstrap::AUTOUPDATE;
use crate::rbac::{Rule, missing};

/// What becomes of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Reconciled {
    /// It stays as it is.
    Kept,
    /// It becomes this.
    Updated(Value),
    /// It is deleted and made anew: a binding to another role.
    Replaced,
}

/// Holds what is there against the default.
pub fn reconcile(existing: &Value, default: &Value) -> Reconciled {
    if existing["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return Reconciled::Kept;
    }
    let mut wanted = existing.clone();
    for field in ["labels", "annotations"] {
        add_entries(&mut wanted["metadata"], field, &default["metadata"][field]);
    }
    if default["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding")) {
        if existing["roleRef"] != default["roleRef"] {
            return Reconciled::Replaced;
        }
        add_elements(&mut wanted, "subjects", &default["subjects"]);
    } else if default["aggregationRule"].is_object() {
        // The rules of such a role are the aggregating controller's.
        add_selectors(&mut wanted, &default["aggregationRule"]);
    } else {
        let more = missing(&Rule::read_all(existing), &Rule::read_all(default));
        add_elements(&mut wanted, "rules", &more.iter().map(Rule::to_value).collect());
    }
    match wanted == *existing {
        true => Reconciled::Kept,
        false => Reconciled::Updated(wanted),
    }
}

fn add_entries(metadata: &mut Value, field: &str, default: &Value) {
    let mut entries: Map<String, Value> = default.as_object().cloned().unwrap_or_default();
    entries.extend(metadata[field].as_object().cloned().unwrap_or_default());
    if !entries.is_empty() {
        metadata[field] = Value::Object(entries);
    }
}

fn add_elements(object: &mut Value, field: &str, default: &Value) {
    let mut elements = object[field].as_array().cloned().unwrap_or_default();
    for element in default.as_array().into_iter().flatten() {
        if !elements.contains(element) {
            elements.push(element.clone());
        }
    }
    if !elements.is_empty() {
        object[field] = Value::Array(elements);
    }
}

fn add_selectors(role: &mut Value, default: &Value) {
    if !role["aggregationRule"].is_object() {
        role["aggregationRule"] = default.clone();
        return;
    }
    add_elements(&mut role["aggregationRule"], "clusterRoleSelectors", &default["clusterRoleSelectors"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn role(annotations: Value, rules: Value) -> Value {
        json!({"kind": "ClusterRole", "metadata": {"name": "r", "annotations": annotations,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"}}, "rules": rules})
    }

    fn get(resources: &[&str]) -> Value {
        json!({"verbs": ["get"], "apiGroups": [""], "resources": resources})
    }

    #[test]
    fn missing_rules_come_back_and_others_stay() {
        let default = role(json!({AUTOUPDATE: "true"}), json!([get(&["pods", "nodes"])]));
        let extra = json!({"verbs": ["*"], "apiGroups": ["x"], "resources": ["*"]});
        let there = role(json!({"mine": "yes"}), json!([extra, get(&["pods"])]));
        let Reconciled::Updated(updated) = reconcile(&there, &default) else { panic!("updated") };
        assert_eq!(updated["rules"], json!([extra, get(&["pods"]), get(&["nodes"])]));
        assert_eq!(updated["metadata"]["annotations"], json!({AUTOUPDATE: "true", "mine": "yes"}));
        assert_eq!(reconcile(&updated, &default), Reconciled::Kept);
        let protected = role(json!({AUTOUPDATE: "false"}), json!([]));
        assert_eq!(reconcile(&protected, &default), Reconciled::Kept);
        let all = role(
            json!({AUTOUPDATE: "true"}),
            json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]),
        );
        assert_eq!(reconcile(&all, &default), Reconciled::Kept, "what is covered is not missing");
    }

    #[test]
    fn aggregated_rules_are_left_to_their_controller() {
        let selector = |name: &str| json!({"matchLabels": {name: "true"}});
        let rule = |names: &[&str]| json!({"clusterRoleSelectors": names.iter().map(|name| selector(name)).collect::<Vec<_>>()});
        let mut default = role(json!({}), json!([get(&["pods"])]));
        default["aggregationRule"] = rule(&["a"]);
        let mut there = role(json!({}), json!([get(&["secrets"])]));
        there["aggregationRule"] = rule(&["b"]);
        let Reconciled::Updated(updated) = reconcile(&there, &default) else { panic!("updated") };
        assert_eq!((&updated["aggregationRule"], &updated["rules"]), (&rule(&["b", "a"]), &there["rules"]));
        there.as_object_mut().expect("object").remove("aggregationRule");
        let Reconciled::Updated(updated) = reconcile(&there, &default) else { panic!("updated") };
        assert_eq!(updated["aggregationRule"], rule(&["a"]));
    }

    #[test]
    fn bindings_get_their_subjects_back_and_keep_others() {
        let binding = |role: &str, names: &[&str]| {
            let subjects: Vec<Value> =
                names.iter().map(|name| json!({"kind": "User", "name": name})).collect();
            json!({"kind": "ClusterRoleBinding", "metadata": {"name": "b"}, "roleRef": {"name": role}, "subjects": subjects})
        };
        let default = binding("r", &["a", "b"]);
        assert_eq!(
            reconcile(&binding("r", &["c", "b"]), &default),
            Reconciled::Updated(binding("r", &["c", "b", "a"]))
        );
        assert_eq!(reconcile(&binding("r", &["b", "a"]), &default), Reconciled::Kept);
        assert_eq!(reconcile(&binding("other", &["a", "b"]), &default), Reconciled::Replaced);
    }
}
