//! Which pod gets which address of the node's range.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses of one range: each is held at most once, and the one given up longest ago is given
/// out again first, so that late packets and caches rarely meet a new holder.
#[derive(Debug, Clone)]
pub struct Pool {
    range: IpNet,
    first: u128,
    last: u128,
    held: BTreeSet<u128>,
    /// Given up since the start, oldest first.
    released: VecDeque<u128>,
    /// The next address to give out that was not held since the start.
    next: u128,
    /// How many of them are left to look at.
    unseen: u128,
}

/// Why a range is no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it has no room for a gateway and a pod")]
pub struct TooSmall;

impl Pool {
    /// All addresses of the range but its first two (network and gateway) and, in IPv4, its last.
    /// `newest` is the address that was given out last before a restart.
    pub fn new(range: IpNet, newest: Option<IpAddr>) -> Result<Self, TooSmall> {
        let range = range.trunc();
        let start = number(range.network());
        let end = number(range.broadcast()) - u128::from(range.addr().is_ipv4());
        if end < start + 2 {
            return Err(TooSmall);
        }
        let (first, last) = (start + 2, end);
        let next = newest.filter(|newest| range.contains(newest)).map_or(first, |newest| number(newest) + 1);
        let next = if (first..=last).contains(&next) { next } else { first };
        let unseen = last - first + 1;
        Ok(Self { range, first, last, held: BTreeSet::new(), released: VecDeque::new(), next, unseen })
    }

    /// The range.
    pub fn range(&self) -> IpNet {
        self.range
    }

    /// The address of the node inside the range.
    pub fn gateway(&self) -> IpAddr {
        self.address(self.first - 1)
    }

    /// Notes that an address was held before the start. False when it is not to be given out, or held
    /// already.
    pub fn hold(&mut self, address: IpAddr) -> bool {
        let number = number(address);
        let ours = self.range.contains(&address) && (self.first..=self.last).contains(&number);
        ours && self.held.insert(number)
    }

    /// Gives out an address; nothing when all are held.
    pub fn take(&mut self) -> Option<IpAddr> {
        let number = self.take_unseen().or_else(|| self.released.pop_front())?;
        self.held.insert(number);
        Some(self.address(number))
    }

    /// Takes an address back. Addresses that are not held are left alone.
    pub fn release(&mut self, address: IpAddr) {
        let number = number(address);
        if self.range.contains(&address) && self.held.remove(&number) {
            self.released.push_back(number);
        }
    }

    /// Whether no address is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn take_unseen(&mut self) -> Option<u128> {
        while self.unseen > 0 {
            let candidate = self.next;
            self.next = if candidate == self.last { self.first } else { candidate + 1 };
            self.unseen -= 1;
            if !self.held.contains(&candidate) && !self.released.contains(&candidate) {
                return Some(candidate);
            }
        }
        None
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.range {
            IpNet::V4(_) => Ipv4Addr::from(u32::try_from(number).expect("the range is IPv4")).into(),
            IpNet::V6(_) => Ipv6Addr::from(number).into(),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn pool(range: &str, newest: Option<&str>) -> Result<Pool, TooSmall> {
        Pool::new(range.parse().unwrap(), newest.map(|text| text.parse().unwrap()))
    }

    fn take(pool: &mut Pool) -> String {
        pool.take().map_or("none".to_owned(), |address| address.to_string())
    }

    #[test]
    fn ranges_leave_out_network_gateway_and_broadcast() {
        let cases = [
            ("10.0.0.0/30", Some(("10.0.0.1", vec!["10.0.0.2", "none"]))),
            (
                "10.0.0.7/29",
                Some(("10.0.0.1", vec!["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "none"])),
            ),
            ("10.0.0.0/31", None),
            ("10.0.0.0/32", None),
            ("fd00::/126", Some(("fd00::1", vec!["fd00::2", "fd00::3", "none"]))),
            ("fd00::/127", None),
        ];
        for (range, expected) in cases {
            let Some((gateway, addresses)) = expected else {
                assert!(pool(range, None).is_err(), "{range}");
                continue;
            };
            let mut pool = pool(range, None).unwrap();
            assert_eq!(pool.gateway().to_string(), gateway);
            assert_eq!(addresses.iter().map(|_| take(&mut pool)).collect::<Vec<_>>(), addresses, "{range}");
        }
    }

    #[test]
    fn the_address_given_up_longest_ago_comes_first() {
        let mut pool = pool("10.0.0.0/29", None).unwrap();
        assert_eq!([take(&mut pool), take(&mut pool)], ["10.0.0.2", "10.0.0.3"]);
        pool.release("10.0.0.3".parse().unwrap());
        pool.release("10.0.0.2".parse().unwrap());
        pool.release("10.0.0.2".parse().unwrap());
        pool.release("10.9.0.2".parse().unwrap());
        let rest: Vec<_> = (0..6).map(|_| take(&mut pool)).collect();
        assert_eq!(rest, ["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.3", "10.0.0.2", "none"]);
    }

    #[test]
    fn a_restart_goes_on_behind_the_newest_and_doubles_nothing() {
        let mut pool = pool("10.0.0.0/29", Some("10.0.0.5")).unwrap();
        assert!(pool.hold("10.0.0.5".parse().unwrap()));
        assert!(!pool.hold("10.0.0.5".parse().unwrap()));
        assert!(!pool.hold("10.0.0.1".parse().unwrap()), "the gateway");
        assert!(pool.hold("10.0.0.6".parse().unwrap()));
        let rest: Vec<_> = (0..4).map(|_| take(&mut pool)).collect();
        assert_eq!(rest, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "none"]);
    }
}
