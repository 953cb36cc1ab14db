//! Wires the controllers of Endpoints and EndpointSlices.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::Informer;
use plimsoll_reconcile::action::{Action, Failure, Severity};
use plimsoll_reconcile::trigger_time::Triggers;
use plimsoll_reconcile::{endpoint_slice_mirroring, endpoint_slices, endpoints, pod, service};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

const BY_SERVICE: &str = "service";
const BY_MIRRORED: &str = "mirrored";
const BY_SHARE: &str = "hints by share";

/// What decisions remember, by key. Nobody decides twice about a key at once.
struct Memories<M>(Mutex<HashMap<Key, M>>);

impl<M: Default> Memories<M> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn with<T>(&self, key: &Key, decide: impl FnOnce(&mut M) -> T) -> T {
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = lock().remove(key).unwrap_or_default();
        let result = decide(&mut memory);
        lock().insert(key.clone(), memory);
        result
    }

    fn has(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The zones' shares, counted while some Service goes by them.
struct Shares {
    services: Informer<Service>,
    nodes: Informer<Node>,
    last: Mutex<Option<endpoint_slices::Shares>>,
}

impl Shares {
    fn now(&self) -> Option<endpoint_slices::Shares> {
        let nodes = self.nodes.list();
        endpoint_slices::shares(nodes.iter().map(|node| &**node))
    }

    /// The Services whose hints change with the nodes.
    fn concerned(&self) -> Vec<Key> {
        let services = self.services.indexed(BY_SHARE, "");
        if services.is_empty() {
            return Vec::new();
        }
        let now = self.now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == now {
            return Vec::new();
        }
        *last = now;
        services.iter().map(|service| Key::of(&**service)).collect()
    }
}

/// EndpointSlices.
pub(crate) fn slices(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let services = context.informers.informer::<Service>();
    let pods = context.informers.informer::<Pod>();
    let nodes = context.informers.informer::<Node>();
    let slices = context.informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |slice| {
        of_manager(slice, endpoint_slices::MANAGER).map(|key| index(&key)).into_iter().collect()
    });
    services.add_index(BY_SHARE, |service| {
        endpoint_slices::by_share(service).then(String::new).into_iter().collect()
    });
    let shares =
        Arc::new(Shares { services: services.clone(), nodes: nodes.clone(), last: Mutex::default() });
    let (of_pod, of_nodes, told) = (services.clone(), shares.clone(), services.clone());
    let memories = Memories::<endpoint_slices::Memory>::new();
    let unit = unit
        .input(&services, |service| vec![Key::of(service)])
        .input(&pods, move |pod| selecting(&of_pod, pod))
        .input(&slices, |slice| of_manager(slice, endpoint_slices::MANAGER).into_iter().collect())
        .input(&nodes, move |_| of_nodes.concerned())
        .report(move |key, _, failure| {
            told.get(&key.namespace, &key.name).map(|service| failed(&service, failure)).unwrap_or_default()
        });
    Ok(unit.decide(move |key, _| {
        let Some(service) = services.get(&key.namespace, &key.name) else {
            memories.forget(key);
            return Vec::new();
        };
        let pods = selected(&pods, &service);
        let nodes: HashMap<_, _> = pods
            .iter()
            .filter_map(|pod| Some((pod::node(pod).to_owned(), nodes.get("", pod::node(pod))?)))
            .collect();
        let slices = slices.indexed(BY_SERVICE, &index(key));
        let shares = if endpoint_slices::by_share(&service) { shares.now() } else { None };
        let observed = endpoint_slices::Observed {
            service: &service,
            pods: &pods,
            slices: &slices,
            nodes: &nodes,
            shares: shares.as_ref(),
        };
        memories.with(key, |memory| endpoint_slices::decide(&observed, memory))
    }))
}

