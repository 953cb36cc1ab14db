//! `PodSecurityConfiguration`: what counts without labels, and who is exempt.

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;
use serde::Deserialize;
use serde_json::{Value, json};

use super::level::{Level, Policy, Version};

/// The configuration of the plugin; the default is privileged for everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The policy of namespaces without labels.
    pub defaults: Policy,
    /// Who is never looked at.
    pub exemptions: Exemptions,
}

/// Who is never looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exemptions {
    /// Users.
    pub usernames: Vec<String>,
    /// Namespaces.
    pub namespaces: Vec<String>,
    /// Runtime classes of pods.
    #[serde(rename = "runtimeClasses")]
    pub runtime_classes: Vec<String>,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is another document.
    #[error("expected PodSecurityConfiguration of pod-security.admission.config.k8s.io/v1, got {0}")]
    Kind(String),
    /// It has a wrong shape.
    #[error("invalid PodSecurityConfiguration: {0}")]
    Shape(#[from] serde_json::Error),
    /// It has wrong values.
    #[error("invalid PodSecurityConfiguration: {0}")]
    Values(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

impl Configuration {
    /// Reads a document that was decoded from YAML or JSON.
    ///
    /// # Errors
    /// When it is no `PodSecurityConfiguration` or has values that mean nothing.
    pub fn read(document: &Value) -> Result<Self, ConfigError> {
        let (version, kind) = (&document["apiVersion"], &document["kind"]);
        let known =
            version.as_str().and_then(|text| text.strip_prefix("pod-security.admission.config.k8s.io/"));
        if !matches!(known, Some("v1" | "v1beta1" | "v1alpha1")) || kind != "PodSecurityConfiguration" {
            return Err(ConfigError::Kind(format!("{version} {kind}")));
        }
        let document = Document::deserialize(document)?;
        let mut errors = Vec::new();
        let defaults = policy(&document.defaults, &mut errors);
        check_exemptions(&document.exemptions, &mut errors);
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
            return Err(ConfigError::Values(texts.join(", ")));
        }
        Ok(Self { defaults, exemptions: document.exemptions })
    }
}

fn policy(defaults: &Defaults, errors: &mut Vec<FieldError>) -> Policy {
    let mut policy = Policy::default();
    let root = Path::root("defaults");
    for (mode, name, level, version) in [
        (&mut policy.enforce, "enforce", &defaults.enforce, &defaults.enforce_version),
        (&mut policy.warn, "warn", &defaults.warn, &defaults.warn_version),
        (&mut policy.audit, "audit", &defaults.audit, &defaults.audit_version),
    ] {
        if !level.is_empty() {
            match Level::parse(level) {
                Some(level) => mode.level = level,
                None => errors.push(FieldError::invalid(
                    &root.child(name),
                    &json!(level),
                    "must be one of privileged, baseline, restricted",
                )),
            }
        }
        if !version.is_empty() {
            match Version::parse(version) {
                Some(version) => mode.version = version,
                None => errors.push(FieldError::invalid(
                    &root.child(&format!("{name}-version")),
                    &json!(version),
                    r#"must be "latest" or "v1.x""#,
                )),
            }
        }
    }
    policy
}

fn check_exemptions(exemptions: &Exemptions, errors: &mut Vec<FieldError>) {
    type Rule = fn(&str) -> Result<(), String>;
    let lists: [(&str, &[String], Rule); 3] = [
        ("namespaces", &exemptions.namespaces, |name| {
            name::is_dns1123_label(name).map_err(|causes| causes.join(", "))
        }),
        ("runtimeClasses", &exemptions.runtime_classes, |name| {
            name::is_dns1123_subdomain(name).map_err(|causes| causes.join(", "))
        }),
        ("usernames", &exemptions.usernames, |name| match name {
            "" => Err("username must not be empty".to_owned()),
            _ => Ok(()),
        }),
    ];
    for (field, entries, rule) in lists {
        for (at, entry) in entries.iter().enumerate() {
            let path = Path::root("exemptions").child(field).index(at);
            match rule(entry) {
                Err(cause) => errors.push(FieldError::invalid(&path, &json!(entry), cause)),
                Ok(()) if entries[..at].contains(entry) => {
                    errors.push(FieldError::duplicate(&path, &json!(entry)))
                }
                Ok(()) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(defaults: Value, exemptions: Value) -> Value {
        json!({"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
            "defaults": defaults, "exemptions": exemptions})
    }

    #[test]
    fn configurations_are_read() {
        let read = Configuration::read(&document(
            json!({"enforce": "baseline", "warn": "restricted", "warn-version": "v1.30"}),
            json!({"namespaces": ["kube-system"], "usernames": ["admin"], "runtimeClasses": ["kata"]}),
        ))
        .expect("valid");
        assert_eq!(read.defaults.enforce.to_string(), "baseline:latest");
        assert_eq!(read.defaults.warn.to_string(), "restricted:v1.30");
        assert_eq!(read.exemptions.namespaces, ["kube-system"]);
        assert_eq!(read.exemptions.runtime_classes, ["kata"]);
    }

    #[test]
    fn wrong_configurations_are_refused() {
        for (given, part) in [
            (json!({"apiVersion": "v1", "kind": "Pod"}), "got \"v1\" \"Pod\""),
            (document(json!({"enforced": "baseline"}), json!({})), "unknown field `enforced`"),
            (
                document(json!({"enforce": "strict"}), json!({})),
                r#"defaults.enforce: Invalid value: "strict": must be one of privileged, baseline, restricted"#,
            ),
            (document(json!({"warn-version": "1"}), json!({})), "defaults.warn-version"),
            (
                document(json!({}), json!({"namespaces": ["a", "a"]})),
                "exemptions.namespaces[1]: Duplicate value",
            ),
            (document(json!({}), json!({"usernames": [""]})), "username must not be empty"),
        ] {
            let error = Configuration::read(&given).expect_err("refused").to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
