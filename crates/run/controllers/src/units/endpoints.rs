//! Wires the controllers of Endpoints and EndpointSlices.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::Informer;
use plimsoll_reconcile::{endpoint_slices, endpoints, pod, service};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

const BY_SERVICE: &str = "service";

/// EndpointSlices.
pub(crate) fn slices(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let services = context.informers.informer::<Service>();
    let pods = context.informers.informer::<Pod>();
    let nodes = context.informers.informer::<Node>();
    let slices = context.informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| index(&key)).into_iter().collect());
    let of_pod = services.clone();
    let unit = unit
        .input(&services, |service| vec![Key::of(service)])
        .input(&pods, move |pod| selecting(&of_pod, pod))
        .input(&slices, |slice| service_of(slice).into_iter().collect())
        .reads(&nodes);
    Ok(unit.decide(move |key, _| {
        let Some(service) = services.get(&key.namespace, &key.name) else { return Vec::new() };
        let pods = selected(&pods, &service);
        let nodes: HashMap<_, _> = pods
            .iter()
            .filter_map(|pod| Some((pod::node(pod).to_owned(), nodes.get("", pod::node(pod))?)))
            .collect();
        let slices = slices.indexed(BY_SERVICE, &index(key));
        let observed =
            endpoint_slices::Observed { service: &service, pods: &pods, slices: &slices, nodes: &nodes };
        endpoint_slices::decide(&observed)
    }))
}

/// Endpoints.
pub(crate) fn lists(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let services = context.informers.informer::<Service>();
    let pods = context.informers.informer::<Pod>();
    let present = context.informers.informer::<Endpoints>();
    let of_pod = services.clone();
    let unit = unit
        .input(&services, |service| vec![Key::of(service)])
        .input(&pods, move |pod| selecting(&of_pod, pod))
        .input(&present, |endpoints| vec![Key::of(endpoints)]);
    Ok(unit.decide(move |key, _| {
        let service = services.get(&key.namespace, &key.name);
        let pods = service.as_ref().map(|service| selected(&pods, service)).unwrap_or_default();
        let present = present.get(&key.namespace, &key.name);
        let observed =
            endpoints::Observed { service: service.as_deref(), pods: &pods, endpoints: present.as_deref() };
        endpoints::decide(&observed)
    }))
}

/// The Service of a slice that this controller manages.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours =
        labels.get(endpoint_slices::MANAGED_BY).is_some_and(|manager| manager == endpoint_slices::MANAGER);
    let name = labels.get(endpoint_slices::SERVICE).filter(|_| ours)?;
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
