//! Which endpoint goes into which slice: as few slices changed as can be.
//!
//! What enters are the endpoints of one address family by their ports, and the slices that there are; what
//! leaves is a [`Plan`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::{Groups, labels, owned_by};

/// Most endpoints in a slice.
pub(super) const CAPACITY: usize = 100;

/// A slice as it is to be.
#[derive(Debug)]
pub(super) struct Planned {
    /// What is there of it; nothing if it is new.
    pub(super) slice: Option<Arc<EndpointSlice>>,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What becomes of the slices of a family.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<Planned>,
    pub(super) update: Vec<Planned>,
    pub(super) unchanged: Vec<Planned>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Brings the slices of one address family to the wanted endpoints.
pub(super) fn plan(service: &Service, groups: Groups, slices: Vec<Arc<EndpointSlice>>) -> Plan {
    let mut plan = Plan::default();
    let mut by_ports = BTreeMap::<String, Vec<Arc<EndpointSlice>>>::new();
    let count = slices.len();
    for slice in slices {
        if owned_by(&slice, service) {
            by_ports.entry(ports_key(&slice)).or_default().push(slice);
        } else {
            plan.delete.push(slice);
        }
    }
    for (key, (ports, endpoints)) in groups {
        let slices = by_ports.remove(&key).unwrap_or_default();
        fill(service, &mut plan, &ports, endpoints, slices);
    }
    plan.delete.extend(by_ports.into_values().flatten());
    if plan.create.is_empty() && plan.delete.len() == count {
        keep_empty(service, &mut plan);
    }
    recycle(service, &mut plan);
    plan
}

/// One empty slice says that there is nothing, rather than that nobody has looked yet.
fn keep_empty(service: &Service, plan: &mut Plan) {
    let empty = |slice: &EndpointSlice| {
        owned_by(slice, service)
            && slice.endpoints.as_ref().is_none_or(Vec::is_empty)
            && slice.ports.as_ref().is_none_or(Vec::is_empty)
            && slice.metadata.labels.as_ref() == Some(&labels(service))
    };
    if plan.delete.len() == 1 && empty(&plan.delete[0]) {
        let slice = plan.delete.pop();
        plan.unchanged.push(Planned { slice, ports: Vec::new(), endpoints: Vec::new() });
    } else {
        plan.create.push(Planned { slice: None, ports: Vec::new(), endpoints: Vec::new() });
    }
}

/// A slice that nobody wants can become one that is missing: an update beats two writes.
fn recycle(service: &Service, plan: &mut Plan) {
    let (mut spare, foreign): (Vec<_>, Vec<_>) =
        std::mem::take(&mut plan.delete).into_iter().partition(|slice| owned_by(slice, service));
    spare.reverse();
    while !plan.create.is_empty() {
        let Some(slice) = spare.pop() else { break };
        let planned = plan.create.pop().expect("not empty");
        plan.update.push(Planned { slice: Some(slice), ..planned });
    }
    spare.reverse();
    plan.delete = foreign.into_iter().chain(spare).collect();
}

fn ports_key(slice: &EndpointSlice) -> String {
    let ports: &[EndpointPort] = slice.ports.as_deref().unwrap_or_default();
    serde_json::to_string(ports).expect("API types are JSON")
}

fn fill(
    service: &Service,
    plan: &mut Plan,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
) {
    let mut wanted: HashMap<String, Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let labels = labels(service);
    let (mut update, mut unchanged) = (Vec::new(), Vec::new());
    for slice in slices {
        let (endpoints, changed) = keep(&slice, &mut wanted);
        if changed && endpoints.is_empty() {
            plan.delete.push(slice);
            continue;
        }
        let relabelled = slice.metadata.labels.as_ref() != Some(&labels);
        let list = if changed || relabelled { &mut update } else { &mut unchanged };
        list.push(Planned { slice: Some(slice), ports: ports.to_vec(), endpoints });
    }
    let mut rest: Vec<_> = wanted.into_values().collect();
    rest.sort_by_key(identity);
    let mut rest = rest.into_iter();

    // Slices that change anyway take the rest first, the fullest first.
    update.sort_by_key(|one: &Planned| std::cmp::Reverse(one.endpoints.len()));
    for one in &mut update {
        one.endpoints.extend(rest.by_ref().take(CAPACITY.saturating_sub(one.endpoints.len())));
    }
    while rest.len() > 0 {
        let mut taken = fullest_with_room(&unchanged, rest.len()).map(|at| unchanged.remove(at));
        let new = || Planned { slice: None, ports: ports.to_vec(), endpoints: Vec::new() };
        let mut one = taken.take().unwrap_or_else(new);
        one.endpoints.extend(rest.by_ref().take(CAPACITY - one.endpoints.len()));
        if one.slice.is_some() { &mut update } else { &mut plan.create }.push(one);
    }
    plan.update.append(&mut update);
    plan.unchanged.append(&mut unchanged);
}

/// An untouched slice is only touched if it takes all that is left.
fn fullest_with_room(slices: &[Planned], left: usize) -> Option<usize> {
    let room = |one: &Planned| CAPACITY.saturating_sub(one.endpoints.len());
    let fits = slices.iter().enumerate().filter(|(_, one)| left < CAPACITY && room(one) >= left);
    fits.min_by_key(|(_, one)| room(one)).map(|(at, _)| at)
}

/// What of a slice stays, as it is now wanted, and whether that is a change. Hints are given later.
fn keep(slice: &EndpointSlice, wanted: &mut HashMap<String, Endpoint>) -> (Vec<Endpoint>, bool) {
    let present = slice.endpoints.as_deref().unwrap_or_default();
    let mut changed = false;
    let mut endpoints = Vec::with_capacity(present.len());
    for endpoint in present {
        let Some(mut found) = wanted.remove(&identity(endpoint)) else { continue };
        found.hints.clone_from(&endpoint.hints);
        changed |= found != *endpoint;
        endpoints.push(found);
    }
    changed |= endpoints.len() != present.len();
    (endpoints, changed)
}

/// An endpoint is the same while its address and pod are.
fn identity(endpoint: &Endpoint) -> String {
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{} {pod}", endpoint.addresses.first().map(String::as_str).unwrap_or_default())
}
