//! Cutting the cluster's range of addresses into one range for each node
//! (kube-controller-manager: pkg/controller/nodeipam, v1.37).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::action::{Action, Severity};
use crate::node;

/// Most ranges, as a power of two, that one of the cluster is cut into (nodeipam: cidrset, v1.37).
const LONGEST: u8 = 16;

/// Why ranges cannot be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRange(String);

impl std::fmt::Display for InvalidRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidRange {}

/// One range of the cluster and who has which part of it.
#[derive(Clone, Debug)]
struct Range {
    /// The first address, as a number.
    first: u128,
    v6: bool,
    /// Prefix length of the whole, and of a node's part.
    prefix: u8,
    part: u8,
    /// Parts by number: node names.
    taken: BTreeMap<u128, String>,
}

/// The cluster's ranges, one for each address family.
#[derive(Clone, Debug)]
pub struct Ranges(Vec<Range>);

/// The ranges that a node has.
pub fn present(of: &Node) -> Vec<String> {
    let Some(spec) = &of.spec else { return Vec::new() };
    match spec.pod_cidrs.clone() {
        Some(all) if !all.is_empty() => all,
        _ => spec.pod_cidr.iter().cloned().collect(),
    }
}

/// Prefix lengths of the ranges that nodes get, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    /// Of IPv4.
    pub v4: u8,
    /// Of IPv6.
    pub v6: u8,
}

impl Default for Masks {
    fn default() -> Self {
        Self { v4: 24, v6: 64 }
    }
}

impl Ranges {
    /// Reads `10.244.0.0/16` or `10.244.0.0/16,fd00:1::/48`.
    pub fn parse(text: &str, masks: Masks) -> Result<Self, InvalidRange> {
        text.split(',').map(|one| Range::parse(one.trim(), masks)).collect::<Result<_, _>>().map(Self)
    }

    /// Keeps a range of something else, such as the Services', from nodes.
    pub fn reserve(&mut self, text: &str) {
        self.note(text, "");
    }

    /// Gives a node its ranges, if it has none yet; notes those that it has.
    pub fn decide(&mut self, of: &Node) -> Vec<Action> {
        let name = node::name(of);
        let present = present(of);
        if !present.is_empty() {
            present.iter().for_each(|range| self.note(range, name));
            return Vec::new();
        }
        let given: Option<Vec<_>> = self.0.iter_mut().map(|range| range.give(name)).collect();
        let Some(given) = given else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            return vec![Action::event(of, Severity::Normal, "CIDRNotAvailable", message)];
        };
        vec![Action::patch(of, json!({"spec": {"podCIDR": given[0], "podCIDRs": given}}))]
    }

    /// Takes a node's ranges back.
    pub fn release(&mut self, name: &str) {
        self.0.iter_mut().for_each(|range| range.taken.retain(|_, node| node != name));
    }

    /// Notes ranges that a node has already, whatever size they were given in.
    pub fn note(&mut self, text: &str, name: &str) {
        let Ok(noted) = Range::parse_any(text, Masks::default()) else { return };
        for range in self.0.iter_mut().filter(|range| range.v6 == noted.v6) {
            for number in range.parts_of(&noted) {
                range.taken.entry(number).or_insert_with(|| name.to_owned());
            }
        }
    }
}

impl Range {
    fn parse(text: &str, masks: Masks) -> Result<Self, InvalidRange> {
        let range = Self::parse_any(text, masks)?;
        if range.prefix > range.part {
            return Err(InvalidRange(format!("{text}: smaller than one node's /{}", range.part)));
        }
        if range.part > range.bits() || range.part - range.prefix > LONGEST {
            return Err(InvalidRange(format!(
                "{text}: /{} is no size for the ranges of nodes: at most 2^{LONGEST} of them fit",
                range.part
            )));
        }
        Ok(range)
    }

