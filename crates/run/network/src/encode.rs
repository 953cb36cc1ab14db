//! Elements of the plan as bytes of the kernel's sets, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use plimsoll_kernel::nft::{Batch, Family};
use plimsoll_netplan::endpoints::{Protocol, Target};
use plimsoll_netplan::services::rules::{Balancer, Choice, Difference, Element, Part, Value};
use plimsoll_netplan::services::{Audience, Frontend};

use crate::table::Set;

/// Where the numbers of the targets begin that outsiders may reach.
pub(crate) const OUTSIDE: u32 = 1 << 24;

/// Where the identities of targets begin.
const STICKY: u32 = 1 << 30;

/// Bits of a choice's number that hold the count; those above hold the kind of the frontend, two bits,
/// and the affinity.
const COUNT_BITS: u32 = 13;

/// Adds the elements of a difference: first what goes, then what comes.
pub(crate) fn write(batch: &mut Batch, family: Family, difference: &Difference) {
    let removed = difference.removed.iter().map(|element| (set(element), key(family, element)));
    for (set, keys) in grouped(removed) {
        match set {
            Set::Admitted => batch.delete_ranges(set.name(), keys.iter().map(ends)),
            _ => batch.delete_elements(set.name(), keys.iter().map(Vec::as_slice)),
        }
    }
    let added = difference.added.iter().map(|(element, element_value)| {
        (set(element), (key(family, element), value(family, element, element_value)))
    });
    for (set, elements) in grouped(added) {
        if set == Set::Admitted {
            batch.add_ranges(set.name(), elements.iter().map(|(key, _)| ends(key)));
            continue;
        }
        let elements = elements.iter().map(|(key, value)| (key.as_slice(), value.as_deref()));
        batch.add_elements(set.name(), elements);
    }
}

/// The first and the last key of a range, as they are in one.
#[expect(clippy::ptr_arg, reason = "what iterators over lists of keys hand out")]
fn ends(both: &Vec<u8>) -> [&[u8]; 2] {
    let (first, last) = both.split_at(both.len() / 2);
    [first, last]
}

/// Items by set, so that each set is one message; sets in the order of [`Set::ALL`].
fn grouped<T>(items: impl Iterator<Item = (Set, T)>) -> impl Iterator<Item = (Set, Vec<T>)> {
    let mut groups: Vec<(Set, Vec<T>)> = Set::ALL.iter().map(|set| (*set, Vec::new())).collect();
    for (set, item) in items {
        if let Some((_, group)) = groups.iter_mut().find(|(other, _)| *other == set) {
            group.push(item);
        }
    }
    groups.into_iter().filter(|(_, group)| !group.is_empty())
}

fn set(element: &Element) -> Set {
    match (element.part, element.frontend.audience) {
        (Part::Choice, Audience::Everyone) => Set::Frontends,
        (Part::Choice, Audience::Outside) => Set::OutsideFrontends,
        (Part::Slot(_) | Part::Sticky(_), _) => Set::Endpoints,
        (Part::Identity(_), _) => Set::Identities,
        (Part::Masquerade, _) => Set::Masquerade,
        (Part::Guarded, _) => Set::Guarded,
        (Part::Admitted(_), _) => Set::Admitted,
        (Part::Rejected, _) => Set::Rejected,
        (Part::Dropped, Audience::Everyone) => Set::Dropped,
        (Part::Dropped, Audience::Outside) => Set::OutsideDropped,
    }
}

fn key(family: Family, element: &Element) -> Vec<u8> {
    let mut bytes = frontend_key(family, &element.frontend);
    let base = base(&element.frontend);
    match element.part {
        Part::Slot(slot) | Part::Identity(slot) => bytes.extend_from_slice(&(base + slot).to_ne_bytes()),
        Part::Sticky(identity) => bytes.extend_from_slice(&(STICKY + base + identity).to_ne_bytes()),
        Part::Admitted(range) => {
            let frontend = bytes.clone();
            bytes.extend(address_bytes(family, Some(range.network())));
            bytes.extend(frontend);
            bytes.extend(address_bytes(family, Some(range.broadcast())));
        }
        Part::Choice | Part::Masquerade | Part::Guarded | Part::Rejected | Part::Dropped => {}
    }
    bytes
}

