//! The policy: which rule a request meets first, and what that rule says.

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How much of a request is recorded. The order is that of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who did what to which object, and no body.
    Metadata,
    /// That and the body of the request.
    Request,
    /// That and the body of the response.
    RequestResponse,
}

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The request has come.
    RequestReceived,
    /// The answer of a long-running request begins.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server failed.
    Panic,
}

const LEVELS: [&str; 4] = ["None", "Metadata", "Request", "RequestResponse"];
const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

/// A policy that was read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    source: RuleSource,
    level: Level,
    omit_stages: Vec<Stage>,
}

/// What a policy says about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// How much is recorded.
    pub level: Level,
    /// Stages without an event.
    pub omit_stages: Vec<Stage>,
    /// Bodies are recorded without `metadata.managedFields`.
    pub omit_managed_fields: bool,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// Name of the user; empty for nobody.
    pub user: &'a str,
    /// Groups of the user.
    pub groups: &'a [String],
    /// Verb, as authorization knows it.
    pub verb: &'a str,
    /// Path of a request that is about no resource; else none.
    pub path: Option<&'a str>,
    /// API group.
    pub group: &'a str,
    /// Plural name of the resource.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Namespace, empty for none.
    pub namespace: &'a str,
    /// Name of the object, empty where the path has none.
    pub name: &'a str,
}

/// Why a policy is refused.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is another document.
    #[error("expected Policy of audit.k8s.io/v1, got {0}")]
    Kind(String),
    /// It has a wrong shape.
    #[error("invalid audit policy: {0}")]
    Shape(#[from] serde_json::Error),
    /// It has wrong values.
    #[error("invalid audit policy: {0}")]
    Values(String),
    /// It says nothing.
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: Value,
    #[serde(default)]
    rules: Vec<RuleSource>,
    #[serde(default)]
    omit_stages: Vec<String>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[derive(Default)]
struct RuleSource {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a document that was decoded from YAML or JSON.
    ///
    /// # Errors
    /// When it is no policy, says nothing or has values that mean nothing.
    pub fn read(document: &Value) -> Result<Self, PolicyError> {
        let (version, kind) = (&document["apiVersion"], &document["kind"]);
        if version != "audit.k8s.io/v1" || kind != "Policy" {
            return Err(PolicyError::Kind(format!("{version} {kind}")));
        }
        let document = Document::deserialize(document)?;
        let mut errors = Vec::new();
        check_stages(&document.omit_stages, &Path::root("omitStages"), &mut errors);
        for (at, rule) in document.rules.iter().enumerate() {
            check_rule(rule, &Path::root("rules").index(at), &mut errors);
        }
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            return Err(PolicyError::Values(texts.join(", ")));
        }
        if document.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        let global = stages(&document.omit_stages);
        let rule = |source: RuleSource| {
            let mut omit_stages = global.clone();
            omit_stages.extend(stages(&source.omit_stages));
            Rule { level: level(&source.level).unwrap_or_default(), omit_stages, source }
        };
        Ok(Self {
            rules: document.rules.into_iter().map(rule).collect(),
            omit_stages: global.clone(),
            omit_managed_fields: document.omit_managed_fields,
        })
    }

    /// What the first rule says that the request meets; without one nothing is recorded.
    pub fn decide(&self, request: &Attributes<'_>) -> Decision {
        match self.rules.iter().find(|rule| rule.source.meets(request)) {
            Some(rule) => Decision {
                level: rule.level,
                omit_stages: rule.omit_stages.clone(),
                omit_managed_fields: rule.source.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Decision {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
            },
        }
    }
}

/// An empty list means everything.
fn open_or_has(list: &[String], wanted: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == wanted)
}

impl RuleSource {
    fn meets(&self, request: &Attributes<'_>) -> bool {
        let by_group = self.user_groups.is_empty()
            || request.groups.iter().any(|group| self.user_groups.contains(group));
        if !open_or_has(&self.users, request.user) || !by_group || !open_or_has(&self.verbs, request.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return request.path.is_none()
                && open_or_has(&self.namespaces, request.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.meets(request)));
        }
        match (self.non_resource_urls.is_empty(), request.path) {
            (true, _) => true,
            (false, Some(path)) => self.non_resource_urls.iter().any(|url| url_meets(url, path)),
            (false, None) => false,
        }
    }
}