    fn parse_any(text: &str, masks: Masks) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange(format!("{text}: no address range"));
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let (number, v6, bits, part) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), false, 32, masks.v4),
            IpAddr::V6(address) => (u128::from(address), true, 128, masks.v6),
        };
        if prefix > bits {
            return Err(invalid());
        }
        let host = bits - prefix;
        let first = if host == 128 { 0 } else { number >> host << host };
        Ok(Self { first, v6, prefix, part, taken: BTreeMap::new() })
    }

    fn bits(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn parts(&self) -> u128 {
        1 << (self.part - self.prefix)
    }

    /// The numbers of the parts that another range touches.
    fn parts_of(&self, other: &Self) -> std::ops::Range<u128> {
        let size = |range: &Self| range.bits() - range.prefix;
        let last = |range: &Self| range.first + ((1_u128 << size(range).min(127)) - 1);
        let (start, end) = (self.first.max(other.first), last(self).min(last(other)));
        if start > end {
            return 0..0;
        }
        let number = |address: u128| (address - self.first) >> (self.bits() - self.part);
        number(start)..number(end) + 1
    }

    /// The lowest part that nobody has, or the one that the node was given before.
    fn give(&mut self, name: &str) -> Option<String> {
        let known = self.taken.iter().find(|(_, node)| *node == name).map(|(number, _)| *number);
        let number = known.or_else(|| {
            let mut free = 0;
            for taken in self.taken.keys() {
                if *taken != free {
                    break;
                }
                free += 1;
            }
            (free < self.parts()).then_some(free)
        })?;
        self.taken.insert(number, name.to_owned());
        let address = self.first + (number << (self.bits() - self.part));
        let address: IpAddr = if self.v6 {
            IpAddr::V6(address.into())
        } else {
            IpAddr::V4(u32::try_from(address).ok()?.into())
        };
        Some(format!("{address}/{}", self.part))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::testing::{object, summary};

    fn node(name: &str, range: Option<&str>) -> Node {
        object(json!({"metadata": {"name": name}, "spec": {"podCIDR": range}}))
    }

    #[test]
    fn nodes_get_the_lowest_free_range_and_keep_it() {
        let mut ranges = Ranges::parse("10.244.0.0/22,fd00::/48", Masks::default()).unwrap();
        assert!(ranges.decide(&node("old", Some("10.244.1.0/24"))).is_empty());
        let mut give = |name: &str| summary(&ranges.decide(&node(name, None))[0]);
        assert_eq!(
            give("a"),
            r#"patch Node a {"spec":{"podCIDR":"10.244.0.0/24","podCIDRs":["10.244.0.0/24","fd00::/64"]}}"#
        );
        assert!(give("b").contains("10.244.2.0/24") && give("b").contains("fd00:0:0:1::/64"));
        assert!(give("c").contains("10.244.3.0/24"));
        assert_eq!(give("d"), "event CIDRNotAvailable Node d status is now: CIDRNotAvailable");
        ranges.release("old");
        assert!(summary(&ranges.decide(&node("d", None))[0]).contains("10.244.1.0/24"));
    }

    #[test]
    fn bad_ranges_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/25", "x/8"] {
            assert!(Ranges::parse(text, Masks::default()).is_err(), "{text}");
        }
    }

    #[test]
    fn masks_say_how_much_a_node_gets() {
        let masks = Masks { v4: 26, v6: 80 };
        let mut ranges = Ranges::parse("10.0.0.0/24,fd00::/64", masks).unwrap();
        // Given when nodes got more, or less, than now.
        ranges.note("10.0.0.0/25", "wide");
        ranges.note("10.0.0.192/28", "narrow");
        assert!(summary(&ranges.decide(&node("a", None))[0]).contains(r#"["10.0.0.128/26","fd00::/80"]"#));
        assert!(summary(&ranges.decide(&node("b", None))[0]).starts_with("event CIDRNotAvailable"));
        ranges.release("wide");
        assert!(summary(&ranges.decide(&node("b", None))[0]).contains("10.0.0.0/26"));
        for (text, masks) in [("10.0.0.0/24", Masks { v4: 33, v6: 64 }), ("fd00::/40", Masks::default())] {
            assert!(Ranges::parse(text, masks).is_err(), "{text} {masks:?}");
        }
    }

    #[test]
    fn what_belongs_to_services_is_not_given() {
        let mut ranges = Ranges::parse("10.0.0.0/16", Masks::default()).unwrap();
        ranges.reserve("10.0.0.0/23");
        ranges.reserve("10.96.0.0/12");
        ranges.release("a");
        assert!(summary(&ranges.decide(&node("a", None))[0]).contains("10.0.2.0/24"));
    }
}
