//! The endpoints of one Service, gathered from its EndpointSlices.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// The label of an EndpointSlice that names its Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A transport protocol of Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// Reads the API's name; nothing means TCP.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number in IP headers.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.number() == number)
    }
}

/// An address and port that traffic is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The pod's (or other server's) address.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
}

/// What a rule must know of the node it is for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The node's name, as endpoints call it.
    pub name: String,
    /// The zone of the node's topology label, if it has one.
    pub zone: Option<String>,
}

/// The targets of one port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// For traffic that may go anywhere.
    pub anywhere: BTreeSet<Target>,
    /// For traffic that must stay on this node.
    pub on_node: BTreeSet<Target>,
}

/// The slices' service, if it is named.
pub fn service_of(slice: &EndpointSlice) -> Option<&str> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).map(String::as_str)
}

/// The name of the index of EndpointSlices by Service; see [`service_index`].
pub const BY_SERVICE: &str = "service-name";

/// Under which value an index finds a slice: that of its Service.
pub fn service_index(slice: &EndpointSlice) -> Vec<String> {
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    service_of(slice).map(|name| service_index_value(namespace, name)).into_iter().collect()
}

/// The value of [`service_index`] for a Service.
pub fn service_index_value(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

/// The targets of the Service port called `port` (an unnamed port has the empty name).
///
/// Ready endpoints count; where none is ready, those that still serve while
/// they terminate do (kube-proxy: pkg/proxy/topology.go, v1.37).
pub fn targets<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port: &str,
    protocol: Protocol,
    ipv4: bool,
    node: &NodeFacts,
) -> Targets {
    let mut candidates = Vec::new();
    for slice in slices {
        let Some(number) = port_number(slice, port, protocol) else { continue };
        let endpoints = slice.endpoints.iter().flatten();
        candidates.extend(endpoints.filter_map(|endpoint| candidate(endpoint, number, ipv4)));
    }
    let near = nearby(&candidates, node);
    let ready = choose(&candidates, |candidate| candidate.ready && near(candidate));
    let on_node =
        |candidate: &Candidate<'_>| candidate.endpoint.node_name.as_deref() == Some(node.name.as_str());
    let ready_here = choose(&candidates, |candidate| candidate.ready && on_node(candidate));
    let still_serving = |candidate: &Candidate<'_>| candidate.serving_to_the_end;
    Targets {
        anywhere: if ready.is_empty() { choose(&candidates, still_serving) } else { ready },
        on_node: if ready_here.is_empty() {
            choose(&candidates, |candidate| still_serving(candidate) && on_node(candidate))
        } else {
            ready_here
        },
    }
}

/// How many addresses of ready endpoints are on a node.
pub fn ready_on_node<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>, node: &str) -> usize {
    let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let here = endpoints.filter(|endpoint| is_ready(endpoint) && endpoint.node_name.as_deref() == Some(node));
    here.filter_map(|endpoint| endpoint.addresses.first()).collect::<BTreeSet<_>>().len()
}

struct Candidate<'a> {
    endpoint: &'a Endpoint,
    target: Target,
    ready: bool,
    serving_to_the_end: bool,
}

fn candidate(endpoint: &Endpoint, port: u16, ipv4: bool) -> Option<Candidate<'_>> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let conditions = endpoint.conditions.as_ref();
    let ready = is_ready(endpoint);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let target = Target { address, port };
    let candidate = Candidate { endpoint, target, ready, serving_to_the_end: serving && terminating };
    (address.is_ipv4() == ipv4).then_some(candidate)
}

/// Whether an endpoint takes new traffic. Unknown counts as ready.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn choose(candidates: &[Candidate<'_>], keep: impl Fn(&Candidate<'_>) -> bool) -> BTreeSet<Target> {
    candidates.iter().filter(|candidate| keep(candidate)).map(|candidate| candidate.target).collect()
}

fn port_number(slice: &EndpointSlice, name: &str, protocol: Protocol) -> Option<u16> {
    let ports = slice.ports.iter().flatten();
    let mut matching = ports.filter(|port| {
        port.name.as_deref().unwrap_or_default() == name
            && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
    });
    matching.next().and_then(|port| u16::try_from(port.port?).ok()).filter(|port| *port != 0)
}

