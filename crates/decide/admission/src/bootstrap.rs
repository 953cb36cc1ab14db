//! The roles and bindings that every cluster begins with.

use serde_json::{Value, json};

use crate::bootstrap_table::{BINDINGS, Binding, ROLES, Role};
use crate::rbac::Rule;

/// Label of everything made here.
const LABEL: &str = "kubernetes.io/bootstrapping";
/// Objects with this annotation are brought up to date at each start.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const GROUP: &str = "rbac.authorization.k8s.io";

/// All default Roles, ClusterRoles, RoleBindings and ClusterRoleBindings.
///
/// Aggregated roles come with the rules they are aggregated from, so that they hold before any
/// controller runs.
pub fn objects() -> Vec<Value> {
    ROLES.iter().map(role).chain(BINDINGS.iter().map(binding)).collect()
}

/// What node agents may do beside what their pods need: the rules of `system:node`.
pub fn node_rules() -> Vec<Rule> {
    let role = ROLES.iter().find(|role| role.name == "system:node");
    role.map(|role| role.rules.iter().map(|text| Rule::read(&rule(text))).collect()).unwrap_or_default()
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let kind = if namespace.is_empty() { format!("Cluster{kind}") } else { kind.to_owned() };
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "annotations": {AUTOUPDATE: "true"}, "labels": {LABEL: "rbac-defaults"}},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

fn role(row: &Role) -> Value {
    let mut role = object("Role", row.namespace, row.name);
    for target in row.into {
        role["metadata"]["labels"][aggregate(target)] = json!("true");
    }
    let parts: Vec<&str> = if row.from.is_empty() { row.rules.to_vec() } else { aggregated(row) };
    role["rules"] = parts.into_iter().map(rule).collect();
    if !row.from.is_empty() {
        let selectors: Vec<Value> =
            row.from.iter().map(|from| json!({"matchLabels": {aggregate(from): "true"}})).collect();
        role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
    }
    role
}

fn aggregate(target: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{target}")
}

/// Rules of all roles that flow into this one, directly or through others.
fn aggregated(row: &Role) -> Vec<&'static str> {
    let mut found: Vec<&'static str> = Vec::new();
    for part in ROLES.iter().filter(|part| part.into.iter().any(|target| row.from.contains(target))) {
        let rules = if part.from.is_empty() { part.rules.to_vec() } else { aggregated(part) };
        for rule in rules {
            if !found.contains(&rule) {
                found.push(rule);
            }
        }
    }
    found
}

fn rule(text: &'static str) -> Value {
    let list = |part: &str| -> Vec<String> {
        part.split(',').map(|one| if one == "core" { String::new() } else { one.to_owned() }).collect()
    };
    match text.split(' ').collect::<Vec<_>>()[..] {
        [verbs, paths] => json!({"verbs": list(verbs), "nonResourceURLs": list(paths)}),
        [verbs, groups, resources] => {
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)})
        }
        [verbs, groups, resources, names] => {
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), "resourceNames": list(names)})
        }
        _ => unreachable!("a test reads every rule"),
    }
}

fn binding(row: &Binding) -> Value {
    let mut binding = object("RoleBinding", row.namespace, row.name);
    let (kind, name) = row.role.split_once(' ').expect("a test reads every row");
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
    binding["subjects"] = row.subjects.iter().map(|subject| subject_of(subject)).collect();
    binding
}

fn subject_of(text: &str) -> Value {
    let (kind, name) = text.split_once(':').expect("a test reads every row");
    match kind {
        "user" => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        "group" => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        _ => {
            let (namespace, name) = name.split_once('/').expect("a test reads every row");
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rbac::{Attributes, Policy, Who};

    #[test]
    fn every_row_is_read_and_names_are_unique() {
        let objects = objects();
        let mut keys: Vec<String> = objects
            .iter()
            .map(|one| {
                format!("{} {} {}", one["kind"], one["metadata"]["namespace"], one["metadata"]["name"])
            })
            .collect();
        keys.sort();
        let before = keys.len();
        keys.dedup();
        assert_eq!(keys.len(), before);
        assert!(before > 100);
    }

    #[test]
    fn the_usual_people_can_do_the_usual_things() {
        let mut policy = Policy::default();
        for one in objects() {
            policy.put(&one);
        }
        policy.put(&json!({"kind": "RoleBinding", "metadata": {"name": "x", "namespace": "a"},
            "roleRef": {"kind": "ClusterRole", "name": "edit"}, "subjects": [{"kind": "User", "name": "ed"}]}));
        let masters = ["system:masters".to_owned()];
        let anybody = ["system:authenticated".to_owned()];
        let pods = |verb| Attributes { verb, resource: "pods", namespace: "a", ..Attributes::default() };
        for (name, groups, wanted, expected) in [
            ("root", &masters[..], pods("delete"), true),
            ("ed", &anybody[..], pods("create"), true),
            ("ed", &anybody[..], Attributes { namespace: "b", ..pods("create") }, false),
            (
                "ed",
                &anybody[..],
                Attributes {
                    verb: "create",
                    group: "rbac.authorization.k8s.io",
                    resource: "roles",
                    namespace: "a",
                    ..Attributes::default()
                },
                false,
            ),
            (
                "system:kube-scheduler",
                &anybody[..],
                Attributes {
                    verb: "create",
                    resource: "pods",
                    subresource: "binding",
                    namespace: "a",
                    ..Attributes::default()
                },
                true,
            ),
            (
                "nobody",
                &anybody[..],
                Attributes {
                    verb: "create",
                    group: "authorization.k8s.io",
                    resource: "selfsubjectaccessreviews",
                    ..Attributes::default()
                },
                true,
            ),
            (
                "nobody",
                &anybody[..],
                Attributes { verb: "get", path: "/version", ..Attributes::default() },
                true,
            ),
            ("nobody", &anybody[..], pods("list"), false),
        ] {
            assert_eq!(policy.allows(Who { name, groups }, &wanted).is_some(), expected, "{name} {wanted:?}");
        }
    }
}
