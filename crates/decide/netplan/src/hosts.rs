//! How the pods of other nodes are reached.
//!
//! Nodes on a common link are each other's next hop; packets to all others go through one VXLAN device,
//! which wraps them for the node whose range they are for. Nobody has to be asked who is where: a tunnel's
//! end has a hardware address that follows from its node's address, and the network address of its range
//! is its address inside the tunnel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// The number of the network in the tunnel.
pub const NETWORK: u32 = 1;

/// The UDP port of tunnels, as assigned by IANA.
pub const PORT: u16 = 4789;

/// What links have where nothing is known.
const USUAL_MTU: u32 = 1500;

/// What wrapping takes of a packet: the inner Ethernet header, VXLAN, UDP, and IP.
const fn overhead(outer: IpAddr) -> u32 {
    let ip = if outer.is_ipv4() { 20 } else { 40 };
    14 + 8 + 8 + ip
}

/// A node, as others see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The ranges of its pods' addresses.
    pub ranges: Vec<IpNet>,
    /// Its own addresses in the cluster, the preferred one first.
    pub addresses: Vec<IpAddr>,
}

impl Host {
    /// What a Node object says; what it says wrongly is left out.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let listed = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
        let only = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let texts =
            if listed.is_empty() { only.into_iter().collect() } else { listed.iter().collect::<Vec<_>>() };
        let addresses =
            node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            ranges: texts
                .into_iter()
                .filter_map(|text| text.parse().ok())
                .map(|range: IpNet| range.trunc())
                .collect(),
            addresses: internal.filter_map(|address| address.address.parse().ok()).collect(),
        }
    }
}

/// An address of this machine, and the link that it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnLink {
    /// The address; its prefix length says who else is on the link.
    pub address: IpNet,
    /// The link.
    pub device: u32,
    /// The largest packet that the link takes, in bytes.
    pub mtu: u32,
}

/// How the other nodes' pods are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// A route to each range.
    pub routes: BTreeSet<Route>,
    /// The tunnel, if somebody is not on a link of this machine.
    pub tunnel: Option<Tunnel>,
    /// The largest packet that reaches all pods, in bytes; nothing while there are no other nodes.
    pub mtu: Option<u32>,
    /// Whose pods cannot be reached, and why.
    pub lost: BTreeMap<String, Loss>,
}

/// A way to the pods of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Their range.
    pub destination: IpNet,
    /// The next hop.
    pub gateway: IpAddr,
    /// The link that it is on; nothing means the tunnel.
    pub device: Option<u32>,
    /// The address that this node itself sends from.
    pub source: Option<IpAddr>,
}

/// The VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The address that wrapped packets come from.
    pub local: IpAddr,
    /// The device's hardware address.
    pub hardware: [u8; 6],
    /// Its addresses, one of each range of this node.
    pub addresses: BTreeSet<IpAddr>,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Its other ends.
    pub peers: BTreeSet<Peer>,
}

/// Another end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Where wrapped packets are sent.
    pub remote: IpAddr,
    /// The hardware address of its device.
    pub hardware: [u8; 6],
    /// Its addresses inside the tunnel.
    pub inside: BTreeSet<IpAddr>,
}

/// Why pods of a node cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The range is not the cluster's.
    #[error("its range {0} is outside of the cluster's")]
    Foreign(IpNet),
    /// Another node has some of the same addresses.
    #[error("its range {0} overlaps with {1} of another node")]
    Overlap(IpNet, IpNet),
    /// No address leads there.
    #[error("it has no address that this node can send to")]
    NoAddress,
}

/// Decides how this node reaches the pods of others.
///
/// `cluster` are the addresses of all pods. Where ranges overlap, this node and then the first name has
/// its way. A node whose addresses are pods' addresses is not on the network: it is only known to itself.
pub fn plan(own: &Host, others: &[Host], links: &[OnLink], cluster: &[IpNet]) -> Plan {
    let mut plan = Plan::default();
    let mut taken = own.ranges.clone();
    let mut others: Vec<_> = others.iter().filter(|other| other.name != own.name).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    let local = reachable(own, cluster).next();
    for other in others {
        for range in &other.ranges {
            let way = check(*range, &taken, cluster).and_then(|()| {
                taken.push(*range);
                way(other, *range, local, links, cluster).ok_or(Loss::NoAddress)
            });
            match way {
                Err(loss) => drop(plan.lost.insert(other.name.clone(), loss)),
                Ok(way) => plan.add(own, *range, &way, links),
            }
        }
    }
    plan
}

