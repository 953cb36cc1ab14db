//! A backend: the endpoints of a port of a Service, and which of them cannot be reached at the moment.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_netplan::endpoints::{NodeFacts, Protocol, Target, targets};
use plimsoll_route::balance::{self, Tried};
use plimsoll_route::{BackendKey, Port, affinity};

/// A pod that takes requests.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// What stands for it in cookies.
    pub(crate) mark: String,
    failures: AtomicU32,
    /// Milliseconds, by the clock of all.
    ejected_until: AtomicU64,
}

impl Endpoint {
    /// It could not be connected to, and is left alone for a while.
    pub(crate) fn failed(&self, now: u64) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let pause = balance::ejection(failures).as_millis() as u64;
        self.ejected_until.store(now + pause, Ordering::Relaxed);
    }

    /// It was connected to.
    pub(crate) fn reached(&self) {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }

    fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }
}

/// What a route sends to. It outlives the tables that name it.
#[derive(Debug)]
pub(crate) struct Pool {
    key: BackendKey,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    turn: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(key: BackendKey) -> Self {
        // Not all backends begin with their first pod.
        let turn = AtomicUsize::new(rand::random::<u32>() as usize);
        Self { key, endpoints: ArcSwap::default(), turn }
    }

    /// Which one it is.
    pub(crate) fn key(&self) -> &BackendKey {
        &self.key
    }

    /// Takes the endpoints that the Service has now. What is known of those that stay is kept.
    pub(crate) fn update(&self, service: Option<&Service>, slices: &[Arc<EndpointSlice>], node: &NodeFacts) {
        let port = service.and_then(|service| port(service, &self.key.port));
        let name = port.map(|port| port.name.as_deref().unwrap_or_default());
        let found = |ipv4| match name {
            Some(name) => targets(slices.iter().map(Arc::as_ref), name, Protocol::Tcp, ipv4, node).anywhere,
            None => BTreeSet::new(),
        };
        // A pod with addresses of both families is one pod.
        let mut all = found(true);
        if all.is_empty() {
            all = found(false);
        }
        self.set(all.into_iter().map(|Target { address, port }| SocketAddr::new(address, port)));
    }

    /// Takes these endpoints.
    pub(crate) fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let known = self.endpoints.load();
        let salt = format!("{}/{}", self.key.namespace, self.key.service);
        let endpoint = |address: SocketAddr| {
            let same = known.iter().find(|endpoint| endpoint.address == address).cloned();
            same.unwrap_or_else(|| {
                let mark = affinity::mark(address, &salt);
                Arc::new(Endpoint { address, mark, failures: 0.into(), ejected_until: 0.into() })
            })
        };
        let next: Vec<Arc<Endpoint>> = addresses.into_iter().map(endpoint).collect();
        self.endpoints.store(Arc::new(next));
    }

    /// Whether a cookie with this mark names one of the endpoints.
    pub(crate) fn has(&self, mark: &str) -> bool {
        self.endpoints.load().iter().any(|endpoint| endpoint.mark == mark)
    }

    /// The endpoint for the next attempt, and its place. One that a cookie names is preferred.
    pub(crate) fn choose(
        &self,
        wanted: Option<&str>,
        tried: Tried,
        now: u64,
    ) -> Option<(usize, Arc<Endpoint>)> {
        let endpoints = self.endpoints.load();
        let marked = wanted.and_then(|mark| endpoints.iter().position(|endpoint| endpoint.mark == mark));
        let fit = marked.filter(|place| !tried.has(*place) && !endpoints[*place].is_ejected(now));
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn =
            || balance::next(endpoints.len(), turn(), tried, |place| endpoints[place].is_ejected(now));
        let place = fit.or_else(in_turn)?;
        Some((place, endpoints[place].clone()))
    }
}

fn port<'a>(service: &'a Service, wanted: &Port) -> Option<&'a ServicePort> {
    let mut ports = service.spec.as_ref()?.ports.as_ref()?.iter();
    ports.find(|port| match wanted {
        Port::Number(number) => port.port == i32::from(*number),
        Port::Name(name) => port.name.as_deref() == Some(name),
    })
}
