//! Roles and bindings against requests.

use serde_json::json;

use super::*;
use crate::rbac::uncovered;

fn policy() -> Policy {
    let mut policy = Policy::default();
    for object in [
        json!({"kind": "ClusterRole", "metadata": {"name": "reader"}, "rules": [
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
            {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/metrics/*"]}]}),
        json!({"kind": "Role", "metadata": {"name": "one", "namespace": "a"}, "rules": [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["secrets"], "resourceNames": ["x"]}]}),
        json!({"kind": "ClusterRoleBinding", "metadata": {"name": "all"}, "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "Group", "name": "people"}]}),
        json!({"kind": "RoleBinding", "metadata": {"name": "b", "namespace": "a"}, "roleRef": {"kind": "Role", "name": "one"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot"}, {"kind": "User", "name": "eve"}]}),
    ] {
        policy.put(&object);
    }
    policy
}

#[test]
fn only_what_a_rule_allows_is_allowed() {
    let policy = policy();
    let people = ["people".to_owned()];
    let cases: &[(&str, &[String], Attributes<'_>, bool)] = &[
        (
            "ann",
            &people,
            Attributes { verb: "get", resource: "pods", namespace: "z", name: "p", ..Default::default() },
            true,
        ),
        (
            "ann",
            &people,
            Attributes { verb: "get", resource: "pods", subresource: "log", ..Default::default() },
            true,
        ),
        (
            "ann",
            &people,
            Attributes { verb: "get", resource: "pods", subresource: "exec", ..Default::default() },
            false,
        ),
        ("ann", &people, Attributes { verb: "delete", resource: "pods", ..Default::default() }, false),
        (
            "ann",
            &people,
            Attributes { verb: "get", resource: "pods", group: "x", ..Default::default() },
            false,
        ),
        ("ann", &people, Attributes { verb: "get", path: "/metrics/cadvisor", ..Default::default() }, true),
        ("ann", &people, Attributes { verb: "get", path: "/version", ..Default::default() }, false),
        ("ann", &[], Attributes { verb: "get", resource: "pods", ..Default::default() }, false),
        (
            "eve",
            &[],
            Attributes {
                verb: "update",
                resource: "secrets",
                namespace: "a",
                name: "x",
                ..Default::default()
            },
            true,
        ),
        (
            "eve",
            &[],
            Attributes {
                verb: "update",
                resource: "secrets",
                namespace: "a",
                name: "y",
                ..Default::default()
            },
            false,
        ),
        (
            "eve",
            &[],
            Attributes {
                verb: "update",
                resource: "secrets",
                namespace: "b",
                name: "x",
                ..Default::default()
            },
            false,
        ),
        (
            "system:serviceaccount:a:bot",
            &[],
            Attributes { verb: "get", resource: "secrets", namespace: "a", name: "x", ..Default::default() },
            true,
        ),
        (
            "system:serviceaccount:b:bot",
            &[],
            Attributes { verb: "get", resource: "secrets", namespace: "a", name: "x", ..Default::default() },
            false,
        ),
    ];
    for (name, groups, wanted, expected) in cases {
        assert_eq!(policy.allows(Who { name, groups }, wanted).is_some(), *expected, "{name} {wanted:?}");
    }
}

#[test]
fn removed_bindings_no_longer_count() {
    let mut policy = policy();
    policy.remove("RoleBinding", "a", "b");
    let wanted =
        Attributes { verb: "get", resource: "secrets", namespace: "a", name: "x", ..Default::default() };
    assert_eq!(policy.allows(Who { name: "eve", groups: &[] }, &wanted), None);
}

#[test]
fn a_kind_is_forgotten_without_its_namespaced_or_cluster_wide_sibling() {
    let mut policy = policy();
    let (roles, bindings) = (policy.roles.len(), policy.bindings.len());
    policy.remove_all("ClusterRole");
    policy.remove_all("ClusterRoleBinding");
    assert!(policy.roles.keys().all(|(namespace, _)| !namespace.is_empty()));
    assert!(policy.bindings.keys().all(|namespace| !namespace.is_empty()));
    assert!(policy.roles.len() < roles && policy.bindings.len() < bindings);
}

#[test]
fn nobody_grants_what_he_does_not_have() {
    let owned = [Rule::read(&json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}))];
    let wanted = [Rule::read(&json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}))];
    assert_eq!(uncovered(&owned, &wanted), [r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#]);
    let star = [Rule::read(&json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}))];
    assert!(uncovered(&star, &wanted).is_empty());
    assert!(!uncovered(&wanted, &star).is_empty());
}
