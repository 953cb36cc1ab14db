//! The rules of the table. They are few and stay: Services only come and go as elements of its sets.
//!
//! A new connection's way, with `F` for the frontend (address, protocol, port;
//! address 0 for a port of the node):
//!
//! ```text
//! firewall     F in guarded, not from admitted[F, …]: drop
//! prerouting   not from a pod → outside;  → services
//! output       → services
//! outside      frontends-outside[F] → balancers;  F in dropped-outside: drop
//! services     frontends[F] → balancers;  F in dropped: drop;  host-ports[F]: dnat
//! balancers    n = random below count;  endpoints[F, n]: dnat
//! forward, host-output, input    F in rejected, or an unused Service address: refuse
//! postrouting  F in masquerade, a pod to itself, a pod to the world: masquerade
//! ```

use plimsoll_kernel::nft::{
    Address, Batch, ChainKind, Comparison, Conntrack, Direction, Expression, Family, Hook, HookPoint, Meta,
    Nat, Register, Rejection, Verdict,
};
use plimsoll_netplan::services::Audience;
use plimsoll_netplan::services::rules::Balancer;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::{Config, ConnectedBy, Names};
use crate::encode::{OUTSIDE, address_bytes, choice_bytes};
use crate::policies;
use crate::table::Set;

/// What is done with a packet for which all before holds.
pub(crate) type Rule = Vec<Expression<'static>>;

/// A type of route: to an address of this host.
const LOCAL: u32 = 2;

/// What the rules depend on.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    family: Family,
    pods: Option<IpNet>,
    services: Option<IpNet>,
    veth_prefix: String,
    resolver: Vec<IpAddr>,
    connected_by: ConnectedBy,
    /// Which of the node's addresses its ports for Services are open on; none means all.
    node_ports: Vec<IpNet>,
}

impl Ranges {
    pub(crate) fn new(config: &Config, names: &Names, family: Family) -> Self {
        Self {
            family,
            pods: Config::of_family(&config.cluster_cidr, family),
            services: Config::of_family(&config.service_cidr, family),
            veth_prefix: names.veth_prefix(),
            resolver: config.resolver.clone(),
            connected_by: config.connected_by,
            node_ports: config
                .node_port_addresses
                .iter()
                .filter(|range| range.addr().is_ipv4() == (family == Family::Ipv4))
                .map(IpNet::trunc)
                .collect(),
        }
    }
}

/// Writes all chains with their rules; chains that are there get them instead of their old ones.
pub(crate) fn write(batch: &mut Batch, ranges: &Ranges) {
    let chains = chains(ranges);
    for (name, hook, _) in &chains {
        batch.create_chain(name, *hook);
        batch.flush_chain(name);
    }
    for (name, _, rules) in &chains {
        for rule in rules {
            batch.add_rule(name, rule);
        }
    }
}

