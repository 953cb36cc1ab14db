//! What NetworkPolicies allow the pods of one node.
//!
//! Policies, pods and namespaces of the whole cluster enter as a [`Picture`]; who is isolated, and what
//! each of them may receive or send all the same, leaves as [`Wanted`]. Pods that the same policies
//! select share one [`Group`]; [`plan`] numbers the groups and tells the least difference to the
//! kernel's rules.
//!
//! A pod is isolated in a direction when any policy of that direction selects it; what any of them
//! allows is allowed. Ports with names are those of the pod that receives.

mod blocks;
mod picture;
pub mod plan;
mod ports;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use plimsoll_meta::selector::Labels;

use crate::endpoints::Protocol;
use blocks::{Block, disjoint};

pub use blocks::AddressRange;
pub use picture::{Key, Picture, PodFacts};
pub use ports::{PortRange, Ports};

/// Which way, seen from the pod that is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// What it receives.
    Ingress,
    /// What it sends.
    Egress,
}

/// Pods of the node for which the same is allowed, whatever that is at the moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Which way.
    pub direction: Direction,
    /// The policies that select the pods.
    policies: Vec<Key>,
    /// What ports with names mean to the pods: those of its own, if it is the one that receives.
    named: Vec<(String, PortRange)>,
}

/// What a group's pods may receive or send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Whoever the other side is.
    pub anyone: Ports,
    /// With these pods.
    pub peers: BTreeMap<IpAddr, Ports>,
    /// With these addresses, in order and without overlap.
    pub blocks: Vec<(AddressRange, Ports)>,
}

/// What is to hold on the node, for one family of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The isolated pods' addresses. Who is not here sends or receives what it likes.
    pub isolated: BTreeMap<(Direction, IpAddr), Group>,
    /// What is allowed all the same.
    pub groups: BTreeMap<Group, Allowed>,
}

/// The resolver of each node answers as if it were a pod, so that the policies which users have for
/// CoreDNS hold for it: in `kube-system`, with the label `k8s-app: kube-dns`.
pub fn resolver(addresses: impl IntoIterator<Item = IpAddr>) -> (Key, PodFacts) {
    let port =
        |name: &str, protocol, number| (name.to_owned(), PortRange { protocol, first: number, last: number });
    let facts = PodFacts {
        labels: BTreeMap::from([("k8s-app".to_owned(), "kube-dns".to_owned())]),
        addresses: addresses.into_iter().collect(),
        ports: [
            port("dns", Protocol::Udp, 53),
            port("dns-tcp", Protocol::Tcp, 53),
            port("metrics", Protocol::Tcp, 9153),
        ]
        .into(),
        here: false,
    };
    // No pod has this name.
    (("kube-system".to_owned(), "kube-dns on every node".to_owned()), facts)
}

/// What policies want of the node's rules for IPv4, or else IPv6.
pub fn desired(picture: &Picture, ipv4: bool) -> Wanted {
    let mut wanted = Wanted::default();
    for (namespace, pod) in picture.pods().filter(|(_, pod)| pod.here) {
        let addresses = || pod.addresses.iter().filter(|address| address.is_ipv4() == ipv4);
        if addresses().next().is_none() {
            continue;
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            let Some(group) = group(picture, namespace, pod, direction) else { continue };
            if !wanted.groups.contains_key(&group) {
                wanted.groups.insert(group.clone(), allowed(picture, &group, ipv4));
            }
            wanted.isolated.extend(addresses().map(|address| ((direction, *address), group.clone())));
        }
    }
    wanted
}

fn group(picture: &Picture, namespace: &str, pod: &PodFacts, direction: Direction) -> Option<Group> {
    let selects = |(_, policy): &(&Key, &NetworkPolicy)| {
        policy
            .spec
            .as_ref()
            .is_some_and(|spec| isolates(spec, direction) && matches(spec.pod_selector.as_ref(), &pod.labels))
    };
    let policies: Vec<_> =
        picture.policies_in(namespace).filter(selects).map(|(key, _)| key.clone()).collect();
    if policies.is_empty() {
        return None;
    }
    let named = match direction {
        Direction::Ingress => pod.ports.iter().cloned().collect(),
        Direction::Egress => Vec::new(),
    };
    let mut group = Group { direction, policies, named };
    let names: Vec<_> = group.names(picture);
    group.named.retain(|(name, _)| names.contains(name));
    Some(group)
}

/// Whether a policy is about this direction. The API fills the types in; this is the same rule for those
/// it has from before.
fn isolates(spec: &NetworkPolicySpec, direction: Direction) -> bool {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    match direction {
        Direction::Ingress => types.is_empty() || types.iter().any(|name| name == "Ingress"),
        Direction::Egress if types.is_empty() => spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        Direction::Egress => types.iter().any(|name| name == "Egress"),
    }
}

fn matches(selector: Option<&LabelSelector>, labels: &BTreeMap<String, String>) -> bool {
    selector.is_none_or(|selector| Labels::from(selector).matches_map(Some(labels)))
}

/// One rule of a policy: these ports with these peers, or anyone.
struct Rule<'a> {
    namespace: &'a str,
    ports: &'a [NetworkPolicyPort],
    peers: &'a [NetworkPolicyPeer],
}

