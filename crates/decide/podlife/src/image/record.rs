//! What is remembered of images that the agent pulled: with whose credentials (kubelet:
//! pkg/kubelet/images/pullmanager, v1.37). Files have upstream's form and names.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::registry::{Entry, Login, Source, repository};
use crate::configuration::VERSION;

/// How many Secrets of an image are learned when nothing is pulled, so that many namespaces do not make endless
/// records.
const MOST: usize = 100;

/// A pull that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    api_version: String,
    kind: String,
    /// The image as the pod names it.
    pub image: String,
}

impl Intent {
    /// For an image.
    #[must_use]
    pub fn new(image: &str) -> Self {
        Self { api_version: VERSION.into(), kind: "ImagePullIntent".into(), image: image.into() }
    }
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pulled {
    api_version: String,
    kind: String,
    /// When something was learned last.
    pub last_updated_time: Timestamp,
    /// The engine's name of the image.
    pub image_ref: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    credential_mapping: BTreeMap<String, Credentials>,
}

/// What opened a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Credentials {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_secrets: Vec<Known>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kubernetes_service_accounts: Vec<Coordinates>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    node_pods_accessible: bool,
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Coordinates {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// A Secret and what it said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    #[serde(flatten)]
    at: Coordinates,
    credential_hash: String,
}

/// Whether a pod may use an image that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Open,
    /// It may not before the registry was asked.
    Closed,
    /// It depends on its credentials.
    Credentials,
}

impl Pulled {
    /// A pull by nobody knows whom.
    #[must_use]
    pub fn new(image_ref: &str, now: Timestamp) -> Self {
        Self {
            api_version: VERSION.into(),
            kind: "ImagePulledRecord".into(),
            last_updated_time: seconds(now),
            image_ref: image_ref.into(),
            credential_mapping: BTreeMap::new(),
        }
    }

    /// What a pod needs to use the image under this name.
    #[must_use]
    pub fn access(&self, image: &str) -> Access {
        match self.credential_mapping.get(&repository(image)) {
            Some(known) if known.node_pods_accessible => Access::Open,
            Some(known) if !known.is_empty() => Access::Credentials,
            _ => Access::Closed,
        }
    }

    /// Whether one of a pod's credentials opened the image before. A Secret with the same content, or the same
    /// Secret with another content, counts; it is learned, then. The second value says whether something was.
    pub fn admits(&mut self, image: &str, credentials: &[Entry], now: Timestamp) -> (bool, bool) {
        let Some(known) = self.credential_mapping.get(&repository(image)) else { return (false, false) };
        for entry in credentials {
            let Source::Secret(at) = &entry.source else { continue };
            let hash = hash(&entry.login);
            for one in &known.kubernetes_secrets {
                let (same_place, same_content) = (one.at == *at, one.credential_hash == hash);
                if same_place && same_content {
                    return (true, false);
                }
                if same_place || same_content {
                    let learned = known.kubernetes_secrets.len() < MOST && self.learn(image, entry, now);
                    return (same_content || learned, learned);
                }
            }
        }
        let account = credentials.iter().find_map(|entry| match &entry.source {
            Source::Account(at) => Some(at),
            Source::Node | Source::Secret(_) => None,
        });
        (account.is_some_and(|at| known.kubernetes_service_accounts.contains(at)), false)
    }

    /// Notes that a login opened the image; whether that is new.
    pub fn learn(&mut self, image: &str, entry: &Entry, now: Timestamp) -> bool {
        let known = self.credential_mapping.entry(repository(image)).or_default();
        let is_new = !known.node_pods_accessible && known.learn(entry);
        if is_new {
            self.last_updated_time = seconds(now);
        }
        is_new
    }

    /// Notes that everybody can have the image; whether that is new.
    pub fn open(&mut self, image: &str, now: Timestamp) -> bool {
        let known = self.credential_mapping.entry(repository(image)).or_default();
        let is_new = !known.node_pods_accessible;
        if is_new {
            *known = Credentials { node_pods_accessible: true, ..Credentials::default() };
            self.last_updated_time = seconds(now);
        }
        is_new
    }
}

impl Credentials {
    fn is_empty(&self) -> bool {
        self.kubernetes_secrets.is_empty() && self.kubernetes_service_accounts.is_empty()
    }

