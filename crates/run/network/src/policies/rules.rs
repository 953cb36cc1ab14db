//! The policies' part of the table.
//!
//! A packet's way, with `P` for the other side's address, as the pods themselves have it: destinations
//! of Services were changed before, and sources that hide are changed later.
//!
//! ```text
//! forward, from a pod       isolated-egress[source] → its group
//! forward, to a pod         isolated-ingress[destination] → its group
//! input, to the resolver    isolated-egress[source] → its group
//! group g       answers, to itself: accept;  ports for anyone;
//!               policy-peers[g, P] → ports;  policy-blocks[g, P] → ports;  drop
//! ports n       accept what is listed
//! ```
//!
//! Packets of who began a connection are judged one by
//! one, so that what a policy takes away ends. What the node itself sends is in none of these hooks.

use std::net::IpAddr;

use plimsoll_kernel::nft::{
    Address, Batch, ChainKind, Comparison, Conntrack, Expression, Family, Hook, HookPoint, Meta, Register,
    SetKind, Value, Verdict,
};
use plimsoll_netplan::policies::plan::{Difference, Element, GroupChain};
use plimsoll_netplan::policies::{Direction, PortRange, Ports};

use crate::encode::address_bytes;
use crate::program::{Chain, Rule, any_bit, jump, words};
use crate::table::{NUMBER, Set, address_type, concatenated, length};

const ISOLATED_INGRESS: &str = "isolated-ingress";
const ISOLATED_EGRESS: &str = "isolated-egress";
const PEERS: &str = "policy-peers";
const BLOCKS: &str = "policy-blocks";

const GROUP: &str = "policy-group-";
const PORTS: &str = "policy-ports-";

const MAPS: [&str; 4] = [ISOLATED_INGRESS, ISOLATED_EGRESS, PEERS, BLOCKS];

/// Makes the sets that are missing.
pub(crate) fn create_sets(batch: &mut Batch, family: Family) {
    let address = [address_type(family)];
    let of_group = [NUMBER, address[0]];
    let kind = |types: &[u32], value| SetKind {
        key_type: concatenated(types),
        key_length: length(types),
        value,
        dynamic: false,
    };
    for name in [ISOLATED_INGRESS, ISOLATED_EGRESS] {
        batch.create_set(name, kind(&address, Value::Verdict));
    }
    batch.create_set(PEERS, kind(&of_group, Value::Verdict));
    batch.create_ranges(BLOCKS, kind(&of_group, Value::Verdict), &[4, length(&address)]);
}

/// The chains that packets enter.
pub(crate) fn chains(family: Family, resolver: &[IpAddr]) -> Vec<Chain> {
    let hook = |point, priority| Some(Hook { kind: ChainKind::Filter, point, priority });
    let mut to_resolver = Vec::new();
    for address in resolver.iter().filter(|address| address.is_ipv4() == (family == Family::Ipv4)) {
        let mut rule = vec![
            Expression::address(Address::Destination, family, Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, address_bytes(family, Some(*address))),
        ];
        rule.extend(isolated(family, Direction::Egress));
        to_resolver.push(rule);
    }
    let judged = |direction| vec![isolated(family, direction).into()];
    vec![
        ("policy-egress", hook(HookPoint::Forward, 10), judged(Direction::Egress)),
        ("policy-ingress", hook(HookPoint::Forward, 20), judged(Direction::Ingress)),
        ("policy-resolver", hook(HookPoint::Input, 10), to_resolver),
    ]
}

/// Removes all that an earlier process wrote; `chains` are those of the table.
pub(super) fn clear(batch: &mut Batch, chains: &[String]) {
    MAPS.iter().for_each(|map| batch.flush_set(map));
    // Groups lead to ports.
    let own = |prefix| chains.iter().filter(move |name| name.starts_with(prefix));
    for name in own(GROUP).chain(own(PORTS)) {
        batch.flush_chain(name);
        batch.delete_chain(name);
    }
}

/// The greatest number among these chains.
pub(super) fn newest(chains: &[String]) -> u32 {
    let number = |name: &String| name.strip_prefix(GROUP).or_else(|| name.strip_prefix(PORTS))?.parse().ok();
    chains.iter().filter_map(number).max().unwrap_or(0)
}

/// Adds the changes of a difference.
pub(super) fn write(batch: &mut Batch, family: Family, difference: &Difference) {
    for (number, ports) in &difference.lists {
        write_chain(batch, &format!("{PORTS}{number}"), &list(ports));
    }
    for (number, chain) in &difference.groups {
        write_chain(batch, &format!("{GROUP}{number}"), &group(family, *number, *chain));
    }
    write_elements(batch, family, difference);
    let groups = difference.old_groups.iter().map(|number| format!("{GROUP}{number}"));
    let lists = difference.old_lists.iter().map(|number| format!("{PORTS}{number}"));
    for name in groups.chain(lists) {
        batch.flush_chain(&name);
        batch.delete_chain(&name);
    }
}

fn write_chain(batch: &mut Batch, name: &str, rules: &[Rule]) {
    batch.create_chain(name, None);
    batch.flush_chain(name);
    rules.iter().for_each(|rule| batch.add_rule(name, rule));
}

