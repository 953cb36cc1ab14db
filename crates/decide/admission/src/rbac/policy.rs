//! All roles and bindings, and what they allow to whom.

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use serde_json::Value;

use super::{Attributes, Rule, Who};

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
