//! What a role allows, and what of it covers what.

use serde_json::{Value, json};

use super::Attributes;

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