/// Which ready endpoints the hints of the EndpointSlices leave for this node.
///
/// Hints hold only when every ready endpoint has them and at least one means
/// this node; those for nodes go before those for zones.
fn nearby<'a>(
    candidates: &[Candidate<'_>],
    node: &'a NodeFacts,
) -> impl Fn(&Candidate<'_>) -> bool + use<'a> {
    let ready = || candidates.iter().filter(|candidate| candidate.ready);
    let usable = |hints: &dyn Fn(&Endpoint) -> Hint| {
        ready().all(|candidate| hints(candidate.endpoint) != Hint::Missing)
            && ready().any(|candidate| hints(candidate.endpoint) == Hint::Here)
    };
    let by_node = usable(&|endpoint| node_hint(endpoint, node));
    let by_zone = !by_node && usable(&|endpoint| zone_hint(endpoint, node));
    move |candidate| match (by_node, by_zone) {
        (true, _) => node_hint(candidate.endpoint, node) == Hint::Here,
        (false, true) => zone_hint(candidate.endpoint, node) == Hint::Here,
        (false, false) => true,
    }
}

#[derive(PartialEq)]
enum Hint {
    Missing,
    Here,
    Elsewhere,
}

fn node_hint(endpoint: &Endpoint, node: &NodeFacts) -> Hint {
    let nodes = endpoint.hints.as_ref().and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    hint(nodes.iter().map(|hint| hint.name.as_str()), Some(&node.name))
}

fn zone_hint(endpoint: &Endpoint, node: &NodeFacts) -> Hint {
    let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    hint(zones.iter().map(|hint| hint.name.as_str()), node.zone.as_deref())
}

fn hint<'a>(named: impl Iterator<Item = &'a str>, own: Option<&str>) -> Hint {
    let mut named = named.peekable();
    if named.peek().is_none() {
        return Hint::Missing;
    }
    if named.any(|name| Some(name) == own) { Hint::Here } else { Hint::Elsewhere }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(json!({
            "addressType": "IPv4",
            "metadata": {"name": "s-1"},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }))
        .unwrap()
    }

    /// Name, fragments of each endpoint, targets anywhere, targets on this node.
    type Case<'a> = (&'a str, Vec<Vec<&'a serde_json::Value>>, Vec<u8>, Vec<u8>);

    fn last_bytes(targets: &BTreeSet<Target>) -> Vec<u8> {
        let last = |target: &Target| match target.address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        targets.iter().map(last).collect()
    }

    #[test]
    fn which_endpoints_get_traffic() {
        let here = json!({"nodeName": "n1"});
        let there = json!({"nodeName": "n2"});
        let ready = json!({"conditions": {"ready": true}});
        let unready = json!({"conditions": {"ready": false, "serving": false, "terminating": false}});
        let draining = json!({"conditions": {"ready": false, "serving": true, "terminating": true}});
        let gone = json!({"conditions": {"ready": false, "serving": false, "terminating": true}});
        let near = json!({"hints": {"forZones": [{"name": "z1"}]}});
        let far = json!({"hints": {"forZones": [{"name": "z2"}]}});
        let same = json!({"hints": {"forNodes": [{"name": "n1"}], "forZones": [{"name": "z1"}]}});
        let other = json!({"hints": {"forNodes": [{"name": "n2"}], "forZones": [{"name": "z1"}]}});
        let none = json!({});
        let cases: Vec<Case<'_>> = vec![
            ("unknown is ready", vec![vec![&none]], vec![1], vec![]),
            ("ready only", vec![vec![&ready, &here], vec![&unready, &here]], vec![1], vec![1]),
            ("draining spared while others are ready", vec![vec![&ready], vec![&draining]], vec![1], vec![]),
            ("draining when nothing is ready", vec![vec![&unready], vec![&draining]], vec![2], vec![]),
            ("gone never", vec![vec![&gone], vec![&unready]], vec![], vec![]),
            (
                "draining here, ready there",
                vec![vec![&draining, &here], vec![&ready, &there]],
                vec![2],
                vec![1],
            ),
            ("zone hints", vec![vec![&near], vec![&far]], vec![1], vec![]),
            ("zone hints incomplete", vec![vec![&near], vec![&none]], vec![1, 2], vec![]),
            ("zone hints elsewhere", vec![vec![&far], vec![&far]], vec![1, 2], vec![]),
            ("node hints first", vec![vec![&same], vec![&other]], vec![1], vec![]),
            ("hints do not bind local traffic", vec![vec![&far, &here], vec![&near]], vec![2], vec![1]),
        ];
        let node = NodeFacts { name: "n1".to_owned(), zone: Some("z1".to_owned()) };
        for (name, endpoints, anywhere, on_node) in cases {
            let mut list = Vec::new();
            for (index, fragments) in endpoints.iter().enumerate() {
                let mut endpoint = json!({"addresses": [format!("10.0.0.{}", index + 1)]});
                for fragment in fragments {
                    endpoint.as_object_mut().unwrap().extend(fragment.as_object().unwrap().clone());
                }
                list.push(endpoint);
            }
            let found = targets([&slice(list.into())], "http", Protocol::Tcp, true, &node);
            assert_eq!(
                (last_bytes(&found.anywhere), last_bytes(&found.on_node)),
                (anywhere, on_node),
                "{name}"
            );
        }
    }

    #[test]
    fn addresses_of_ready_endpoints_count_once() {
        let slice = slice(json!([
            {"addresses": ["10.0.0.1"], "nodeName": "n1"},
            {"addresses": ["10.0.0.2"], "nodeName": "n1", "conditions": {"ready": false, "serving": true}},
            {"addresses": ["10.0.0.3"], "nodeName": "n2"},
            {"addresses": ["10.0.0.4"], "nodeName": "n1", "conditions": {"ready": true}},
        ]));
        assert_eq!(ready_on_node([&slice, &slice], "n1"), 2);
        assert_eq!(ready_on_node([&slice], "n3"), 0);
    }

    #[test]
    fn ports_match_by_name_and_protocol_and_families_by_address() {
        let slice =
            slice(json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}, {"addresses": ["x"]}]));
        let node = NodeFacts::default();
        let find = |port, protocol, ipv4| targets([&slice, &slice], port, protocol, ipv4, &node).anywhere;
        assert_eq!(last_bytes(&find("http", Protocol::Tcp, true)), [1], "doubled slices count once");
        assert_eq!(last_bytes(&find("http", Protocol::Tcp, false)), [1]);
        assert!(find("http", Protocol::Udp, true).is_empty());
        assert!(find("", Protocol::Tcp, true).is_empty());
    }
}
