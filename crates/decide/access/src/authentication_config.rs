//! `AuthenticationConfiguration` (apiserver.config.k8s.io), the file of `--authentication-config`.

use serde_json::Value;

use crate::document::{list, text, texts, unknown};
use crate::issuer::{ALGORITHMS, Issuer, Mapping};

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
    /// pose as.
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
        let mut issuers: Vec<Issuer> = Vec::new();
        for (at, entry) in list(document, "jwt").iter().enumerate() {
            let issuer = issuer(entry, &format!("jwt[{at}]"))?;
            let path = format!("jwt[{at}].issuer.url");
            if issuers.iter().any(|one| one.url == issuer.url) {
                return Err(format!("{path}: Duplicate value: {:?}", issuer.url));
            }
            if own_issuers.contains(&issuer.url) {
                return Err(format!(
                    "{path}: Invalid value: {:?}: URL must not overlap with disallowed issuers: {own_issuers:?}",
                    issuer.url
                ));
            }
            issuers.push(issuer);
        }
        Ok(Self { issuers, anonymous: anonymous(&document["anonymous"])? })
    }
}

fn known_only(value: &Value, path: &str, fields: &[&str]) -> Result<(), String> {
    match unknown(value, fields) {
        Some(field) if path.is_empty() => Err(format!("unknown field {field:?}")),
        Some(field) => Err(format!("unknown field \"{path}.{field}\"")),
        None => Ok(()),
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

fn issuer(entry: &Value, path: &str) -> Result<Issuer, String> {
    known_only(entry, path, &["issuer", "claimValidationRules", "claimMappings", "userValidationRules"])?;
    let (from, at) = (&entry["issuer"], format!("{path}.issuer"));
    let fields = [
        "url",
        "discoveryURL",
        "certificateAuthority",
        "audiences",
        "audienceMatchPolicy",
        "egressSelectorType",
    ];
    known_only(from, &at, &fields)?;
    let url = text(from, "url").ok_or(format!("{at}.url: Required value: URL is required"))?;
    if !url.starts_with("https://") {
        return Err(format!("{at}.url: Invalid value: {url:?}: URL scheme must be https"));
    }
    if url.contains('?') {
        return Err(format!("{at}.url: Invalid value: {url:?}: URL must not contain a query"));
    }
    let discovery_url = text(from, "discoveryURL");
    if let Some(bad) = discovery_url.as_ref().filter(|url| !url.starts_with("https://")) {
        return Err(format!("{at}.discoveryURL: Invalid value: {bad:?}: URL scheme must be https"));
    }
    let audiences = texts(&from["audiences"]);
    if audiences.is_empty() {
        return Err(format!("{at}.audiences: Required value: at least one {at}.audiences is required"));
    }
    if audiences.len() > 1 && from["audienceMatchPolicy"] != "MatchAny" {
        return Err(format!(
            "{at}.audienceMatchPolicy: Invalid value: {}: audienceMatchPolicy must be MatchAny for multiple audiences",
            from["audienceMatchPolicy"].as_str().map_or("\"\"".to_owned(), |text| format!("{text:?}"))
        ));
    }
    let (mappings, at) = (&entry["claimMappings"], format!("{path}.claimMappings"));
    known_only(mappings, &at, &["username", "groups", "uid", "extra"])?;
    no_expressions(&mappings["extra"], &format!("{at}.extra"))?;
    no_expressions(&entry["userValidationRules"], &format!("{path}.userValidationRules"))?;
    Ok(Issuer {
        url,
        discovery_url,
        authority: text(from, "certificateAuthority"),
        audiences,
        algorithms: ALGORITHMS.iter().map(|one| (*one).to_owned()).collect(),
        username: mapping(&mappings["username"], &format!("{at}.username"))?
            .ok_or(format!("{at}.username: Required value: claim or expression is required"))?,
        groups: mapping(&mappings["groups"], &format!("{at}.groups"))?,
        uid: mapping(&mappings["uid"], &format!("{at}.uid"))?.map(|mapping| mapping.claim),
        required: required(&entry["claimValidationRules"], &format!("{path}.claimValidationRules"))?,
    })
}

fn mapping(value: &Value, path: &str) -> Result<Option<Mapping>, String> {
    known_only(value, path, &["claim", "prefix", "expression"])?;
    no_expressions(&value["expression"], &format!("{path}.expression"))?;
    let Some(claim) = text(value, "claim") else { return Ok(None) };
    if !path.ends_with(".uid") && value["prefix"].is_null() {
        return Err(format!(
            "{path}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
        ));
    }
    Ok(Some(Mapping { claim, prefix: text(value, "prefix").unwrap_or_default() }))
}

fn required(rules: &Value, path: &str) -> Result<Vec<(String, String)>, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (at, rule) in rules.as_array().into_iter().flatten().enumerate() {
        let path = format!("{path}[{at}]");
        known_only(rule, &path, &["claim", "requiredValue", "expression", "message"])?;
        no_expressions(&rule["expression"], &format!("{path}.expression"))?;
        let claim =
            text(rule, "claim").ok_or(format!("{path}: Required value: claim or expression is required"))?;
        if found.iter().any(|(known, _)| *known == claim) {
            return Err(format!("{path}.claim: Duplicate value: {claim:?}"));
        }
        found.push((claim, text(rule, "requiredValue").unwrap_or_default()));
    }
    Ok(found)
}

/// Expressions would decide about access: without an evaluator the file is refused, not read in part.
fn no_expressions(value: &Value, path: &str) -> Result<(), String> {
    let empty = match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => false,
    };
    if empty {
        Ok(())
    } else {
        Err(format!("{path}: Forbidden: expressions are not available in this release"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn issuers_are_read_or_refused_with_the_field() {
        let good = read(json!([entry("https://id")]), json!(null)).expect("good");
        let issuer = &good.issuers[0];
        assert_eq!((issuer.username.claim.as_str(), issuer.required.len()), ("sub", 1));
        assert_eq!(issuer.groups.as_ref().map(|mapping| mapping.prefix.as_str()), Some("p:"));
        let mut without_prefix = entry("https://id");
        without_prefix["claimMappings"]["username"] = json!({"claim": "sub"});
        let mut two = entry("https://id");
        two["issuer"]["audiences"] = json!(["a", "b"]);
        let mut expression = entry("https://id");
        expression["claimMappings"]["username"] = json!({"expression": "claims.sub"});
        let mut misspelt = entry("https://id");
        misspelt["issuer"]["uri"] = json!("x");
        for (jwt, expected) in [
            (json!([entry("")]), "jwt[0].issuer.url: Required value: URL is required"),
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
                "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [\"https://own\"]",
            ),
            (
                json!([without_prefix]),
                "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            ),
            (
                json!([two]),
                "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences",
            ),
            (
                json!([expression]),
                "jwt[0].claimMappings.username.expression: Forbidden: expressions are not available in this release",
            ),
            (json!([misspelt]), "unknown field \"jwt[0].issuer.uri\""),
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
