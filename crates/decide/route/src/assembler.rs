//! Ingresses as they come and go, and the table that they make together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::draft::{BackendKey, Draft, DraftPath, Notice, Owner, PathKind, SecretKey};
use crate::gateway::{Gates, Plan};
use crate::hosts::Hosts;
use crate::paths::{Paths, trimmed};
use crate::table::{Host, Links, Route, Table, Target};

/// A table, and what owners of Ingresses are to be told of it.
pub struct Assembly<L: Links> {
    /// The table.
    pub table: Table<L>,
    /// Conflicts: the older Ingress wins.
    pub notices: Vec<Notice>,
}

/// The Ingresses that there are. Each table takes over from the one before what did not change, so that a change costs
/// what its hosts cost and not what all do.
pub struct Assembler<L: Links> {
    /// By namespace and name.
    drafts: HashMap<(String, String), Arc<Draft>>,
    /// By host, the oldest first.
    named: HashMap<String, Vec<Arc<Draft>>>,
    /// Those without rules, the oldest first.
    lone: Vec<Arc<Draft>>,
    /// Hosts that are to be built anew.
    dirty: HashSet<String>,
    certificates: State,
    table: Table<L>,
    /// Conflicts about certificates, and those of each host.
    about_certificates: Vec<Notice>,
    about_hosts: HashMap<String, Vec<Notice>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Current,
    Changed,
}

impl<L: Links> Default for Assembler<L> {
    fn default() -> Self {
        Self {
            drafts: HashMap::new(),
            named: HashMap::new(),
            lone: Vec::new(),
            dirty: HashSet::new(),
            certificates: State::Current,
            table: Table::default(),
            about_certificates: Vec::new(),
            about_hosts: HashMap::new(),
        }
    }
}

impl<L: Links> Assembler<L> {
    /// All Ingresses.
    pub fn drafts(&self) -> impl Iterator<Item = &Draft> {
        self.drafts.values().map(Arc::as_ref)
    }

    /// Whether Ingresses name other certificates than in the last table.
    pub fn has_other_certificates(&self) -> bool {
        self.certificates == State::Changed
    }

    /// Takes an Ingress as it is now.
    pub fn put(&mut self, draft: Arc<Draft>) {
        let key = (draft.owner.namespace.clone(), draft.owner.name.clone());
        let old = self.drafts.insert(key, draft.clone());
        if old.as_ref().map_or(&[][..], |old| &old.tls) != draft.tls {
            self.certificates = State::Changed;
        }
        if let Some(old) = old {
            self.unlist(&old);
        }
        let hosts: HashSet<&String> = draft.hosts.iter().collect();
        for host in hosts {
            insert(self.named.entry(host.clone()).or_default(), &draft);
            self.dirty.insert(host.clone());
        }
        if draft.hosts.is_empty() {
            insert(&mut self.lone, &draft);
        }
    }

