//! Keeps routes, endpoints and certificates as the cluster has them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use plimsoll_client::{Delta, EventRecorder, EventType, Filter, Informer, Informers, Object};
use plimsoll_netplan::endpoints::{BY_SERVICE, NodeFacts, service_index, service_index_value, service_of};
use plimsoll_route::external::{External, external};
use plimsoll_route::gateway::{Plan, Told};
use plimsoll_route::{Assembler, BackendKey, Draft, Notice, Owner, SecretKey, is_ours};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

use crate::Shared;
use crate::connection::Kind;
use crate::gateways::{Gateways, Surroundings};
use crate::links::Linker;
use crate::listen::{States, Wanted};
use crate::names;
use crate::pool::Pool;

/// Namespace and name.
type Key = (String, String);

/// What changed since it was last looked at.
#[derive(Default)]
struct Changes {
    ingresses: HashSet<Key>,
    /// Classes: all Ingresses are to be looked at.
    classes: bool,
    /// Gateways, or what is open of their ports.
    gateways: bool,
    /// A Service, which routes of Gateways may name.
    around: bool,
    services: HashSet<Key>,
    /// Addresses of names outside.
    names: bool,
    secrets: HashSet<Key>,
}

impl Changes {
    fn service(&mut self, delta: Delta<Service>) {
        self.around = true;
        mark(delta, &mut self.services, key);
    }
}

/// What the follower talks to.
pub(crate) struct Ends {
    /// Ports that should be open.
    pub(crate) ports: watch::Sender<Wanted>,
    /// Those that are.
    pub(crate) opened: watch::Receiver<States>,
    /// Statuses that should be written.
    pub(crate) told: watch::Sender<Vec<Told>>,
    /// Names outside whose addresses are needed.
    pub(crate) names: watch::Sender<names::Wanted>,
    /// Those that are known.
    pub(crate) known: watch::Receiver<names::Known>,
}

