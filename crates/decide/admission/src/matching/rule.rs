//! Rules: operations, groups, versions, resources, scope, names.

use serde_json::Value;

use super::{Attributes, Operation, Resource};

/// One rule of a webhook or of a policy's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, each perhaps `*`; the subresource of a plain resource is empty.
    resources: Vec<(String, String)>,
    scope: Scope,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    All,
    Cluster,
    Namespaced,
}

impl Rule {
    /// Reads `RuleWithOperations` or `NamedRuleWithOperations`.
    pub fn read(rule: &Value) -> Self {
        let pair = |text: String| match text.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (text, String::new()),
        };
        Self {
            operations: texts(&rule["operations"]),
            groups: texts(&rule["apiGroups"]),
            versions: texts(&rule["apiVersions"]),
            resources: texts(&rule["resources"]).into_iter().map(pair).collect(),
            scope: match rule["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::All,
            },
            names: texts(&rule["resourceNames"]),
        }
    }

    /// Does it cover the request, were it for `resource`?
    pub(super) fn covers(&self, attributes: &Attributes<'_>, resource: &Resource<'_>) -> bool {
        self.scope_covers(attributes, resource)
            && self.operation_covers(attributes.operation)
            && named(&self.groups, resource.group)
            && named(&self.versions, resource.version)
            && self.resources.iter().any(|(name, sub)| {
                (name == "*" || name == resource.resource) && (sub == "*" || sub == attributes.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    /// A Namespace is no namespaced object, although requests for it carry its name as namespace.
    fn scope_covers(&self, attributes: &Attributes<'_>, resource: &Resource<'_>) -> bool {
        let is_namespace = (resource.group, resource.version, resource.resource) == ("", "v1", "namespaces");
        let cluster = is_namespace || attributes.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Cluster => cluster,
            Scope::Namespaced => !cluster,
        }
    }

    fn operation_covers(&self, operation: Operation) -> bool {
        named(&self.operations, operation.name())
    }
}

fn named(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == "*" || item == wanted)
}

pub(super) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
