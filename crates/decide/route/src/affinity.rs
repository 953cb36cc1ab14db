//! Clients that stay with one pod, by a cookie.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// The cookie (ingress-nginx: `session-cookie-*` annotations).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// Its name.
    pub name: String,
    /// For which paths; that of the rule if none is given.
    pub path: Option<String>,
    /// For which domain, if not for the host only.
    pub domain: Option<String>,
    /// How many seconds it is kept; as long as the browser runs if none is given.
    pub max_age: Option<u32>,
    /// `Strict`, `Lax` or `None`.
    pub same_site: Option<String>,
    /// Whether it is for encrypted connections only; so it is where it was set over one, if nothing is given.
    pub secure: Option<bool>,
    /// Whether clients are told another pod where theirs cannot be reached, and stay there. Else they come back.
    pub change_on_failure: bool,
}

/// The mark of an endpoint in cookies: tells one from another, and not its address.
pub fn mark(endpoint: SocketAddr, salt: &str) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut text = String::new();
    let _ = write!(text, "{salt}|{endpoint}");
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // FNV's high bits hardly know the last bytes.
    hash ^= hash >> 32;
    format!("{:016x}", hash.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

impl Affinity {
    /// The value of `Set-Cookie`.
    pub fn set(&self, mark: &str, rule_path: &str, encrypted: bool) -> String {
        let path = self.path.as_deref().unwrap_or(rule_path);
        let mut out = format!("{}={mark}; Path={path}", self.name);
        if let Some(domain) = &self.domain {
            let _ = write!(out, "; Domain={domain}");
        }
        if let Some(age) = self.max_age {
            let _ = write!(out, "; Max-Age={age}");
        }
        if self.secure.unwrap_or(encrypted) {
            out.push_str("; Secure");
        }
        out.push_str("; HttpOnly");
        if let Some(same_site) = &self.same_site {
            let _ = write!(out, "; SameSite={same_site}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_say_what_was_asked() {
        let plain = Affinity {
            name: "INGRESSCOOKIE".to_owned(),
            path: None,
            domain: None,
            max_age: None,
            same_site: None,
            secure: None,
            change_on_failure: false,
        };
        let full = Affinity {
            name: "route".to_owned(),
            path: Some("/".to_owned()),
            domain: Some("foo.com".to_owned()),
            max_age: Some(60),
            same_site: Some("Lax".to_owned()),
            secure: Some(true),
            change_on_failure: false,
        };
        assert_eq!(plain.set("ab", "/x", false), "INGRESSCOOKIE=ab; Path=/x; HttpOnly");
        assert_eq!(plain.set("ab", "/x", true), "INGRESSCOOKIE=ab; Path=/x; Secure; HttpOnly");
        assert_eq!(
            full.set("ab", "/x", false),
            "route=ab; Path=/; Domain=foo.com; Max-Age=60; Secure; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn marks_tell_endpoints_apart() {
        let mark = |last: u8, port, salt: &str| mark(SocketAddr::from(([10, 0, 0, last], port)), salt);
        assert_eq!(mark(1, 80, "a"), mark(1, 80, "a"));
        let different = [mark(1, 80, "a"), mark(2, 80, "a"), mark(1, 81, "a"), mark(1, 80, "b")];
        let unique: std::collections::HashSet<_> = different.iter().map(|mark| &mark[..4]).collect();
        assert_eq!(unique.len(), 4, "{different:?}");
    }
}
