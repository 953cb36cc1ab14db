//! Which authorizers decide, in which order: `--authorization-mode`, or an
//! `AuthorizationConfiguration` (apiserver.config.k8s.io) in the file of `--authorization-config`.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Map, Value, json};

use crate::document::{aggregate, known_only, list, seconds, text};
use crate::expression::{Expression, Given, Gives, Subject};

/// Authorizers in the order in which they are asked.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationConfig(pub Vec<Authorizer>);

/// One authorizer.
#[derive(Clone, Debug, PartialEq)]
pub enum Authorizer {
    /// Node agents, by what their pods need.
    Node,
    /// Roles and bindings.
    Rbac,
    /// A server elsewhere.
    Webhook(Webhook),
}

/// A server that is asked by `SubjectAccessReview`.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Its name in the configuration.
    pub name: String,
    /// The file, in the format of kubeconfig, that tells where it is.
    pub config_file: String,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// Seconds that a permission is remembered; none: it is asked for each time.
    pub authorized_ttl: Option<f64>,
    /// Seconds that a refusal is remembered; none: it is asked for each time.
    pub unauthorized_ttl: Option<f64>,
    /// Seconds to wait for an answer.
    pub timeout: f64,
    /// What holds when there is no answer.
    pub on_failure: OnFailure,
    /// It is asked only if all of these hold.
    pub conditions: Vec<Expression>,
}

/// Whether a webhook is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is.
    Asked,
    /// A condition does not hold.
    Passed,
    /// It is not known; why.
    Failed(String),
}

impl Webhook {
    /// Whether it is asked about a review with this specification
    /// (apiserver: pkg/authorization/cel/matcher.go, v1.37).
    pub fn matches(&self, spec: &Value) -> Match {
        if self.conditions.is_empty() {
            return Match::Asked;
        }
        let (request, mut errors) = (filled(spec), Vec::new());
        for condition in &self.conditions {
            match condition.evaluate(&request) {
                Ok(Given::Verdict(true)) => {}
                Ok(Given::Verdict(false)) => return Match::Passed,
                Ok(_) => errors.push(format!(
                    "cel evaluation error: expression '{}' eval result type should be bool",
                    condition.text()
                )),
                Err(error) => errors.push(format!("cel evaluation error: {error}")),
            }
        }
        match &errors[..] {
            [] => Match::Asked,
            [one] => Match::Failed(one.clone()),
            all => Match::Failed(format!("[{}]", all.join(", "))),
        }
    }
}

/// The specification with all its texts, also the empty ones.
fn filled(spec: &Value) -> Value {
    let or_empty = |value: &Value, empty: Value| if value.is_null() { empty } else { value.clone() };
    let mut all = Map::new();
    for field in ["user", "uid"] {
        all.insert(field.to_owned(), or_empty(&spec[field], json!("")));
    }
    all.insert("groups".to_owned(), or_empty(&spec["groups"], json!([])));
    all.insert("extra".to_owned(), or_empty(&spec["extra"], json!({})));
    if spec["resourceAttributes"].is_object() {
        let mut resource = spec["resourceAttributes"].clone();
        for field in ["namespace", "verb", "group", "version", "resource", "subresource", "name"] {
            resource[field] = or_empty(&resource[field], json!(""));
        }
        all.insert("resourceAttributes".to_owned(), resource);
    }
    if spec["nonResourceAttributes"].is_object() {
        all.insert("nonResourceAttributes".to_owned(), spec["nonResourceAttributes"].clone());
    }
    Value::Object(all)
}

/// What holds when a webhook does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// The next authorizer is asked.
    NoOpinion,
    /// The request is refused.
    Deny,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        Self(vec![Authorizer::Node, Authorizer::Rbac])
    }
}

const OFF: &str = "authorization is always on here: give users rights with roles and bindings (kubectl create clusterrolebinding) instead";

impl AuthorizationConfig {
    /// Reads `--authorization-mode`; `webhook` is what the `--authorization-webhook-…` flags say.
    pub fn of_modes(modes: &[String], webhook: Option<Webhook>) -> Result<Self, String> {
        let mut found = Vec::new();
        for (at, mode) in modes.iter().enumerate() {
            if modes[..at].contains(mode) {
                return Err(format!("authorization-mode {modes:?} has mode specified more than once"));
            }
            found.push(match mode.as_str() {
                "Node" => Authorizer::Node,
                "RBAC" => Authorizer::Rbac,
                "Webhook" => Authorizer::Webhook(webhook.clone().ok_or(
                    "authorization-mode Webhook's authorization config file not passed: set --authorization-webhook-config-file",
                )?),
                "AlwaysAllow" => return Err(format!("authorization-mode AlwaysAllow: {OFF}")),
                other => return Err(format!("authorization-mode {other:?} is not a valid mode")),
            });
        }
        if webhook.is_some() && !modes.iter().any(|mode| mode == "Webhook") {
            return Err("cannot specify --authorization-webhook-config-file without mode Webhook".to_owned());
        }
        match found.is_empty() {
            true => Err("at least one authorization-mode must be passed".to_owned()),
            false => Ok(Self(found)),
        }
    }

