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
use crate::trigger_time::{self, Triggers};
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
    /// Whether it was there before; then its Endpoints go with it, whoever made them.
    pub known: bool,
    /// The pods that it selects.
    pub pods: &'a [Arc<Pod>],
    /// The Endpoints of its name.
    pub endpoints: Option<&'a Endpoints>,
}

/// What annotations say beside those of users.
struct Told {
    over: Option<String>,
    triggered: Option<String>,
}

/// An address and whether it is ready; ordered by address.
type Address = (String, String, bool);

/// What to do.
pub fn decide(observed: &Observed<'_>, triggers: &mut Triggers) -> Vec<Action> {
    let Some(service) = observed.service else {
        let managed = |endpoints: &&Endpoints| label(&endpoints.metadata, MANAGED_BY) == Some(MANAGER);
        return observed
            .endpoints
            .filter(|left| observed.known || managed(left))
            .map(|left| Action::delete(left).into())
            .into_iter()
            .collect();
    };
    let Some(spec) = service.spec.as_ref().filter(|_| service::selector(service).is_some()) else {
        return Vec::new();
    };
    let triggered = triggers.observe(service, observed.pods).map(|time| time.to_string());
    let (subsets, truncated) = truncate(subsets(service, spec, observed.pods));
    let told = Told { over: truncated.then(|| "truncated".to_owned()), triggered };
    write(service, spec, subsets, told, observed.endpoints)
}

fn write(
    service: &Service,
    spec: &ServiceSpec,
    subsets: Vec<EndpointSubset>,
    told: Told,
    present: Option<&Endpoints>,
) -> Vec<Action> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(service::HEADLESS);
    if service::headless(spec) {
        labels.insert(service::HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let Some(present) = present else {
        let annotations = [(OVER_CAPACITY, told.over), (trigger_time::ANNOTATION, told.triggered)];
        let annotations = annotations.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let annotations: BTreeMap<_, _> = annotations.collect();
        let metadata = ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            ..ObjectMeta::default()
        };
        return vec![Action::create(&Endpoints { metadata, subsets: Some(subsets) }).into()];
    };
    let old_labels = present.metadata.labels.clone().unwrap_or_default();
    let annotation = |name: &str| present.metadata.annotations.as_ref().and_then(|all| all.get(name));
    let same_subsets = present.subsets.as_deref().unwrap_or_default() == subsets;
    if same_subsets && old_labels == labels && annotation(OVER_CAPACITY) == told.over.as_ref() {
        return Vec::new();
    }
    let mut body = json!({"subsets": subsets});
    for (name, value) in [(OVER_CAPACITY, told.over), (trigger_time::ANNOTATION, told.triggered)] {
        if annotation(name) != value.as_ref() {
            body["metadata"]["annotations"][name] = json!(value);
        }
    }
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

/// Cuts to the capacity, each subset by its part in all; ready addresses go before others.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| count(&subset.addresses)).sum();
    let waiting: usize = subsets.iter().map(|subset| count(&subset.not_ready_addresses)).sum();
    if ready + waiting <= CAPACITY {
        return (subsets, false);
    }
    let cuts_ready = ready > CAPACITY;
    let (room, all) = if cuts_ready { (CAPACITY, ready) } else { (CAPACITY - ready, waiting) };
    let mut left = room;
    for subset in &mut subsets {
        if cuts_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cuts_ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        let Some(addresses) = list else { continue };
        addresses.truncate((addresses.len() * room).div_ceil(all).min(left));
        left -= addresses.len();
        if addresses.is_empty() {
            *list = None;
        }
    }
    (subsets, true)
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
        let observed = Observed { service: Some(&service), known: true, pods: &pods, endpoints: None };
        let actions = decide(&observed, &mut Triggers::default());
        let Action::Create(create) = &actions[0] else { panic!("{actions:?}") };
        let ips = |field: &str| {
            let list = create.object["subsets"][0][field].as_array().cloned().unwrap_or_default();
            list.iter().map(|one| one["ip"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(ips("addresses"), ["10.1.0.1", "10.1.0.2"]);
        assert_eq!(ips("notReadyAddresses"), ["10.1.0.3"]);
        assert_eq!(create.object["subsets"][0]["ports"], json!([{"port": 8080, "protocol": "TCP"}]));

        let made: Endpoints = object(create.object.clone());
        let observed = Observed { service: Some(&service), known: true, pods: &pods, endpoints: Some(&made) };
        assert!(decide(&observed, &mut Triggers::default()).is_empty());
        let observed = Observed { service: None, known: false, pods: &[], endpoints: Some(&made) };
        assert_eq!(summary(&decide(&observed, &mut Triggers::default())[0]), "delete Endpoints web");
    }

    #[test]
    fn too_many_addresses_are_cut_by_the_part_of_each_subset() {
        let list = |count: usize| {
            let addresses =
                (0..count).map(|n| EndpointAddress { ip: n.to_string(), ..EndpointAddress::default() });
            (count > 0).then(|| addresses.collect::<Vec<_>>())
        };
        // Ready and waiting addresses of each subset, before and after.
        let cases = [
            (vec![(600, 400)], vec![(600, 400)], false),
            (vec![(600, 600)], vec![(600, 400)], true),
            (vec![(300, 300), (300, 100)], vec![(300, 300), (300, 100)], false),
            (vec![(300, 600), (300, 200)], vec![(300, 300), (300, 100)], true),
            (vec![(1500, 10), (500, 10)], vec![(750, 0), (250, 0)], true),
            (vec![(999, 0), (2, 0)], vec![(999, 0), (1, 0)], true),
        ];
        for (before, after, cut) in cases {
            let subset = |(ready, waiting): &(usize, usize)| EndpointSubset {
                addresses: list(*ready),
                not_ready_addresses: list(*waiting),
                ports: None,
            };
            let (subsets, truncated) = truncate(before.iter().map(subset).collect());
            let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
            let got: Vec<_> =
                subsets.iter().map(|one| (count(&one.addresses), count(&one.not_ready_addresses))).collect();
            assert_eq!((got, truncated), (after, cut), "{before:?}");
        }
    }

    #[test]
    fn endpoints_of_users_are_left_alone_until_their_service_goes() {
        let own: Endpoints = object(json!({"metadata": {"name": "web", "namespace": "ns"}, "subsets": []}));
        let free: Service =
            object(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"ports": []}}));
        for (service, known, gone) in [(None, false, 0), (Some(&free), true, 0), (None, true, 1)] {
            let observed = Observed { service, known, pods: &[], endpoints: Some(&own) };
            assert_eq!(decide(&observed, &mut Triggers::default()).len(), gone);
        }
    }
}