fn base(frontend: &Frontend) -> u32 {
    if frontend.audience == Audience::Outside { OUTSIDE } else { 0 }
}

fn value(family: Family, element: &Element, value: &Value) -> Option<Vec<u8>> {
    let frontend = &element.frontend;
    match value {
        Value::None => None,
        Value::Choice(choice) => {
            let choice = choice_bytes(frontend.address.is_some(), frontend.audience, choice);
            Some(choice.to_vec())
        }
        Value::Identity(identity) => Some((STICKY + base(frontend) + identity).to_ne_bytes().to_vec()),
        Value::Target(target) => Some(target_bytes(family, target)),
    }
}

/// The key of a frontend; that of the node's ports has the unspecified address.
pub(crate) fn frontend_key(family: Family, frontend: &Frontend) -> Vec<u8> {
    let mut bytes = address_bytes(family, frontend.address);
    bytes.extend_from_slice(&[frontend.protocol.number(), 0, 0, 0]);
    bytes.extend_from_slice(&port_bytes(frontend.port));
    bytes
}

/// An address and a port.
pub(crate) fn target_bytes(family: Family, target: &Target) -> Vec<u8> {
    let mut bytes = address_bytes(family, Some(target.address));
    bytes.extend_from_slice(&port_bytes(target.port));
    bytes
}

/// How to choose, and for which kind of frontend, in one number.
pub(crate) fn choice_bytes(addressed: bool, audience: Audience, choice: &Choice) -> [u8; 4] {
    let kind = u32::from(!addressed) | u32::from(audience == Audience::Outside) << 1;
    let count = choice.count.min((1 << COUNT_BITS) - 1);
    (choice.affinity << (COUNT_BITS + 2) | kind << COUNT_BITS | count).to_ne_bytes()
}

/// The chain that a number of [`choice_bytes`] leads to.
pub(crate) fn balancer_of(number: [u8; 4]) -> Balancer {
    let number = u32::from_ne_bytes(number);
    let kind = number >> COUNT_BITS & 3;
    Balancer {
        addressed: kind & 1 == 0,
        audience: if kind & 2 == 0 { Audience::Everyone } else { Audience::Outside },
        choice: choice_of(number),
    }
}

fn choice_of(number: u32) -> Choice {
    Choice { count: number & ((1 << COUNT_BITS) - 1), affinity: number >> (COUNT_BITS + 2) }
}

/// An address, unspecified if there is none.
pub(crate) fn address_bytes(family: Family, address: Option<IpAddr>) -> Vec<u8> {
    match (family, address) {
        (Family::Ipv4, Some(IpAddr::V4(address))) => address.octets().to_vec(),
        (Family::Ipv6, Some(IpAddr::V6(address))) => address.octets().to_vec(),
        (Family::Ipv4, _) => vec![0; 4],
        (Family::Ipv6, _) => vec![0; 16],
    }
}

fn port_bytes(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// The element with these bytes in the kernel; nothing when they are none of ours.
pub(crate) fn decode(family: Family, set: Set, key: &[u8], value: &[u8]) -> Option<(Element, Value)> {
    let mut key = Reader { family, bytes: key };
    let address = key.address()?;
    let (protocol, port) = (Protocol::from_number(key.word()?[0])?, key.port()?);
    let address = (!address.is_unspecified()).then_some(address);
    let audience = match set {
        Set::OutsideFrontends | Set::OutsideDropped => Audience::Outside,
        _ => Audience::Everyone,
    };
    let mut frontend = Frontend { address, protocol, port, audience };
    let mut value = Reader { family, bytes: value };
    let (part, value) = match set {
        Set::Frontends | Set::OutsideFrontends => (Part::Choice, Value::Choice(choice_of(value.number()?))),
        Set::Endpoints => {
            let number = key.number()?;
            frontend.audience = audience_of(number);
            let part = if number & STICKY == 0 { Part::Slot } else { Part::Sticky };
            (part(number % OUTSIDE), Value::Target(value.target()?))
        }
        Set::Identities => {
            let number = key.number()?;
            frontend.audience = audience_of(number);
            (Part::Identity(number % OUTSIDE), Value::Identity(value.number()? % OUTSIDE))
        }
        Set::Masquerade => (Part::Masquerade, Value::None),
        Set::Guarded => (Part::Guarded, Value::None),
        Set::Admitted => {
            let first = key.address()?;
            key.skip_frontend()?;
            (Part::Admitted(range(first, key.address()?)?), Value::None)
        }
        Set::Rejected => (Part::Rejected, Value::None),
        Set::Dropped | Set::OutsideDropped => (Part::Dropped, Value::None),
        Set::Affinity | Set::Balancers | Set::HostPorts | Set::OwnPods | Set::Writers => return None,
    };
    Some((Element { frontend, part }, value))
}

/// The range of a prefix that has these ends.
fn range(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    let (width, prefix) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (32, (u32::from(first) ^ u32::from(last)).count_ones()),
        (IpAddr::V6(first), IpAddr::V6(last)) => (128, (u128::from(first) ^ u128::from(last)).count_ones()),
        _ => return None,
    };
    IpNet::new(first, u8::try_from(width - prefix).ok()?).ok()
}