    /// What is wrong with taking the place of `old` in a running server: nobody but webhooks may leave
    /// (pkg/kubeapiserver/authorizer/reload.go).
    pub fn replaces(&self, old: &Self) -> Result<(), String> {
        let missing: Vec<&str> = [("Node", Authorizer::Node), ("RBAC", Authorizer::Rbac)]
            .into_iter()
            .filter(|(_, one)| old.0.contains(one) && !self.0.contains(one))
            .map(|(name, _)| name)
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!("missing required types: [{}]", missing.join(" "))),
        }
    }

    /// Reads a document.
    pub fn read(document: &Value) -> Result<Self, String> {
        let version = document["apiVersion"].as_str().unwrap_or_default();
        let known = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
        if document["kind"] != "AuthorizationConfiguration" || !known.contains(&version) {
            return Err(format!(
                "expected AuthorizationConfiguration of {}, found {} of {version:?}",
                known[0], document["kind"]
            ));
        }
        known_only(document, "", &["apiVersion", "kind", "authorizers"])?;
        let entries = list(document, "authorizers");
        if entries.is_empty() {
            return Err(
                "authorizers: Required value: at least one authorization mode must be defined".to_owned()
            );
        }
        let mut found: Vec<Authorizer> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let path = format!("authorizers[{at}]");
            known_only(entry, &path, &["type", "name", "webhook"])?;
            let name = text(entry, "name").ok_or(format!("{path}.name: Required value"))?;
            if names.contains(&name) {
                return Err(format!("{path}.name: Duplicate value: {name:?}"));
            }
            let kind = text(entry, "type").ok_or(format!("{path}.type: Required value"))?;
            let authorizer = match kind.as_str() {
                "Node" => Authorizer::Node,
                "RBAC" => Authorizer::Rbac,
                "Webhook" => {
                    Authorizer::Webhook(webhook(&entry["webhook"], &name, &format!("{path}.webhook"))?)
                }
                "AlwaysAllow" => return Err(format!("{path}.type: Forbidden: {OFF}")),
                _ => {
                    return Err(format!(
                        "{path}.type: Unsupported value: {kind:?}: supported values: \"Node\", \"RBAC\", \"Webhook\""
                    ));
                }
            };
            if !matches!(authorizer, Authorizer::Webhook(_)) {
                if found.contains(&authorizer) {
                    return Err(format!("{path}.type: Duplicate value: {kind:?}"));
                }
                if !entry["webhook"].is_null() {
                    return Err(format!(
                        "{path}.webhook: Invalid value: non-null: may only be specified when type=Webhook"
                    ));
                }
            }
            names.push(name);
            found.push(authorizer);
        }
        Ok(Self(found))
    }
}

