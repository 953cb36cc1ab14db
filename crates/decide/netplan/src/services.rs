//! What each Service wants of the packet rules.
//!
//! A Service becomes [`Frontend`]s (where traffic arrives) with a [`Handling`]
//! each (what happens to it); those become [`rules::Elements`] of the kernel's
//! maps, and only the difference to what is there is sent.

pub mod leftovers;
pub mod plan;
pub mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::endpoints::{NodeFacts, Protocol, Target, Targets, targets};

/// How long ClientIP affinity lasts unless the Service says otherwise, in seconds.
const DEFAULT_AFFINITY: u32 = 10_800;

/// The longest affinity the API admits, in seconds.
const LONGEST_AFFINITY: u32 = 86_400;

/// A Service that is somebody else's to serve carries this label.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

/// Whose traffic is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// Everybody's, unless there is a special rule for outsiders.
    Everyone,
    /// That of clients which are neither pods nor this node.
    Outside,
}

/// Where traffic for a Service arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frontend {
    /// The Service's address; `None` means every address of the node.
    pub address: Option<IpAddr>,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
    /// Whose traffic.
    pub audience: Audience,
}

/// What happens to a frontend's traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handling {
    /// Each connection goes to one of the targets.
    Balance {
        /// Never empty.
        targets: BTreeSet<Target>,
        /// Clients return to their target if they come again within so many seconds.
        affinity: Option<u32>,
        /// Targets see this node as the client.
        masquerade: bool,
        /// Where clients may come from, in ranges that do not overlap; none means from anywhere.
        sources: BTreeSet<IpNet>,
    },
    /// Connections are refused: there is no endpoint.
    Reject,
    /// Packets disappear: there are endpoints, but none that may be used here.
    Drop,
}

/// What the rules of all Services must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The node the rules are for.
    pub node: NodeFacts,
    /// Whether the rules are for IPv4 (or else IPv6).
    pub ipv4: bool,
    /// Service addresses that this node answers itself, such as the resolver's.
    pub own_addresses: BTreeSet<IpAddr>,
    /// The node's addresses, as the API tells them.
    pub node_addresses: Vec<IpAddr>,
}

/// All frontends of a Service with their handling; none if it needs no rules.
pub fn desired<'a>(
    service: &Service,
    slices: impl IntoIterator<Item = &'a EndpointSlice> + Clone,
    surroundings: &Surroundings,
) -> BTreeMap<Frontend, Handling> {
    let mut wanted = BTreeMap::new();
    let Some(spec) = service.spec.as_ref().filter(|spec| needs_rules(service, spec)) else { return wanted };
    for port in spec.ports.iter().flatten() {
        let (Some(protocol), Ok(number)) =
            (Protocol::parse(port.protocol.as_deref()), u16::try_from(port.port))
        else {
            continue;
        };
        let name = port.name.as_deref().unwrap_or_default();
        let targets = targets(slices.clone(), name, protocol, surroundings.ipv4, &surroundings.node);
        let policy = Policy { spec, targets: &targets };
        let mut add = |address, port, audience, handling| {
            wanted.insert(Frontend { address, protocol, port, audience }, handling);
        };
        for address in cluster_addresses(spec, surroundings) {
            add(Some(address), number, Audience::Everyone, policy.inside());
        }
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let external = spec.external_ips.as_deref().unwrap_or_default();
        let external = addresses(external, surroundings).map(|address| (Some(address), number));
        let everywhere = node_port.map(|port| (None, port)).into_iter().chain(external);
        let balancer = balancer(service, spec, surroundings);
        let balanced = balancer.addresses.iter().map(|address| (Some(*address), number));
        let open = BTreeSet::new();
        let everywhere = everywhere.map(|frontend| (frontend, &open));
        for ((address, port), sources) in everywhere.chain(balanced.map(|at| (at, &balancer.sources))) {
            add(address, port, Audience::Everyone, policy.outside_for_insiders().only_from(sources));
            if let Some(handling) = policy.outside_for_outsiders() {
                add(address, port, Audience::Outside, handling);
            }
        }
    }
    wanted
}

/// The port where load balancers ask whether this node has endpoints, if the Service wants it to be asked.
pub fn health_check_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref().filter(|spec| needs_rules(service, spec))?;
    let local = spec.external_traffic_policy.as_deref() == Some("Local");
    let asked = local && spec.type_.as_deref() == Some("LoadBalancer");
    spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| asked && *port != 0)
}