enum Way {
    Link { gateway: IpAddr, link: OnLink },
    Tunnel { local: IpAddr, remote: IpAddr },
}

impl Plan {
    fn add(&mut self, own: &Host, range: IpNet, way: &Way, links: &[OnLink]) {
        let source = own.ranges.iter().find(|own| same_family(own.addr(), range.addr())).map(first);
        let (gateway, device, mtu) = match way {
            Way::Link { gateway, link } => (*gateway, Some(link.device), link.mtu),
            Way::Tunnel { local, remote } => {
                let tunnel = self.tunnel.get_or_insert_with(|| Tunnel::new(own, *local, links));
                tunnel.lead(*remote, range.network());
                (range.network(), None, tunnel.mtu)
            }
        };
        self.mtu = Some(self.mtu.map_or(mtu, |least| least.min(mtu)));
        self.routes.insert(Route { destination: range, gateway, device, source });
    }
}

impl Tunnel {
    fn new(own: &Host, local: IpAddr, links: &[OnLink]) -> Self {
        let link = links.iter().find(|link| link.address.addr() == local);
        Self {
            local,
            hardware: hardware(local),
            addresses: own.ranges.iter().map(IpNet::network).collect(),
            mtu: link.map_or(USUAL_MTU, |link| link.mtu).saturating_sub(overhead(local)),
            peers: BTreeSet::new(),
        }
    }

    fn lead(&mut self, remote: IpAddr, inside: IpAddr) {
        let known = self.peers.iter().find(|peer| peer.remote == remote).cloned();
        let mut peer =
            known.unwrap_or_else(|| Peer { remote, hardware: hardware(remote), inside: BTreeSet::new() });
        self.peers.remove(&peer);
        peer.inside.insert(inside);
        self.peers.insert(peer);
    }
}

fn check(range: IpNet, taken: &[IpNet], cluster: &[IpNet]) -> Result<(), Loss> {
    if !cluster.iter().any(|cluster| cluster.contains(&range)) {
        return Err(Loss::Foreign(range));
    }
    match taken.iter().find(|other| other.contains(&range) || range.contains(*other)) {
        Some(other) => Err(Loss::Overlap(range, *other)),
        None => Ok(()),
    }
}

fn way(
    other: &Host,
    range: IpNet,
    local: Option<IpAddr>,
    links: &[OnLink],
    cluster: &[IpNet],
) -> Option<Way> {
    let local = local?;
    let next_hops = reachable(other, cluster).filter(|address| same_family(*address, range.addr()));
    let on_link = next_hops.flat_map(|gateway| {
        let link =
            links.iter().find(|link| link.address.contains(&gateway) && link.address.addr() != gateway);
        link.map(|link| Way::Link { gateway, link: *link })
    });
    let tunnel = || {
        let remote = reachable(other, cluster).find(|address| same_family(*address, local))?;
        (remote != local).then_some(Way::Tunnel { local, remote })
    };
    on_link.into_iter().next().or_else(tunnel)
}

/// The node's addresses that are not its pods'.
fn reachable<'a>(host: &'a Host, cluster: &'a [IpNet]) -> impl Iterator<Item = IpAddr> + 'a {
    let of_a_pod = |address: &IpAddr| cluster.iter().any(|range| range.contains(address));
    host.addresses.iter().copied().filter(move |address| !of_a_pod(address) && !address.is_loopback())
}

fn same_family(a: IpAddr, b: IpAddr) -> bool {
    a.is_ipv4() == b.is_ipv4()
}

/// The node's own address in its range.
fn first(range: &IpNet) -> IpAddr {
    match range.network() {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) + 1).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) + 1).into(),
    }
}

