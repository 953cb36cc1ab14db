//! ClusterRoles that are made of others
//! (kube-controller-manager: pkg/controller/clusterroleaggregation, v1.37).

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use plimsoll_meta::selector::Labels;
use serde_json::json;

use crate::action::Action;

/// Gives a role the rules of all that its selectors name.
pub fn decide(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<Action> {
    let Some(aggregation) = &role.aggregation_rule else { return Vec::new() };
    let selectors: Vec<_> = aggregation.cluster_role_selectors.iter().flatten().map(Labels::from).collect();
    let selected = |one: &&Arc<ClusterRole>| {
        let labels = one.metadata.labels.as_ref();
        one.metadata.name != role.metadata.name
            && selectors.iter().any(|selector| selector.matches_map(labels))
    };
    let mut parts: Vec<_> = all.iter().filter(selected).collect();
    parts.sort_by(|one, two| one.metadata.name.cmp(&two.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in parts.iter().flat_map(|part| part.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    if role.rules.as_deref().unwrap_or_default() == rules {
        return Vec::new();
    }
    vec![Action::patch(role, json!({ "rules": rules }))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn rules_are_gathered_once_each() {
        let role = |name: &str, label: &str, verb: &str| -> Arc<ClusterRole> {
            Arc::new(object(json!({"metadata": {"name": name, "labels": {"to": label}},
                "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})))
        };
        let whole: ClusterRole = object(json!({"metadata": {"name": "view"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]}, "rules": []}));
        let all = [
            role("b", "view", "list"),
            role("a", "view", "get"),
            role("c", "view", "get"),
            role("d", "edit", "x"),
        ];
        let got = summary(&decide(&whole, &all)[0]);
        let rule = |verb: &str| format!(r#"{{"apiGroups":[""],"resources":["pods"],"verbs":["{verb}"]}}"#);
        assert_eq!(got, format!(r#"patch ClusterRole view {{"rules":[{},{}]}}"#, rule("get"), rule("list")));
    }
}
