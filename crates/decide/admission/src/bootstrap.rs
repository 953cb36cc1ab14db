//! The roles and bindings that every cluster begins with.

use serde_json::{Value, json};

use crate::bootstrap_table::{BINDINGS, Binding, ROLES, Role};
use crate::rbac::Rule;

/// Label of everything made here.
const LABEL: &str = "kubernetes.io/bootstrapping";
/// Objects with this annotation are brought up to date at each start.
pub(crate) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
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

    /// What v1.28 did not have and v1.37 has (`+`), or the other way round (`-`), and why.
    const LATER: &[(&str, &[&str])] = &[
        (
            "dynamic resource allocation is stable (v1.34)",
            &[
                "system:aggregate-to-edit + create,delete,deletecollection,patch,update resource.k8s.io resourceclaims,resourceclaimtemplates",
                "system:aggregate-to-view + get,list,watch resource.k8s.io resourceclaims,resourceclaims/status,resourceclaimtemplates",
                "system:kube-scheduler + get,list,watch resource.k8s.io deviceclasses",
                "system:kube-scheduler + create,delete,get,list,patch,update,watch resource.k8s.io resourceclaims",
                "system:kube-scheduler + get,list,patch,update,watch resource.k8s.io resourceclaims/status",
                "system:kube-scheduler + get,list,patch,update,watch core pods/finalizers",
                "system:kube-scheduler + get,list,watch resource.k8s.io resourceslices",
                "system:node + get resource.k8s.io resourceclaims",
                "system:node + deletecollection resource.k8s.io resourceslices",
            ],
        ),
        (
            "the scheduler counts attached volumes",
            &["system:kube-scheduler + get,list,watch storage.k8s.io volumeattachments"],
        ),
        (
            "parts of the agent's API have subresources of their own (v1.33)",
            &["system:kubelet-api-admin + * core nodes/configz,nodes/healthz,nodes/pods"],
        ),
        (
            "agents read service accounts for providers of image pull credentials (v1.34)",
            &["system:node + get core serviceaccounts"],
        ),
        (
            "trust bundles are stable (v1.37), and agents show them to pods",
            &["system:node + get,list,watch certificates.k8s.io clustertrustbundles"],
        ),
        (
            "certificates of pods are stable (v1.37), and agents ask for them",
            &["system:node + create,get,list,watch certificates.k8s.io podcertificaterequests"],
        ),
        (
            "ServiceCIDRs are stable (v1.33), ClusterCIDRs are gone (v1.29)",
            &[
                "system:node-proxier + list,watch networking.k8s.io servicecidrs",
                "system:controller:node-controller - create,get,list,update networking.k8s.io clustercidrs",
            ],
        ),
        (
            "controllers that list also watch (v1.30)",
            &[
                "system:controller:endpoint-controller - create,delete,get,list,update core endpoints",
                "system:controller:endpoint-controller + create,delete,get,list,update,watch core endpoints",
                "system:controller:endpointslice-controller - create,delete,get,list,update discovery.k8s.io endpointslices",
                "system:controller:endpointslice-controller + create,delete,get,list,update,watch discovery.k8s.io endpointslices",
                "system:controller:endpointslicemirroring-controller - create,delete,get,list,update discovery.k8s.io endpointslices",
                "system:controller:endpointslicemirroring-controller + create,delete,get,list,update,watch discovery.k8s.io endpointslices",
                "system:controller:namespace-controller - delete,deletecollection,get,list * *",
                "system:controller:namespace-controller + delete,deletecollection,get,list,watch * *",
                "system:controller:node-controller - delete,get,list,patch,update core nodes",
                "system:controller:node-controller + delete,get,list,patch,update,watch core nodes",
                "system:controller:node-controller - delete,list core pods",
                "system:controller:node-controller - get core pods",
                "system:controller:node-controller + delete,get,list,watch core pods",
                "system:controller:pod-garbage-collector - get,list core nodes",
                "system:controller:pod-garbage-collector + get,list,watch core nodes",
            ],
        ),
        (
            "volume plugins that needed more are gone (v1.31)",
            &[
                "system:controller:expand-controller - get,list,watch storage.k8s.io storageclasses",
                "system:controller:expand-controller - get core endpoints,services",
                "system:controller:expand-controller - get core secrets",
                "system:controller:persistent-volume-binder - create,delete,get,update core endpoints",
                "system:controller:persistent-volume-binder - create,delete,get core services",
                "system:controller:persistent-volume-binder - get core secrets",
                "system:controller:persistent-volume-binder - get,list core nodes",
                "system:controller:persistent-volume-binder + list,watch core nodes",
            ],
        ),
        (
            "the autoscaler may keep what it asks for (v1.36)",
            &[
                "system:controller:horizontal-pod-autoscaler - list core pods",
                "system:controller:horizontal-pod-autoscaler + list,watch core pods",
                "system:controller:horizontal-pod-autoscaler - list metrics.k8s.io pods",
                "system:controller:horizontal-pod-autoscaler + list,watch metrics.k8s.io pods",
                "system:controller:horizontal-pod-autoscaler - get,list custom.metrics.k8s.io *",
                "system:controller:horizontal-pod-autoscaler + get,list,watch custom.metrics.k8s.io *",
                "system:controller:horizontal-pod-autoscaler - get,list external.metrics.k8s.io *",
                "system:controller:horizontal-pod-autoscaler + get,list,watch external.metrics.k8s.io *",
            ],
        ),
        (
            "claims tell since when nobody uses them (v1.36)",
            &["system:controller:pvc-protection-controller + update core persistentvolumeclaims/status"],
        ),
        (
            "claims of StatefulSets can be owned by their pods (v1.32)",
            &[
                "system:controller:statefulset-controller - create,get core persistentvolumeclaims",
                "system:controller:statefulset-controller + create,get,list,watch core persistentvolumeclaims",
                "system:controller:statefulset-controller + update core pods/finalizers",
            ],
        ),
    ];
    /// Controllers that have come since.
    const NEW: &[&str] = &[
        "device-taint-eviction-controller",
        "legacy-service-account-token-cleaner",
        "resource-claim-controller",
        "selinux-warning-controller",
        "service-cidrs-controller",
        "validatingadmissionpolicy-status-controller",
        "volumeattributesclass-protection-controller",
    ];

    /// A rule as rows have it.
    fn row(rule: &Value) -> String {
        let words = |field: &str| -> Option<String> {
            let words: Vec<&str> = rule[field].as_array()?.iter().filter_map(Value::as_str).collect();
            Some(
                words
                    .iter()
                    .map(|word| if word.is_empty() { "core" } else { word })
                    .collect::<Vec<_>>()
                    .join(","),
            )
        };
        let parts = ["verbs", "apiGroups", "resources", "resourceNames", "nonResourceURLs"];
        parts.iter().filter_map(|field| words(field)).collect::<Vec<_>>().join(" ")
    }

    /// Everything about an object that is compared; the rules of aggregated roles are their parts'.
    fn lines(object: &Value) -> Vec<String> {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let mut lines: Vec<String> = Vec::new();
        if object["aggregationRule"].is_null() {
            lines.extend(object["rules"].as_array().into_iter().flatten().map(row));
        }
        lines.extend(object["subjects"].as_array().into_iter().flatten().map(ToString::to_string));
        for field in ["aggregationRule", "roleRef"] {
            lines.extend((!object[field].is_null()).then(|| object[field].to_string()));
        }
        let metadata = &object["metadata"];
        lines.push(format!("{} {}", metadata["labels"], metadata["annotations"]));
        lines.into_iter().map(|line| format!("{name} {} {line}", metadata["namespace"])).collect()
    }

    /// Compares with the roles that v1.28 published where they lie beside the project.
    #[test]
    fn the_roles_are_upstreams() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../../shared/reference/rbac-bootstrap-1.28");
        let Ok(files) = std::fs::read_dir(folder) else { return };
        let mut published: Vec<String> = Vec::new();
        for file in files {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("readable");
            let list: Value = serde_saphyr::from_str(&text).expect("YAML");
            published.extend(list["items"].as_array().expect("items").iter().flat_map(lines));
        }
        let new = |one: &Value| {
            let name =
                one["metadata"]["name"].as_str().and_then(|name| name.strip_prefix("system:controller:"));
            name.is_some_and(|name| NEW.contains(&name))
        };
        let own: Vec<String> = objects().iter().filter(|one| !new(one)).flat_map(lines).collect();
        let only = |some: &[String], others: &[String], sign: &str| -> Vec<String> {
            let missing = some.iter().filter(|line| !others.contains(line));
            missing.map(|line| line.replacen(" null ", &format!(" {sign} "), 1)).collect()
        };
        let mut differences = [only(&own, &published, "+"), only(&published, &own, "-")].concat();
        let mut known: Vec<String> =
            LATER.iter().flat_map(|(_, lines)| lines.iter().map(|line| (*line).to_owned())).collect();
        differences.sort();
        known.sort();
        assert_eq!(differences, known);
        assert_eq!(objects().iter().filter(|one| new(one)).count(), 2 * NEW.len());
    }
}