    /// Forgets an Ingress.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        if let Some(old) = self.drafts.remove(&(namespace.to_owned(), name.to_owned())) {
            if !old.tls.is_empty() {
                self.certificates = State::Changed;
            }
            self.unlist(&old);
        }
    }

    fn unlist(&mut self, old: &Arc<Draft>) {
        for host in &old.hosts {
            if let Some(list) = self.named.get_mut(host) {
                list.retain(|draft| !Arc::ptr_eq(draft, old));
                if list.is_empty() {
                    self.named.remove(host);
                }
            }
            self.dirty.insert(host.clone());
        }
        self.lone.retain(|draft| !Arc::ptr_eq(draft, old));
    }

    /// The table of what there is now, with another plan for Gateways if one is given.
    pub fn assemble(&mut self, plan: Option<&Plan>, links: &mut L) -> Assembly<L> {
        if std::mem::replace(&mut self.certificates, State::Current) == State::Changed {
            self.certify();
        }
        for host in std::mem::take(&mut self.dirty) {
            let drafts = self.named.get(&host).map_or(&[][..], Vec::as_slice);
            let mut builder = self.builder(&host, links);
            let built = builder.host(drafts).map(Arc::new);
            let notices = builder.notices;
            self.table.hosts.set(&host, built);
            match notices.is_empty() {
                true => self.about_hosts.remove(&host),
                false => self.about_hosts.insert(host, notices),
            };
        }
        self.table.default = self.rest(links);
        if let Some(plan) = plan {
            self.table.gates = Arc::new(Gates::of(plan, links));
        }
        let notices = self.about_certificates.iter().chain(self.about_hosts.values().flatten());
        Assembly { table: self.table.clone(), notices: notices.cloned().collect() }
    }

    /// Finds the certificate of each host, and the hosts that had none or have none any more.
    fn certify(&mut self) {
        let mut drafts: Vec<&Draft> = self.drafts().filter(|draft| !draft.tls.is_empty()).collect();
        drafts.sort_by(|one, other| one.age().cmp(&other.age()));
        let (certificates, notices) = certificates(&drafts);
        let before = std::mem::replace(&mut self.table.certificates, Arc::new(certificates));
        let has = |certificates: &Hosts<_>, host: &str| certificates.find(host).is_some();
        let differ =
            self.named.keys().filter(|host| has(&before, host) != has(&self.table.certificates, host));
        self.dirty.extend(differ.cloned());
        self.about_certificates = notices;
    }

    /// The default backend of an Ingress without rules serves all that nobody serves.
    fn rest(&self, links: &mut L) -> Option<Arc<Route<L>>> {
        let mut some = self.lone.iter().filter(|draft| draft.settings.canary.is_none());
        let (draft, backend) = some.find_map(|draft| Some((draft, draft.default.as_ref()?)))?;
        Some(Arc::new(self.builder("", links).route(draft, "/", backend)))
    }

    fn builder<'a>(&self, host: &'a str, links: &'a mut L) -> Builder<'a, L> {
        let certified = self.table.certificates.find(host).is_some();
        Builder { links, host, certified, notices: Vec::new() }
    }
}

fn insert(list: &mut Vec<Arc<Draft>>, draft: &Arc<Draft>) {
    let at = list.partition_point(|known| known.age() < draft.age());
    list.insert(at, draft.clone());
}

fn notice(draft: &Draft, reason: &'static str, message: String) -> Notice {
    Notice { owner: draft.owner.clone(), reason, message }
}

fn certificates(drafts: &[&Draft]) -> (Hosts<Option<SecretKey>>, Vec<Notice>) {
    let (mut certificates, mut notices) = (Hosts::default(), Vec::new());
    for draft in drafts {
        for (host, secret) in &draft.tls {
            let kept = certificates.entry(host, || secret.clone());
            if kept != secret && secret.is_some() {
                let known = match kept {
                    Some(known) => format!("Secret {}/{}", known.namespace, known.name),
                    None => "the default certificate".to_owned(),
                };
                let message = format!("host {host:?} already has {known}, of an older Ingress");
                notices.push(notice(draft, "CertificateConflict", message));
            }
        }
    }
    (certificates, notices)
}

/// What two paths of a host have in common that cannot both be served.
type PathId<'a> = (u8, &'a str);

fn id(path: &DraftPath) -> PathId<'_> {
    match path.kind {
        PathKind::Exact => (0, &path.path),
        PathKind::Prefix => (1, trimmed(&path.path)),
        PathKind::Start => (2, &path.path),
        PathKind::Pattern(_) => (3, &path.path),
    }
}

/// The paths of a host.
fn of<'d>(host: &str, draft: &'d Draft) -> impl Iterator<Item = &'d DraftPath> {
    draft.paths.iter().filter(move |path| path.host == host)
}

type Canaries<'d> = HashMap<PathId<'d>, (&'d Draft, &'d DraftPath)>;

