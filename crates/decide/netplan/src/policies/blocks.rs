//! Overlapping blocks of addresses, with holes, as ranges that do not overlap.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::ports::Ports;

/// A range of addresses of one family, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressRange {
    /// First address.
    pub first: IpAddr,
    /// Last address.
    pub last: IpAddr,
}

/// An `ipBlock` and what is allowed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) range: IpNet,
    pub(super) except: Vec<IpNet>,
    pub(super) ports: Ports,
}

impl Block {
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.range.contains(&address) && !self.except.iter().any(|except| except.contains(&address))
    }
}

/// What the blocks, all of one family, allow together: the fewest ranges, in order.
pub(super) fn disjoint(blocks: &[Block]) -> Vec<(AddressRange, Ports)> {
    let Some(ipv4) = blocks.first().map(|block| block.range.addr().is_ipv4()) else { return Vec::new() };
    let mut ranges: Vec<(AddressRange, Ports)> = Vec::new();
    let starts = starts(blocks);
    for (at, first) in starts.iter().enumerate() {
        let last = starts.get(at + 1).map_or(highest(ipv4), |next| next - 1);
        let (first, last) = (address(ipv4, *first), address(ipv4, last));
        let mut ports = Ports::default();
        blocks.iter().filter(|block| block.contains(first)).for_each(|block| ports.extend(&block.ports));
        match ranges.last_mut() {
            Some((before, same)) if *same == ports => before.last = last,
            _ => ranges.push((AddressRange { first, last }, ports)),
        }
    }
    ranges.retain(|(_, ports)| !ports.is_none());
    ranges
}

/// Where what is allowed may change.
fn starts(blocks: &[Block]) -> Vec<u128> {
    let mut starts = BTreeSet::new();
    for range in blocks.iter().flat_map(|block| block.except.iter().chain([&block.range])) {
        starts.insert(number(range.network()));
        let last = number(range.broadcast());
        if last < highest(range.addr().is_ipv4()) {
            starts.insert(last + 1);
        }
    }
    starts.into_iter().collect()
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(ipv4: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(short) if ipv4 => Ipv4Addr::from(short).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

fn highest(ipv4: bool) -> u128 {
    if ipv4 { u128::from(u32::MAX) } else { u128::MAX }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::ports::PortRange;
    use super::*;
    use crate::endpoints::Protocol;

    fn block(range: &str, except: &[&str], port: Option<u16>) -> Block {
        let mut ports = Ports::All;
        if let Some(port) = port {
            ports = Ports::default();
            ports.add(PortRange { protocol: Protocol::Tcp, first: port, last: port });
        }
        let except = except.iter().map(|range| range.parse().unwrap()).collect();
        Block { range: range.parse().unwrap(), except, ports }
    }

    fn text(ranges: &[(AddressRange, Ports)]) -> String {
        let tell = |(range, ports): &(AddressRange, Ports)| {
            let ports = match ports {
                Ports::All => "all".to_owned(),
                Ports::Listed(ranges) => {
                    ranges.iter().map(|range| range.first.to_string()).collect::<Vec<_>>().join("+")
                }
            };
            format!("{}-{} {ports}", range.first, range.last)
        };
        ranges.iter().map(tell).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn ranges_do_not_overlap() {
        let table = [
            (vec![], ""),
            (vec![block("10.0.0.0/24", &[], None)], "10.0.0.0-10.0.0.255 all"),
            (vec![block("10.0.0.7/24", &[], None)], "10.0.0.0-10.0.0.255 all"),
            (
                vec![block("10.0.0.0/24", &["10.0.0.16/28", "10.0.0.20/32"], None)],
                "10.0.0.0-10.0.0.15 all, 10.0.0.32-10.0.0.255 all",
            ),
            (
                vec![block("0.0.0.0/0", &["255.0.0.0/8"], Some(80)), block("255.255.0.0/16", &[], Some(81))],
                "0.0.0.0-254.255.255.255 80, 255.255.0.0-255.255.255.255 81",
            ),
            (
                vec![block("10.0.0.0/8", &["10.1.0.0/16"], Some(80)), block("10.1.0.0/24", &[], Some(80))],
                "10.0.0.0-10.1.0.255 80, 10.2.0.0-10.255.255.255 80",
            ),
            (
                vec![block("10.0.0.0/30", &[], Some(80)), block("10.0.0.2/31", &[], Some(443))],
                "10.0.0.0-10.0.0.1 80, 10.0.0.2-10.0.0.3 80+443",
            ),
            (
                vec![block("::/0", &["fd00::/8", "ff00::/8"], None)],
                "::-fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff all, fe00::-feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff all",
            ),
        ];
        for (blocks, expected) in table {
            assert_eq!(text(&disjoint(&blocks)), expected, "{blocks:?}");
        }
    }
}
