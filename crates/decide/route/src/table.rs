//! All Ingresses together.

use std::sync::Arc;

use crate::canary::Canary;
use crate::draft::{BackendKey, Owner, SecretKey};
use crate::gateway::{Asked, Changes, Gates, Mirror, Redirection, Shares, Stream};
use crate::hosts::Hosts;
use crate::limits::Limits;
use crate::paths::Paths;
use crate::rewrite::Rewrite;
use crate::settings::Settings;

/// Gives names their meaning while a table is built.
pub trait Links {
    /// What requests are sent to.
    type Backend;
    /// What counts the requests of clients.
    type Limiter;
    /// What tells how requests were answered.
    type Meter;
    /// The backend of that name.
    fn backend(&mut self, key: &BackendKey) -> Self::Backend;
    /// What counts for this Ingress.
    fn limiter(&mut self, owner: &Owner, limits: &Limits) -> Self::Limiter;
    /// What tells of the requests for a path of an Ingress that a Service answers.
    fn meter(&mut self, owner: &Owner, host: &str, path: &str, service: &str) -> Self::Meter;
}

/// Where requests for a path go, and under which rules.
pub struct Route<L: Links> {
    /// The Ingress.
    pub owner: Owner,
    /// The host of the rule; "" for any.
    pub host: String,
    /// The path of the rule.
    pub path: String,
    /// The Service, for those who count.
    pub service: String,
    /// What the Ingress' annotations say.
    pub settings: Arc<Settings>,
    /// Whether the host has a certificate.
    pub certified: bool,
    /// Where requests go.
    pub target: Target<L>,
    /// What is changed of them and their answers.
    pub changes: Arc<Changes>,
    /// Where copies go.
    pub mirrors: Vec<Mirror<L>>,
    /// Another path for the backend.
    pub rewrite: Option<Rewrite>,
    /// What counts requests, where there are limits.
    pub limiter: Option<L::Limiter>,
    /// What tells of requests.
    pub meter: L::Meter,
}

/// Where requests go.
pub enum Target<L: Links> {
    /// To a backend, and some to its canary.
    One(L::Backend, Option<(Canary, L::Backend)>),
    /// To several, by shares.
    Shares(Shares<L>),
    /// Elsewhere.
    Redirect(Redirection),
}

/// All routes and certificates' names. It never changes: another one, which has most in common with it, takes its place.
pub struct Table<L: Links> {
    pub(crate) hosts: Hosts<Arc<Host<L>>>,
    pub(crate) default: Option<Arc<Route<L>>>,
    pub(crate) certificates: Arc<Hosts<Option<SecretKey>>>,
    pub(crate) gates: Arc<Gates<L>>,
}

pub(crate) struct Host<L: Links> {
    pub(crate) paths: Paths<Arc<Route<L>>>,
    pub(crate) default: Option<Arc<Route<L>>>,
}

impl<L: Links> Default for Table<L> {
    fn default() -> Self {
        Self { hosts: Hosts::default(), default: None, certificates: Arc::default(), gates: Arc::default() }
    }
}

impl<L: Links> Clone for Table<L> {
    fn clone(&self) -> Self {
        let Self { hosts, default, certificates, gates } = self;
        Self {
            hosts: hosts.clone(),
            default: default.clone(),
            certificates: certificates.clone(),
            gates: gates.clone(),
        }
    }
}

impl<L: Links> Table<L> {
    /// The route of a request: `host` as of [`crate::host_of`], `path` as of [`crate::normal`].
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<Route<L>>> {
        let host = self.hosts.find(host);
        let route = host.and_then(|host| host.paths.find(path).or(host.default.as_ref()));
        route.or(self.default.as_ref())
    }

    /// The route of a request at a port, among those of Gateways; `ingress` if Ingresses are served there, too. The more
    /// exact host name counts, an Ingress' of equal ones.
    pub fn find_at(&self, port: u16, ingress: bool, asked: &Asked<'_>) -> Option<&Arc<Route<L>>> {
        let ours = if ingress { self.find(asked.host, asked.path) } else { None };
        if self.gates.is_empty() {
            return ours;
        }
        let theirs = self.gates.find(port, asked);
        match (ours, theirs) {
            (Some(ours), Some(theirs)) if exactness(&theirs.host) <= exactness(&ours.host) => Some(ours),
            (ours, theirs) => theirs.or(ours),
        }
    }

    /// Whether connections to a port may be streams.
    pub fn has_streams(&self, port: u16) -> bool {
        self.gates.has_streams(port)
    }

    /// What is done with a connection for a name, if it is passed on without a look inside; `ingress` as in
    /// [`Self::find_at`].
    pub fn stream(&self, port: u16, ingress: bool, name: &str) -> Option<Stream<L>> {
        let ours = ingress && self.certificates.exact(name).is_some();
        if ours { None } else { self.gates.stream(port, name) }
    }

    /// The Secret with the certificate for a host at a port, if one is named; `ingress` as in [`Self::find_at`].
    pub fn certificate(&self, port: u16, ingress: bool, host: &str) -> Option<&SecretKey> {
        let ours = || if ingress { self.certificates.find(host)?.as_ref() } else { None };
        let exact = ingress.then(|| self.certificates.exact(host)?.as_ref()).flatten();
        exact.or_else(|| self.gates.certificate(port, host)).or_else(ours)
    }
}

/// How exact the host name of a rule is.
fn exactness(host: &str) -> (u8, usize) {
    match host.strip_prefix("*.") {
        _ if host.is_empty() => (0, 0),
        Some(suffix) => (1, suffix.len()),
        None => (2, 0),
    }
}
