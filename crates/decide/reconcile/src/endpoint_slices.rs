//! EndpointSlices: which pods stand behind a Service, in slices of at most a hundred
//! (endpointslice: reconciler.go and utils.go, v1.37).

mod hints;
mod pack;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use self::pack::Planned;
use crate::action::{self, Action};
use crate::owner::controller_ref;
use crate::trigger_time::{self, Triggers};
use crate::{pod, service};
pub use hints::{Shares, by_share, shares};

/// The label that names the Service of a slice.
pub const SERVICE: &str = "kubernetes.io/service-name";
/// The label that names who looks after a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who looks after the slices of this controller.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";

/// When to look again for the node of a pod that has none.
const MISSING: Duration = Duration::from_secs(1);

/// What is known when deciding.
pub struct Observed<'a> {
    /// The Service.
    pub service: &'a Service,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// Its slices, as far as this controller manages them.
    pub slices: &'a [Arc<EndpointSlice>],
    /// The nodes of the pods, by name, for their zones.
    pub nodes: &'a HashMap<String, Arc<Node>>,
    /// The share of each zone in the cluster's processors, as far as it is known.
    pub shares: Option<&'a Shares>,
}

/// What is remembered of a Service from one decision to the next.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    triggers: Triggers,
    /// Whether its endpoints have hints by share.
    hinted: bool,
}

/// Endpoints that may share a slice.
type Groups = BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>;

/// What to do.
pub fn decide(observed: &Observed<'_>, memory: &mut Memory) -> Vec<Action> {
    let service = observed.service;
    let Some(spec) = service.spec.as_ref().filter(|_| service::selector(service).is_some()) else {
        return Vec::new();
    };
    let triggered = memory.triggers.observe(service, observed.pods);
    let alive = observed.slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none());
    let mut alive: Vec<_> = alive.cloned().collect();
    alive.sort_by(|one, two| one.metadata.name.cmp(&two.metadata.name));
    let mut actions = Vec::new();
    for family in families(spec, observed.pods) {
        let (of_family, others) = alive.into_iter().partition(|slice| slice.address_type == family);
        alive = others;
        let mut plan = pack::plan(service, group(observed, spec, &family), of_family);
        let told = hints::apply(service, &family, &mut plan, observed.shares, &mut memory.hinted);
        actions.extend(write(service, &family, plan, triggered));
        actions.extend(told);
    }
    // What is left has a family that the Service no longer has.
    actions.extend(alive.iter().map(|slice| Action::delete(&**slice).into()));
    if observed.pods.iter().any(|pod| service::has_endpoint(pod) && lost(observed, spec, pod)) {
        actions.push(Action::RequeueAfter(MISSING));
    }
    actions
}

fn write(service: &Service, family: &str, plan: pack::Plan, triggered: Option<Timestamp>) -> Vec<Action> {
    // A Service that goes takes its slices with it: making more would race with that.
    let stays = service.metadata.deletion_timestamp.is_none();
    let made = plan.create.into_iter().filter(|_| stays).map(|one| create(service, family, one, triggered));
    let made: Vec<_> = made.collect();
    let changed = plan.update.iter().filter_map(|one| update(service, one, triggered));
    let deleted = plan.delete.iter().map(|slice| Action::delete(&**slice).into());
    made.into_iter().chain(changed).chain(deleted).collect()
}

/// Whether a pod's node is not there; then nobody can say whether the pod is. Who publishes what is not
/// ready does not mind.
fn lost(observed: &Observed<'_>, spec: &ServiceSpec, pod: &Pod) -> bool {
    !service::publishes_not_ready(spec) && !observed.nodes.contains_key(pod::node(pod))
}

/// The address families of a Service; an old headless one has those of its pods.
fn families(spec: &ServiceSpec, pods: &[Arc<Pod>]) -> Vec<String> {
    match spec.ip_families.as_ref().filter(|families| !families.is_empty()) {
        Some(families) => families.clone(),
        None => {
            let cluster = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None");
            let first =
                cluster.or_else(|| pods.iter().find_map(|pod| service::addresses(pod).first().copied()));
            vec![if first.is_some_and(|ip| ip.contains(':')) { "IPv6" } else { "IPv4" }.to_owned()]
        }
    }
}

