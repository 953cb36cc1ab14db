//! `AuthenticationConfiguration` (apiserver.config.k8s.io), the file of `--authentication-config`.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

use crate::document::{aggregate, known_only, list, text};
use crate::issuer::Issuer;
use crate::jwt_authenticator;

/// Most issuers of one file.
const MOST_ISSUERS: usize = 64;

/// Who may ask without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody: such requests are answered with 401.
    Refused,
    /// Everybody, as `system:anonymous`.
    Allowed,
    /// Everybody, for these paths.
    Paths(Vec<String>),
}

impl Anonymous {
    /// Whether a path may be asked for without credentials.
    pub fn allows(&self, path: &str) -> bool {
        match self {
            Self::Refused => false,
            Self::Allowed => true,
            Self::Paths(paths) => paths.iter().any(|one| one == path),
        }
    }
}

/// What a file configures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationConfig {
    /// Trusted issuers in their order.
    pub issuers: Vec<Issuer>,
    /// Who may ask without credentials; the flag decides if the file does not say.
    pub anonymous: Option<Anonymous>,
}

impl AuthenticationConfig {
    /// Reads a document. `own_issuers` are those of service account tokens, which no other issuer may
    /// pose as. The refusal tells of all that is wrong.
    pub fn read(document: &Value, own_issuers: &[String]) -> Result<Self, String> {
        let version = document["apiVersion"].as_str().unwrap_or_default();
        let known = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
        if document["kind"] != "AuthenticationConfiguration" || !known.contains(&version) {
            return Err(format!(
                "expected AuthenticationConfiguration of {}, found {} of {version:?}",
                known[0], document["kind"]
            ));
        }
        known_only(document, "", &["apiVersion", "kind", "jwt", "anonymous"])?;
        let anonymous = anonymous(&document["anonymous"])?;
        let entries = list(document, "jwt");
        let root = Path::root("jwt");
        if entries.len() > MOST_ISSUERS {
            return Err(FieldError::too_many(&root, entries.len(), MOST_ISSUERS).to_string());
        }
        let (mut issuers, mut errors): (Vec<Issuer>, Vec<FieldError>) = (Vec::new(), Vec::new());
        let mut discovered: Vec<String> = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let path = root.index(at);
            let issuer = jwt_authenticator::read(entry, &path, own_issuers, &mut errors)?;
            if issuers.iter().any(|one| one.url == issuer.url) {
                let at = path.child("issuer").child("url");
                errors.push(FieldError::duplicate(&at, &issuer.url.as_str().into()));
            }
            if let Some(url) = &issuer.discovery_url {
                if discovered.contains(url) {
                    let at = path.child("issuer").child("discoveryURL");
                    errors.push(FieldError::duplicate(&at, &url.as_str().into()));
                }
                discovered.push(url.clone());
            }
            issuers.push(issuer);
        }
        match errors.is_empty() {
            true => Ok(Self { issuers, anonymous }),
            false => Err(aggregate(&errors)),
        }
    }
}

