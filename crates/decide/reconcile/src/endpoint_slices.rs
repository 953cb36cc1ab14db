//! EndpointSlices: which pods stand behind a Service, in slices of at most a hundred
//! (endpointslice: reconciler.go and utils.go, v1.37).

mod pack;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::action::Action;
use crate::owner::controller_ref;
use crate::{pod, service};

/// The label that names the Service of a slice.
pub const SERVICE: &str = "kubernetes.io/service-name";
/// The label that names who looks after a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who looks after the slices of this controller.
pub const MANAGER: &str = "endpointslice-controller.kubernetes.io";

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
}

/// Endpoints that may share a slice.
type Groups = BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)>;

/// What to do.
pub fn decide(observed: &Observed<'_>) -> Vec<Action> {
    let service = observed.service;
    let Some(spec) = service.spec.as_ref().filter(|_| service::selector(service).is_some()) else {
        return Vec::new();
    };
    let alive = observed.slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none());
    let mut alive: Vec<_> = alive.cloned().collect();
    alive.sort_by(|one, two| one.metadata.name.cmp(&two.metadata.name));
    let mut actions = Vec::new();
    for family in families(spec, observed.pods) {
        let (of_family, others) = alive.into_iter().partition(|slice| slice.address_type == family);
        alive = others;
        let groups = group(observed, spec, &family);
        actions.extend(pack::decide(service, &family, groups, of_family));
    }
    // What is left has a family that the Service no longer has.
    actions.extend(alive.iter().map(|slice| Action::delete(&**slice).into()));
    actions
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
        let Some(address) = service::address(pod, family) else { continue };
        let ports = ports(spec, pod);
        let key = serde_json::to_string(&ports).expect("API types are JSON");
        let endpoint = endpoint(observed, spec, pod, address);
        groups.entry(key).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
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
    let zone = node.and_then(|name| observed.nodes.get(name)).and_then(|node| zone(node));
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        target_ref: Some(service::target(pod)),
        node_name: node.map(str::to_owned),
        hints: ready.then(|| hints(spec, node, zone)).flatten(),
        zone: zone.map(str::to_owned),
        hostname: service::hostname(observed.service, pod),
        deprecated_topology: None,
    }
}

fn zone(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get("topology.kubernetes.io/zone").map(String::as_str).filter(|zone| !zone.is_empty())
}