    fn learn(&mut self, entry: &Entry) -> bool {
        match &entry.source {
            Source::Node => {
                *self = Self { node_pods_accessible: true, ..Self::default() };
                true
            }
            Source::Secret(at) => {
                let fresh = Known { at: at.clone(), credential_hash: hash(&entry.login) };
                let is_new = !self.kubernetes_secrets.contains(&fresh);
                if is_new {
                    self.kubernetes_secrets.retain(|one| one.at != *at);
                    self.kubernetes_secrets.push(fresh);
                    self.kubernetes_secrets.sort_by(|a, b| a.at.cmp(&b.at));
                }
                is_new
            }
            Source::Account(at) => {
                let is_new = !self.kubernetes_service_accounts.contains(at);
                if is_new {
                    self.kubernetes_service_accounts.push(at.clone());
                    self.kubernetes_service_accounts.sort();
                }
                is_new
            }
        }
    }
}

/// The name of the file that remembers an image.
#[must_use]
pub fn file_name(image: &str) -> String {
    format!("sha256-{}", hex(image))
}

/// Upstream's fingerprint of credentials, so that its records hold here and ours there: that of the JSON text of
/// name and password as Go writes it.
fn hash(login: &Login) -> String {
    let fields = [("username", &login.username), ("password", &login.password)];
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    let written: Vec<_> = given.map(|(name, value)| format!("\"{name}\":{}", go_text(value))).collect();
    hex(&format!("{{{}}}", written.join(",")))
}

fn go_text(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Records know no parts of seconds.
fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(name: &str) -> Coordinates {
        Coordinates { namespace: "ns".into(), name: name.into(), uid: format!("{name}-1") }
    }

    fn entry(source: Source, password: &str) -> Entry {
        let login = Login { username: "u".into(), password: password.into(), ..Login::default() };
        Entry { place: "r.example".into(), login, source }
    }

    fn secret(name: &str, password: &str) -> Entry {
        entry(Source::Secret(at(name)), password)
    }

    #[test]
    fn who_had_an_image_may_have_it_again() {
        let now = Timestamp::UNIX_EPOCH;
        let mut pulled = Pulled::new("sha256:1", now);
        assert_eq!(pulled.access("r.example/a:1"), Access::Closed);
        assert!(pulled.learn("r.example/a:1", &secret("s", "p"), now));
        assert!(!pulled.learn("r.example/a:2", &secret("s", "p"), now));
        assert!(pulled.learn("r.example/a:1", &entry(Source::Account(at("robot")), "t"), now));
        assert_eq!(pulled.access("r.example/a@sha256:00"), Access::Credentials);
        assert_eq!(pulled.access("r.example/b"), Access::Closed);
        for (credentials, expected) in [
            (secret("s", "p"), (true, false)),
            // What is in it counts, and then where it is.
            (secret("copy", "p"), (true, true)),
            (secret("s", "new"), (true, true)),
            (secret("s", "new"), (true, false)),
            (secret("other", "q"), (false, false)),
            (entry(Source::Account(at("robot")), "x"), (true, false)),
            (entry(Source::Account(at("human")), "t"), (false, false)),
            (entry(Source::Node, "p"), (false, false)),
        ] {
            assert_eq!(
                pulled.admits("r.example/a", std::slice::from_ref(&credentials), now),
                expected,
                "{credentials:?}"
            );
        }
        assert!(pulled.open("r.example/a", now) && !pulled.open("r.example/a", now));
        assert_eq!(pulled.access("r.example/a"), Access::Open);
        assert!(!pulled.learn("r.example/a:1", &secret("s", "p"), now));
    }

    #[test]
    fn records_are_upstreams() {
        let mut pulled = Pulled::new("sha256:1", "2026-01-02T03:04:05.678Z".parse().unwrap());
        pulled.learn("hello:1", &secret("s", "p<"), "2026-01-02T03:04:06.7Z".parse().unwrap());
        let expected = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "ImagePulledRecord",
            "lastUpdatedTime": "2026-01-02T03:04:06Z", "imageRef": "sha256:1",
            "credentialMapping": {"docker.io/library/hello": {"kubernetesSecrets": [{
                "uid": "s-1", "namespace": "ns", "name": "s", "credentialHash": hex(r#"{"username":"u","password":"p\u003c"}"#),
            }]}},
        });
        assert_eq!(serde_json::to_value(&pulled).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Pulled>(expected).unwrap(), pulled);
        let intent =
            json!({"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "ImagePullIntent", "image": "a:1"});
        assert_eq!(serde_json::to_value(Intent::new("a:1")).unwrap(), intent);
        let empty = "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(file_name(""), empty);
    }
}
