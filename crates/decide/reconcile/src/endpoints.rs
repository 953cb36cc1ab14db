//! Endpoints: the older, single list of a Service's pods
//! (kube-controller-manager: pkg/controller/endpoint, v1.37).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::action::{self, Action};
use crate::{pod, service};

/// The label that names who looks after the object.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
/// Told when not all addresses fit.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Most addresses in one object.
const CAPACITY: usize = 1000;

/// What is known when deciding.
pub struct Observed<'a> {
    /// The Service, if it is there.
    pub service: Option<&'a Service>,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// The Endpoints of its name.
    pub endpoints: Option<&'a Endpoints>,
}

/// An address and whether it is ready; ordered by address.
type Address = (String, String, bool);

/// What to do.
pub fn decide(observed: &Observed<'_>) -> Vec<Action> {
    let Some(service) = observed.service else {
        let managed = |endpoints: &&Endpoints| label(&endpoints.metadata, MANAGED_BY) == Some(MANAGER);
        return observed
            .endpoints
            .filter(managed)
            .map(|left| Action::delete(left).into())
            .into_iter()
            .collect();
    };
    let Some(spec) = service.spec.as_ref().filter(|_| service::selector(service).is_some()) else {
        return Vec::new();
    };
    let (subsets, truncated) = truncate(subsets(service, spec, observed.pods));
    write(service, spec, subsets, truncated, observed.endpoints)
}

fn write(
    service: &Service,
    spec: &ServiceSpec,
    subsets: Vec<EndpointSubset>,
    truncated: bool,
    present: Option<&Endpoints>,
) -> Vec<Action> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS);
    if service::headless(spec) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let over = truncated.then(|| "truncated".to_owned());
    let Some(present) = present else {
        let annotations = over.map(|over| BTreeMap::from([(OVER_CAPACITY.to_owned(), over)]));
        let metadata = ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations,
            ..ObjectMeta::default()
        };
        return vec![Action::create(&Endpoints { metadata, subsets: Some(subsets) }).into()];
    };
    let old_labels = present.metadata.labels.clone().unwrap_or_default();
    let old_over = present.metadata.annotations.as_ref().and_then(|all| all.get(OVER_CAPACITY));
    let same_subsets = present.subsets.as_deref().unwrap_or_default() == subsets;
    if same_subsets && old_labels == labels && old_over == over.as_ref() {
        return Vec::new();
    }
    let mut body = json!({"subsets": subsets, "metadata": {"annotations": {OVER_CAPACITY: over}}});
    if let Some(change) = action::difference(&json!(old_labels), &json!(labels)) {
        body["metadata"]["labels"] = change;
    }
    vec![Action::patch(present, body)]
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

/// Addresses with the same ports share a subset; order never depends on the order of pods.
fn subsets(service: &Service, spec: &ServiceSpec, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let family = spec.ip_families.as_ref().and_then(|families| families.first());
    let mut ports_of = BTreeMap::<Address, BTreeSet<(String, i32, String)>>::new();
    let mut details = BTreeMap::<Address, EndpointAddress>::new();
    for pod in pods.iter().filter(|pod| service::has_endpoint(pod)) {
        let publishes = service::publishes_not_ready(spec);
        if pod::deleting(pod) && !publishes {
            continue;
        }
        let ip = match family {
            Some(family) => service::address(pod, family),
            None => service::addresses(pod).first().copied(),
        };
        let Some(ip) = ip else { continue };
        let ready = publishes || pod::ready(pod);
        let key = (ip.to_owned(), pod.metadata.uid.clone().unwrap_or_default(), ready);
        let ports = spec.ports.iter().flatten();
        let ports: BTreeSet<_> =
            ports.filter_map(|port| service::port_of(port, pod).map(|n| port_key(port, n))).collect();
        if ports.is_empty() && spec.ports.iter().flatten().next().is_some() {
            continue;
        }
        ports_of.entry(key.clone()).or_default().extend(ports);
        details.insert(key, address(service, pod, ip));
    }
    let mut subsets = BTreeMap::<BTreeSet<(String, i32, String)>, EndpointSubset>::new();
    for (key, ports) in ports_of {
        let subset = subsets.entry(ports.clone()).or_insert_with(|| subset(spec, &ports));
        let list = if key.2 { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().extend(details.remove(&key));
    }
    subsets.into_values().collect()
}

fn port_key(port: &ServicePort, number: i32) -> (String, i32, String) {
    (port.name.clone().unwrap_or_default(), number, service::protocol(port).to_owned())
}

fn subset(spec: &ServiceSpec, ports: &BTreeSet<(String, i32, String)>) -> EndpointSubset {
    let application = |name: &String| {
        let port = spec.ports.iter().flatten().find(|port| port.name.as_deref().unwrap_or_default() == name);
        port.and_then(|port| port.app_protocol.clone())
    };
    let ports = ports.iter().map(|(name, number, protocol)| EndpointPort {
        name: Some(name.clone()).filter(|name| !name.is_empty()),
        port: *number,
        protocol: Some(protocol.clone()),
        app_protocol: application(name),
    });
    let ports: Vec<_> = ports.collect();
    EndpointSubset { ports: (!ports.is_empty()).then_some(ports), ..EndpointSubset::default() }
}

fn address(service: &Service, pod: &Pod, ip: &str) -> EndpointAddress {
    EndpointAddress {
        ip: ip.to_owned(),
        node_name: Some(pod::node(pod)).filter(|name| !name.is_empty()).map(str::to_owned),
        target_ref: Some(service::target(pod)),
        hostname: service::hostname(service, pod),
    }
}

/// Cuts to the capacity, ready addresses first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let (mut left, mut truncated) = (CAPACITY, false);
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        let Some(list) = addresses else { return };
        truncated |= list.len() > left;
        list.truncate(left);
        left -= list.len();
        if list.is_empty() {
            *addresses = None;
        }
    };
    subsets.iter_mut().for_each(|subset| cut(&mut subset.addresses));
    subsets.iter_mut().for_each(|subset| cut(&mut subset.not_ready_addresses));
    (subsets, truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    fn pod(name: &str, ip: &str, ready: &str) -> Arc<Pod> {
        Arc::new(object(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name},
            "spec": {"containers": []},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        })))
    }

    #[test]
    fn addresses_share_subsets_and_rest() {
        let service: Service = object(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {
            "selector": {"a": "b"}, "clusterIP": "10.0.0.1", "ports": [{"port": 80, "targetPort": 8080}]}}));
        let pods =
            [pod("b", "10.1.0.2", "True"), pod("a", "10.1.0.1", "True"), pod("c", "10.1.0.3", "False")];
        let observed = Observed { service: Some(&service), pods: &pods, endpoints: None };
        let actions = decide(&observed);
        let Action::Create(create) = &actions[0] else { panic!("{actions:?}") };
        let ips = |field: &str| {
            let list = create.object["subsets"][0][field].as_array().cloned().unwrap_or_default();
            list.iter().map(|one| one["ip"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ips("addresses"), ["10.1.0.1", "10.1.0.2"]);
        assert_eq!(ips("notReadyAddresses"), ["10.1.0.3"]);
        assert_eq!(create.object["subsets"][0]["ports"], json!([{"port": 8080, "protocol": "TCP"}]));

        let made: Endpoints = object(create.object.clone());
        let observed = Observed { service: Some(&service), pods: &pods, endpoints: Some(&made) };
        assert!(decide(&observed).is_empty());
        let observed = Observed { service: None, pods: &[], endpoints: Some(&made) };
        assert_eq!(summary(&decide(&observed)[0]), "delete Endpoints web");
    }
}
