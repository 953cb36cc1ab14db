//! Which endpoint goes into which slice: as few slices changed as can be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::{Groups, create, update};
use crate::action::Action;

/// Most endpoints in a slice.
const CAPACITY: usize = 100;

/// A slice and what it is to hold.
struct Filled {
    slice: Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// Brings the slices of one address family to the wanted endpoints.
pub(super) fn decide(
    service: &Service,
    family: &str,
    mut groups: Groups,
    slices: Vec<Arc<EndpointSlice>>,
) -> Vec<Action> {
    let mut by_ports = BTreeMap::<String, Vec<Arc<EndpointSlice>>>::new();
    for slice in slices {
        by_ports.entry(ports_key(&slice)).or_default().push(slice);
    }
    if groups.is_empty() {
        // One empty slice says that there is nothing, rather than that nobody has looked yet.
        groups.insert("[]".to_owned(), (Vec::new(), Vec::new()));
    }
    // A slice whose ports nobody wants can take those that have no slice: an update beats two writes.
    let unwanted: Vec<_> = by_ports.keys().filter(|key| !groups.contains_key(*key)).cloned().collect();
    let mut spare: Vec<_> = unwanted.iter().filter_map(|key| by_ports.remove(key)).flatten().collect();
    let mut actions = Vec::new();
    for (key, (ports, endpoints)) in groups {
        let mut own = by_ports.remove(&key).unwrap_or_default();
        if own.is_empty() {
            own.extend(spare.pop());
        }
        actions.extend(fill(service, family, &ports, endpoints, own));
    }
    actions.extend(spare.iter().map(|slice| Action::delete(&**slice).into()));
    actions
}

fn ports_key(slice: &EndpointSlice) -> String {
    let ports: &[EndpointPort] = slice.ports.as_deref().unwrap_or_default();
    serde_json::to_string(ports).expect("API types are JSON")
}

fn fill(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    slices: Vec<Arc<EndpointSlice>>,
) -> Vec<Action> {
    let mut wanted: HashMap<String, Endpoint> =
        endpoints.into_iter().map(|endpoint| (identity(&endpoint), endpoint)).collect();
    let mut filled: Vec<_> = slices.into_iter().map(|slice| keep(slice, &mut wanted)).collect();
    let mut rest: Vec<_> = wanted.into_values().collect();
    rest.sort_by_key(identity);
    let mut rest = rest.into_iter();

    // Slices that change anyway take the rest first, the fullest first.
    filled.sort_by_key(|one| (!one.changed, std::cmp::Reverse(one.endpoints.len())));
    let mut left = rest.len();
    for one in &mut filled {
        // An untouched slice is only touched if that saves making another.
        if one.changed || left < CAPACITY {
            let room = CAPACITY.saturating_sub(one.endpoints.len());
            one.endpoints.extend(rest.by_ref().take(room));
            left = rest.len();
        }
    }
    let mut actions: Vec<Action> = Vec::new();
    let keep_one = filled.iter().all(|one| one.endpoints.is_empty()) && left == 0;
    for (at, one) in filled.iter().enumerate() {
        if one.endpoints.is_empty() && !(keep_one && at == 0) {
            actions.push(Action::delete(&*one.slice).into());
        } else {
            actions.extend(update(service, &one.slice, ports, &one.endpoints));
        }
    }
    if left == 0 && filled.is_empty() {
        actions.push(create(service, family, ports, Vec::new()));
    }
    while rest.len() > 0 {
        actions.push(create(service, family, ports, rest.by_ref().take(CAPACITY).collect()));
    }
    actions
}

/// What of a slice stays, as it is now wanted.
fn keep(slice: Arc<EndpointSlice>, wanted: &mut HashMap<String, Endpoint>) -> Filled {
    let present = slice.endpoints.as_deref().unwrap_or_default();
    let endpoints: Vec<_> =
        present.iter().filter_map(|endpoint| wanted.remove(&identity(endpoint))).collect();
    let changed = endpoints != present;
    Filled { endpoints, changed, slice }
}

/// An endpoint is the same while its address and pod are.
fn identity(endpoint: &Endpoint) -> String {
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_deref()).unwrap_or_default();
    format!("{} {pod}", endpoint.addresses.first().map(String::as_str).unwrap_or_default())
}
