//! EndpointSlices for Endpoints that users keep themselves, for Services without a selector
//! (kube-controller-manager: pkg/controller/endpointslicemirroring, v1.37).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{self as discovery, Endpoint, EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::action::{self, Action, Severity};
use crate::endpoint_slices::{MANAGED_BY, SERVICE};
use crate::owner::controller_ref;
use crate::trigger_time;

/// Who looks after mirrored slices.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// The label of Endpoints that are not mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// The annotation of Endpoints that hold an election and no endpoints.
const ELECTION: &str = "control-plane.alpha.kubernetes.io/leader";
/// What kubectl writes down for itself.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Most addresses of a subset that are mirrored: each subset has one slice of a family.
const CAPACITY: usize = 1000;

/// What is known when deciding.
pub struct Observed<'a> {
    /// The Endpoints, if they are there.
    pub endpoints: Option<&'a Endpoints>,
    /// The Service of their name.
    pub service: Option<&'a Service>,
    /// The slices that mirror them.
    pub slices: &'a [Arc<EndpointSlice>],
}

/// What a slice is to hold.
struct Wanted {
    family: &'static str,
    ports: Vec<discovery::EndpointPort>,
    endpoints: Vec<Endpoint>,
}

/// Ports, as JSON, and the addresses that have them, each with whether it is ready.
type Repacked<'a> = (BTreeSet<String>, Vec<(&'a EndpointAddress, bool)>);

/// What to do.
pub fn decide(observed: &Observed<'_>) -> Vec<Action> {
    let gone = || observed.slices.iter().map(|slice| Action::delete(&**slice).into()).collect();
    let Some(endpoints) = observed.endpoints.filter(|endpoints| mirrored(endpoints)) else { return gone() };
    if !observed.service.is_some_and(keeps_own) {
        return gone();
    }
    let (wanted, mut actions) = wanted(endpoints);
    let mut slices: Vec<_> = observed.slices.to_vec();
    slices.sort_by(|one, two| one.metadata.name.cmp(&two.metadata.name));
    let (mut missing, mut changes) = (Vec::new(), Vec::new());
    for one in wanted {
        let same = |slice: &Arc<EndpointSlice>| {
            slice.address_type == one.family && slice.ports.as_deref().unwrap_or_default() == one.ports
        };
        match slices.iter().position(same) {
            Some(at) => changes.extend(update(endpoints, &slices.remove(at), &one)),
            None => missing.push(one),
        }
    }
    for one in missing {
        // A slice that nobody wants can become one that is missing.
        match slices.iter().position(|slice| slice.address_type == one.family) {
            Some(at) => changes.extend(update(endpoints, &slices.remove(at), &one)),
            None if endpoints.metadata.deletion_timestamp.is_none() => actions.push(create(endpoints, one)),
            None => {}
        }
    }
    actions.extend(changes);
    actions.extend(slices.iter().map(|slice| Action::delete(&**slice).into()));
    actions
}

/// Whether a Service's endpoints are its users' business.
fn keeps_own(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_none_or(BTreeMap::is_empty)
}

/// Whether Endpoints are mirrored at all.
fn mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta.labels.as_ref().and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    let election = meta.annotations.as_ref().is_some_and(|all| all.contains_key(ELECTION));
    !skipped && !election
}

/// The slices that Endpoints ask for, and what is to be told about addresses that are left out.
fn wanted(endpoints: &Endpoints) -> (Vec<Wanted>, Vec<Action>) {
    let (mut all, mut invalid, mut skipped) = (Vec::new(), 0, 0);
    for (ports, addresses) in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<_> = ports.iter().map(|text| port(text)).collect();
        let (mut v4, mut v6, mut added) = (Vec::new(), Vec::new(), 0);
        let count = addresses.len();
        for (address, ready) in addresses {
            if added == CAPACITY {
                break;
            }
            match address.ip.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => v4.push(endpoint(address, ready)),
                Ok(IpAddr::V6(_)) => v6.push(endpoint(address, ready)),
                Err(_) => {
                    invalid += 1;
                    continue;
                }
            }
            added += 1;
        }
        skipped += count - added;
        for (family, endpoints) in [("IPv4", v4), ("IPv6", v6)] {
            if !endpoints.is_empty() {
                all.push(Wanted { family, ports: ports.clone(), endpoints });
            }
        }
    }
    (all, complaints(endpoints, invalid, skipped))
}

fn complaints(endpoints: &Endpoints, invalid: usize, skipped: usize) -> Vec<Action> {
    let mut told = Vec::new();
    if invalid > 0 {
        let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        told.push(Action::event(endpoints, Severity::Warning, "InvalidIPAddress", message));
    }
    if skipped > invalid {
        let message = format!(
            "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
        );
        told.push(Action::event(endpoints, Severity::Warning, "TooManyAddressesToMirror", message));
    }
    told
}