fn webhook(value: &Value, name: &str, path: &str) -> Result<Webhook, String> {
    let fields = [
        "authorizedTTL",
        "cacheAuthorizedRequests",
        "unauthorizedTTL",
        "cacheUnauthorizedRequests",
        "timeout",
        "subjectAccessReviewVersion",
        "matchConditionSubjectAccessReviewVersion",
        "failurePolicy",
        "connectionInfo",
        "matchConditions",
    ];
    if !value.is_object() {
        return Err(format!("{path}: Required value: required when type=Webhook"));
    }
    known_only(value, path, &fields)?;
    let duration = |field: &str, usual: Option<f64>| -> Result<f64, String> {
        let at = format!("{path}.{field}");
        match text(value, field) {
            None => usual.ok_or(format!("{at}: Required value")),
            Some(given) => {
                let found = seconds(&given)
                    .ok_or(format!("{at}: Invalid value: {given:?}: must be a duration such as 5m or 30s"))?;
                match found > 0.0 {
                    true => Ok(found),
                    false => Err(format!("{at}: Invalid value: {given:?}: must be > 0s")),
                }
            }
        }
    };
    let choice = |field: &str, choices: &[&str]| -> Result<String, String> {
        let at = format!("{path}.{field}");
        let found = text(value, field).ok_or(format!("{at}: Required value"))?;
        match choices.contains(&found.as_str()) {
            true => Ok(found),
            false => {
                let choices: Vec<String> = choices.iter().map(|one| format!("{one:?}")).collect();
                Err(format!("{at}: Unsupported value: {found:?}: supported values: {}", choices.join(", ")))
            }
        }
    };
    let timeout = duration("timeout", None)?;
    if timeout > 30.0 {
        return Err(format!(
            "{path}.timeout: Invalid value: {:?}: must be <= 30s",
            text(value, "timeout").unwrap_or_default()
        ));
    }
    let connection = &value["connectionInfo"];
    let config_file = match connection["type"].as_str() {
        Some("KubeConfigFile") => text(connection, "kubeConfigFile")
            .ok_or(format!("{path}.connectionInfo.kubeConfigFile: Required value"))?,
        Some(other) => {
            return Err(format!(
                "{path}.connectionInfo.type: Unsupported value: {other:?}: supported values: \"KubeConfigFile\""
            ));
        }
        None => return Err(format!("{path}.connectionInfo.type: Required value")),
    };
    let conditions = conditions(value, path)?;
    let kept = |field: &str| value[field] != false;
    let (authorized, unauthorized) =
        (duration("authorizedTTL", Some(300.0))?, duration("unauthorizedTTL", Some(30.0))?);
    Ok(Webhook {
        name: name.to_owned(),
        config_file,
        version: choice("subjectAccessReviewVersion", &["v1", "v1beta1"])?,
        authorized_ttl: kept("cacheAuthorizedRequests").then_some(authorized),
        unauthorized_ttl: kept("cacheUnauthorizedRequests").then_some(unauthorized),
        timeout,
        on_failure: match choice("failurePolicy", &["NoOpinion", "Deny"])?.as_str() {
            "Deny" => OnFailure::Deny,
            _ => OnFailure::NoOpinion,
        },
        conditions,
    })
}

/// Most conditions of one webhook.
const MOST_CONDITIONS: usize = 64;