/// The endpoints of a family by their ports: named ports may differ from pod to pod.
fn group(observed: &Observed<'_>, spec: &ServiceSpec, family: &str) -> Groups {
    let mut groups = Groups::new();
    for pod in observed.pods.iter().filter(|pod| service::has_endpoint(pod)) {
        let ports = ports(spec, pod);
        let key = serde_json::to_string(&ports).expect("API types are JSON");
        let (_, endpoints) = groups.entry(key).or_insert_with(|| (ports, Vec::new()));
        let address = service::address(pod, family).filter(|_| !lost(observed, spec, pod));
        endpoints.extend(address.map(|address| endpoint(observed, spec, pod, address)));
    }
    groups
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<EndpointPort> {
    let all = spec.ports.iter().flatten();
    let found = all.filter_map(|port| service::port_of(port, pod).map(|number| (port, number)));
    found
        .map(|(port, number)| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number),
            protocol: Some(service::protocol(port).to_owned()),
            app_protocol: port.app_protocol.clone(),
        })
        .collect()
}

fn endpoint(observed: &Observed<'_>, spec: &ServiceSpec, pod: &Pod, address: &str) -> Endpoint {
    let serving = pod::ready(pod);
    let terminating = pod::deleting(pod);
    let ready = service::publishes_not_ready(spec) || (serving && !terminating);
    let node = Some(pod::node(pod)).filter(|name| !name.is_empty());
    let zone = node.and_then(|name| observed.nodes.get(name)).and_then(|node| hints::zone(node));
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(service::target(pod)),
        node_name: node.map(str::to_owned),
        hints: None,
        zone: zone.map(str::to_owned),
        hostname: service::hostname(observed.service, pod),
        deprecated_topology: None,
    }
}

/// The labels of a Service's slices: its own, and those that make them found.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let spec = service.spec.as_ref();
    labels.remove(service::HEADLESS);
    if spec.is_some_and(service::headless) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE.to_owned(), service.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn owned_by(slice: &EndpointSlice, service: &Service) -> bool {
    let mut owners = slice.metadata.owner_references.iter().flatten();
    owners.any(|owner| Some(&owner.uid) == service.metadata.uid.as_ref())
}

fn create(service: &Service, family: &str, one: Planned, triggered: Option<Timestamp>) -> Action {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let annotation =
        |time: Timestamp| BTreeMap::from([(trigger_time::ANNOTATION.to_owned(), time.to_string())]);
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            annotations: triggered.map(annotation),
            owner_references: Some(vec![controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(one.ports),
        endpoints: Some(one.endpoints),
    };
    Action::create(&slice).into()
}

fn update(service: &Service, one: &Planned, triggered: Option<Timestamp>) -> Option<Action> {
    let slice = one.slice.as_deref()?;
    let mut body = json!({});
    if slice.endpoints.as_deref().unwrap_or_default() != one.endpoints {
        body["endpoints"] = json!(one.endpoints);
    }
    if slice.ports.as_deref().unwrap_or_default() != one.ports {
        body["ports"] = json!(one.ports);
    }
    let present = slice.metadata.labels.clone().unwrap_or_default();
    if let Some(change) = action::difference(&json!(present), &json!(labels(service))) {
        body["metadata"]["labels"] = change;
    }
    if body.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    let annotations = slice.metadata.annotations.as_ref();
    let told = annotations.and_then(|all| all.get(trigger_time::ANNOTATION));
    let telling = triggered.map(|time| time.to_string());
    if told != telling.as_ref() {
        body["metadata"]["annotations"] = json!({trigger_time::ANNOTATION: telling});
    }
    Some(Action::patch(slice, body))
}

#[cfg(test)]
mod tests;