/// Who should use an endpoint first, where the Service prefers the near ones.
fn hints(spec: &ServiceSpec, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    match spec.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => {
            zones.map(|zones| EndpointHints { for_zones: Some(zones), for_nodes: None })
        }
        "PreferSameNode" => {
            let nodes = node.map(|node| vec![ForNode { name: node.to_owned() }]);
            Some(EndpointHints { for_zones: zones, for_nodes: nodes })
        }
        _ => None,
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

fn create(service: &Service, family: &str, ports: &[EndpointPort], endpoints: Vec<Endpoint>) -> Action {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_ref(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(ports.to_vec()),
        endpoints: Some(endpoints),
    };
    Action::create(&slice).into()
}

fn update(
    service: &Service,
    slice: &EndpointSlice,
    ports: &[EndpointPort],
    endpoints: &[Endpoint],
) -> Option<Action> {
    let mut body = json!({});
    if slice.endpoints.as_deref().unwrap_or_default() != endpoints {
        body["endpoints"] = json!(endpoints);
    }
    if slice.ports.as_deref().unwrap_or_default() != ports {
        body["ports"] = json!(ports);
    }
    let wanted = labels(service);
    let present = slice.metadata.labels.clone().unwrap_or_default();
    body["metadata"]["labels"] =
        crate::action::difference(&json!(present), &json!(wanted)).unwrap_or_default();
    let changed = body.get("endpoints").is_some() || body.get("ports").is_some() || present != wanted;
    if present == wanted {
        body.as_object_mut().expect("made above").remove("metadata");
    }
    changed.then(|| Action::patch(slice, body))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{object, summary};

    fn service(extra: Value) -> Service {
        let mut service = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "svc"},
            "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ipFamilies": ["IPv4"],
                     "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
        });
        for (key, value) in extra.as_object().into_iter().flatten() {
            service["spec"][key] = value.clone();
        }
        object(service)
    }

    fn pod(name: &str, ip: &str, ready: bool, deleting: bool) -> Arc<Pod> {
        Arc::new(object(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"},
                "deletionTimestamp": deleting.then_some("2024-01-01T00:00:00Z")},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        })))
    }

    fn run(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
        let nodes = HashMap::new();
        decide(&Observed { service, pods, slices, nodes: &nodes })
    }

    /// The slices after the actions on a server that keeps what it is told.
    fn apply(slices: &[Arc<EndpointSlice>], actions: &[Action]) -> Vec<Arc<EndpointSlice>> {
        let mut slices = slices.to_vec();
        for action in actions {
            match action {
                Action::Create(create) => {
                    let mut made: EndpointSlice = object(create.object.clone());
                    made.metadata.name = Some(format!("web-{}", slices.len()));
                    slices.push(Arc::new(made));
                }
                Action::Patch(patch) => {
                    let of = |slice: &&mut Arc<EndpointSlice>| {
                        slice.metadata.name.as_ref() == Some(&patch.target.name)
                    };
                    let slice = slices.iter_mut().find(of).expect("patched slices exist");
                    let mut changed = (**slice).clone();
                    if let Some(endpoints) = patch.body.get("endpoints") {
                        changed.endpoints = object_holder(json!({"e": endpoints})).e;
                    }
                    *slice = Arc::new(changed);
                }
                Action::Delete(delete) => {
                    slices.retain(|slice| slice.metadata.name.as_ref() != Some(&delete.target.name))
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        slices
    }

    #[derive(serde::Deserialize)]
    struct Holder {
        e: Option<Vec<Endpoint>>,
    }

    fn object_holder(value: Value) -> Holder {
        object(value)
    }

    #[test]
    fn conditions_follow_readiness_and_deletion() {
        let cases = [
            (true, false, false, (true, true, false)),
            (false, false, false, (false, false, false)),
            (true, true, false, (false, true, true)),
            (false, false, true, (true, false, false)),
            (true, true, true, (true, true, true)),
        ];
        for (ready, deleting, publish, (want_ready, want_serving, want_terminating)) in cases {
            let service = service(json!({"publishNotReadyAddresses": publish}));
            let actions = run(&service, &[pod("a", "10.1.0.1", ready, deleting)], &[]);
            let Action::Create(create) = &actions[0] else { panic!("{actions:?}") };
            let expected =
                json!({"ready": want_ready, "serving": want_serving, "terminating": want_terminating});
            assert_eq!(create.object["endpoints"][0]["conditions"], expected);
            assert_eq!(create.object["ports"][0]["port"], 8080);
            assert_eq!(create.object["metadata"]["labels"][SERVICE], "web");
        }
    }

    #[test]
    fn an_empty_service_has_one_empty_slice_and_rests() {
        let service = service(json!({}));
        let slices = apply(&[], &run(&service, &[], &[]));
        assert_eq!(slices.len(), 1);
        assert!(run(&service, &[], &slices).is_empty());
        let filled = apply(&slices, &run(&service, &[pod("a", "10.1.0.1", true, false)], &slices));
        assert_eq!(filled.len(), 1);
    }

    #[test]
    fn one_changed_pod_changes_one_slice() {
        let service = service(json!({}));
        let mut pods: Vec<_> = (0..250)
            .map(|n| pod(&format!("p{n:03}"), &format!("10.1.{}.{}", n / 200, n % 200), true, false))
            .collect();
        let slices = apply(&[], &run(&service, &pods, &[]));
        let sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, [100, 100, 50]);
        assert!(run(&service, &pods, &slices).is_empty());

        pods[120] = pod("p120", "10.1.0.120", false, false);
        let actions = run(&service, &pods, &slices);
        assert_eq!(actions.len(), 1, "{:?}", actions.iter().map(summary).collect::<Vec<_>>());
        pods.truncate(10);
        let slices = apply(&slices, &actions);
        let slices = apply(&slices, &run(&service, &pods, &slices));
        // Endpoints never move between slices: somebody watching could miss them for a moment.
        let left: usize = slices.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).sum();
        assert!(left == 10 && slices.len() < 3);
        assert!(run(&service, &pods, &slices).is_empty());
    }

    #[test]
    fn services_without_selector_are_left_alone() {
        let service: Service = object(json!({"metadata": {"name": "web"}, "spec": {"ports": []}}));
        assert!(run(&service, &[], &[]).is_empty());
    }
}
