//! Which protocols and ports are allowed, as one normal form.

use crate::endpoints::Protocol;

/// A range of ports of one protocol, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// Transport protocol.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

/// Protocols and ports. Equal sets are equal values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ports {
    /// These, in order, with a gap between any two of one protocol.
    Listed(Vec<PortRange>),
    /// All, and the protocols that have no ports, too.
    All,
}

impl Default for Ports {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Ports {
    /// Whether nothing is allowed.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Listed(ranges) if ranges.is_empty())
    }

    /// Whether this is allowed.
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Listed(ranges) => ranges
                .iter()
                .any(|range| range.protocol == protocol && (range.first..=range.last).contains(&port)),
        }
    }

    /// Allows what `other` allows, too.
    pub fn extend(&mut self, other: &Self) {
        match other {
            Self::All => *self = Self::All,
            Self::Listed(ranges) => ranges.iter().for_each(|range| self.add(*range)),
        }
    }

    /// Allows a range, too.
    pub fn add(&mut self, range: PortRange) {
        let Self::Listed(ranges) = self else { return };
        if range.first <= range.last {
            ranges.push(range);
            ranges.sort_unstable();
            ranges.dedup_by(|next, kept| kept.absorb(next));
        }
    }
}

impl PortRange {
    /// Takes over a range that begins later, if there is no gap between the two.
    fn absorb(&mut self, next: &Self) -> bool {
        let touches = self.protocol == next.protocol && u32::from(next.first) <= u32::from(self.last) + 1;
        if touches {
            self.last = self.last.max(next.last);
        }
        touches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(first: u16, last: u16) -> PortRange {
        PortRange { protocol: Protocol::Tcp, first, last }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let udp = PortRange { protocol: Protocol::Udp, first: 81, last: 81 };
        let table = [
            (vec![tcp(80, 80), tcp(80, 80)], vec![tcp(80, 80)]),
            (vec![tcp(81, 90), tcp(80, 80)], vec![tcp(80, 90)]),
            (vec![tcp(80, 90), tcp(85, 86), tcp(92, 95)], vec![tcp(80, 90), tcp(92, 95)]),
            (vec![tcp(1, 65535), tcp(0, 0), tcp(65535, 65535)], vec![tcp(0, 65535)]),
            (vec![tcp(80, 80), udp], vec![tcp(80, 80), udp]),
            (vec![tcp(9, 8)], vec![]),
        ];
        for (added, expected) in table {
            let mut ports = Ports::default();
            added.iter().for_each(|range| ports.add(*range));
            assert_eq!(ports, Ports::Listed(expected), "{added:?}");
            ports.extend(&Ports::All);
            ports.add(tcp(1, 2));
            assert_eq!(ports, Ports::All);
        }
    }
}
