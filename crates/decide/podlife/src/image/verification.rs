//! For which images that are there a pod has to show credentials (kubelet:
//! pkg/kubelet/images/pullmanager/image_pull_policies.go, v1.37).

use std::collections::BTreeSet;

use super::is_valid_name;
use super::registry::repository;

/// The policy (`imagePullCredentialsVerificationPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// For none.
    Never,
    /// For those that the agent pulled.
    #[default]
    Pulled,
    /// For all but these repositories, and those that begin so.
    Unlisted(BTreeSet<String>, Vec<String>),
    /// For all.
    Always,
}

impl Verification {
    /// Reads the policy and its `preloadedImagesVerificationAllowlist`.
    ///
    /// # Errors
    /// What is wrong with the list, in upstream's words.
    pub fn parse(policy: &str, allowlist: &[String]) -> Result<Self, String> {
        let (mut exact, mut beginnings) = (BTreeSet::new(), Vec::new());
        for pattern in allowlist {
            match beginning(pattern)? {
                Some(beginning) => beginnings.push(beginning.to_owned()),
                None => drop(exact.insert(pattern.clone())),
            }
        }
        Ok(match policy {
            "NeverVerify" => Self::Never,
            "NeverVerifyAllowlistedImages" => Self::Unlisted(exact, beginnings),
            "AlwaysVerify" => Self::Always,
            _ => Self::Pulled,
        })
    }

    /// Whether pods have to show credentials for an image that the agent pulled, or did not.
    #[must_use]
    pub fn asks(&self, image: &str, is_pulled: bool) -> bool {
        match self {
            Self::Never => false,
            Self::Pulled => is_pulled,
            Self::Always => true,
            Self::Unlisted(exact, beginnings) => {
                let name = repository(image);
                !exact.iter().any(|one| *one == name || repository(one) == name)
                    && !beginnings.iter().any(|start| name.starts_with(start))
            }
        }
    }
}

/// What images begin with that a pattern means, if it means several.
fn beginning(pattern: &str) -> Result<Option<&str>, String> {
    if pattern.trim() != pattern {
        return Err(format!("leading/trailing spaces are not allowed: {pattern}"));
    }
    let start = pattern.strip_suffix('*').filter(|start| start.ends_with('/'));
    let rest = start.unwrap_or(pattern);
    if rest.is_empty() {
        return Err(format!("the supplied pattern is too short: {pattern}"));
    }
    if rest.contains('*') {
        return Err(format!(
            "not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}"
        ));
    }
    if start == Some("/") {
        return Err("at least registry hostname is required".into());
    }
    if start.is_none() {
        if !is_valid_name(pattern) {
            return Err("failed to parse as an image name: invalid reference format".into());
        }
        let tag = pattern.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if tag || pattern.contains('@') {
            return Err(format!("neither tag nor digest is accepted in an image reference: {pattern}"));
        }
    }
    Ok(start)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_show_credentials() {
        let listed = ["r.example/a", "r.example/team/*", "alpine"].map(str::to_owned);
        let policy = |name, list: &[String]| Verification::parse(name, list).unwrap();
        let cases = [
            (policy("NeverVerify", &[]), "r.example/x", true, false),
            (policy("NeverVerifyPreloadedImages", &[]), "r.example/x", true, true),
            (policy("NeverVerifyPreloadedImages", &[]), "r.example/x", false, false),
            (policy("AlwaysVerify", &[]), "r.example/x", false, true),
            (policy("NeverVerifyAllowlistedImages", &listed), "r.example/a:1", true, false),
            (policy("NeverVerifyAllowlistedImages", &listed), "r.example/team/x@sha256:00", false, false),
            (policy("NeverVerifyAllowlistedImages", &listed), "alpine:3", false, false),
            (policy("NeverVerifyAllowlistedImages", &listed), "r.example/ab", false, true),
        ];
        for (policy, image, is_pulled, expected) in cases {
            assert_eq!(policy.asks(image, is_pulled), expected, "{policy:?} {image}");
        }
    }

    #[test]
    fn lists_that_make_no_sense() {
        for (pattern, expected) in [
            (" a", "leading/trailing spaces are not allowed:  a"),
            ("", "the supplied pattern is too short: "),
            ("a*", "not a valid wildcard pattern, only patterns ending with '/*' are allowed: a*"),
            ("/*", "at least registry hostname is required"),
            ("A", "failed to parse as an image name: invalid reference format"),
            ("r.example/a:1", "neither tag nor digest is accepted in an image reference: r.example/a:1"),
        ] {
            let refused = Verification::parse("NeverVerifyAllowlistedImages", &[pattern.to_owned()]);
            assert_eq!(refused.unwrap_err(), expected);
        }
    }
}
