//! Bootstrap tokens: Secrets of type `bootstrap.kubernetes.io/token` in `kube-system`
//! (plugin/pkg/auth/authenticator/token/bootstrap, v1.37).

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::User;

/// Where the Secrets are.
pub const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";

/// A token in its two parts, `abcdef.0123456789abcdef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootstrapToken<'a> {
    id: &'a str,
    secret: &'a str,
}

impl<'a> BootstrapToken<'a> {
    /// Splits a token; `None` when it does not look like one.
    pub fn parse(token: &'a str) -> Option<Self> {
        let (id, secret) = token.split_once('.')?;
        let plain = |text: &str, length: usize| {
            text.len() == length
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        (plain(id, 6) && plain(secret, 16)).then_some(Self { id, secret })
    }

    /// Name of the Secret that a token belongs to.
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// The user, if the Secret accepts the token for authentication at `now`.
    pub fn user(&self, secret: &Value, now: Timestamp) -> Option<User> {
        let data = |key: &str| -> Option<String> {
            String::from_utf8(STANDARD.decode(secret["data"][key].as_str()?).ok()?).ok()
        };
        let accepted = secret["metadata"]["deletionTimestamp"].is_null()
            && secret["type"] == TYPE
            && same(data("token-secret").unwrap_or_default().as_bytes(), self.secret.as_bytes())
            && data("token-id").as_deref() == Some(self.id)
            && data("expiration")
                .is_none_or(|until| until.parse::<Timestamp>().is_ok_and(|until| until > now))
            && data("usage-bootstrap-authentication").as_deref() == Some("true");
        if !accepted {
            return None;
        }
        let groups = groups(&data("auth-extra-groups").unwrap_or_default())?;
        Some(User { name: format!("system:bootstrap:{}", self.id), groups, ..User::default() }.known())
    }
}

/// The groups, each once and in order; `None` when one may not be given to bootstrappers.
fn groups(extra: &str) -> Option<Vec<String>> {
    let mut all = BTreeSet::from([GROUP.to_owned()]);
    for group in extra.split(',').map(str::trim).filter(|_| !extra.is_empty()) {
        let rest = group.strip_prefix("system:bootstrappers:")?;
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good = rest.len() <= 256
            && rest.bytes().all(|byte| letter(byte) || byte == b':' || byte == b'-')
            && rest.bytes().last().is_some_and(letter);
        if !good {
            return None;
        }
        all.insert(group.to_owned());
    }
    Some(all.into_iter().collect())
}

/// Comparison in a time that does not tell where the difference is.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(changes: &[(&str, Option<&str>)]) -> Value {
        let mut secret = json!({"type": TYPE, "metadata": {"name": "bootstrap-token-abcdef"}, "data": {}});
        let usual = [
            ("token-id", Some("abcdef")),
            ("token-secret", Some("0123456789abcdef")),
            ("usage-bootstrap-authentication", Some("true")),
        ];
        for (key, value) in usual.iter().chain(changes) {
            secret["data"][*key] = value.map_or(Value::Null, |value| json!(STANDARD.encode(value)));
        }
        secret
    }

    #[test]
    fn the_secret_decides_who_the_token_is() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("time");
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").expect("token");
        let extra = "system:bootstrappers:workers, system:bootstrappers:a:b";
        for (changes, expected) in [
            (&[][..], Some("system:bootstrappers")),
            (
                &[("auth-extra-groups", Some(extra))],
                Some("system:bootstrappers,system:bootstrappers:a:b,system:bootstrappers:workers"),
            ),
            (&[("auth-extra-groups", Some("system:masters"))], None),
            (&[("auth-extra-groups", Some("system:bootstrappers:X"))], None),
            (&[("expiration", Some("2026-01-01T00:00:01Z"))], Some("system:bootstrappers")),
            (&[("expiration", Some("2026-01-01T00:00:00Z"))], None),
            (&[("expiration", Some("tomorrow"))], None),
            (&[("usage-bootstrap-authentication", Some("false"))], None),
            (&[("usage-bootstrap-authentication", None)], None),
            (&[("token-secret", Some("0123456789abcdee"))], None),
            (&[("token-id", Some("abcdee"))], None),
        ] {
            let found = token.user(&secret(changes), now);
            let wanted = expected.map(|groups| format!("{groups},system:authenticated"));
            assert_eq!(found.as_ref().map(|user| user.groups.join(",")), wanted, "{changes:?}");
            assert!(found.is_none_or(|user| user.name == "system:bootstrap:abcdef"));
        }
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(token.user(&going, now), None);
    }

    #[test]
    fn tokens_have_two_parts() {
        for (text, good) in [
            ("abcdef.0123456789abcdef", true),
            ("abcde.0123456789abcdef", false),
            ("Abcdef.0123456789abcdef", false),
            ("abcdef0123456789abcdef", false),
            ("abcdef.0123456789abcdef.x", false),
        ] {
            assert_eq!(BootstrapToken::parse(text).is_some(), good, "{text}");
        }
    }
}