/// A chain's name, where packets enter it, and its rules.
pub(crate) type Chain = (&'static str, Option<Hook>, Vec<Rule>);

fn chains(ranges: &Ranges) -> Vec<Chain> {
    let hook = |kind, point, priority| Some(Hook { kind, point, priority });
    let mut chains = vec![
        ("outside", None, outside(ranges)),
        ("services", None, services(ranges)),
        ("refuse", None, refuse()),
        ("rejected", None, rejected(ranges)),
        ("guard", hook(ChainKind::Filter, HookPoint::Prerouting, -300), guard(ranges)),
        (
            "firewall",
            hook(ChainKind::Filter, HookPoint::Prerouting, -110),
            vec![only_admitted(ranges.family)],
        ),
        (
            "firewall-output",
            hook(ChainKind::Filter, HookPoint::Output, -110),
            vec![only_admitted(ranges.family)],
        ),
        ("prerouting", hook(ChainKind::Nat, HookPoint::Prerouting, -100), prerouting(ranges)),
        ("output", hook(ChainKind::Nat, HookPoint::Output, -100), vec![vec![jump("services")]]),
        ("postrouting", hook(ChainKind::Nat, HookPoint::Postrouting, 100), postrouting(ranges)),
        ("forward", hook(ChainKind::Filter, HookPoint::Forward, 0), forward(ranges)),
        ("host-output", hook(ChainKind::Filter, HookPoint::Output, 0), vec![known(), vec![jump("rejected")]]),
        ("input", hook(ChainKind::Filter, HookPoint::Input, 0), input(ranges)),
    ];
    chains.extend(policies::rules::chains(ranges.family, &ranges.resolver));
    chains
}

/// What a pod may not send at all: packets from an address that is not its own, and packets to the
/// node's loopback, although such exist when the node asks one of its own ports for a pod.
fn guard(ranges: &Ranges) -> Vec<Rule> {
    let from_pod = || -> Rule {
        vec![
            Expression::Meta(Meta::InputInterface, Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, ranges.veth_prefix.clone().into_bytes()),
        ]
    };
    let mut forged = from_pod();
    if ranges.family == Family::Ipv6 {
        // Neighbours find each other by addresses of the link, to which no route leads.
        forged.extend(in_range(Address::Source, "fe80::/10".parse().ok(), Comparison::Different));
        forged.extend(in_range(Address::Source, "::/128".parse().ok(), Comparison::Different));
    }
    forged.push(Expression::ReversePath(Register(0)));
    forged.push(Expression::Compare(Register(0), Comparison::Equal, vec![0; 4]));
    forged.push(Expression::Verdict(Verdict::Drop));
    if ranges.family == Family::Ipv6 {
        return vec![forged];
    }
    let mut loopback = from_pod();
    loopback.extend(in_range(Address::Destination, "127.0.0.0/8".parse().ok(), Comparison::Equal));
    loopback.push(Expression::Verdict(Verdict::Drop));
    vec![forged, loopback]
}

fn prerouting(ranges: &Ranges) -> Vec<Rule> {
    let mut outsiders: Rule = in_range(Address::Source, ranges.pods, Comparison::Different).collect();
    outsiders.push(jump("outside"));
    vec![outsiders, vec![jump("services")]]
}

/// Keeps those out of load balancers' addresses who are not in their source ranges. What is
/// established goes on.
fn only_admitted(family: Family) -> Rule {
    let mut rule = state(Conntrack::NEW);
    rule.extend(frontend_key(family, false, Register(0)));
    let source = Register(words(family) + 2);
    rule.extend([
        Expression::Contains { set: Set::Guarded.name(), key: Register(0), inverted: false },
        Expression::address(Address::Source, family, source),
        Expression::Contains { set: Set::Admitted.name(), key: Register(0), inverted: true },
        Expression::Verdict(Verdict::Drop),
    ]);
    rule
}

/// The rule for a port of the node once for each range of addresses that it is open on.
fn on_node_ports(ranges: &Ranges, rule: impl Fn() -> Rule) -> Vec<Rule> {
    if ranges.node_ports.is_empty() {
        return vec![rule()];
    }
    let within = |range: &IpNet| {
        let mut within: Rule = in_range(Address::Destination, Some(*range), Comparison::Equal).collect();
        within.extend(rule());
        within
    };
    ranges.node_ports.iter().map(within).collect()
}

fn outside(ranges: &Ranges) -> Vec<Rule> {
    let balance = |port_of_node| choose(ranges.family, Set::OutsideFrontends, port_of_node);
    let drop = |port_of_node| swallow(ranges.family, Set::OutsideDropped, port_of_node);
    let mut rules = vec![balance(false), drop(false)];
    rules.extend(on_node_ports(ranges, || balance(true)));
    rules.extend(on_node_ports(ranges, || drop(true)));
    rules
}

fn services(ranges: &Ranges) -> Vec<Rule> {
    let family = ranges.family;
    let mut rules = vec![choose(family, Set::Frontends, false), swallow(family, Set::Dropped, false)];
    rules.extend(on_node_ports(ranges, || choose(family, Set::Frontends, true)));
    rules.extend([host_port(family, false), host_port(family, true)]);
    rules
}

/// To the balancer of the frontend's choice. The packet's mark holds the choice for a moment, since
/// `nft list` cannot show a value that is looked up without having been something in between.
fn choose(family: Family, frontends: Set, port_of_node: bool) -> Rule {
    let mut rule = frontend(family, port_of_node);
    let choice = Register(words(family) + 2);
    rule.extend([
        Expression::Lookup { map: frontends.name(), key: Register(0), to: choice },
        Expression::SetMark(choice),
        Expression::Meta(Meta::Mark, Register(0)),
        Expression::LookupVerdict { map: Set::Balancers.name(), key: Register(0) },
    ]);
    rule
}

fn swallow(family: Family, set: Set, port_of_node: bool) -> Rule {
    let mut rule = frontend(family, port_of_node);
    rule.push(Expression::Contains { set: set.name(), key: Register(0), inverted: false });
    rule.push(Expression::Verdict(Verdict::Drop));
    rule
}

/// To the pod with this hostPort: bound to one address, or to all.
fn host_port(family: Family, every_address: bool) -> Rule {
    let mut rule = to_this_host(family);
    rule.extend(frontend_key(family, every_address, Register(0)));
    let target = Register(words(family) + 2);
    rule.push(Expression::Lookup { map: Set::HostPorts.name(), key: Register(0), to: target });
    rule.push(to_target(family, target));
    rule
}

fn forward(ranges: &Ranges) -> Vec<Rule> {
    // A late answer that belongs to no connection would reach the client under the pod's own address
    // and make it reset a connection that is fine.
    let mut stray = state(Conntrack::INVALID);
    stray.extend(in_range(Address::Source, ranges.pods, Comparison::Equal));
    stray.push(Expression::Verdict(Verdict::Drop));
    vec![known(), stray, vec![jump("rejected")]]
}

fn input(ranges: &Ranges) -> Vec<Rule> {
    let listed = |port_of_node| {
        let mut rule: Rule = frontend_key(ranges.family, port_of_node, Register(0)).into();
        rule.push(Expression::Contains { set: Set::Rejected.name(), key: Register(0), inverted: false });
        rule.push(Expression::Verdict(Verdict::Goto("refuse".to_owned())));
        rule
    };
    let mut rules = vec![known(), listed(false)];
    rules.extend(on_node_ports(ranges, || listed(true)));
    rules
}

fn rejected(ranges: &Ranges) -> Vec<Rule> {
    let mut listed: Rule = frontend_key(ranges.family, false, Register(0)).into();
    listed.push(Expression::Contains { set: Set::Rejected.name(), key: Register(0), inverted: false });
    listed.push(Expression::Verdict(Verdict::Goto("refuse".to_owned())));
    if ranges.services.is_none() {
        return vec![listed];
    }
    // Every packet to a Service that exists was sent on before it came here.
    let mut unused: Rule = in_range(Address::Destination, ranges.services, Comparison::Equal).collect();
    unused.extend([
        Expression::AddressType(Address::Destination, Register(0)),
        Expression::Compare(Register(0), Comparison::Different, LOCAL.to_ne_bytes().to_vec()),
        Expression::Verdict(Verdict::Goto("refuse".to_owned())),
    ]);
    vec![listed, unused]
}

fn refuse() -> Vec<Rule> {
    vec![
        vec![
            Expression::Meta(Meta::TransportProtocol, Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, vec![6]),
            Expression::Reject(Rejection::Reset),
        ],
        vec![Expression::Reject(Rejection::PortUnreachable)],
    ]
}

fn postrouting(ranges: &Ranges) -> Vec<Rule> {
    let family = ranges.family;
    let mut rules = Vec::new();
    if family == Family::Ipv4 {
        // The node asked one of its own ports by its loopback.
        let mut rule = redirected();
        rule.extend(in_range(Address::Source, "127.0.0.0/8".parse().ok(), Comparison::Equal));
        rules.push(rule);
    }
    let mut addressed = redirected();
    addressed.extend(original_frontend(family, false));
    rules.push(addressed);
    let mut port_of_node = redirected();
    port_of_node.extend(original_in_range(ranges, Comparison::Different));
    port_of_node.extend(original_frontend(family, true));
    rules.push(port_of_node);
    rules.push(vec![
        Expression::address(Address::Source, family, Register(0)),
        Expression::address(Address::Destination, family, Register(words(family))),
        Expression::Contains { set: Set::OwnPods.name(), key: Register(0), inverted: false },
    ]);
    if ranges.services.is_some() {
        rules.push(outsider_to_service(ranges));
    }
    if ranges.connected_by == ConnectedBy::Links {
        rules.push(pod_to_world(ranges));
    }
    rules.iter_mut().for_each(|rule| rule.push(Expression::Masquerade));
    rules
}

/// Somebody from elsewhere uses this node as the way to a Service's cluster address: answers must come
/// back the same way.
fn outsider_to_service(ranges: &Ranges) -> Rule {
    let mut rule = redirected();
    rule.extend(original_in_range(ranges, Comparison::Equal));
    rule.extend(in_range(Address::Source, ranges.pods, Comparison::Different));
    rule.push(Expression::AddressType(Address::Source, Register(0)));
    rule.push(Expression::Compare(Register(0), Comparison::Different, LOCAL.to_ne_bytes().to_vec()));
    rule
}

fn pod_to_world(ranges: &Ranges) -> Rule {
    let mut rule: Rule = in_range(Address::Source, ranges.pods, Comparison::Equal).collect();
    rule.extend(in_range(Address::Destination, ranges.pods, Comparison::Different));
    rule.extend(in_range(Address::Destination, ranges.services, Comparison::Different));
    // The node's own address towards its pods is in their range: what it sends to itself stays as it is.
    rule.push(Expression::AddressType(Address::Destination, Register(0)));
    rule.push(Expression::Compare(Register(0), Comparison::Different, LOCAL.to_ne_bytes().to_vec()));
    rule
}

/// Writes the chain that chooses among as many targets, and the way to it.
pub(crate) fn write_balancer(batch: &mut Batch, family: Family, balancer: &Balancer) {
    let name = balancer_name(balancer);
    batch.create_chain(&name, None);
    batch.flush_chain(&name);
    if balancer.choice.affinity > 0 {
        batch.add_rule(&name, &return_to_last(family, balancer));
        batch.add_rule(&name, &forget_last(family, balancer));
        batch.add_rule(&name, &pick_and_remember(family, balancer));
    }
    // With affinity this is for when no more clients can be remembered.
    batch.add_rule(&name, &pick(family, balancer));
    batch.add_verdict(Set::Balancers.name(), &selector(balancer), &Verdict::Goto(name));
}

/// Removes the way to a chain, and the chain.
pub(crate) fn delete_balancer(batch: &mut Batch, balancer: &Balancer) {
    batch.delete_elements(Set::Balancers.name(), [selector(balancer).as_slice()]);
    batch.delete_chain(&balancer_name(balancer));
}

fn pick(family: Family, balancer: &Balancer) -> Rule {
    let mut rule = clear_mark();
    rule.extend(numbered(family, balancer, random(family, balancer)));
    let target = Register(2 * words(family) + 2);
    rule.push(Expression::Lookup { map: Set::Endpoints.name(), key: Register(0), to: target });
    rule.push(to_target(family, target));
    rule
}

fn pick_and_remember(family: Family, balancer: &Balancer) -> Rule {
    let identity = Register(2 * words(family) + 2);
    let mut rule: Rule = numbered(family, balancer, random(family, balancer)).into();
    rule.push(Expression::Lookup { map: Set::Identities.name(), key: Register(0), to: identity });
    rule.push(Expression::SetMark(identity));
    rule.extend(client_key(family, balancer));
    rule.extend(to_marked(family, balancer));
    rule
}

/// To the client's last target. Ends without doing so when that is none any more.
fn return_to_last(family: Family, balancer: &Balancer) -> Rule {
    let identity = Register(2 * words(family) + 2);
    let mut rule: Rule = client_key(family, balancer).into();
    rule.push(Expression::Lookup { map: Set::Affinity.name(), key: Register(0), to: identity });
    rule.push(Expression::SetMark(identity));
    rule.extend(to_marked(family, balancer));
    rule
}

/// To the target whose identity is the packet's mark, which the client's key, loaded before, will lead to
/// from now on.
fn to_marked(family: Family, balancer: &Balancer) -> Rule {
    let width = words(family);
    // Two values, one after the other.
    let (identity, target) = (Register(2 * width + 2), Register(2 * width + 2));
    let mut rule =
        vec![Expression::Meta(Meta::Mark, identity), update(Direction::Remember, balancer, identity)];
    rule.extend(numbered(family, balancer, Expression::Meta(Meta::Mark, Register(width + 2))));
    rule.push(Expression::Lookup { map: Set::Endpoints.name(), key: Register(0), to: target });
    rule.extend(clear_mark_by(target.plus(width + 1)));
    rule.push(to_target(family, target));
    rule
}

/// An element that leads to a gone target must go, since adding does not change what is there.
fn forget_last(family: Family, balancer: &Balancer) -> Rule {
    let value = Register(2 * words(family) + 2);
    let mut rule: Rule = client_key(family, balancer).into();
    // The kernel wants a value to be named for maps, and ignores it.
    rule.push(Expression::Immediate(value, vec![0; 4]));
    rule.push(update(Direction::Forget, balancer, value));
    rule
}

fn update(direction: Direction, balancer: &Balancer, value: Register) -> Expression<'static> {
    let seconds = balancer.choice.affinity;
    Expression::Update { set: Set::Affinity.name(), direction, key: Register(0), value, seconds }
}