/// Follows the cluster.
pub(crate) struct Follower {
    shared: Arc<Shared>,
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    secrets: Informer<Secret>,
    gateways: Gateways,
    plan: Plan,
    /// Whether there was an Ingress.
    begun: bool,
    recorder: EventRecorder,
    node: NodeFacts,
    linker: Linker,
    /// The backends that have names outside.
    names: HashMap<BackendKey, String>,
    assembler: Assembler<Linker>,
    /// The Secrets that Ingresses name.
    certificates: HashSet<SecretKey>,
    /// What is wrong with them.
    broken: HashMap<SecretKey, String>,
    told: HashSet<(Owner, String)>,
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, informers: &Informers, client: kube::Client) -> Self {
        let slices = informers.informer::<EndpointSlice>();
        slices.add_index(BY_SERVICE, service_index);
        let tls = Filter { fields: Some("type=kubernetes.io/tls".to_owned()), ..Filter::default() };
        let node = NodeFacts { name: shared.config.node_name.clone(), zone: None };
        Self {
            ingresses: informers.informer(),
            classes: informers.informer(),
            services: informers.informer(),
            slices,
            secrets: informers.filtered(tls),
            gateways: Gateways::new(informers, &shared.config),
            plan: Plan::default(),
            begun: false,
            recorder: EventRecorder::new(client, "plimsoll-ingress", Some(&shared.config.node_name)),
            node,
            linker: Linker::new(shared.metrics.clone()),
            names: HashMap::new(),
            shared,
            assembler: Assembler::default(),
            certificates: HashSet::new(),
            broken: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// Follows until the informers end.
    pub(crate) async fn follow(mut self, mut ends: Ends) {
        let (mut ingresses, mut classes) = (self.ingresses.subscribe(), self.classes.subscribe());
        let (mut services, mut slices) = (self.services.subscribe(), self.slices.subscribe());
        let mut secrets = self.secrets.subscribe();
        let progress = self.slices.progress();
        self.ingresses.synced().await;
        self.classes.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.secrets.synced().await;
        let mut changes = Changes { classes: true, gateways: true, ..Changes::default() };
        loop {
            let change = self.slices.changes();
            drain(&mut ingresses, |delta| mark(delta, &mut changes.ingresses, key));
            drain(&mut classes, |_| changes.classes = true);
            drain(&mut services, |delta| changes.service(delta));
            drain(&mut slices, |delta| mark(delta, &mut changes.services, service_key));
            drain(&mut secrets, |delta| mark(delta, &mut changes.secrets, key));
            self.apply(std::mem::take(&mut changes), &ends);
            progress.reached(change);
            self.want(&ends);
            let open = tokio::select! {
                delta = ingresses.recv() => delta.map(|delta| mark(delta, &mut changes.ingresses, key)),
                delta = classes.recv() => delta.map(|_| changes.classes = true),
                delta = services.recv() => delta.map(|delta| changes.service(delta)),
                delta = slices.recv() => delta.map(|delta| mark(delta, &mut changes.services, service_key)),
                delta = secrets.recv() => delta.map(|delta| mark(delta, &mut changes.secrets, key)),
                () = self.gateways.changed() => { changes.gateways = true; Some(()) }
                opened = ends.opened.changed() => { changes.gateways = true; opened.ok() }
                known = ends.known.changed() => { changes.names = true; known.ok() }
            };
            if open.is_none() {
                return;
            }
        }
    }

    /// Says which ports should be open. Those of Ingresses stay open once there was one.
    fn want(&mut self, ends: &Ends) {
        self.begun |= self.assembler.drafts().next().is_some();
        let config = &self.shared.config;
        let kind = |encrypted: &bool| if *encrypted { Kind::Encrypted } else { Kind::Plain };
        let gates = self.plan.ports.iter();
        let mut wanted: Wanted = gates
            .map(|(port, encrypted)| (SocketAddr::new(config.http.ip(), *port), kind(encrypted)))
            .collect();
        if self.begun {
            wanted.extend([(config.http, Kind::Plain), (config.https, Kind::Encrypted)]);
        }
        ends.ports.send_if_modified(|known| std::mem::replace(known, wanted.clone()) != wanted);
    }

    fn apply(&mut self, mut changes: Changes, ends: &Ends) {
        if changes.names {
            let services = self.names.keys().map(|key| (key.namespace.clone(), key.service.clone()));
            changes.services.extend(services);
        }
        let around = changes.around || !changes.secrets.is_empty();
        let gateways = changes.gateways || around && self.gateways.any();
        // Endpoints that are gone must get nothing any more: they go first.
        for (namespace, name) in &changes.services {
            let pools: Vec<Arc<Pool>> = self.linker.of_service(namespace, name).cloned().collect();
            for pool in pools {
                self.refresh(&pool, &ends.known);
            }
        }
        let mut notices = Vec::new();
        for (namespace, name) in changes.secrets {
            let key = SecretKey { namespace, name };
            if self.certificates.contains(&key) {
                self.load(&key);
            }
        }
        let rules = changes.classes || !changes.ingresses.is_empty();
        self.read(changes.ingresses, changes.classes);
        if gateways {
            self.decide(&ends.opened);
        }
        if rules || gateways {
            let others = self.assembler.has_other_certificates() || gateways;
            if others && self.certify() && gateways {
                self.decide(&ends.opened);
            }
            notices = self.route(gateways, &ends.known);
        }
        let names: names::Wanted = self.names.values().cloned().collect();
        ends.names.send_if_modified(|wanted| std::mem::replace(wanted, names.clone()) != names);
        if gateways {
            ends.told.send_replace(std::mem::take(&mut self.plan.statuses));
        }
        if rules || !self.broken.is_empty() {
            self.tell(notices, rules);
        }
    }

    /// Decides what is served for Gateways.
    fn decide(&mut self, opened: &watch::Receiver<States>) {
        let (certificates, broken) = (&self.shared.certificates, &self.broken);
        let certificate = |key: &SecretKey| match (certificates.has(key), broken.get(key)) {
            (true, problem) => Ok(problem.cloned()),
            (false, Some(problem)) => Err(problem.clone()),
            (false, None) => Err("of type kubernetes.io/tls is not there".to_owned()),
        };
        let states = opened.borrow();
        let around = Surroundings { services: &self.services, certificate: &certificate, states: &states };
        self.plan = self.gateways.plan(&around);
    }

    /// Reads the Ingresses that changed, or all.
    fn read(&mut self, mut changed: HashSet<Key>, all: bool) {
        if all {
            changed.extend(self.ingresses.list().iter().map(|ingress| key::<Ingress>(ingress)));
        }
        for (namespace, name) in changed {
            let found = self.ingresses.get(&namespace, &name);
            match found.filter(|ingress| is_ours(ingress, |class| self.classes.get("", class))) {
                Some(ingress) => self.assembler.put(Arc::new(Draft::of(&ingress))),
                None => self.assembler.remove(&namespace, &name),
            }
        }
    }

    /// Takes the certificates of Secrets that are named now, and tells whether there are new ones.
    fn certify(&mut self) -> bool {
        let named = self.assembler.drafts().flat_map(Draft::secrets);
        let named = named.chain(&self.plan.secrets).cloned().collect();
        let before = std::mem::replace(&mut self.certificates, named);
        for gone in before.difference(&self.certificates) {
            self.shared.certificates.remove(gone);
            self.broken.remove(gone);
        }
        let fresh: Vec<SecretKey> = self.certificates.difference(&before).cloned().collect();
        for key in &fresh {
            self.load(key);
        }
        !fresh.is_empty()
    }

    /// Takes the certificate of a Secret as it is now.
    fn load(&mut self, key: &SecretKey) {
        self.broken.remove(key);
        match self.secrets.get(&key.namespace, &key.name) {
            None => self.shared.certificates.remove(key),
            Some(secret) => {
                if let Err(problem) = self.shared.certificates.set(key, &secret) {
                    self.broken.insert(key.clone(), problem);
                }
            }
        }
    }

    /// Puts the table of all Ingresses and Gateways in the place of the present one.
    fn route(&mut self, gateways: bool, known: &watch::Receiver<names::Known>) -> Vec<Notice> {
        let assembly = self.assembler.assemble(gateways.then_some(&self.plan), &mut self.linker);
        for pool in self.linker.fresh() {
            self.refresh(&pool, known);
        }
        self.shared.routes.store(Arc::new(assembly.table));
        self.linker.settle();
        self.names.retain(|key, _| self.linker.knows(key));
        self.shared.metrics.tables.inc();
        assembly.notices
    }

    fn refresh(&mut self, pool: &Pool, known: &watch::Receiver<names::Known>) {
        let key = pool.key();
        let service = self.services.get(&key.namespace, &key.service);
        self.names.remove(key);
        match service.as_deref().and_then(|service| external(service, &key.port)) {
            None => {}
            Some(External::Nowhere) => return pool.set([]),
            Some(External::Address(address)) => return pool.set([address]),
            Some(External::Name(name, port)) => {
                let addresses = known.borrow().get(&name).cloned().unwrap_or_default();
                self.names.insert(key.clone(), name);
                return pool.set(addresses.into_iter().map(|address| SocketAddr::new(address, port)));
            }
        }
        let slices = self.slices.indexed(BY_SERVICE, &service_index_value(&key.namespace, &key.service));
        pool.update(service.as_deref(), &slices, &self.node);
    }

    /// Tells owners what is wrong with their Ingresses, each thing once.
    fn tell(&mut self, mut notices: Vec<Notice>, all: bool) {
        notices.extend(self.assembler.drafts().flat_map(|draft| draft.notices.iter().cloned()));
        for draft in self.assembler.drafts().filter(|_| !self.broken.is_empty()) {
            let broken = draft.secrets().filter_map(|key| Some((key, self.broken.get(key)?)));
            notices.extend(broken.map(|(key, problem)| Notice {
                owner: draft.owner.clone(),
                reason: "InvalidCertificate",
                message: format!(
                    "Secret {}/{} {problem}; what was there before is kept",
                    key.namespace, key.name
                ),
            }));
        }
        let mut present = HashSet::new();
        for Notice { owner, reason, message } in notices {
            let id = (owner, message);
            if !self.told.contains(&id) && !present.contains(&id) {
                self.recorder.event(&reference(&id.0), EventType::Warning, reason, id.1.as_str());
            }
            present.insert(id);
        }
        match all {
            true => self.told = present,
            false => self.told.extend(present),
        }
    }
}

fn reference(owner: &Owner) -> ObjectReference {
    ObjectReference {
        api_version: Some("networking.k8s.io/v1".to_owned()),
        kind: Some("Ingress".to_owned()),
        namespace: Some(owner.namespace.clone()),
        name: Some(owner.name.clone()),
        uid: Some(owner.uid.clone()),
        ..ObjectReference::default()
    }
}

fn key<K: Object>(object: &K) -> Key {
    (object.namespace().to_owned(), object.name().to_owned())
}

fn service_key(slice: &EndpointSlice) -> Key {
    (slice.namespace().to_owned(), service_of(slice).unwrap_or_default().to_owned())
}

fn drain<K>(changes: &mut UnboundedReceiver<Delta<K>>, mut see: impl FnMut(Delta<K>)) {
    while let Ok(delta) = changes.try_recv() {
        see(delta);
    }
}

/// Adds the keys that a change is about, before and after it.
fn mark<K>(delta: Delta<K>, dirty: &mut HashSet<Key>, key: impl Fn(&K) -> Key) {
    match delta {
        Delta::Applied { old, new } => dirty.extend(old.iter().chain([&new]).map(|object| key(object))),
        Delta::Deleted(last) => drop(dirty.insert(key(&last))),
        Delta::Synced => {}
    }
}