fn audience_of(number: u32) -> Audience {
    if number & OUTSIDE == 0 { Audience::Everyone } else { Audience::Outside }
}

struct Reader<'a> {
    family: Family,
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn word(&mut self) -> Option<[u8; 4]> {
        let (word, rest) = self.bytes.split_first_chunk::<4>()?;
        self.bytes = rest;
        Some(*word)
    }

    fn number(&mut self) -> Option<u32> {
        self.word().map(u32::from_ne_bytes)
    }

    fn port(&mut self) -> Option<u16> {
        self.word().map(|[high, low, _, _]| u16::from_be_bytes([high, low]))
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.family {
            Family::Ipv4 => self.word().map(|octets| Ipv4Addr::from(octets).into()),
            Family::Ipv6 => {
                let (octets, rest) = self.bytes.split_first_chunk::<16>()?;
                self.bytes = rest;
                Some(Ipv6Addr::from(*octets).into())
            }
        }
    }

    fn skip_frontend(&mut self) -> Option<()> {
        self.address()?;
        self.number()?;
        self.number().map(|_| ())
    }

    fn target(&mut self) -> Option<Target> {
        Some(Target { address: self.address()?, port: self.port()? })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use plimsoll_netplan::services::rules::IDENTITIES;

    use super::*;

    #[test]
    fn elements_come_back_as_they_went() {
        for (family, address, target, admitted) in [
            (Family::Ipv4, "10.96.0.1", "10.42.0.7", "192.0.2.128/25"),
            (Family::Ipv6, "fd00::1", "fd01::7", "fd02:0:0:8000::/49"),
        ] {
            let target = Target { address: target.parse().unwrap(), port: 8080 };
            for address in [None, Some(address.parse().unwrap())] {
                for audience in [Audience::Everyone, Audience::Outside] {
                    let frontend = Frontend { address, protocol: Protocol::Sctp, port: 30080, audience };
                    let parts = [
                        (Part::Choice, Value::Choice(Choice { count: 3, affinity: 86400 })),
                        (Part::Slot(8190), Value::Target(target)),
                        (Part::Identity(8190), Value::Identity(IDENTITIES - 1)),
                        (Part::Sticky(IDENTITIES - 1), Value::Target(target)),
                        (Part::Dropped, Value::None),
                    ];
                    let everyone = [
                        Part::Masquerade,
                        Part::Rejected,
                        Part::Guarded,
                        Part::Admitted(admitted.parse().unwrap()),
                    ]
                    .map(|part| (part, Value::None));
                    let everyone = everyone.iter().filter(|_| audience == Audience::Everyone);
                    for (part, expected) in parts.iter().chain(everyone) {
                        let element = Element { frontend, part: *part };
                        let value = value(family, &element, expected).unwrap_or_default();
                        let decoded = decode(family, set(&element), &key(family, &element), &value);
                        assert_eq!(decoded, Some((element, *expected)));
                    }
                }
            }
        }
        assert_eq!(decode(Family::Ipv4, Set::Frontends, &[1, 2, 3], &[]), None);
    }
}