/// The frontend's key with a number behind it, which `number` loads there.
fn numbered(family: Family, balancer: &Balancer, number: Expression<'static>) -> [Expression<'static>; 4] {
    let [address, protocol, port] = frontend_key(family, !balancer.addressed, Register(0));
    [address, protocol, port, number]
}

fn random(family: Family, balancer: &Balancer) -> Expression<'static> {
    let first = if balancer.audience == Audience::Outside { OUTSIDE } else { 0 };
    Expression::Random { count: balancer.choice.count, first, to: Register(words(family) + 2) }
}

/// Nobody else shall see what the mark was used for.
fn clear_mark() -> Rule {
    clear_mark_by(Register(0)).into()
}

fn clear_mark_by(scratch: Register) -> [Expression<'static>; 2] {
    [Expression::Immediate(scratch, vec![0; 4]), Expression::SetMark(scratch)]
}

fn client_key(family: Family, balancer: &Balancer) -> [Expression<'static>; 4] {
    let [address, protocol, port] = frontend_key(family, !balancer.addressed, Register(words(family)));
    [Expression::address(Address::Source, family, Register(0)), address, protocol, port]
}

fn to_target(family: Family, target: Register) -> Expression<'static> {
    Expression::Nat { kind: Nat::Destination, address: target, port: Some(target.plus(words(family))) }
}