fn url_meets(url: &str, path: &str) -> bool {
    url == "*" || url == path || (url.ends_with('*') && path.starts_with(url.trim_end_matches('*')))
}

impl GroupResources {
    fn meets(&self, request: &Attributes<'_>) -> bool {
        if self.group != request.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let Attributes { resource, subresource, .. } = *request;
        let combined = match subresource {
            "" => resource.to_owned(),
            subresource => format!("{resource}/{subresource}"),
        };
        open_or_has(&self.resource_names, request.name)
            && self.resources.iter().any(|one| {
                one == "*"
                    || *one == combined
                    || (!subresource.is_empty() && one.strip_prefix("*/") == Some(subresource))
                    || one.strip_suffix("/*") == Some(resource)
            })
    }
}

fn level(text: &str) -> Option<Level> {
    serde_json::from_value(json!(text)).ok()
}

fn stages(texts: &[String]) -> Vec<Stage> {
    texts.iter().filter_map(|text| serde_json::from_value(json!(text)).ok()).collect()
}

fn check_stages(texts: &[String], path: &Path, errors: &mut Vec<FieldError>) {
    for (at, text) in texts.iter().enumerate() {
        if !STAGES.contains(&text.as_str()) {
            let detail = format!("allowed stages are {}", STAGES.join(","));
            errors.push(FieldError::invalid(&path.index(at), &json!(text), detail));
        }
    }
}

