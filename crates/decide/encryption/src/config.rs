//! `EncryptionConfiguration`: read, checked and turned into rules.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll_meta::field::{FieldError, Path};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cipher::{Algorithm, Cipher};
use crate::kms::{Seeds, Service};
use crate::provider::{Key, Provider};
use crate::rules::{Entry, Rules};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is another document.
    #[error("expected EncryptionConfiguration of apiserver.config.k8s.io/v1, got {0}")]
    Kind(String),
    /// It has a wrong shape.
    #[error("invalid EncryptionConfiguration: {0}")]
    Shape(#[from] serde_json::Error),
    /// It has wrong values.
    #[error("invalid EncryptionConfiguration: {0}")]
    Values(String),
    /// A key management service cannot be used.
    #[error("cannot use the key management service {name:?}: {cause}")]
    Service {
        /// Its name.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// A rule can never count.
    #[error("resource {masked:?} is masked by earlier rule {by:?}")]
    Masked {
        /// The later rule.
        masked: String,
        /// The earlier one.
        by: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<ProviderSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderSource {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<Value>,
    kms: Option<ServiceSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServiceSource {
    api_version: Option<String>,
    #[serde(default)]
    name: String,
    cachesize: Option<i64>,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
}

/// Makes the seeds of a service known.
pub type Connect<'c> = dyn FnMut(&Service) -> Result<Arc<dyn Seeds>, String> + 'c;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<KeySource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySource {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

impl Rules {
    /// Reads a document that was decoded from YAML or JSON. Keys never stand in errors. Services are asked for
    /// when the whole document is good, once for each resource.
    ///
    /// # Errors
    /// When it is no `EncryptionConfiguration`, has wrong values or rules that can never count, or when a
    /// service cannot be used.
    pub fn read(document: &Value, connect: &mut Connect<'_>) -> Result<Self, ConfigError> {
        let (version, kind) = (&document["apiVersion"], &document["kind"]);
        if version != "apiserver.config.k8s.io/v1" || kind != "EncryptionConfiguration" {
            return Err(ConfigError::Kind(format!("{version} {kind}")));
        }
        let document = Document::deserialize(document)?;
        let mut errors = Vec::new();
        let root = Path::root("resources");
        if document.resources.is_empty() {
            errors.push(FieldError::required(&root, "at least one resources is required"));
        }
        let mut entries: Vec<Entry> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for (at, rule) in document.resources.iter().enumerate() {
            let path = root.index(at);
            check_resources(&rule.resources, &path.child("resources"), &mut errors);
            check_providers(&rule.providers, &path.child("providers"), &mut names, &mut errors);
        }
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            return Err(ConfigError::Values(texts.join(", ")));
        }
        for rule in &document.resources {
            for resource in &rule.resources {
                add(&mut entries, resource, &rule.providers, connect)?;
            }
        }
        Ok(Self { entries })
    }
}

/// Resource and group: `secrets`, `deployments.apps`, `*.apps`, `*.` and `*.*`.
fn parse(resource: &str) -> (&str, &str) {
    resource.split_once('.').unwrap_or((resource, ""))
}

fn written(resource: &str, group: &str) -> String {
    match (resource, group) {
        ("*", "") => "*.".to_owned(),
        (resource, "") => resource.to_owned(),
        (resource, group) => format!("{resource}.{group}"),
    }
}

fn add(
    entries: &mut Vec<Entry>,
    text: &str,
    sources: &[ProviderSource],
    connect: &mut Connect<'_>,
) -> Result<(), ConfigError> {
    let (resource, group) = parse(text);
    for (any, of) in [("*", group), ("*", "*")] {
        if entries.iter().any(|entry| entry.resource == any && entry.group == of) {
            return Err(ConfigError::Masked { masked: written(resource, group), by: written(any, of) });
        }
    }
    let mut providers = Vec::new();
    for source in sources {
        providers.extend(provider(source, connect)?);
    }
    match entries.iter_mut().find(|entry| entry.resource == resource && entry.group == group) {
        // A later rule about the same resource adds to the end.
        Some(entry) => entry.providers.extend(providers),
        None => entries.push(Entry { group: group.to_owned(), resource: resource.to_owned(), providers }),
    }
    Ok(())
}

impl ProviderSource {
    fn keyed(&self) -> impl Iterator<Item = (&'static str, Algorithm, &Keys)> {
        [
            ("aesgcm", Algorithm::AesGcm, &self.aesgcm),
            ("aescbc", Algorithm::AesCbc, &self.aescbc),
            ("secretbox", Algorithm::SecretBox, &self.secretbox),
        ]
        .into_iter()
        .filter_map(|(name, algorithm, keys)| Some((name, algorithm, keys.as_ref()?)))
    }
}

/// A provider that was checked.
fn provider(source: &ProviderSource, connect: &mut Connect<'_>) -> Result<Option<Provider>, ConfigError> {
    if let Some(source) = &source.kms {
        let service = source.service();
        let seeds = connect(&service).map_err(|cause| ConfigError::Service { name: service.name, cause })?;
        return Ok(Some(Provider::Service { prefix: format!("k8s:enc:kms:v2:{}:", source.name), seeds }));
    }
    let Some((_, algorithm, keys)) = source.keyed().next() else {
        return Ok(source.identity.is_some().then_some(Provider::Identity));
    };
    let key = |source: &KeySource| {
        let secret = STANDARD.decode(&source.secret).ok()?;
        Some(Key { name: source.name.clone(), cipher: Cipher::new(algorithm, &secret)? })
    };
    let keys = keys.keys.iter().filter_map(key).collect();
    Ok(Some(Provider::Keys { prefix: algorithm.prefix(), keys }))
}

impl ServiceSource {
    fn timeout(&self) -> Option<Duration> {
        match &self.timeout {
            None => Some(Duration::from_secs(3)),
            Some(text) => plimsoll_meta::duration::parse(text).ok().filter(|timeout| !timeout.is_zero()),
        }
    }

    /// The service of a source that was checked.
    fn service(&self) -> Service {
        let path = self.endpoint.strip_prefix("unix://").unwrap_or_default();
        // The slash before the name of an abstract socket only ends the authority of the URL.
        let socket = path.strip_prefix('/').filter(|name| name.starts_with('@')).unwrap_or(path);
        Service {
            name: self.name.clone(),
            socket: socket.to_owned(),
            timeout: self.timeout().unwrap_or_default(),
        }
    }
}

fn check_service(source: &ServiceSource, names: &[&str], path: &Path, errors: &mut Vec<FieldError>) {
    let mut wrong = |field: &str, value: Value, detail: &str| {
        errors.push(FieldError::invalid(&path.child(field), &value, detail));
    };
    if source.name.contains(':') {
        let detail = format!("invalid KMS provider name {}, must not contain ':'", source.name);
        wrong("name", json!(source.name), &detail);
    }
    if names.contains(&source.name.as_str()) {
        let detail = format!("duplicate KMS provider name {}, names must be unique", source.name);
        wrong("name", json!(source.name), &detail);
    }
    if source.timeout().is_none() {
        wrong("timeout", json!(source.timeout), "timeout should be a positive value");
    }
    match source.endpoint.split_once("://") {
        _ if source.endpoint.is_empty() => {
            wrong("endpoint", json!(""), "endpoint is a mandatory field for a kms")
        }
        Some(("unix", path)) if !path.is_empty() => {}
        found => {
            let scheme = found.map_or("", |(scheme, _)| scheme);
            let detail = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
            wrong("endpoint", json!(source.endpoint), &detail);
        }
    }
    if let Some(size) = source.cachesize {
        wrong("cachesize", json!(size), "cachesize is not supported in v2");
    }
    let version = source.api_version.as_deref().unwrap_or("v1");
    if version != "v2" {
        let detail = match version {
            "v1" => "KMSv1 is deprecated and not supported here. Use KMSv2 instead".to_owned(),
            _ => format!("unsupported apiVersion {version} for KMS provider, only v2 is supported"),
        };
        wrong("apiVersion", json!(version), &detail);
    }
    if source.name.is_empty() {
        errors.push(FieldError::required(&path.child("name"), "name is a mandatory field for a provider"));
    }
}

fn check_providers<'s>(
    providers: &'s [ProviderSource],
    path: &Path,
    names: &mut Vec<&'s str>,
    errors: &mut Vec<FieldError>,
) {
    if providers.is_empty() {
        errors.push(FieldError::required(path, format!("at least one {path} is required")));
    }
    for (at, provider) in providers.iter().enumerate() {
        let path = path.index(at);
        let given = provider.keyed().count()
            + usize::from(provider.identity.is_some())
            + usize::from(provider.kms.is_some());
        if given != 1 {
            let detail = match given {
                0 => {
                    "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
                }
                _ => {
                    "more than one provider specified in a single element, should split into different list elements"
                }
            };
            errors.push(FieldError::invalid(&path, &Value::Null, detail));
        }
        if let Some(source) = &provider.kms {
            check_service(source, names, &path.child("kms"), errors);
            names.push(&source.name);
        }
        for (name, algorithm, keys) in provider.keyed() {
            check_keys(&keys.keys, algorithm, &path.child(name).child("keys"), errors);
        }
    }
}

fn check_keys(keys: &[KeySource], algorithm: Algorithm, path: &Path, errors: &mut Vec<FieldError>) {
    if keys.is_empty() {
        errors.push(FieldError::required(path, "at least one keys is required"));
    }
    for (at, key) in keys.iter().enumerate() {
        let path = path.index(at);
        if key.name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), "name is a mandatory field for a key"));
        }
        let secret = path.child("secret");
        if key.secret.is_empty() {
            errors.push(FieldError::required(&secret, "secret is a mandatory field for a key"));
            continue;
        }
        match STANDARD.decode(&key.secret) {
            Err(_) => {
                errors.push(FieldError::invalid(
                    &secret,
                    &json!("REDACTED"),
                    "secrets must be base64 encoded",
                ));
            }
            Ok(bytes) if !algorithm.key_lengths().contains(&bytes.len()) => {
                let lengths: Vec<String> = algorithm.key_lengths().iter().map(usize::to_string).collect();
                let detail = format!(
                    "secret is not of the expected length, got {}, expected one of [{}]",
                    bytes.len(),
                    lengths.join(" ")
                );
                errors.push(FieldError::invalid(&secret, &json!("REDACTED"), detail));
            }
            Ok(_) => {}
        }
    }
}