/// The frontend the packet is for; with ports of the node, only if it is for this host.
fn frontend(family: Family, port_of_node: bool) -> Rule {
    let mut rule = if port_of_node { to_this_host(family) } else { Rule::new() };
    rule.extend(frontend_key(family, port_of_node, Register(0)));
    rule
}

fn frontend_key(family: Family, port_of_node: bool, to: Register) -> [Expression<'static>; 3] {
    let address = if port_of_node {
        Expression::Immediate(to, address_bytes(family, None))
    } else {
        Expression::address(Address::Destination, family, to)
    };
    let after = to.plus(words(family));
    [address, Expression::Meta(Meta::TransportProtocol, after), Expression::destination_port(after.plus(1))]
}

/// Holds for connections that began with a frontend whose targets must see this node.
fn original_frontend(family: Family, port_of_node: bool) -> [Expression<'static>; 4] {
    let address = if port_of_node {
        Expression::Immediate(Register(0), address_bytes(family, None))
    } else {
        Expression::Conntrack(Conntrack::OriginalDestination, Register(0))
    };
    let after = Register(words(family));
    [
        address,
        Expression::Meta(Meta::TransportProtocol, after),
        Expression::Conntrack(Conntrack::OriginalDestinationPort, after.plus(1)),
        Expression::Contains { set: Set::Masquerade.name(), key: Register(0), inverted: false },
    ]
}

