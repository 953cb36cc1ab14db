//! Who asks a registry, and where people keep that: docker's `config.json`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::name::ImageName;

/// Docker keeps the credentials of its own registry under this address.
const HUB: [&str; 2] = ["https://index.docker.io/v1/", "index.docker.io"];

/// Who asks a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    #[default]
    Anonymous,
    /// A user with a password.
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: String,
    },
    /// A token of the registry's own.
    Bearer(String),
}

impl std::fmt::Debug for Auth {
    /// Secrets do not reach the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => write!(f, "Basic({user})"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    registrytoken: String,
}

impl Auth {
    /// The credentials that a docker `config.json` (as in `.dockerconfigjson` Secrets) has
    /// for an image: those of the longest address that leads to it, else none.
    pub fn from_docker_config(config: &[u8], name: &ImageName) -> Result<Self> {
        let file: File =
            serde_json::from_slice(config).map_err(|e| Error::document("docker config.json", e))?;
        let best = file.auths.iter().filter(|(key, _)| leads_to(key, name)).max_by_key(|(key, _)| key.len());
        best.map_or(Ok(Self::Anonymous), |(key, entry)| entry.auth(key))
    }
}

impl Entry {
    fn auth(&self, key: &str) -> Result<Auth> {
        if !self.registrytoken.is_empty() {
            return Ok(Auth::Bearer(self.registrytoken.clone()));
        }
        if !self.username.is_empty() {
            return Ok(Auth::Basic { user: self.username.clone(), password: self.password.clone() });
        }
        if self.auth.is_empty() {
            return Ok(Auth::Anonymous);
        }
        let wrong =
            || Error::document("docker config.json", format!("auth of {key} is not base64 of user:password"));
        let bytes = STANDARD.decode(self.auth.trim()).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, password) = text.split_once(':').ok_or_else(wrong)?;
        Ok(Auth::Basic { user: user.into(), password: password.trim_end_matches('\0').into() })
    }
}

/// Keys are hosts, `host/path` or URLs; a path must be the beginning of the repository.
fn leads_to(key: &str, name: &ImageName) -> bool {
    if name.registry() == "docker.io" && HUB.contains(&key) {
        return true;
    }
    let plain = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let plain = plain.trim_end_matches("/v1").trim_end_matches("/v2");
    let (host, path) = plain.split_once('/').unwrap_or((plain, ""));
    let below = |path: &str| name.repository() == path || name.repository().starts_with(&format!("{path}/"));
    host == name.registry() && (path.is_empty() || below(path))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn finds_credentials_as_docker_keeps_them() {
        let config = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "r.io:5000": {"username": "u", "password": "p"},
            "r.io:5000/team": {"auth": "dGVhbTpwOnc="},
            "https://q.io/v2/": {"registrytoken": "t"},
            "empty.io": {},
            "bad.io": {"auth": "%"}
        }, "credsStore": "x"}"#;
        let basic = |user: &str, password: &str| Auth::Basic { user: user.into(), password: password.into() };
        for (name, want) in [
            ("busybox", basic("hub", "pw")),
            ("r.io:5000/x", basic("u", "p")),
            ("r.io:5000/team/x", basic("team", "p:w")),
            ("r.io:5000/teams/x", basic("u", "p")),
            ("q.io/x", Auth::Bearer("t".into())),
            ("empty.io/x", Auth::Anonymous),
            ("other.io/x", Auth::Anonymous),
        ] {
            let name = ImageName::parse(name).unwrap();
            assert_eq!(Auth::from_docker_config(config, &name).unwrap(), want, "{name}");
        }
        assert!(Auth::from_docker_config(config, &ImageName::parse("bad.io/x").unwrap()).is_err());
        assert!(Auth::from_docker_config(b"{", &ImageName::parse("x").unwrap()).is_err());
        assert_eq!(format!("{:?}", basic("u", "secret")), "Basic(u)");
    }
}