fn conditions(value: &Value, path: &str) -> Result<Vec<Expression>, String> {
    let found = list(value, "matchConditions");
    let at = Path::root(path).child("matchConditions");
    if found.len() > MOST_CONDITIONS {
        return Err(FieldError::too_many(&at, found.len(), MOST_CONDITIONS).to_string());
    }
    match text(value, "matchConditionSubjectAccessReviewVersion").as_deref() {
        Some("v1") => {}
        None if found.is_empty() => {}
        None => {
            return Err(format!(
                "{path}.matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified"
            ));
        }
        Some(other) => {
            return Err(format!(
                "{path}.matchConditionSubjectAccessReviewVersion: Unsupported value: {other:?}: supported values: \"v1\""
            ));
        }
    }
    let (mut compiled, mut errors): (Vec<Expression>, Vec<FieldError>) = (Vec::new(), Vec::new());
    let mut seen: Vec<&str> = Vec::new();
    for (index, condition) in found.iter().enumerate() {
        let at = at.index(index);
        known_only(condition, &at.to_string(), &["expression"])?;
        let at = at.child("expression");
        let text = condition["expression"].as_str().unwrap_or_default();
        if text.trim().is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if seen.contains(&text) {
            errors.push(FieldError::duplicate(&at, &json!(text)));
        } else {
            seen.push(text);
            match Expression::compile(text, Subject::Request, Gives::Verdict, &at) {
                Ok(expression) => compiled.push(expression),
                Err(error) => errors.push(error),
            }
        }
    }
    match errors.is_empty() {
        true => Ok(compiled),
        false => Err(aggregate(&errors)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(authorizers: Value) -> Result<AuthorizationConfig, String> {
        AuthorizationConfig::read(&json!({"apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthorizationConfiguration", "authorizers": authorizers}))
    }

    fn hook(changes: &[(&str, Value)]) -> Value {
        let mut webhook = json!({"timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/f"}});
        for (field, value) in changes {
            webhook[*field] = value.clone();
        }
        json!({"type": "Webhook", "name": "w", "webhook": webhook})
    }

    #[test]
    fn the_order_is_kept() {
        let config = read(
            json!([hook(&[("authorizedTTL", json!("1m")), ("cacheUnauthorizedRequests", json!(false))]),
            {"type": "Node", "name": "n"}, {"type": "RBAC", "name": "r"}]),
        );
        let AuthorizationConfig(all) = config.expect("good");
        let Authorizer::Webhook(webhook) = &all[0] else { panic!("{all:?}") };
        assert_eq!(webhook.authorized_ttl, Some(60.0));
        assert_eq!(webhook.unauthorized_ttl, None);
        assert_eq!(webhook.on_failure, OnFailure::Deny);
        assert_eq!(all[1..], [Authorizer::Node, Authorizer::Rbac]);
        let without = read(json!([hook(&[])])).expect("good");
        let usual = AuthorizationConfig::default();
        assert_eq!(without.replaces(&usual), Err("missing required types: [Node RBAC]".to_owned()));
        assert_eq!(usual.replaces(&without), Ok(()));
    }

    #[test]
    fn files_are_refused_with_the_field() {
        for (authorizers, expected) in [
            (json!([]), "authorizers: Required value: at least one authorization mode must be defined"),
            (
                json!([{"type": "AlwaysAllow", "name": "a"}]),
                "authorizers[0].type: Forbidden: authorization is always on here: give users rights with roles and bindings (kubectl create clusterrolebinding) instead",
            ),
            (
                json!([{"type": "Node", "name": "a"}, {"type": "Node", "name": "b"}]),
                "authorizers[1].type: Duplicate value: \"Node\"",
            ),
            (
                json!([{"type": "X", "name": "a"}]),
                "authorizers[0].type: Unsupported value: \"X\": supported values: \"Node\", \"RBAC\", \"Webhook\"",
            ),
            (
                json!([hook(&[("timeout", json!("31s"))])]),
                "authorizers[0].webhook.timeout: Invalid value: \"31s\": must be <= 30s",
            ),
            (
                json!([hook(&[("failurePolicy", json!("Allow"))])]),
                "authorizers[0].webhook.failurePolicy: Unsupported value: \"Allow\": supported values: \"NoOpinion\", \"Deny\"",
            ),
            (
                json!([hook(&[("connectionInfo", json!({}))])]),
                "authorizers[0].webhook.connectionInfo.type: Required value",
            ),
            (
                json!([hook(&[("matchConditions", json!([{"expression": "true"}]))])]),
                "authorizers[0].webhook.matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
            ),
            (
                json!([hook(&[
                    ("matchConditionSubjectAccessReviewVersion", json!("v1")),
                    ("matchConditions", json!([{"expression": " "}, {"expression": "request.user"}]))
                ])]),
                "[authorizers[0].webhook.matchConditions[0].expression: Required value, authorizers[0].webhook.matchConditions[1].expression: Invalid value: \"request.user\": must evaluate to bool but got string]",
            ),
            (json!([hook(&[("tiemout", json!(1))])]), "unknown field \"authorizers[0].webhook.tiemout\""),
        ] {
            assert_eq!(read(authorizers).expect_err(expected), expected);
        }
    }

    #[test]
    fn webhooks_are_asked_about_what_their_conditions_say() {
        let asked = |conditions: &[&str], spec: Value| {
            let conditions: Vec<Value> = conditions.iter().map(|one| json!({"expression": one})).collect();
            let config = read(json!([hook(&[
                ("matchConditionSubjectAccessReviewVersion", json!("v1")),
                ("matchConditions", json!(conditions)),
            ])]));
            let AuthorizationConfig(all) = config.expect("good");
            let Authorizer::Webhook(webhook) = &all[0] else { panic!("{all:?}") };
            webhook.matches(&spec)
        };
        let resource = json!({"user": "ann", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}});
        let path = json!({"user": "ann", "nonResourceAttributes": {"verb": "get", "path": "/x"}});
        let in_a = "request.resourceAttributes.namespace == 'a'";
        assert_eq!(asked(&[], path.clone()), Match::Asked);
        assert_eq!(asked(&[in_a, "!('system:masters' in request.groups)"], resource.clone()), Match::Asked);
        assert_eq!(asked(&["has(request.resourceAttributes)"], path.clone()), Match::Passed);
        assert_eq!(
            asked(&["request.uid == '' && request.resourceAttributes.subresource == ''"], resource),
            Match::Asked
        );
        assert_eq!(
            asked(&[in_a], path.clone()),
            Match::Failed(format!(
                "cel evaluation error: expression '{in_a}' resulted in error: no such key: resourceAttributes"
            ))
        );
        assert_eq!(
            asked(&[in_a, "request.user == 'bob'"], path),
            Match::Passed,
            "what does not hold decides"
        );
    }

    #[test]
    fn modes_are_the_short_form() {
        let modes = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            AuthorizationConfig::of_modes(&names, None)
        };
        assert_eq!(modes(&["Node", "RBAC"]), Ok(AuthorizationConfig::default()));
        for names in [&["AlwaysAllow"][..], &["RBAC", "RBAC"], &["Webhook"], &["ABAC"], &[]] {
            assert!(modes(names).is_err(), "{names:?}");
        }
    }
}
