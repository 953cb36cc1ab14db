//! Which versions of the Gateway API's definitions are served.

use super::conditions::Condition;

/// The annotation of a definition that tells its version.
pub const VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// Versions 1.0 to 1.6: older ones have fewer fields, newer ones may mean things that nobody here knows.
const NEWEST: u32 = 6;

/// Whether all definitions, with their versions, are of versions that are known.
pub(crate) fn supported(definitions: &[(&str, Option<&str>)]) -> Condition {
    let odd = definitions.iter().find(|(_, version)| !version.is_some_and(is_known));
    let Some((name, version)) = odd else { return Condition::yes("SupportedVersion", "SupportedVersion") };
    let version = version.unwrap_or("without a version");
    let message = format!("definition {name} is {version}, which is served as far as it is like v1.{NEWEST}");
    Condition::no("SupportedVersion", "UnsupportedVersion", message)
}

/// `v1.6.1` and `v1.6.0-rc.1`, say.
fn is_known(version: &str) -> bool {
    let minor = version.strip_prefix("v1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    minor.is_some_and(|minor| minor <= NEWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_known() {
        let table = [
            (Some("v1.6.1"), true),
            (Some("v1.0.0"), true),
            (Some("v1.6.0-rc.1"), true),
            (Some("v1.7.0"), false),
            (Some("v0.8.1"), false),
            (Some("v0.0.0"), false),
            (Some("1.6.0"), false),
            (Some(""), false),
            (None, false),
        ];
        for (version, expected) in table {
            let condition = supported(&[("a", Some("v1.6.1")), ("b", version)]);
            assert_eq!(condition.holds(), expected, "{version:?}");
            assert_eq!(condition.message.contains("definition b is"), !expected, "{condition:?}");
        }
        assert!(supported(&[]).holds());
    }
}