fn check_resources(resources: &[String], path: &Path, errors: &mut Vec<FieldError>) {
    if resources.is_empty() {
        errors.push(FieldError::required(path, format!("at least one {path} is required")));
    }
    let parsed: Vec<(&str, &str)> = resources.iter().map(|resource| parse(resource)).collect();
    let pairs = || {
        parsed
            .iter()
            .enumerate()
            .flat_map(|(at, one)| parsed[at + 1..].iter().map(move |other| (*one, *other)))
    };
    if pairs().any(|(one, other)| one == other) {
        errors.push(FieldError::invalid(
            path,
            &json!(resources),
            "the same resource cannot be specified multiple times",
        ));
    }
    let overlap = |(one, other): ((&str, &str), (&str, &str))| {
        let any = ("*", "*");
        one != other && (one == any || other == any || (one.1 == other.1 && (one.0 == "*" || other.0 == "*")))
    };
    if pairs().any(overlap) {
        let detail = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
        errors.push(FieldError::invalid(path, &json!(resources), detail));
    }
    for (at, resource) in resources.iter().enumerate() {
        if let Some(detail) = wrong_name(resource) {
            errors.push(FieldError::invalid(&path.index(at), &json!(resource), detail));
        }
    }
}

fn wrong_name(text: &str) -> Option<&'static str> {
    let (resource, group) = parse(text);
    Some(match (resource, group) {
        _ if text.chars().any(char::is_uppercase) => "resource name should not contain capital letters",
        _ if text == "*" => {
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        }
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", "") => {
            "resources which do not have REST API/s cannot be encrypted"
        }
        (_, "events.k8s.io") => {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
        }
        (_, "extensions") => "'extensions' group has been removed and cannot be used for encryption",
        (resource, "*") if resource != "*" => "encrypting the same resource across groups is not supported",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpenError, Opened};

    fn document(resources: Value) -> Value {
        json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": resources})
    }

    fn keys(provider: &str, names: &[&str]) -> Value {
        let key = |name: &&str| json!({"name": name, "secret": STANDARD.encode([name.as_bytes()[0]; 32])});
        json!({provider: {"keys": names.iter().map(key).collect::<Vec<_>>()}})
    }

    /// Services are nowhere.
    fn nobody() -> impl FnMut(&Service) -> Result<Arc<dyn Seeds>, String> {
        |service| Err(format!("nobody listens at {}", service.socket))
    }

    fn rules(resources: Value) -> Rules {
        Rules::read(&document(resources), &mut nobody()).expect("valid")
    }

    fn stored(rules: &Rules, resource: &str) -> Option<Vec<u8>> {
        rules.of("", resource).seal("/p", b"value", &mut |bytes| bytes.fill(9))
    }

    #[test]
    fn values_carry_upstreams_prefix_and_are_read_by_every_key() {
        let old = rules(
            json!([{"resources": ["secrets"], "providers": [keys("aescbc", &["k1"]), {"identity": {}}]}]),
        );
        let new = rules(json!([{"resources": ["secrets"], "providers": [
            keys("secretbox", &["k2", "z"]), keys("aescbc", &["0", "k1"]), {"identity": {}}]}]));
        let value = stored(&old, "secrets").expect("encrypted");
        assert!(value.starts_with(b"k8s:enc:aescbc:v1:k1:"));
        let opened = |rules: &Rules, value: &[u8]| rules.of("", "secrets").open("/p", value);
        let plain = Some(b"value".to_vec());
        assert_eq!(opened(&old, &value), Ok(Opened { plain: plain.clone(), stale: false }));
        assert_eq!(opened(&new, &value), Ok(Opened { plain, stale: true }));
        assert_eq!(opened(&new, b"{}"), Ok(Opened { plain: None, stale: true }));
        let newer = stored(&new, "secrets").expect("encrypted");
        assert!(newer.starts_with(b"k8s:enc:secretbox:v1:k2:"));
        assert_eq!(opened(&old, &newer), Err(OpenError::NoProvider));
        assert_eq!(stored(&new, "configmaps"), None);
        assert_eq!(new.of("", "configmaps").open("/p", &newer), Err(OpenError::Encrypted));
        let other = rules(json!([{"resources": ["secrets"], "providers": [keys("secretbox", &["k3"])]}]));
        assert_eq!(opened(&other, &newer), Err(OpenError::NoProvider));
    }

    #[test]
    fn a_key_of_the_same_name_takes_over() {
        let one = rules(
            json!([{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": [{"name": "k", "secret": STANDARD.encode([1; 16])}]}}]}]),
        );
        let both = rules(json!([{"resources": ["secrets"], "providers": [
            {"aesgcm": {"keys": [{"name": "k", "secret": STANDARD.encode([2; 16])}]}},
            {"aesgcm": {"keys": [{"name": "k", "secret": STANDARD.encode([1; 16])}]}}]}]));
        let value = stored(&one, "secrets").expect("encrypted");
        let read = both.of("", "secrets").open("/p", &value).expect("the second key");
        assert!(read.stale);
        let elsewhere = both.of("", "secrets").open("/q", &value);
        assert_eq!(elsewhere, Err(OpenError::Broken("message authentication failed")));
    }

    #[test]
    fn rules_count_in_order_and_by_how_special_they_are() {
        let rules = rules(json!([
            {"resources": ["events"], "providers": [{"identity": {}}]},
            {"resources": ["secrets", "pandas.awesome.example"], "providers": [keys("aesgcm", &["a"])]},
            {"resources": ["*.apps"], "providers": [keys("aesgcm", &["b"])]},
            {"resources": ["*."], "providers": [keys("aesgcm", &["c"])]},
            {"resources": ["*.*"], "providers": [keys("aesgcm", &["d"])]},
        ]));
        for (group, resource, key) in [
            ("", "events", None),
            ("", "secrets", Some("a")),
            ("awesome.example", "pandas", Some("a")),
            ("apps", "deployments", Some("b")),
            ("", "configmaps", Some("c")),
            ("batch", "jobs", Some("d")),
        ] {
            let value = rules.of(group, resource).seal("/p", b"v", &mut |bytes| bytes.fill(1));
            let prefix = key.map(|key| format!("k8s:enc:aesgcm:v1:{key}:"));
            assert_eq!(value.is_some(), prefix.is_some(), "{resource}.{group}");
            if let (Some(value), Some(prefix)) = (value, prefix) {
                assert!(value.starts_with(prefix.as_bytes()), "{resource}.{group}");
            }
        }
    }

    #[test]
    fn wrong_configurations_are_refused_without_telling_keys() {
        let good = || json!([{"identity": {}}]);
        let kms = |service: Value| json!([{"resources": ["secrets"], "providers": [{ "kms": service }]}]);
        let secret = STANDARD.encode("0123456789");
        for (resources, part) in [
            (json!([]), "resources: Required value: at least one resources is required"),
            (json!([{"resources": ["secrets"], "providers": []}]), "resources[0].providers: Required value"),
            (
                json!([{"resources": ["secrets"], "providers": [{}]}]),
                "does not contain any of the expected providers",
            ),
            (
                json!([{"resources": ["secrets"], "providers": [{"identity": {}, "aesgcm": {"keys": [{"name": "a", "secret": STANDARD.encode([0; 16])}]}}]}]),
                "more than one provider",
            ),
            (
                json!([{"resources": ["secrets"], "providers": [{"kms": {"name": "k", "endpoint": "unix:///x"}}]}]),
                r#"resources[0].providers[0].kms.apiVersion: Invalid value: "v1": KMSv1 is deprecated and not supported here. Use KMSv2 instead"#,
            ),
            (
                kms(json!({"apiVersion": "v2", "name": "a:b", "endpoint": "unix:///x"})),
                r#"kms.name: Invalid value: "a:b": invalid KMS provider name a:b, must not contain ':'"#,
            ),
            (
                kms(json!({"apiVersion": "v2", "endpoint": "https://x", "timeout": "0s", "cachesize": 10})),
                r#"kms.timeout: Invalid value: "0s": timeout should be a positive value, resources[0].providers[0].kms.endpoint: Invalid value: "https://x": unsupported scheme "https" for KMS provider, only unix is supported, resources[0].providers[0].kms.cachesize: Invalid value: 10: cachesize is not supported in v2, resources[0].providers[0].kms.name: Required value: name is a mandatory field for a provider"#,
            ),
            (
                kms(json!({"apiVersion": "v2", "name": "k", "endpoint": "unix:///@kms"})),
                "cannot use the key management service \"k\": nobody listens at @kms",
            ),
            (
                kms(json!({"apiVersion": "v2", "name": "k", "endpoint": "unix:///run/kms.sock"})),
                "nobody listens at /run/kms.sock",
            ),
            (
                json!([{"resources": ["secrets"], "providers": [{"aesgcm": {"keys": [{"name": "a", "secret": secret}]}}]}]),
                "got 10, expected one of [16 24 32]",
            ),
            (
                json!([{"resources": ["secrets"], "providers": [{"secretbox": {"keys": [{"name": "a", "secret": "%"}]}}]}]),
                r#"secret: Invalid value: "REDACTED": secrets must be base64 encoded"#,
            ),
            (
                json!([{"resources": ["secrets"], "providers": [{"aescbc": {"keys": []}}]}]),
                "aescbc.keys: Required value",
            ),
            (json!([{"resources": ["secrets", "*."], "providers": good()}]), "using overlapping resources"),
            (
                json!([{"resources": ["secrets", "secrets"], "providers": good()}]),
                "the same resource cannot be specified multiple times",
            ),
            (json!([{"resources": ["*"], "providers": good()}]), "use '*.' to encrypt all the resources"),
            (json!([{"resources": ["Secrets"], "providers": good()}]), "capital letters"),
            (json!([{"resources": ["jobs.*"], "providers": good()}]), "across groups is not supported"),
            (
                json!([{"resources": ["*.*"], "providers": good()}, {"resources": ["secrets"], "providers": good()}]),
                r#"resource "secrets" is masked by earlier rule "*.*""#,
            ),
            (
                json!([{"resources": ["*."], "providers": good()}, {"resources": ["secrets"], "providers": good()}]),
                r#"resource "secrets" is masked by earlier rule "*.""#,
            ),
            (json!([{"resource": ["secrets"]}]), "unknown field `resource`"),
        ] {
            let error = Rules::read(&document(resources), &mut nobody()).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
            assert!(!error.contains(&secret), "{error}");
        }
        assert!(matches!(Rules::read(&json!({"kind": "Pod"}), &mut nobody()), Err(ConfigError::Kind(_))));
    }
}
