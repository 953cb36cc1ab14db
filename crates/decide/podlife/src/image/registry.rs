//! Whose credentials are for which image (kubelet: pkg/credentialprovider, v1.37).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use super::record::Coordinates;

/// The registry of names that say none.
const USUAL: &str = "docker.io";

/// Name and password for a registry, or a token in their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub username: String,
    /// Their secret.
    pub password: String,
    /// Buys a token from the registry's issuer.
    pub identity_token: String,
    /// Goes to the registry as it is.
    pub registry_token: String,
}

/// Who may use a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Every pod of the node.
    Node,
    /// Pods that name this Secret.
    Secret(Coordinates),
    /// Pods of this ServiceAccount.
    Account(Coordinates),
}

/// A login for a place: a registry, or a part of its repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `registry.example:5000/team`, `*.registry.example`, `https://index.docker.io/v1/`.
    pub place: String,
    /// What opens it.
    pub login: Login,
    /// Who may use it.
    pub source: Source,
}

/// The repository of an image in full: `nginx:1` comes from `docker.io/library/nginx`.
#[must_use]
pub fn repository(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    let name = name[last..].find(':').map_or(name, |colon| &name[..last + colon]);
    let is_host = |text: &str| {
        text.contains(['.', ':']) || text == "localhost" || text.chars().any(|c| c.is_ascii_uppercase())
    };
    let (host, path) = match name.split_once('/') {
        Some(("index.docker.io", path)) => (USUAL, path),
        Some((host, path)) if is_host(host) => (host, path),
        _ => (USUAL, name),
    };
    let folder = if host == USUAL && !path.contains('/') { "library/" } else { "" };
    format!("{host}/{folder}{path}")
}

/// The logins for a repository, those for the closest places first.
#[must_use]
pub fn lookup(entries: Vec<Entry>, repository: &str) -> Vec<Entry> {
    let mut keyed: Vec<_> = entries.into_iter().map(|entry| (key(&entry.place), entry)).collect();
    keyed.sort_by(|(a, _), (b, _)| b.cmp(a));
    let (fitting, others): (Vec<_>, Vec<_>) =
        keyed.into_iter().partition(|(key, _)| matches(key, repository));
    let host = repository.split('/').next().unwrap_or_default();
    let is_usual = host == USUAL || !host.contains(['.', ':']);
    let chosen = match fitting.is_empty() {
        true if is_usual => others.into_iter().filter(|(key, _)| key == "index.docker.io").collect(),
        _ => fitting,
    };
    chosen.into_iter().map(|(_, entry)| entry).collect()
}

/// A place without what does not count: the protocol and the version of a registry's API.
fn key(place: &str) -> String {
    let bare = place.strip_prefix("https://").or_else(|| place.strip_prefix("http://")).unwrap_or(place);
    let (host, path) = bare.find('/').map_or((bare, ""), |slash| bare.split_at(slash));
    let version = |path: &str| path.starts_with("/v1/") || path.starts_with("/v2/");
    let path = if version(path) { &path[3..] } else { path };
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// Whether a place holds a repository: the same port, as many parts of the host's name, of which each may have
/// wild cards, and a path that begins alike.
#[must_use]
pub fn matches(place: &str, repository: &str) -> bool {
    fn split(text: &str) -> (Vec<&str>, &str, &str) {
        let (host, path) = text.find('/').map_or((text, ""), |slash| text.split_at(slash));
        let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
        (host.split('.').collect(), port, path)
    }
    let (wanted, given) = (split(place), split(repository));
    wanted.1 == given.1
        && given.2.starts_with(wanted.2)
        && wanted.0.len() == given.0.len()
        && wanted.0.iter().zip(&given.0).all(|(pattern, part)| fits(pattern.as_bytes(), part.as_bytes()))
}

/// Whether a text is as a pattern with `*` and `?` says.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < text.len() {
        match (pattern.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at + 1, read));
                at += 1;
            }
            (Some(one), _) if *one == b'?' || *one == text[read] => (at, read) = (at + 1, read + 1),
            // The last star takes one more.
            (_, Some((after, from))) => {
                star = Some((after, from + 1));
                (at, read) = (after, from + 1);
            }
            (_, None) => return false,
        }
    }
    pattern[at..].iter().all(|one| *one == b'*')
}