/// Addresses that have the same ports together, ready ones first: users may write them in any way. An
/// address that is both ready and not ready at a port is not ready.
fn repack(subsets: &[EndpointSubset]) -> Vec<Repacked<'_>> {
    type Id = (String, String);
    let mut known = BTreeMap::<Id, &EndpointAddress>::new();
    let mut by_port = BTreeMap::<String, BTreeMap<Id, bool>>::new();
    for subset in subsets {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let waiting = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(waiting) {
            let pod = address.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
            let id = (address.ip.clone(), pod);
            known.entry(id.clone()).or_insert(address);
            let ports = subset.ports.as_deref().unwrap_or_default();
            let mut note = |port: String| {
                let state = by_port.entry(port).or_default().entry(id.clone()).or_insert(ready);
                *state &= ready;
            };
            ports.iter().for_each(|port| note(serde_json::to_string(port).expect("API types are JSON")));
            if ports.is_empty() {
                note(String::new());
            }
        }
    }
    let mut by_addresses = BTreeMap::<BTreeMap<Id, bool>, BTreeSet<String>>::new();
    for (port, addresses) in by_port {
        by_addresses.entry(addresses).or_default().insert(port);
    }
    let sorted = by_addresses.into_iter().map(|(addresses, ports)| {
        let mut list: Vec<_> = addresses.into_iter().map(|(id, ready)| (known[&id], ready)).collect();
        list.sort_by_key(|(_, ready)| !ready);
        (ports.into_iter().filter(|port| !port.is_empty()).collect(), list)
    });
    sorted.collect()
}

fn port(text: &str) -> discovery::EndpointPort {
    let port: EndpointPort = serde_json::from_str(text).expect("written by repack");
    discovery::EndpointPort {
        name: Some(port.name.unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.unwrap_or_else(|| "TCP".to_owned())),
        app_protocol: port.app_protocol,
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        ..Endpoint::default()
    }
}

fn labels(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), endpoints.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn annotations(endpoints: &Endpoints) -> BTreeMap<String, String> {
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(trigger_time::ANNOTATION);
    annotations.remove(APPLIED);
    annotations
}

