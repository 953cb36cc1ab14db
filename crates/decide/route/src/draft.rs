//! One Ingress, read and checked by itself.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend};
use k8s_openapi::jiff::Timestamp;
use regex::Regex;

use crate::rewrite::Rewrite;
use crate::settings::{self, Settings};

/// Which Ingress.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: String,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// Where requests go: a port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// The namespace of the Service.
    pub namespace: String,
    /// Its name.
    pub service: String,
    /// Which of its ports.
    pub port: Port,
}

/// A Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How a path is compared with that of a request.
#[derive(Clone, Debug)]
pub enum PathKind {
    /// It is the same.
    Exact,
    /// It begins with the same segments.
    Prefix,
    /// It begins with the same text.
    Start,
    /// The pattern matches its beginning.
    Pattern(Regex),
}

/// What the owner of an Ingress is told by an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whose.
    pub owner: Owner,
    /// The Event's reason.
    pub reason: &'static str,
    /// The Event's message.
    pub message: String,
}

/// A path of an Ingress.
#[derive(Clone, Debug)]
pub(crate) struct DraftPath {
    /// As in the rule; "" for any.
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) kind: PathKind,
    pub(crate) backend: BackendKey,
    pub(crate) rewrite: Option<Rewrite>,
}

/// An Ingress, read.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Which.
    pub owner: Owner,
    created: Option<Timestamp>,
    /// What its annotations say.
    pub settings: Arc<Settings>,
    pub(crate) hosts: Vec<String>,
    pub(crate) paths: Vec<DraftPath>,
    pub(crate) default: Option<BackendKey>,
    /// Hosts ("" for any), and the Secret with their certificate unless the default one is to do.
    pub(crate) tls: Vec<(String, Option<SecretKey>)>,
    /// What is wrong with it by itself.
    pub notices: Vec<Notice>,
}

impl Draft {
    /// Reads an Ingress.
    pub fn of(ingress: &Ingress) -> Self {
        let (meta, spec) = (&ingress.metadata, ingress.spec.clone().unwrap_or_default());
        let owner = Owner {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        };
        let (settings, problems) = Settings::of(meta.annotations.as_ref().unwrap_or(&Default::default()));
        let mut draft = Self {
            owner,
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            settings: Arc::new(settings),
            hosts: Vec::new(),
            paths: Vec::new(),
            default: None,
            tls: Vec::new(),
            notices: Vec::new(),
        };
        for (name, problem) in problems {
            draft.tell("InvalidAnnotation", format!("annotation {name}: {problem}"));
        }
        draft.default = spec.default_backend.as_ref().and_then(|backend| draft.backend(backend));
        for rule in spec.rules.unwrap_or_default() {
            let host = rule.host.unwrap_or_default().to_ascii_lowercase();
            draft.hosts.push(host.clone());
            for path in rule.http.map(|http| http.paths).unwrap_or_default() {
                draft.add(&host, &path);
            }
        }
        for tls in spec.tls.unwrap_or_default() {
            let name = tls.secret_name.filter(|name| !name.is_empty());
            let secret = name.map(|name| SecretKey { namespace: draft.owner.namespace.clone(), name });
            let hosts = tls.hosts.filter(|hosts| !hosts.is_empty()).unwrap_or_else(|| vec![String::new()]);
            draft.tls.extend(hosts.into_iter().map(|host| (host.to_ascii_lowercase(), secret.clone())));
        }
        draft
    }

    /// The Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKey> {
        self.tls.iter().filter_map(|(_, secret)| secret.as_ref())
    }

    /// Whose rules go first: the oldest's.
    pub(crate) fn age(&self) -> (Option<Timestamp>, &Owner) {
        (self.created, &self.owner)
    }

    pub(crate) fn tell(&mut self, reason: &'static str, message: String) {
        self.notices.push(Notice { owner: self.owner.clone(), reason, message });
    }

    fn add(&mut self, host: &str, given: &HTTPIngressPath) {
        let Some(backend) = self.backend(&given.backend) else { return };
        let path = given.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
        let pattern = match settings::path_pattern(&path) {
            Ok(pattern) => Some(pattern),
            Err(problem) if self.settings.patterns => {
                return self.tell("InvalidPath", format!("path {path:?} of host {host:?} {problem}"));
            }
            Err(_) => None,
        };
        let kind = match (given.path_type.as_str(), pattern.clone().filter(|_| self.settings.patterns)) {
            ("Exact", _) => PathKind::Exact,
            (_, Some(pattern)) => PathKind::Pattern(pattern),
            ("Prefix", None) => PathKind::Prefix,
            (_, None) => PathKind::Start,
        };
        let target = self.settings.rewrite.as_deref().filter(|target| *target != path);
        let rewrite = target.zip(pattern).map(|(target, pattern)| Rewrite::new(pattern, target));
        self.paths.push(DraftPath { host: host.to_owned(), path, kind, backend, rewrite });
    }

    fn backend(&mut self, backend: &IngressBackend) -> Option<BackendKey> {
        let Some(service) = &backend.service else {
            self.tell("UnsupportedBackend", "backends other than Services are not supported".to_owned());
            return None;
        };
        let port = service.port.as_ref();
        let number = port.and_then(|port| u16::try_from(port.number?).ok()).filter(|number| *number > 0);
        let name = port.and_then(|port| port.name.clone()).map(Port::Name);
        let port = number.map(Port::Number).or(name)?;
        Some(BackendKey { namespace: self.owner.namespace.clone(), service: service.name.clone(), port })
    }
}