/// Builds what is served for one host.
struct Builder<'a, L: Links> {
    links: &'a mut L,
    host: &'a str,
    /// Whether the host has a certificate.
    certified: bool,
    notices: Vec<Notice>,
}

impl<L: Links> Builder<'_, L> {
    /// Of the drafts that name the host, the oldest first.
    fn host(&mut self, drafts: &[Arc<Draft>]) -> Option<Host<L>> {
        let drafts = drafts.iter().map(Arc::as_ref);
        let (canaries, others): (Vec<&Draft>, Vec<&Draft>) =
            drafts.partition(|draft| draft.settings.canary.is_some());
        let canaries = self.canaries(&canaries, &others);
        let (paths, any) = self.paths(&others, &canaries);
        // It serves what its hosts have no path for.
        let default = others.iter().find_map(|draft| Some((draft, draft.default.as_ref()?)));
        let default = default.map(|(draft, backend)| Arc::new(self.route(draft, "/", backend)));
        (any || default.is_some()).then_some(Host { paths, default })
    }

    /// The canary of each path that has one.
    fn canaries<'d>(&mut self, canaries: &[&'d Draft], others: &[&'d Draft]) -> Canaries<'d> {
        let known: HashSet<PathId<'_>> =
            others.iter().flat_map(|draft| of(self.host, draft)).map(id).collect();
        let mut chosen = HashMap::new();
        for draft in canaries {
            for path in of(self.host, draft) {
                let place = format!("path {:?} of host {:?}", path.path, path.host);
                if !known.contains(&id(path)) {
                    let message = format!("{place} has no Ingress that is no canary");
                    self.notices.push(notice(draft, "CanaryWithoutMain", message));
                    continue;
                }
                let (first, _) = *chosen.entry(id(path)).or_insert((*draft, path));
                if first.owner != draft.owner {
                    let message = format!("{place} already has a canary, which is older");
                    self.notices.push(notice(draft, "PathConflict", message));
                }
            }
        }
        chosen
    }

    /// The paths, and whether there are any.
    fn paths(&mut self, drafts: &[&Draft], canaries: &Canaries<'_>) -> (Paths<Arc<Route<L>>>, bool) {
        let mut paths = Paths::default();
        let mut taken: HashMap<PathId<'_>, &Owner> = HashMap::new();
        for draft in drafts {
            for path in of(self.host, draft) {
                if let Some(older) = taken.get(&id(path)) {
                    let Owner { namespace, name, .. } = older;
                    let (host, path) = (&path.host, &path.path);
                    let message = format!(
                        "path {path:?} of host {host:?} is served by Ingress {namespace}/{name}, which is older"
                    );
                    self.notices.push(notice(draft, "PathConflict", message));
                    continue;
                }
                taken.insert(id(path), &draft.owner);
                let canary = canaries.get(&id(path)).and_then(|(draft, path)| {
                    Some((draft.settings.canary.clone()?, self.links.backend(&path.backend)))
                });
                let mut route = self.route(draft, &path.path, &path.backend);
                if let Target::One(_, other) = &mut route.target {
                    *other = canary;
                }
                route.rewrite = path.rewrite.clone();
                paths.add(&path.path, &path.kind, Arc::new(route));
            }
        }
        (paths, !taken.is_empty())
    }

    fn route(&mut self, draft: &Draft, path: &str, backend: &BackendKey) -> Route<L> {
        let limits = &draft.settings.limits;
        Route {
            owner: draft.owner.clone(),
            host: self.host.to_owned(),
            path: path.to_owned(),
            service: backend.service.clone(),
            settings: draft.settings.clone(),
            certified: self.certified,
            target: Target::One(self.links.backend(backend), None),
            changes: Arc::default(),
            mirrors: Vec::new(),
            rewrite: None,
            limiter: limits.any().then(|| self.links.limiter(&draft.owner, limits)),
            meter: self.links.meter(&draft.owner, self.host, path, &backend.service),
        }
    }
}

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