fn create(endpoints: &Endpoints, one: Wanted) -> Action {
    let name = endpoints.metadata.name.as_deref().unwrap_or_default();
    let slice = EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels(endpoints)),
            annotations: Some(annotations(endpoints)).filter(|all| !all.is_empty()),
            owner_references: Some(vec![controller_ref(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: one.family.to_owned(),
        ports: Some(one.ports),
        endpoints: Some(one.endpoints),
    };
    Action::create(&slice).into()
}

fn update(endpoints: &Endpoints, slice: &EndpointSlice, one: &Wanted) -> Option<Action> {
    let mut body = json!({});
    if !same(slice.endpoints.as_deref().unwrap_or_default(), &one.endpoints) {
        body["endpoints"] = json!(one.endpoints);
    }
    if slice.ports.as_deref().unwrap_or_default() != one.ports {
        body["ports"] = json!(one.ports);
    }
    let present = |map: &Option<BTreeMap<String, String>>| json!(map.clone().unwrap_or_default());
    let meta = &slice.metadata;
    for (field, old, new) in [
        ("labels", present(&meta.labels), json!(labels(endpoints))),
        ("annotations", present(&meta.annotations), json!(annotations(endpoints))),
    ] {
        if let Some(change) = action::difference(&old, &new) {
            body["metadata"][field] = change;
        }
    }
    (body != Value::Object(serde_json::Map::new())).then(|| Action::patch(slice, body))
}

/// Whether two lists hold the same, in whatever order.
fn same(one: &[Endpoint], two: &[Endpoint]) -> bool {
    let sorted = |list: &[Endpoint]| {
        let mut list = list.to_vec();
        list.sort_by(|one, two| one.addresses.cmp(&two.addresses));
        list
    };
    sorted(one) == sorted(two)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    fn service(selector: Value) -> Service {
        object(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"selector": selector}}))
    }

    fn endpoints(meta: Value, subsets: Value) -> Endpoints {
        let mut object_meta = json!({"name": "web", "namespace": "ns", "uid": "e", "labels": {"a": "b"}});
        for (key, value) in meta.as_object().into_iter().flatten() {
            object_meta[key] = value.clone();
        }
        object(json!({"metadata": object_meta, "subsets": subsets}))
    }

    fn run(endpoints: &Endpoints, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) -> Vec<Action> {
        decide(&Observed { endpoints: Some(endpoints), service, slices })
    }

    fn made(actions: &[Action]) -> Vec<Arc<EndpointSlice>> {
        let creates = actions.iter().filter_map(|action| match action {
            Action::Create(create) => Some(create),
            _ => None,
        });
        let named = creates.enumerate().map(|(number, create)| {
            let mut slice: EndpointSlice = object(create.object.clone());
            slice.metadata.name = Some(format!("web-{number}"));
            Arc::new(slice)
        });
        named.collect()
    }

    fn lines(actions: &[Action]) -> Vec<String> {
        actions.iter().map(summary).collect()
    }

    #[test]
    fn own_endpoints_are_mirrored_by_family_and_ports() {
        let subsets = json!([
            {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
             "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "http", "port": 81, "protocol": "TCP"}]},
        ]);
        let own = endpoints(json!({"annotations": {"x": "y", APPLIED: "{}"}}), subsets.clone());
        let service = service(json!(null));
        let slices = made(&run(&own, Some(&service), &[]));
        let mut got: Vec<_> = slices
            .iter()
            .map(|slice| {
                let endpoints = slice.endpoints.iter().flatten();
                let ready = |one: &Endpoint| one.conditions.as_ref().and_then(|conditions| conditions.ready);
                let endpoints: Vec<_> =
                    endpoints.map(|one| format!("{} {:?}", one.addresses[0], ready(one))).collect();
                format!("{} {}", slice.address_type, endpoints.join(", "))
            })
            .collect();
        got.sort();
        let expected = [
            "IPv4 10.0.0.1 Some(true), 10.0.0.2 Some(false)",
            "IPv4 10.0.0.3 Some(true)",
            "IPv6 fd00::1 Some(true)",
        ];
        assert_eq!(got, expected);
        let meta = &slices[0].metadata;
        assert_eq!(json!(meta.labels), json!({"a": "b", SERVICE: "web", MANAGED_BY: MANAGER}));
        assert_eq!(json!(meta.annotations), json!({"x": "y"}));
        assert!(run(&own, Some(&service), &slices).is_empty(), "at rest");

        let relabelled = endpoints(json!({"labels": {"a": "c"}}), subsets);
        assert_eq!(run(&relabelled, Some(&service), &slices).len(), 3);
    }

    #[test]
    fn subsets_that_overlap_are_put_together() {
        let port = json!([{"name": "p", "port": 1, "protocol": "TCP"}]);
        let own = endpoints(
            json!({}),
            json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": port},
                {"addresses": [{"ip": "10.0.0.2"}], "notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": port}]),
        );
        let slices = made(&run(&own, Some(&service(json!(null))), &[]));
        let endpoints: Vec<_> =
            slices[0].endpoints.iter().flatten().map(|one| one.addresses[0].clone()).collect();
        assert_eq!((slices.len(), endpoints), (1, vec!["10.0.0.2".to_owned(), "10.0.0.1".to_owned()]));
    }

    #[test]
    fn slices_go_when_nothing_is_to_be_mirrored() {
        let subsets = json!([{"addresses": [{"ip": "10.0.0.1"}]}]);
        let own = endpoints(json!({}), subsets.clone());
        let free = service(json!(null));
        let slices = made(&run(&own, Some(&free), &[]));
        let selecting = service(json!({"a": "b"}));
        let cases = [
            (endpoints(json!({"labels": {SKIP: "true"}}), subsets.clone()), Some(&free)),
            (endpoints(json!({"annotations": {ELECTION: "{}"}}), subsets.clone()), Some(&free)),
            (endpoints(json!({}), json!([])), Some(&free)),
            (own.clone(), Some(&selecting)),
            (own, None),
        ];
        for (number, (endpoints, service)) in cases.iter().enumerate() {
            assert_eq!(
                lines(&run(endpoints, *service, &slices)),
                ["delete EndpointSlice web-0"],
                "case {number}"
            );
        }
    }

    #[test]
    fn a_slice_of_other_ports_is_used_again() {
        let subset = |port: i32| json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": port, "protocol": "TCP"}]}]);
        let free = service(json!(null));
        let slices = made(&run(&endpoints(json!({}), subset(1)), Some(&free), &[]));
        let got = lines(&run(&endpoints(json!({}), subset(2)), Some(&free), &slices));
        assert_eq!(got, [r#"patch EndpointSlice web-0 {"ports":[{"name":"","port":2,"protocol":"TCP"}]}"#]);
    }

    #[test]
    fn what_is_left_out_is_told() {
        let addresses: Vec<_> =
            (0..1001).map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)})).collect();
        let many = endpoints(json!({}), json!([{"addresses": addresses}]));
        let free = service(json!(null));
        assert_eq!(
            lines(&run(&many, Some(&free), &[]))[0],
            "event TooManyAddressesToMirror A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 1 addresses were skipped"
        );
        let wrong = endpoints(json!({}), json!([{"addresses": [{"ip": "no"}, {"ip": "10.0.0.1"}]}]));
        assert_eq!(
            lines(&run(&wrong, Some(&free), &[]))[0],
            "event InvalidIPAddress Skipped 1 invalid IP addresses when mirroring to EndpointSlices"
        );
    }
}