fn write_elements(batch: &mut Batch, family: Family, difference: &Difference) {
    for map in MAPS {
        let of_map = |element: &&Element| self::map(element) == map;
        let removed = difference.removed.iter().filter(of_map).map(|element| keys(family, element));
        let removed: Vec<_> = removed.collect();
        let added = difference.added.iter().filter(|(element, _)| of_map(&element));
        let added: Vec<_> =
            added.map(|(element, number)| (keys(family, element), verdict(element, *number))).collect();
        if map == BLOCKS {
            batch.delete_ranges(map, removed.iter().map(ends));
            batch.add_verdict_ranges(map, added.iter().map(|(keys, verdict)| (ends(keys), verdict)));
        } else {
            batch.delete_elements(map, removed.iter().map(|[key, _]| key.as_slice()));
            batch.add_verdicts(map, added.iter().map(|([key, _], verdict)| (key.as_slice(), verdict)));
        }
    }
}

fn map(element: &Element) -> &'static str {
    match element {
        Element::Isolated(Direction::Ingress, _) => ISOLATED_INGRESS,
        Element::Isolated(Direction::Egress, _) => ISOLATED_EGRESS,
        Element::Peer(..) => PEERS,
        Element::Block(..) => BLOCKS,
    }
}

/// The first and the last key that an element holds.
fn keys(family: Family, element: &Element) -> [Vec<u8>; 2] {
    let of_group = |group: u32, address| {
        let mut key = group.to_ne_bytes().to_vec();
        key.extend(address_bytes(family, Some(address)));
        key
    };
    match element {
        Element::Isolated(_, address) => [address, address].map(|it| address_bytes(family, Some(*it))),
        Element::Peer(group, address) => [address, address].map(|it| of_group(*group, *it)),
        Element::Block(group, range) => [range.first, range.last].map(|it| of_group(*group, it)),
    }
}

fn ends([first, last]: &[Vec<u8>; 2]) -> [&[u8]; 2] {
    [first, last]
}

fn verdict(element: &Element, number: u32) -> Verdict {
    match element {
        Element::Isolated(..) => Verdict::Goto(format!("{GROUP}{number}")),
        Element::Peer(..) | Element::Block(..) => Verdict::Jump(format!("{PORTS}{number}")),
    }
}

/// Lets answers pass, and what connections cause, such as errors.
fn answers() -> Vec<Rule> {
    let answer = vec![
        Expression::Conntrack(Conntrack::Direction, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![1]),
        Expression::Verdict(Verdict::Accept),
    ];
    let mut related = any_bit(Conntrack::State, Conntrack::RELATED);
    related.push(Expression::Verdict(Verdict::Accept));
    vec![answer, related]
}

fn to_itself(family: Family) -> Rule {
    vec![
        Expression::address(Address::Source, family, Register(0)),
        Expression::address(Address::Destination, family, Register(words(family))),
        Expression::Contains { set: Set::OwnPods.name(), key: Register(0), inverted: false },
        Expression::Verdict(Verdict::Accept),
    ]
}

fn isolated(family: Family, direction: Direction) -> [Expression<'static>; 2] {
    let (pod, map) = match direction {
        Direction::Ingress => (Address::Destination, ISOLATED_INGRESS),
        Direction::Egress => (Address::Source, ISOLATED_EGRESS),
    };
    [Expression::address(pod, family, Register(0)), Expression::LookupVerdict { map, key: Register(0) }]
}

fn group(family: Family, number: u32, chain: GroupChain) -> Vec<Rule> {
    let peer = match chain.direction {
        Direction::Ingress => Address::Source,
        Direction::Egress => Address::Destination,
    };
    let look_up = |map| {
        vec![
            Expression::Immediate(Register(0), number.to_ne_bytes().to_vec()),
            Expression::address(peer, family, Register(1)),
            Expression::LookupVerdict { map, key: Register(0) },
        ]
    };
    let mut rules = answers();
    rules.push(to_itself(family));
    rules.extend(chain.anyone.map(|list| vec![jump(&format!("{PORTS}{list}"))]));
    rules.extend([look_up(PEERS), look_up(BLOCKS), vec![Expression::Verdict(Verdict::Drop)]]);
    rules
}

fn list(ports: &Ports) -> Vec<Rule> {
    let mut rules: Vec<Rule> = match ports {
        Ports::All => vec![Vec::new()],
        Ports::Listed(ranges) => ranges.iter().map(in_range).collect(),
    };
    rules.iter_mut().for_each(|rule| rule.push(Expression::Verdict(Verdict::Accept)));
    rules
}

fn in_range(range: &PortRange) -> Rule {
    let mut rule = vec![
        Expression::Meta(Meta::TransportProtocol, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![range.protocol.number()]),
    ];
    let port =
        |comparison, port: u16| Expression::Compare(Register(0), comparison, port.to_be_bytes().into());
    if (range.first, range.last) == (0, u16::MAX) {
        return rule;
    }
    rule.push(Expression::destination_port(Register(0)));
    if range.first == range.last {
        rule.push(port(Comparison::Equal, range.first));
    } else {
        rule.push(port(Comparison::AtLeast, range.first));
        rule.push(port(Comparison::AtMost, range.last));
    }
    rule
}