/// The hardware address of the tunnel's end at a node, in the space that is free for local use.
fn hardware(node: IpAddr) -> [u8; 6] {
    match node {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0x02, 0x50, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [_, _, _, a, b, c, d, e] = crate::digest(&address.octets()).to_be_bytes();
            [0x06, a, b, c, d, e]
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn host(name: &str, ranges: &[&str], addresses: &[&str]) -> Host {
        Host {
            name: name.to_owned(),
            ranges: ranges.iter().map(|text| text.parse().unwrap()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    /// One line for each route, tunnel, peer and loss.
    fn describe(own: &Host, others: &[Host], cluster: &[&str]) -> Vec<String> {
        let link = |address: &str, device, mtu| OnLink { address: address.parse().unwrap(), device, mtu };
        let links = [
            link("192.0.2.1/24", 2, 1500),
            link("198.51.100.1/30", 3, 9000),
            link("2001:db8::1/64", 2, 1500),
        ];
        let cluster: Vec<IpNet> = cluster.iter().map(|text| text.parse().unwrap()).collect();
        let plan = plan(own, others, &links, &cluster);
        let way = |route: &Route| {
            let device = route.device.map_or("tunnel".to_owned(), |device| format!("device {device}"));
            let source = route.source.map_or(String::new(), |source| format!(" from {source}"));
            format!("{} via {} on {device}{source}", route.destination, route.gateway)
        };
        let mut lines: Vec<_> = plan.routes.iter().map(way).collect();
        if let Some(tunnel) = &plan.tunnel {
            lines.push(format!(
                "tunnel {} {:?} {:?} {}",
                tunnel.local, tunnel.hardware, tunnel.addresses, tunnel.mtu
            ));
            let peer = |peer: &Peer| format!("peer {} {:?} {:?}", peer.remote, peer.hardware, peer.inside);
            lines.extend(tunnel.peers.iter().map(peer));
        }
        lines.extend(plan.mtu.map(|mtu| format!("mtu {mtu}")));
        lines.extend(plan.lost.iter().map(|(name, loss)| format!("{name}: {loss}")));
        lines
    }

    const V4: &[&str] = &["10.42.0.0/16"];
    const BOTH: &[&str] = &["10.42.0.0/16", "fd42::/48"];

    /// What it shows, this node, the others, the cluster's ranges, the plan.
    type Case<'a> = (&'a str, Host, Vec<Host>, &'a [&'a str], Vec<&'a str>);

    #[test]
    fn ways_to_other_nodes() {
        let own = || host("a", &["10.42.0.0/24"], &["192.0.2.1"]);
        let cases: Vec<Case<'_>> = vec![
            ("alone", own(), vec![own()], V4, vec![]),
            (
                "on one link",
                own(),
                vec![own(), host("b", &["10.42.1.0/24"], &["192.0.2.7"])],
                V4,
                vec!["10.42.1.0/24 via 192.0.2.7 on device 2 from 10.42.0.1", "mtu 1500"],
            ),
            (
                "on different links, one beyond a router",
                own(),
                vec![
                    host("b", &["10.42.1.0/24"], &["198.51.100.2"]),
                    host("c", &["10.42.2.0/24"], &["203.0.113.9"]),
                ],
                V4,
                vec![
                    "10.42.1.0/24 via 198.51.100.2 on device 3 from 10.42.0.1",
                    "10.42.2.0/24 via 10.42.2.0 on tunnel from 10.42.0.1",
                    "tunnel 192.0.2.1 [2, 80, 192, 0, 2, 1] {10.42.0.0} 1450",
                    "peer 203.0.113.9 [2, 80, 203, 0, 113, 9] {10.42.2.0}",
                    "mtu 1450",
                ],
            ),
            (
                "two families, one of them without an address on the link",
                host("a", &["10.42.0.0/24", "fd42::/64"], &["192.0.2.1"]),
                vec![
                    host("b", &["10.42.1.0/24", "fd42:0:0:1::/64"], &["192.0.2.7", "2001:db8::7"]),
                    host("c", &["10.42.2.0/24", "fd42:0:0:2::/64"], &["192.0.2.8"]),
                ],
                BOTH,
                vec![
                    "10.42.1.0/24 via 192.0.2.7 on device 2 from 10.42.0.1",
                    "10.42.2.0/24 via 192.0.2.8 on device 2 from 10.42.0.1",
                    "fd42:0:0:1::/64 via 2001:db8::7 on device 2 from fd42::1",
                    "fd42:0:0:2::/64 via fd42:0:0:2:: on tunnel from fd42::1",
                    "tunnel 192.0.2.1 [2, 80, 192, 0, 2, 1] {10.42.0.0, fd42::} 1450",
                    "peer 192.0.2.8 [2, 80, 192, 0, 2, 8] {fd42:0:0:2::}",
                    "mtu 1450",
                ],
            ),
            (
                "both families in one tunnel over IPv6",
                host("a", &["10.42.0.0/24", "fd42::/64"], &["2001:db8::1"]),
                vec![host("b", &["10.42.1.0/24", "fd42:0:0:1::/64"], &["2001:db8:1::7"])],
                BOTH,
                vec![
                    "10.42.1.0/24 via 10.42.1.0 on tunnel from 10.42.0.1",
                    "fd42:0:0:1::/64 via fd42:0:0:1:: on tunnel from fd42::1",
                    "tunnel 2001:db8::1 [6, 39, 41, 192, 139, 94] {10.42.0.0, fd42::} 1430",
                    "peer 2001:db8:1::7 [6, 76, 215, 21, 13, 168] {10.42.1.0, fd42:0:0:1::}",
                    "mtu 1430",
                ],
            ),
            (
                "a node that only pods know, as those of one machine are",
                host("a", &["10.42.0.0/24"], &["10.42.0.1"]),
                vec![host("b", &["10.42.1.0/24"], &["192.0.2.7"])],
                V4,
                vec!["b: it has no address that this node can send to"],
            ),
            (
                "nodes that are simulated, or say nothing",
                own(),
                vec![host("b", &["10.42.1.0/24"], &["10.42.1.1"]), host("c", &[], &["192.0.2.8"])],
                V4,
                vec!["b: it has no address that this node can send to"],
            ),
            (
                "ranges that are somebody else's",
                own(),
                vec![
                    host("b", &["0.0.0.0/0"], &["192.0.2.7"]),
                    host("d", &["10.42.1.0/25"], &["192.0.2.9"]),
                    host("c", &["10.42.1.0/24"], &["192.0.2.8"]),
                    host("e", &["10.42.0.0/24"], &["192.0.2.10"]),
                ],
                V4,
                vec![
                    "10.42.1.0/24 via 192.0.2.8 on device 2 from 10.42.0.1",
                    "mtu 1500",
                    "b: its range 0.0.0.0/0 is outside of the cluster's",
                    "d: its range 10.42.1.0/25 overlaps with 10.42.1.0/24 of another node",
                    "e: its range 10.42.0.0/24 overlaps with 10.42.0.0/24 of another node",
                ],
            ),
        ];
        for (name, own, others, cluster, expected) in cases {
            assert_eq!(describe(&own, &others, cluster), expected, "{name}");
        }
    }

    #[test]
    fn nodes_say_where_they_are() {
        let node = serde_json::json!({
            "metadata": {"name": "b"},
            "spec": {"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24", "fd42:0:0:1::/64", "x"]},
            "status": {"addresses": [
                {"type": "Hostname", "address": "b"}, {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "InternalIP", "address": "192.0.2.7"}, {"type": "InternalIP", "address": "?"},
            ]},
        });
        let expected = host("b", &["10.42.1.0/24", "fd42:0:0:1::/64"], &["192.0.2.7"]);
        assert_eq!(Host::of(&serde_json::from_value(node).unwrap()), expected);
        let node = serde_json::json!({"spec": {"podCIDR": "10.42.1.7/24"}});
        assert_eq!(Host::of(&serde_json::from_value(node).unwrap()), host("", &["10.42.1.0/24"], &[]));
    }
}