fn original_in_range(ranges: &Ranges, comparison: Comparison) -> Rule {
    let load = Expression::Conntrack(Conntrack::OriginalDestination, Register(0));
    compare_range(load, ranges.services, comparison).collect()
}

/// Holds for packets to this host. Answers to IPv6's loopback would never come back from a pod: who tries that way is to
/// be told at once.
fn to_this_host(family: Family) -> Rule {
    let mut rule = vec![
        Expression::AddressType(Address::Destination, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, LOCAL.to_ne_bytes().to_vec()),
    ];
    if family == Family::Ipv6 {
        rule.extend(in_range(Address::Destination, "::1/128".parse().ok(), Comparison::Different));
    }
    rule
}

/// Lets connections pass that were let pass before.
fn known() -> Rule {
    let mut rule = state(Conntrack::ESTABLISHED | Conntrack::RELATED);
    rule.push(Expression::Verdict(Verdict::Accept));
    rule
}

fn state(bits: u32) -> Rule {
    any_bit(Conntrack::State, bits)
}

/// Holds for connections that were sent to another destination.
fn redirected() -> Rule {
    any_bit(Conntrack::Status, Conntrack::DESTINATION_CHANGED)
}

pub(crate) fn any_bit(fact: Conntrack, bits: u32) -> Rule {
    vec![
        Expression::Conntrack(fact, Register(0)),
        Expression::Mask(Register(0), bits.to_ne_bytes().to_vec()),
        Expression::Compare(Register(0), Comparison::Different, vec![0; 4]),
    ]
}