fn check_rule(rule: &RuleSource, path: &Path, errors: &mut Vec<FieldError>) {
    match rule.level.as_str() {
        "" => errors.push(FieldError::required(&path.child("level"), "")),
        text if level(text).is_none() => {
            errors.push(FieldError::not_supported(&path.child("level"), &json!(text), &LEVELS));
        }
        _ => {}
    }
    let urls = path.child("nonResourceURLs");
    for (at, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        if !url.starts_with('/') {
            let detail = "non-resource URL rules must begin with a '/' character";
            errors.push(FieldError::invalid(&urls.index(at), &json!(url), detail));
        }
        if url.find('*').is_some_and(|star| star + 1 < url.len()) {
            let detail = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(FieldError::invalid(&urls.index(at), &json!(url), detail));
        }
    }
    let resources = path.child("resources");
    for group in &rule.resources {
        if !group.group.is_empty()
            && let Err(causes) = name::is_dns1123_subdomain(&group.group)
        {
            errors.push(FieldError::invalid(
                &resources.child("group"),
                &json!(group.group),
                causes.join(","),
            ));
        }
        if !group.resource_names.is_empty() && group.resources.is_empty() {
            let detail = "using resourceNames requires at least one resource";
            errors.push(FieldError::invalid(
                &resources.child("resourceNames"),
                &json!(group.resource_names),
                detail,
            ));
        }
    }
    check_stages(&rule.omit_stages, &path.child("omitStages"), errors);
    if !rule.non_resource_urls.is_empty() && (!rule.resources.is_empty() || !rule.namespaces.is_empty()) {
        let detail = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(FieldError::invalid(&urls, &json!(rule.non_resource_urls), detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: Value) -> Result<Policy, PolicyError> {
        Policy::read(
            &json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["Panic"], "rules": rules}),
        )
    }

    fn pods<'a>() -> Attributes<'a> {
        Attributes {
            user: "ann",
            verb: "get",
            resource: "pods",
            namespace: "a",
            name: "web",
            ..Attributes::default()
        }
    }

    /// A rule of level Request, a request, whether they meet.
    #[test]
    fn rules_meet_requests() {
        let groups = vec!["dev".to_owned()];
        let grouped = Attributes { groups: &groups, ..pods() };
        let log = Attributes { subresource: "log", ..pods() };
        let deployment = Attributes { group: "apps", resource: "deployments", ..pods() };
        let health =
            Attributes { path: Some("/healthz/ping"), user: "ann", verb: "get", ..Attributes::default() };
        let rows: &[(Value, Attributes<'_>, bool)] = &[
            (json!({}), pods(), true),
            (json!({}), health, true),
            (json!({"users": ["ann"]}), pods(), true),
            (json!({"users": ["bob"]}), pods(), false),
            (json!({"userGroups": ["dev"]}), grouped, true),
            (json!({"userGroups": ["dev"]}), pods(), false),
            (json!({"verbs": ["list", "get"]}), pods(), true),
            (json!({"verbs": ["list"]}), pods(), false),
            (json!({"namespaces": ["a"]}), pods(), true),
            (json!({"namespaces": [""]}), pods(), false),
            (json!({"namespaces": ["a"]}), health, false),
            (json!({"resources": [{"resources": ["pods"]}]}), pods(), true),
            (json!({"resources": [{"resources": ["pods"]}]}), log, false),
            (json!({"resources": [{"resources": ["pods/log"]}]}), log, true),
            (json!({"resources": [{"resources": ["pods/*"]}]}), log, true),
            (json!({"resources": [{"resources": ["*/log"]}]}), log, true),
            (json!({"resources": [{"resources": ["*/log"]}]}), pods(), false),
            (json!({"resources": [{"resources": ["*"]}]}), log, true),
            (json!({"resources": [{}]}), pods(), true),
            (json!({"resources": [{}]}), deployment, false),
            (json!({"resources": [{"group": "apps"}]}), deployment, true),
            (json!({"resources": [{"resources": ["pods"], "resourceNames": ["web"]}]}), pods(), true),
            (json!({"resources": [{"resources": ["pods"], "resourceNames": ["db"]}]}), pods(), false),
            (json!({"nonResourceURLs": ["/healthz*"]}), health, true),
            (json!({"nonResourceURLs": ["/healthz"]}), health, false),
            (json!({"nonResourceURLs": ["*"]}), health, true),
            (json!({"nonResourceURLs": ["*"]}), pods(), false),
        ];
        for (rule, request, meets) in rows {
            let mut rule = rule.clone();
            rule["level"] = json!("Request");
            let decision = policy(json!([rule])).expect("valid").decide(request);
            let expected = if *meets { Level::Request } else { Level::None };
            assert_eq!(decision.level, expected, "{rule} {request:?}");
        }
    }

    #[test]
    fn the_first_rule_counts_and_globals_are_added() {
        let policy = policy(json!([
            {"level": "None", "users": ["bob"]},
            {"level": "Metadata", "omitStages": ["RequestReceived"], "omitManagedFields": true},
        ]))
        .expect("valid");
        let decision = policy.decide(&pods());
        assert_eq!(
            decision,
            Decision {
                level: Level::Metadata,
                omit_stages: vec![Stage::Panic, Stage::RequestReceived],
                omit_managed_fields: true
            }
        );
        assert_eq!(policy.decide(&Attributes { user: "bob", ..pods() }).level, Level::None);
    }

    #[test]
    fn wrong_policies_are_refused() {
        for (rules, part) in [
            (json!([]), "0 rules"),
            (json!([{}]), "rules[0].level: Required value"),
            (json!([{"level": "All"}]), r#"rules[0].level: Unsupported value: "All""#),
            (
                json!([{"level": "None", "omitStages": ["Never"]}]),
                "allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic",
            ),
            (json!([{"level": "None", "nonResourceURLs": ["x"]}]), "must begin with a '/' character"),
            (
                json!([{"level": "None", "nonResourceURLs": ["/a*b"]}]),
                "must be the final character of the rule",
            ),
            (
                json!([{"level": "None", "nonResourceURLs": ["/a"], "namespaces": ["b"]}]),
                "both regular resources and non-resource URLs",
            ),
            (
                json!([{"level": "None", "resources": [{"group": "a/v1"}]}]),
                "rules[0].resources.group: Invalid value",
            ),
            (
                json!([{"level": "None", "resources": [{"resourceNames": ["x"]}]}]),
                "requires at least one resource",
            ),
            (json!([{"level": "None", "user": ["x"]}]), "unknown field `user`"),
        ] {
            let error = policy(rules).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(matches!(Policy::read(&json!({"kind": "Policy"})), Err(PolicyError::Kind(_))));
    }
}