fn failed(service: &Service, failure: &Failure) -> Vec<Action> {
    if failure.namespace_ends() {
        return Vec::new();
    }
    let Key { namespace, name } = Key::of(service);
    let message =
        format!("Error updating Endpoint Slices for Service {namespace}/{name}: {}", failure.message);
    vec![Action::event(service, Severity::Warning, "FailedToUpdateEndpointSlices", message)]
}

/// EndpointSlices of Endpoints that users keep themselves.
pub(crate) fn mirrored(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let services = context.informers.informer::<Service>();
    let endpoints = context.informers.informer::<Endpoints>();
    let slices = context.informers.informer::<EndpointSlice>();
    slices.add_index(BY_MIRRORED, |slice| mirroring(slice).map(|key| index(&key)).into_iter().collect());
    let unit = unit
        .input(&services, |service| vec![Key::of(service)])
        .input(&endpoints, |endpoints| vec![Key::of(endpoints)])
        .input(&slices, |slice| mirroring(slice).into_iter().collect());
    Ok(unit.decide(move |key, _| {
        let (endpoints, service) =
            (endpoints.get(&key.namespace, &key.name), services.get(&key.namespace, &key.name));
        let slices = slices.indexed(BY_MIRRORED, &index(key));
        endpoint_slice_mirroring::decide(&endpoint_slice_mirroring::Observed {
            endpoints: endpoints.as_deref(),
            service: service.as_deref(),
            slices: &slices,
        })
    }))
}

/// Endpoints.
pub(crate) fn lists(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let services = context.informers.informer::<Service>();
    let pods = context.informers.informer::<Pod>();
    let present = context.informers.informer::<Endpoints>();
    let of_pod = services.clone();
    let memories = Memories::<Triggers>::new();
    let unit = unit
        .input(&services, |service| vec![Key::of(service)])
        .input(&pods, move |pod| selecting(&of_pod, pod))
        .input(&present, |endpoints| vec![Key::of(endpoints)]);
    Ok(unit.decide(move |key, _| {
        let service = services.get(&key.namespace, &key.name);
        let pods = service.as_ref().map(|service| selected(&pods, service)).unwrap_or_default();
        let present = present.get(&key.namespace, &key.name);
        let observed = endpoints::Observed {
            service: service.as_deref(),
            known: memories.has(key),
            pods: &pods,
            endpoints: present.as_deref(),
        };
        if service.is_none() {
            // Remembered until its Endpoints are gone, should their deletion have to be tried again.
            if present.is_none() {
                memories.forget(key);
            }
            return endpoints::decide(&observed, &mut Triggers::default());
        }
        memories.with(key, |triggers| endpoints::decide(&observed, triggers))
    }))
}

fn mirroring(slice: &EndpointSlice) -> Option<Key> {
    of_manager(slice, endpoint_slice_mirroring::MANAGER)
}

/// The Service of a slice that `manager` looks after.
fn of_manager(slice: &EndpointSlice, manager: &str) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let managed = labels.get(endpoint_slices::MANAGED_BY).is_some_and(|by| by == manager);
    let name = labels.get(endpoint_slices::SERVICE).filter(|_| managed)?;
    Some(Key::new(slice.metadata.namespace.as_deref()?, name))
}

fn index(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// The Services that select a pod.
fn selecting(services: &Informer<Service>, pod: &Pod) -> Vec<Key> {
    let mut all = services.list_in(pod.metadata.namespace.as_deref().unwrap_or_default());
    all.retain(|one| {
        service::selector(one).is_some_and(|selector| selector.matches_map(pod.metadata.labels.as_ref()))
    });
    all.iter().map(|one| Key::of(&**one)).collect()
}

/// The pods that a Service selects.
fn selected(pods: &Informer<Pod>, of: &Service) -> Vec<Arc<Pod>> {
    let Some(selector) = service::selector(of) else { return Vec::new() };
    let mut all = pods.list_in(of.metadata.namespace.as_deref().unwrap_or_default());
    all.retain(|pod| selector.matches_map(pod.metadata.labels.as_ref()));
    all
}