/// Holds when the address is (or, different, is not) in the range. No range holds nothing.
fn in_range(
    address: Address,
    range: Option<IpNet>,
    comparison: Comparison,
) -> impl Iterator<Item = Expression<'static>> {
    let family = if range.is_some_and(|range| range.addr().is_ipv6()) { Family::Ipv6 } else { Family::Ipv4 };
    compare_range(Expression::address(address, family, Register(8)), range, comparison)
}

fn compare_range(
    load: Expression<'static>,
    range: Option<IpNet>,
    comparison: Comparison,
) -> impl Iterator<Item = Expression<'static>> {
    let register = match &load {
        Expression::Payload { to, .. } | Expression::Conntrack(_, to) => *to,
        _ => Register(0),
    };
    let parts = range.map(|range| {
        let family = if range.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        [
            load,
            Expression::Mask(register, address_bytes(family, Some(range.netmask()))),
            Expression::Compare(register, comparison, address_bytes(family, Some(range.network()))),
        ]
    });
    parts.into_iter().flatten()
}

pub(crate) fn jump(chain: &str) -> Expression<'static> {
    Expression::Verdict(Verdict::Jump(chain.to_owned()))
}

/// Words of a register that an address takes.
pub(crate) fn words(family: Family) -> u8 {
    if family == Family::Ipv4 { 1 } else { 4 }
}

fn selector(balancer: &Balancer) -> [u8; 4] {
    choice_bytes(balancer.addressed, balancer.audience, &balancer.choice)
}

/// For example `pick-3`, `pick-3-node`, `pick-3-outside-for-60s`.
fn balancer_name(balancer: &Balancer) -> String {
    let node = if balancer.addressed { "" } else { "-node" };
    let outside = if balancer.audience == Audience::Outside { "-outside" } else { "" };
    let affinity = match balancer.choice.affinity {
        0 => String::new(),
        seconds => format!("-for-{seconds}s"),
    };
    format!("pick-{}{node}{outside}{affinity}", balancer.choice.count)
}