fn anonymous(value: &Value) -> Result<Option<Anonymous>, String> {
    if value.is_null() {
        return Ok(None);
    }
    known_only(value, "anonymous", &["enabled", "conditions"])?;
    let conditions = list(value, "conditions");
    let paths: Vec<String> = conditions.iter().filter_map(|one| text(one, "path")).collect();
    match (value["enabled"] == true, conditions.is_empty()) {
        (false, false) => Err(
            "anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined"
                .to_owned(),
        ),
        (false, true) => Ok(Some(Anonymous::Refused)),
        (true, true) => Ok(Some(Anonymous::Allowed)),
        (true, false) => Ok(Some(Anonymous::Paths(paths))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::Source;
    use serde_json::json;

    fn read(jwt: Value, anonymous: Value) -> Result<AuthenticationConfig, String> {
        let document = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": jwt, "anonymous": anonymous});
        AuthenticationConfig::read(&document, &["https://own".to_owned()])
    }

    fn entry(url: &str) -> Value {
        json!({"issuer": {"url": url, "audiences": ["a"]},
            "claimMappings": {"username": {"claim": "sub", "prefix": ""}, "groups": {"claim": "g", "prefix": "p:"}},
            "claimValidationRules": [{"claim": "hd", "requiredValue": "x"}]})
    }

    /// The usual entry with other values at JSON pointers.
    fn with(changes: &[(&str, Value)]) -> Value {
        let mut entry = entry("https://id");
        entry["userValidationRules"] = json!([]);
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
            entry.pointer_mut(parent).expect("a parent")[key] = value.clone();
        }
        entry
    }

    #[test]
    fn issuers_are_read() {
        let good = read(json!([entry("https://id")]), json!(null)).expect("good");
        let issuer = &good.issuers[0];
        let Source::Claim(username) = &issuer.username else { panic!("{issuer:?}") };
        assert_eq!((username.claim.as_str(), issuer.required.len()), ("sub", 1));
        let Some(Source::Claim(groups)) = &issuer.groups else { panic!("{issuer:?}") };
        assert_eq!(groups.prefix, "p:");
        let expressions = with(&[
            ("/claimMappings/username", json!({"expression": "claims.email"})),
            ("/claimMappings/uid", json!({"expression": "claims.sub"})),
            ("/claimMappings/extra", json!([{"key": "example.com/team", "valueExpression": "claims.team"}])),
            (
                "/claimValidationRules",
                json!([{"expression": "claims.email_verified == true", "message": "unverified"}]),
            ),
            ("/userValidationRules", json!([{"expression": "!user.username.startsWith('system:')"}])),
        ]);
        let good = read(json!([expressions]), json!(null)).expect("good");
        let issuer = &good.issuers[0];
        assert!(matches!(
            (&issuer.username, &issuer.uid),
            (Source::Expression(_), Some(Source::Expression(_)))
        ));
        assert_eq!((issuer.extra.len(), issuer.claim_rules.len(), issuer.user_rules.len()), (1, 1, 1));
        assert_eq!(issuer.claim_rules[0].message, "unverified");
    }

    #[test]
    fn files_are_refused_with_every_field() {
        for (jwt, expected) in [
            (json!([entry("")]), "jwt[0].issuer.url: Required value"),
            (
                json!([entry("http://id")]),
                "jwt[0].issuer.url: Invalid value: \"http://id\": URL scheme must be https",
            ),
            (
                json!([entry("https://id"), entry("https://id")]),
                "jwt[1].issuer.url: Duplicate value: \"https://id\"",
            ),
            (
                json!([entry("https://own")]),
                "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
            ),
            (
                json!([with(&[("/claimMappings/username", json!({"claim": "sub"}))])]),
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            ),
            (
                json!([with(&[("/claimMappings/username", json!({})), ("/issuer/audiences", json!([]))])]),
                "[jwt[0].issuer.audiences: Required value: at least one jwt[0].issuer.audiences is required, jwt[0].claimMappings.username: Required value: claim or expression is required]",
            ),
            (
                json!([with(&[("/issuer/audiences", json!(["a", "b"]))])]),
                "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences",
            ),
            (
                json!([with(&[("/claimMappings/username", json!({"expression": "claims."}))])]),
                "jwt[0].claimMappings.username.expression: Invalid value: \"claims.\": compilation failed: ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting {'?', IDENTIFIER, ESC_IDENTIFIER}\n | claims.\n | .......^",
            ),
            (
                json!([with(&[("/claimMappings/username", json!({"expression": "claims.email"}))])]),
                "jwt[0].claimMappings.username.expression: Invalid value: \"claims.email\": claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression",
            ),
            (
                json!([with(&[(
                    "/claimMappings/extra",
                    json!([{"key": "a.k8s.io/b", "valueExpression": "claims.x"}])
                )])]),
                "jwt[0].claimMappings.extra[0].key: Invalid value: \"a.k8s.io/b\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
            ),
            (
                json!([with(&[(
                    "/claimMappings/extra",
                    json!([{"key": "foo", "valueExpression": "claims.x"}])
                )])]),
                "jwt[0].claimMappings.extra[0].key: Invalid value: \"foo\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (
                json!([with(&[("/claimValidationRules", json!([{"expression": "claims.a"}]))])]),
                "jwt[0].claimValidationRules[0].expression: Invalid value: \"claims.a\": must evaluate to bool",
            ),
            (
                json!([with(&[(
                    "/userValidationRules",
                    json!([{"expression": "true"}, {"expression": "true"}])
                )])]),
                "jwt[0].userValidationRules[1].expression: Duplicate value: \"true\"",
            ),
            (json!([with(&[("/issuer/uri", json!("x"))])]), "unknown field \"jwt[0].issuer.uri\""),
        ] {
            assert_eq!(read(jwt, json!(null)).expect_err(expected), expected);
        }
    }

    #[test]
    fn anonymous_access_can_be_limited_to_paths() {
        let told = |value: Value| read(json!([]), value).map(|config| config.anonymous);
        assert_eq!(told(json!(null)), Ok(None));
        assert_eq!(told(json!({"enabled": false})), Ok(Some(Anonymous::Refused)));
        let paths = told(json!({"enabled": true, "conditions": [{"path": "/livez"}]})).expect("good");
        let paths = paths.expect("said");
        assert!(paths.allows("/livez") && !paths.allows("/livez/ping") && !paths.allows("/api"));
        assert!(told(json!({"enabled": false, "conditions": [{"path": "/livez"}]})).is_err());
    }
}
