//! All Ingresses together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::canary::Canary;
use crate::draft::{BackendKey, Draft, DraftPath, Notice, Owner, PathKind, SecretKey};
use crate::gateway::{Asked, Changes, Gates, Mirror, Plan, Redirection, Shares, Stream};
use crate::hosts::Hosts;
use crate::limits::Limits;
use crate::paths::{Paths, trimmed};
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

/// All routes and certificates' names. It never changes: another one takes its place.
pub struct Table<L: Links> {
    hosts: Hosts<Host<L>>,
    default: Option<Arc<Route<L>>>,
    certificates: Hosts<Option<SecretKey>>,
    gates: Gates<L>,
}

struct Host<L: Links> {
    paths: Paths<Arc<Route<L>>>,
    default: Option<Arc<Route<L>>>,
}

impl<L: Links> Default for Table<L> {
    fn default() -> Self {
        Self {
            hosts: Hosts::default(),
            default: None,
            certificates: Hosts::default(),
            gates: Gates::default(),
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

/// A table, and what owners of Ingresses are to be told of it.
pub struct Assembly<L: Links> {
    /// The table.
    pub table: Table<L>,
    /// Conflicts: the older Ingress wins.
    pub notices: Vec<Notice>,
}

/// Builds the table of all drafts, and of what is planned for Gateways.
pub fn assemble<L: Links>(drafts: &[Arc<Draft>], plan: &Plan, links: &mut L) -> Assembly<L> {
    let mut drafts: Vec<&Draft> = drafts.iter().map(Arc::as_ref).collect();
    drafts.sort_by(|one, other| one.age().cmp(&other.age()));
    let mut builder = Builder { links, table: Table::default(), notices: Vec::new() };
    builder.certificates(&drafts);
    let (canaries, others): (Vec<&Draft>, Vec<&Draft>) =
        drafts.into_iter().partition(|draft| draft.settings.canary.is_some());
    let canaries = builder.canaries(&canaries, &others);
    builder.routes(&others, &canaries);
    builder.table.gates = Gates::of(plan, builder.links);
    Assembly { table: builder.table, notices: builder.notices }
}

/// What two paths of a host have in common that cannot both be served.
type PathId<'a> = (&'a str, u8, &'a str);

fn id(path: &DraftPath) -> PathId<'_> {
    match path.kind {
        PathKind::Exact => (&path.host, 0, &path.path),
        PathKind::Prefix => (&path.host, 1, trimmed(&path.path)),
        PathKind::Start => (&path.host, 2, &path.path),
        PathKind::Pattern(_) => (&path.host, 3, &path.path),
    }
}

struct Builder<'a, L: Links> {
    links: &'a mut L,
    table: Table<L>,
    notices: Vec<Notice>,
}

impl<L: Links> Builder<'_, L> {
    fn certificates(&mut self, drafts: &[&Draft]) {
        for draft in drafts {
            for (host, secret) in &draft.tls {
                let kept = self.table.certificates.entry(host, || secret.clone());
                if kept != secret && secret.is_some() {
                    let known = match kept {
                        Some(known) => format!("Secret {}/{}", known.namespace, known.name),
                        None => "the default certificate".to_owned(),
                    };
                    let message = format!("host {host:?} already has {known}, of an older Ingress");
                    self.tell(draft, "CertificateConflict", message);
                }
            }
        }
    }

    fn tell(&mut self, draft: &Draft, reason: &'static str, message: String) {
        self.notices.push(Notice { owner: draft.owner.clone(), reason, message });
    }

    /// The canary of each path that has one.
    fn canaries<'d>(
        &mut self,
        canaries: &[&'d Draft],
        others: &[&'d Draft],
    ) -> HashMap<PathId<'d>, (&'d Draft, &'d DraftPath)> {
        let known: HashSet<PathId<'_>> = others.iter().flat_map(|draft| &draft.paths).map(id).collect();
        let mut chosen = HashMap::new();
        for draft in canaries {
            for path in &draft.paths {
                let place = format!("path {:?} of host {:?}", path.path, path.host);
                if !known.contains(&id(path)) {
                    self.tell(
                        draft,
                        "CanaryWithoutMain",
                        format!("{place} has no Ingress that is no canary"),
                    );
                    continue;
                }
                let (first, _) = *chosen.entry(id(path)).or_insert((*draft, path));
                if first.owner != draft.owner {
                    self.tell(draft, "PathConflict", format!("{place} already has a canary, which is older"));
                }
            }
        }
        chosen
    }

    fn routes<'d>(
        &mut self,
        drafts: &[&'d Draft],
        canaries: &HashMap<PathId<'d>, (&'d Draft, &'d DraftPath)>,
    ) {
        let mut taken: HashMap<PathId<'_>, &Owner> = HashMap::new();
        for draft in drafts {
            for path in &draft.paths {
                if let Some(older) = taken.get(&id(path)) {
                    let Owner { namespace, name, .. } = older;
                    let (host, path) = (&path.host, &path.path);
                    let message = format!(
                        "path {path:?} of host {host:?} is served by Ingress {namespace}/{name}, which is older"
                    );
                    self.tell(draft, "PathConflict", message);
                    continue;
                }
                taken.insert(id(path), &draft.owner);
                let canary = canaries.get(&id(path)).and_then(|(draft, path)| {
                    Some((draft.settings.canary.clone()?, self.links.backend(&path.backend)))
                });
                let mut route = self.route(draft, &path.host, &path.path, &path.backend);
                if let Target::One(_, other) = &mut route.target {
                    *other = canary;
                }
                route.rewrite = path.rewrite.clone();
                self.host(&path.host).paths.add(&path.path, &path.kind, Arc::new(route));
            }
            self.defaults(draft);
        }
    }

    /// The default backend of an Ingress serves what its hosts have no path for; that of one without rules serves
    /// all that nobody serves.
    fn defaults(&mut self, draft: &Draft) {
        let Some(backend) = &draft.default else { return };
        for host in &draft.hosts {
            if self.host(host).default.is_none() {
                let route = Arc::new(self.route(draft, host, "/", backend));
                self.host(host).default = Some(route);
            }
        }
        if draft.hosts.is_empty() && self.table.default.is_none() {
            self.table.default = Some(Arc::new(self.route(draft, "", "/", backend)));
        }
    }

    fn host(&mut self, host: &str) -> &mut Host<L> {
        self.table.hosts.entry(host, || Host { paths: Paths::default(), default: None })
    }

    fn route(&mut self, draft: &Draft, host: &str, path: &str, backend: &BackendKey) -> Route<L> {
        let limits = &draft.settings.limits;
        Route {
            owner: draft.owner.clone(),
            host: host.to_owned(),
            path: path.to_owned(),
            service: backend.service.clone(),
            settings: draft.settings.clone(),
            certified: self.table.certificates.find(host).is_some(),
            target: Target::One(self.links.backend(backend), None),
            changes: Arc::default(),
            mirrors: Vec::new(),
            rewrite: None,
            limiter: limits.any().then(|| self.links.limiter(&draft.owner, limits)),
            meter: self.links.meter(&draft.owner, host, path, &backend.service),
        }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
