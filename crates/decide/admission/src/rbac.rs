//! Role based access control.
//!
//! Source of the rules: plugin/pkg/auth/authorizer/rbac and pkg/registry/rbac/validation, v1.37.

use std::collections::HashMap;

use plimsoll_meta::selector::{FieldRequirement, Requirement};
use serde_json::{Value, json};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `create`, … or the lower case HTTP method for other paths.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Version of the group.
    pub version: &'a str,
    /// Plural name; empty for other paths.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// Path of a request that is about no resource.
    pub path: &'a str,
    /// What a request about a collection selects by fields.
    pub fields: &'a [FieldRequirement],
    /// What a request about a collection selects by labels.
    pub labels: &'a [Requirement],
}

/// Who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// User name.
    pub name: &'a str,
    /// Groups.
    pub groups: &'a [String],
}

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, or `*`.
    pub groups: Vec<String>,
    /// Resources, `resource/subresource`, `*/subresource` or `*`.
    pub resources: Vec<String>,
    /// Names; none means all.
    pub names: Vec<String>,
    /// Paths for other requests; a trailing `*` stands for any rest.
    pub paths: Vec<String>,
}

impl Rule {
    /// Reads a `PolicyRule`.
    pub fn read(value: &Value) -> Self {
        let texts = |field: &str| {
            value[field]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            paths: texts("nonResourceURLs"),
        }
    }

    /// The rule as roles have it.
    pub fn to_value(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        for (field, values) in [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ] {
            if !values.is_empty() {
                rule[field] = json!(values);
            }
        }
        rule
    }

    /// The rules of a Role or ClusterRole.
    pub fn read_all(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::read).collect()
    }

    /// Does the rule allow it?
    pub fn allows(&self, wanted: &Attributes<'_>) -> bool {
        if !has(&self.verbs, wanted.verb) {
            return false;
        }
        if wanted.resource.is_empty() {
            return self.paths.iter().any(|path| path_covers(path, wanted.path));
        }
        has(&self.groups, wanted.group)
            && self
                .resources
                .iter()
                .any(|pattern| resource_covers(pattern, wanted.resource, wanted.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == wanted.name))
    }

    /// Is everything that `other` allows allowed by `self` alone? `other` is a single verb,
    /// group, resource, name or path (see [`Rule::split`]).
    fn covers(&self, other: &Rule) -> bool {
        let all = |mine: &[String], theirs: &[String]| theirs.iter().all(|one| has(mine, one));
        if !all(&self.verbs, &other.verbs) {
            return false;
        }
        if !other.paths.is_empty() {
            return other.paths.iter().all(|path| self.paths.iter().any(|mine| path_covers(mine, path)));
        }
        let resources = other.resources.iter().all(|wanted| {
            let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
            self.resources.iter().any(|mine| resource_covers(mine, resource, subresource))
        });
        let names = self.names.is_empty() || (!other.names.is_empty() && all(&self.names, &other.names));
        all(&self.groups, &other.groups) && resources && names
    }

    /// Rules of one verb, group, resource, name or path each that together say the same.
    fn split(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for path in &self.paths {
                parts.push(Rule { verbs: vec![verb.clone()], paths: vec![path.clone()], ..Rule::default() });
            }
            for group in &self.groups {
                for resource in &self.resources {
                    let part = Rule {
                        verbs: vec![verb.clone()],
                        groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Rule::default()
                    };
                    match self.names.is_empty() {
                        true => parts.push(part),
                        false => parts.extend(
                            self.names.iter().map(|name| Rule { names: vec![name.clone()], ..part.clone() }),
                        ),
                    }
                }
            }
        }
        parts
    }
}

/// The wanted rules that the owned ones do not cover, as upstream writes them in its refusal.
pub fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<String> {
    let mut missing: Vec<String> = missing(owned, wanted).iter().map(written).collect();
    missing.sort();
    missing.dedup();
    missing
}