impl Group {
    fn rules<'a>(&'a self, picture: &'a Picture) -> Vec<Rule<'a>> {
        let mut rules = Vec::new();
        for key in &self.policies {
            let Some(spec) = picture.policy(key).and_then(|policy| policy.spec.as_ref()) else { continue };
            let namespace = key.0.as_str();
            let mut add = |ports: &'a Option<Vec<_>>, peers: &'a Option<Vec<_>>| {
                rules.push(Rule {
                    namespace,
                    ports: ports.as_deref().unwrap_or_default(),
                    peers: peers.as_deref().unwrap_or_default(),
                });
            };
            match self.direction {
                Direction::Ingress => {
                    spec.ingress.iter().flatten().for_each(|rule| add(&rule.ports, &rule.from));
                }
                Direction::Egress => spec.egress.iter().flatten().for_each(|rule| add(&rule.ports, &rule.to)),
            }
        }
        rules
    }

    fn names(&self, picture: &Picture) -> Vec<String> {
        let rules = self.rules(picture);
        rules.iter().flat_map(|rule| rule.named()).map(|(name, _)| name.to_owned()).collect()
    }
}

fn allowed(picture: &Picture, group: &Group, ipv4: bool) -> Allowed {
    let (mut allowed, mut blocks) = (Allowed::default(), Vec::new());
    // The pod that receives an isolated pod's packets is another; that of packets to it is itself.
    let itself = PodFacts { ports: group.named.iter().cloned().collect(), ..PodFacts::default() };
    for rule in group.rules(picture) {
        let (numbered, named) = match group.direction {
            Direction::Ingress => (rule.ports_of(&itself), false),
            Direction::Egress => (rule.numbered(), rule.named().next().is_some()),
        };
        // Pods, and the block that their addresses have to be in.
        let mut peers: Vec<(&PodFacts, Option<Block>)> = Vec::new();
        if rule.peers.is_empty() {
            allowed.anyone.extend(&numbered);
            if named {
                peers.extend(picture.pods().map(|(_, pod)| (pod, None)));
            }
        }
        for peer in rule.peers {
            let Some(block) = &peer.ip_block else {
                peers.extend(selected(picture, rule.namespace, peer).map(|pod| (pod, None)));
                continue;
            };
            let Some(block) = read_block(block, &numbered) else { continue };
            if named {
                peers.extend(picture.pods().map(|(_, pod)| (pod, Some(block.clone()))));
            }
            blocks.push(block);
        }
        for (pod, block) in peers {
            let ports = if named { rule.ports_of(pod) } else { numbered.clone() };
            let meant = |address: &&IpAddr| {
                address.is_ipv4() == ipv4 && block.as_ref().is_none_or(|block| block.contains(**address))
            };
            for address in pod.addresses.iter().filter(meant) {
                allowed.peers.entry(*address).or_default().extend(&ports);
            }
        }
    }
    allowed.peers.retain(|_, ports| !ports.is_none());
    blocks.retain(|block| block.range.addr().is_ipv4() == ipv4);
    allowed.blocks = disjoint(&blocks);
    allowed
}

impl Rule<'_> {
    /// What the ports that have numbers allow.
    fn numbered(&self) -> Ports {
        if self.ports.is_empty() {
            return Ports::All;
        }
        let mut ports = Ports::default();
        self.ports.iter().filter_map(port_range).for_each(|range| ports.add(range));
        ports
    }

    /// The ports that have names, with their protocols.
    fn named(&self) -> impl Iterator<Item = (&str, Protocol)> {
        self.ports.iter().filter_map(|port| match &port.port {
            Some(IntOrString::String(name)) => {
                Some((name.as_str(), Protocol::parse(port.protocol.as_deref())?))
            }
            _ => None,
        })
    }

    /// What all ports allow when this pod is the one that receives.
    fn ports_of(&self, pod: &PodFacts) -> Ports {
        let mut ports = self.numbered();
        for (name, protocol) in self.named() {
            pod.named(name, protocol).for_each(|range| ports.add(range));
        }
        ports
    }
}

fn port_range(port: &NetworkPolicyPort) -> Option<PortRange> {
    let protocol = Protocol::parse(port.protocol.as_deref())?;
    let (first, last) = match &port.port {
        None => (0, u16::MAX),
        Some(IntOrString::Int(first)) => {
            (u16::try_from(*first).ok()?, u16::try_from(port.end_port.unwrap_or(*first)).ok()?)
        }
        Some(IntOrString::String(_)) => return None,
    };
    Some(PortRange { protocol, first, last })
}

fn read_block(block: &IPBlock, ports: &Ports) -> Option<Block> {
    let range: IpNet = block.cidr.parse().ok()?;
    let except = block.except.iter().flatten().filter_map(|text| text.parse().ok()).collect();
    Some(Block { range: range.trunc(), except, ports: ports.clone() })
}

/// The pods that a peer's selectors mean; none for a peer that has neither.
fn selected<'a>(
    picture: &'a Picture,
    namespace: &'a str,
    peer: &'a NetworkPolicyPeer,
) -> Box<dyn Iterator<Item = &'a PodFacts> + 'a> {
    let pods: Box<dyn Iterator<Item = _>> = match (&peer.namespace_selector, &peer.pod_selector) {
        (Some(namespaces), _) => {
            Box::new(picture.pods_of(&Labels::from(namespaces)).collect::<Vec<_>>().into_iter())
        }
        (None, Some(_)) => Box::new(picture.pods_in(namespace)),
        (None, None) => Box::new(std::iter::empty()),
    };
    let labels = peer.pod_selector.as_ref().map(Labels::from);
    Box::new(
        pods.filter(move |pod| labels.as_ref().is_none_or(|labels| labels.matches_map(Some(&pod.labels)))),
    )
}

#[cfg(test)]
mod tests;