fn needs_rules(service: &Service, spec: &ServiceSpec) -> bool {
    let foreign = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    !foreign && spec.type_.as_deref() != Some("ExternalName") && !address.is_empty() && address != "None"
}

fn cluster_addresses<'a>(
    spec: &'a ServiceSpec,
    surroundings: &'a Surroundings,
) -> impl Iterator<Item = IpAddr> + 'a {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let first = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
    addresses(first, surroundings)
}

fn addresses<'a>(texts: &'a [String], surroundings: &'a Surroundings) -> impl Iterator<Item = IpAddr> + 'a {
    let parsed = texts.iter().filter_map(|text| text.parse::<IpAddr>().ok());
    parsed.filter(|address| {
        address.is_ipv4() == surroundings.ipv4
            && !address.is_unspecified()
            && !surroundings.own_addresses.contains(address)
    })
}

/// What a load balancer lets through unchanged.
#[derive(Default)]
struct Balancer {
    addresses: Vec<IpAddr>,
    /// Whom it admits; none means everybody.
    sources: BTreeSet<IpNet>,
}

/// Addresses of the load balancer whose packets arrive unchanged, and who may send them. Ranges of the
/// other family bind nobody here, as with kube-proxy.
fn balancer(service: &Service, spec: &ServiceSpec, surroundings: &Surroundings) -> Balancer {
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return Balancer::default();
    }
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    let direct = ingress.iter().filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    let direct: Vec<_> = direct.filter_map(|ingress| ingress.ip.clone()).collect();
    let addresses: Vec<_> = addresses(&direct, surroundings).collect();
    let ranges = spec.load_balancer_source_ranges.iter().flatten();
    let mut ranges: Vec<IpNet> = ranges
        .filter_map(|range| range.trim().parse().ok())
        .filter(|range: &IpNet| range.addr().is_ipv4() == surroundings.ipv4)
        .collect();
    // What this node sends to such an address loops back with the address as its source.
    let from_node = |range: &IpNet| surroundings.node_addresses.iter().any(|node| range.contains(node));
    if ranges.iter().any(from_node) {
        ranges.extend(addresses.iter().map(|address| IpNet::from(*address)));
    }
    let sources: BTreeSet<_> = IpNet::aggregate(&ranges).into_iter().collect();
    let everybody = sources.iter().any(|range| range.prefix_len() == 0);
    Balancer { addresses, sources: if everybody { BTreeSet::new() } else { sources } }
}

impl Handling {
    fn only_from(mut self, admitted: &BTreeSet<IpNet>) -> Self {
        if let Self::Balance { sources, .. } = &mut self {
            sources.clone_from(admitted);
        }
        self
    }
}

struct Policy<'a> {
    spec: &'a ServiceSpec,
    targets: &'a Targets,
}

impl Policy<'_> {
    /// Traffic to the cluster address.
    fn inside(&self) -> Handling {
        if self.spec.internal_traffic_policy.as_deref() == Some("Local") {
            self.balance(&self.targets.on_node, false)
        } else {
            self.balance(&self.targets.anywhere, false)
        }
    }

    /// Traffic from pods and the node itself to an external address: it counts as internal, except
    /// that under the policy Cluster everybody is treated the same.
    fn outside_for_insiders(&self) -> Handling {
        self.balance(&self.targets.anywhere, !self.stays_on_node())
    }

    /// Traffic from elsewhere to an external address, where it differs from that of insiders.
    fn outside_for_outsiders(&self) -> Option<Handling> {
        let differs =
            self.stays_on_node() && !(self.targets.anywhere.is_empty() && self.targets.on_node.is_empty());
        differs.then(|| self.balance(&self.targets.on_node, false))
    }

    fn stays_on_node(&self) -> bool {
        self.spec.external_traffic_policy.as_deref() == Some("Local")
    }

    fn balance(&self, targets: &BTreeSet<Target>, masquerade: bool) -> Handling {
        if !targets.is_empty() {
            Handling::Balance {
                targets: targets.clone(),
                affinity: affinity(self.spec),
                masquerade,
                sources: BTreeSet::new(),
            }
        } else if self.targets.anywhere.is_empty() {
            Handling::Reject
        } else {
            Handling::Drop
        }
    }
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let configured = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = configured.and_then(|client_ip| client_ip.timeout_seconds);
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(DEFAULT_AFFINITY);
    Some(seconds.clamp(1, LONGEST_AFFINITY))
}

#[cfg(test)]
mod tests;
