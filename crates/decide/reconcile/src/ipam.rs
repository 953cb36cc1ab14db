//! Cutting the cluster's range of addresses into one range for each node
//! (kube-controller-manager: pkg/controller/nodeipam, v1.37).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::action::{Action, Severity};
use crate::node;

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

/// The cluster's ranges, one for each address family. Each node gets a /24 or a /64.
#[derive(Clone, Debug)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// Reads `10.244.0.0/16` or `10.244.0.0/16,fd00:1::/48`.
    pub fn parse(text: &str) -> Result<Self, InvalidRange> {
        text.split(',').map(|one| Range::parse(one.trim())).collect::<Result<_, _>>().map(Self)
    }

    /// Gives a node its ranges, if it has none yet; notes those that it has.
    pub fn decide(&mut self, of: &Node) -> Vec<Action> {
        let name = node::name(of);
        let present = of.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        let present = match of.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()) {
            Some(first) if present.is_empty() => vec![first],
            _ => present,
        };
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

    /// Notes ranges that a node has already.
    pub fn note(&mut self, text: &str, name: &str) {
        let Ok(noted) = Range::parse_any(text) else { return };
        let ranges = self.0.iter_mut().filter(|range| range.v6 == noted.v6);
        for range in ranges {
            let number =
                noted.first.checked_sub(range.first).map(|offset| offset >> (range.bits() - range.part));
            if let Some(number) = number.filter(|number| *number < range.parts()) {
                range.taken.entry(number).or_insert_with(|| name.to_owned());
            }
        }
    }
}

impl Range {
    fn parse(text: &str) -> Result<Self, InvalidRange> {
        let range = Self::parse_any(text)?;
        if range.prefix > range.part {
            return Err(InvalidRange(format!("{text}: smaller than one node's /{}", range.part)));
        }
        Ok(range)
    }

    fn parse_any(text: &str) -> Result<Self, InvalidRange> {
        let invalid = || InvalidRange(format!("{text}: no address range"));
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let (number, v6, bits, part) = match address {
            IpAddr::V4(address) => (u128::from(u32::from(address)), false, 32, 24),
            IpAddr::V6(address) => (u128::from(address), true, 128, 64),
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
        let mut ranges = Ranges::parse("10.244.0.0/22,fd00::/48").unwrap();
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
            assert!(Ranges::parse(text).is_err(), "{text}");
        }
    }
}
