//! Levels, versions and the labels that choose them.

use std::fmt;

use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// How strict a policy is. The order is that of strictness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Everything goes.
    #[default]
    Privileged,
    /// Known escalations of privilege do not.
    Baseline,
    /// The best practice for pods.
    Restricted,
}

impl Level {
    /// The level as labels write it.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.name() == text)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The version of Kubernetes whose rules count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1.x`
    Minor(u64),
    /// Whatever is newest, which is newer than every number.
    #[default]
    Latest,
}

impl Version {
    /// `latest` or `v1.x` without leading zeros.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain =
            minor.bytes().all(|byte| byte.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        if plain { minor.parse().ok().map(Self::Minor) } else { None }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Minor(minor) => write!(f, "v1.{minor}"),
            Self::Latest => f.write_str("latest"),
        }
    }
}

/// A level as a certain version understands it, `restricted:v1.30`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LevelVersion {
    /// How strict.
    pub level: Level,
    /// By the rules of when.
    pub version: Version,
}

impl LevelVersion {
    fn equivalent(self, other: Self) -> bool {
        self == other || (self.level == Level::Privileged && other.level == Level::Privileged)
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What is refused, what is noted for the audit log, what is warned about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: LevelVersion,
    /// Violations are noted for the audit log.
    pub audit: LevelVersion,
    /// Users are warned about violations.
    pub warn: LevelVersion,
}

pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";
pub(crate) const AUDIT: &str = "pod-security.kubernetes.io/audit";
const AUDIT_VERSION: &str = "pod-security.kubernetes.io/audit-version";
pub(crate) const WARN: &str = "pod-security.kubernetes.io/warn";
const WARN_VERSION: &str = "pod-security.kubernetes.io/warn-version";

impl Policy {
    /// The policy of a namespace with these labels, and what is wrong with the labels: a wrong level
    /// to enforce counts as restricted, a wrong level to audit or warn about as privileged.
    pub fn of(labels: &Value, defaults: Self) -> (Self, Vec<FieldError>) {
        let mut policy = defaults;
        let mut errors = Vec::new();
        let enforced = level(labels, ENFORCE, &mut errors);
        if let Some(found) = enforced {
            policy.enforce.level = found.unwrap_or(Level::Restricted);
        }
        version(labels, ENFORCE_VERSION, &mut policy.enforce.version, &mut errors);
        if let Some(found) = level(labels, AUDIT, &mut errors) {
            policy.audit.level = found.unwrap_or(Level::Privileged);
        }
        version(labels, AUDIT_VERSION, &mut policy.audit.version, &mut errors);
        let warned = level(labels, WARN, &mut errors);
        if let Some(found) = warned {
            policy.warn.level = found.unwrap_or(Level::Privileged);
        }
        let own_version = version(labels, WARN_VERSION, &mut policy.warn.version, &mut errors);
        // Whoever enforces a level learns about violations in templates, too.
        if let (None, Some(Some(level))) = (warned, enforced)
            && level > policy.warn.level
        {
            policy.warn.level = level;
            if !own_version {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Nothing is refused, noted or warned about.
    pub fn fully_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|one| one.level == Level::Privileged)
    }

    pub(crate) fn equivalent(&self, other: &Self) -> bool {
        self.enforce.equivalent(other.enforce)
            && self.audit.equivalent(other.audit)
            && self.warn.equivalent(other.warn)
    }

    /// The modes that labels set to something, as the warning about exempt namespaces lists them.
    pub(crate) fn labelled(&self, labels: &Value) -> String {
        let modes = [
            ("enforce", self.enforce, ENFORCE, ENFORCE_VERSION),
            ("audit", self.audit, AUDIT, AUDIT_VERSION),
            ("warn", self.warn, WARN, WARN_VERSION),
        ];
        let set = modes.into_iter().filter(|(_, mode, level, version)| {
            mode.level != Level::Privileged && (labels[*level].is_string() || labels[*version].is_string())
        });
        set.map(|(name, mode, ..)| format!("{name}={mode}")).collect::<Vec<_>>().join(", ")
    }
}

/// The level of a label: none without the label, none in it when it is no level.
fn level(labels: &Value, label: &str, errors: &mut Vec<FieldError>) -> Option<Option<Level>> {
    let text = labels[label].as_str()?;
    let level = Level::parse(text);
    if level.is_none() {
        errors.push(error(label, text, "must be one of privileged, baseline, restricted"));
    }
    Some(level)
}

/// Sets the version that a label asks for and tells whether there is such a label.
fn version(labels: &Value, label: &str, version: &mut Version, errors: &mut Vec<FieldError>) -> bool {
    let Some(text) = labels[label].as_str() else { return false };
    let parsed = Version::parse(text);
    if parsed.is_none() {
        errors.push(error(label, text, r#"must be "latest" or "v1.x""#));
    }
    *version = parsed.unwrap_or(Version::Latest);
    true
}

fn error(label: &str, text: &str, detail: &str) -> FieldError {
    FieldError::invalid(&Path::root("metadata").child("labels").key(label), &json!(text), detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Value {
        pairs.iter().map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), json!(value))).collect()
    }

    #[test]
    fn labels_choose_the_policy() {
        for (given, enforce, audit, warn, errors) in [
            (&[][..], "privileged:latest", "privileged:latest", "privileged:latest", 0),
            (&[("enforce", "baseline")], "baseline:latest", "privileged:latest", "baseline:latest", 0),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.2"), ("warn", "restricted")],
                "baseline:v1.2",
                "privileged:latest",
                "restricted:latest",
                0,
            ),
            (
                &[("enforce", "baseline"), ("enforce-version", "v1.2"), ("warn-version", "v1.3")],
                "baseline:v1.2",
                "privileged:latest",
                "baseline:v1.3",
                0,
            ),
            (&[("enforce", "x")], "restricted:latest", "privileged:latest", "privileged:latest", 1),
            (
                &[("audit", "x"), ("warn", "y"), ("audit-version", "1"), ("warn-version", "v1.01")],
                "privileged:latest",
                "privileged:latest",
                "privileged:latest",
                4,
            ),
        ] {
            let (policy, found) = Policy::of(&labels(given), Policy::default());
            let texts = [policy.enforce, policy.audit, policy.warn].map(|mode| mode.to_string());
            assert_eq!(texts, [enforce, audit, warn], "{given:?}");
            assert_eq!(found.len(), errors, "{given:?}");
        }
    }

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let (_, errors) =
            Policy::of(&labels(&[("enforce", "x"), ("warn-version", "v2.0")]), Policy::default());
        let texts: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "x": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v2.0": must be "latest" or "v1.x""#,
            ]
        );
    }
}