/// The wanted rules that the owned ones do not cover, each for one verb of one thing.
pub fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let covered = |part: &Rule| owned.iter().any(|rule| rule.covers(part));
    wanted.iter().flat_map(Rule::split).filter(|part| !covered(part)).collect()
}

fn written(rule: &Rule) -> String {
    let list = |name: &str, values: &[String]| {
        let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        if quoted.is_empty() { None } else { Some(format!("{name}:[{}]", quoted.join(" "))) }
    };
    let parts = [
        list("APIGroups", &rule.groups),
        list("Resources", &rule.resources),
        list("ResourceNames", &rule.names),
        list("NonResourceURLs", &rule.paths),
        list("Verbs", &rule.verbs),
    ];
    format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

fn resource_covers(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => pattern == resource && subresource.is_empty(),
        Some((left, right)) => {
            (left == "*" || left == resource) && right == subresource && !subresource.is_empty()
        }
    }
}

fn path_covers(pattern: &str, path: &str) -> bool {
    pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix))
}

/// All roles and bindings, indexed by namespace.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Rules by (namespace, name); cluster roles have the empty namespace.
    roles: HashMap<(String, String), Vec<Rule>>,
    /// Bindings by (namespace, name); cluster-wide ones have the empty namespace.
    bindings: HashMap<String, HashMap<String, Binding>>,
}

#[derive(Clone, Debug)]
struct Binding {
    subjects: Vec<Subject>,
    /// Namespace (empty for a ClusterRole) and name.
    role: (String, String),
    text: String,
}

#[derive(Clone, Debug)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

impl Subject {
    fn read(value: &Value, namespace: &str) -> Option<Self> {
        let name = value["name"].as_str()?.to_owned();
        match value["kind"].as_str()? {
            "User" => Some(Self::User(name)),
            "Group" => Some(Self::Group(name)),
            "ServiceAccount" => {
                let namespace = value["namespace"].as_str().unwrap_or(namespace).to_owned();
                Some(Self::Account { namespace, name })
            }
            _ => None,
        }
    }