/// The logins of a docker configuration by place (`.dockerconfigjson`, `config.json`).
///
/// # Errors
/// It is none.
pub fn docker_config(bytes: &[u8]) -> serde_json::Result<BTreeMap<String, Login>> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        auths: BTreeMap<String, Login>,
    }
    serde_json::from_slice::<Config>(bytes).map(|config| config.auths)
}

/// The logins of an old docker configuration by place (`.dockercfg`).
///
/// # Errors
/// It is none.
pub fn docker_cfg(bytes: &[u8]) -> serde_json::Result<BTreeMap<String, Login>> {
    serde_json::from_slice(bytes)
}

impl<'de> Deserialize<'de> for Login {
    /// Name and password are written each for itself, or both together as `auth`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Written {
            username: String,
            password: String,
            auth: String,
            identitytoken: String,
            registrytoken: String,
        }
        let it = Written::deserialize(deserializer)?;
        let decoded = STANDARD.decode(it.auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
        let (username, password) = pair.unwrap_or((&it.username, &it.password));
        Ok(Self {
            username: username.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
            identity_token: it.identitytoken,
            registry_token: it.registrytoken,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for (image, expected) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1@sha256:00", "docker.io/library/nginx"),
            ("team/nginx:1", "docker.io/team/nginx"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("localhost:5000/x:2", "localhost:5000/x"),
            ("localhost/x", "localhost/x"),
            ("r.example/a/b@sha256:00", "r.example/a/b"),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn places() {
        for (place, image, expected) in [
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "nginx", true),
            ("docker.io/library", "nginx", true),
            ("docker.io/team", "nginx", false),
            ("registry.example", "registry.example/a/b:1", true),
            ("https://registry.example/v2/a", "registry.example/a/b:1", true),
            ("registry.example/c", "registry.example/a/b:1", false),
            ("registry.example", "registry.example.org/a", false),
            ("*.example", "registry.example/a", true),
            ("*.example", "a.registry.example/a", false),
            ("re*.ex?mp*e", "registry.example/a", true),
            ("re*z.example", "registry.example/a", false),
            ("registry.example:5000", "registry.example/a", false),
            ("localhost:5000", "localhost:5000/x", true),
            ("other.example", "nginx", false),
        ] {
            let entry = Entry { place: place.into(), login: Login::default(), source: Source::Node };
            let found = lookup(vec![entry], &repository(image));
            assert_eq!(!found.is_empty(), expected, "{place} {image}");
        }
    }

    #[test]
    fn the_closest_place_comes_first() {
        let entry =
            |place: &str| Entry { place: place.into(), login: Login::default(), source: Source::Node };
        let all = ["r.example", "*.example", "r.example/a", "index.docker.io"].map(entry).to_vec();
        let found: Vec<_> = lookup(all, "r.example/a/b").into_iter().map(|entry| entry.place).collect();
        assert_eq!(found, ["r.example/a", "r.example", "*.example"]);
    }

    #[test]
    fn both_ways_of_writing_a_password() {
        let text =
            br#"{"auths": {"a": {"username": "u", "password": "p"}, "b": {"auth": "dTpwOng="}, "c": {}}}"#;
        let all = docker_config(text).unwrap();
        let pair = |place: &str| (all[place].username.as_str(), all[place].password.as_str());
        assert_eq!((pair("a"), pair("b"), pair("c")), (("u", "p"), ("u", "p:x"), ("", "")));
        assert_eq!(docker_cfg(br#"{"a": {"username": "u"}}"#).unwrap()["a"].username, "u");
        assert!(docker_config(b"x").is_err());
    }
}