    fn is(&self, who: Who<'_>) -> bool {
        match self {
            Self::User(name) => name == who.name,
            Self::Group(name) => who.groups.iter().any(|group| group == name),
            Self::Account { namespace, name } => who
                .name
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.split_once(':'))
                .is_some_and(|(found, account)| found == namespace && account == name),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::User(name) => format!("User {name:?}"),
            Self::Group(name) => format!("Group {name:?}"),
            Self::Account { namespace, name } => format!("ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

impl Policy {
    /// Takes a role or binding in, in place of an older version of it.
    pub fn put(&mut self, object: &Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text("namespace"), text("name"));
        match object["kind"].as_str().unwrap_or_default() {
            "Role" | "ClusterRole" => drop(self.roles.insert((namespace, name), Rule::read_all(object))),
            "RoleBinding" | "ClusterRoleBinding" => {
                let binding = Binding::read(object, &namespace, &name);
                self.bindings.entry(namespace).or_default().insert(name, binding);
            }
            _ => {}
        }
    }

    /// Forgets a role or binding.
    pub fn remove(&mut self, kind: &str, namespace: &str, name: &str) {
        match kind {
            "Role" | "ClusterRole" => drop(self.roles.remove(&(namespace.to_owned(), name.to_owned()))),
            _ => {
                if let Some(bindings) = self.bindings.get_mut(namespace) {
                    bindings.remove(name);
                }
            }
        }
    }

    /// Forgets all roles or bindings of one kind.
    pub fn remove_all(&mut self, kind: &str) {
        let clustered = kind.starts_with("Cluster");
        match kind {
            "Role" | "ClusterRole" => {
                self.roles.retain(|(namespace, _), _| namespace.is_empty() != clustered)
            }
            _ => self.bindings.retain(|namespace, _| namespace.is_empty() != clustered),
        }
    }

    /// The rules of a role; `None` when there is no such role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&[Rule]> {
        self.roles.get(&(namespace.to_owned(), name.to_owned())).map(Vec::as_slice)
    }

    /// Why it is allowed; `None` when nothing allows it.
    pub fn allows(&self, who: Who<'_>, wanted: &Attributes<'_>) -> Option<String> {
        let mut reason = None;
        self.visit(who, wanted.namespace, &mut |binding, subject, rules| {
            if reason.is_none() && rules.iter().any(|rule| rule.allows(wanted)) {
                reason = Some(format!("RBAC: allowed by {} to {}", binding.text, subject.text()));
            }
            reason.is_none()
        });
        reason
    }

    /// What is wrong with the bindings of somebody: roles that are not there. Empty if nothing is.
    pub fn broken(&self, who: Who<'_>, namespace: &str) -> String {
        let mut missing: Vec<String> = Vec::new();
        self.visit(who, namespace, &mut |binding, _, _| {
            if !self.roles.contains_key(&binding.role) {
                let plural = if binding.role.0.is_empty() { "clusterrole" } else { "role" };
                missing.push(format!("{plural}.rbac.authorization.k8s.io {:?} not found", binding.role.1));
            }
            true
        });
        missing.sort();
        missing.dedup();
        match &missing[..] {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            all => format!("RBAC: [{}]", all.join(", ")),
        }
    }

    /// All rules that hold for somebody in a namespace (empty: cluster-wide only).
    pub fn rules(&self, who: Who<'_>, namespace: &str) -> Vec<Rule> {
        let mut found = Vec::new();
        self.visit(who, namespace, &mut |_, _, rules| {
            found.extend_from_slice(rules);
            true
        });
        found
    }

    fn visit<'s>(
        &'s self,
        who: Who<'_>,
        namespace: &str,
        see: &mut dyn FnMut(&'s Binding, &'s Subject, &'s [Rule]) -> bool,
    ) {
        let scopes = if namespace.is_empty() { &[""][..] } else { &["", namespace][..] };
        for binding in scopes.iter().filter_map(|scope| self.bindings.get(*scope)).flat_map(HashMap::values) {
            let Some(subject) = binding.subjects.iter().find(|subject| subject.is(who)) else { continue };
            let rules = self.roles.get(&binding.role).map(Vec::as_slice).unwrap_or_default();
            if !see(binding, subject, rules) {
                return;
            }
        }
    }
}

impl Binding {
    fn read(object: &Value, namespace: &str, name: &str) -> Self {
        let subjects = object["subjects"].as_array().into_iter().flatten();
        let role = object["roleRef"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = object["roleRef"]["kind"].as_str().unwrap_or_default();
        let scope = if kind == "ClusterRole" { String::new() } else { namespace.to_owned() };
        let own = object["kind"].as_str().unwrap_or_default();
        let place = if namespace.is_empty() { name.to_owned() } else { format!("{name}/{namespace}") };
        Self {
            subjects: subjects.filter_map(|subject| Subject::read(subject, namespace)).collect(),
            text: format!("{own} {place:?} of {kind} {role:?}"),
            role: (scope, role),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
            (
                "ann",
                &people,
                Attributes { verb: "get", path: "/metrics/cadvisor", ..Default::default() },
                true,
            ),
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
                Attributes {
                    verb: "get",
                    resource: "secrets",
                    namespace: "a",
                    name: "x",
                    ..Default::default()
                },
                true,
            ),
            (
                "system:serviceaccount:b:bot",
                &[],
                Attributes {
                    verb: "get",
                    resource: "secrets",
                    namespace: "a",
                    name: "x",
                    ..Default::default()
                },
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
        let owned =
            [Rule::read(&json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}))];
        let wanted =
            [Rule::read(&json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}))];
        assert_eq!(uncovered(&owned, &wanted), [r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}"#]);
        let star = [Rule::read(&json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}))];
        assert!(uncovered(&star, &wanted).is_empty());
        assert!(!uncovered(&wanted, &star).is_empty());
    }
}
