//! Addresses of a simulated node and its pods.

use std::net::Ipv4Addr;

/// The first address of all simulated nodes: shared address space (RFC 6598), which nobody routes.
const FIRST: u32 = u32::from_be_bytes([100, 64, 0, 0]);

/// The most nodes that have a range.
pub const MOST_NODES: usize = 1 << 14;

/// The addresses of one node's pods.
#[derive(Clone, Debug)]
pub struct Addresses {
    node: u32,
    /// A bit for each; the node's own is always taken.
    taken: [u64; 4],
    last: u8,
}

impl Addresses {
    /// Those of the node with this number.
    pub fn of(node: usize) -> Self {
        let node = u32::try_from(node % MOST_NODES).unwrap_or_default();
        // The range's own address, the node's, and the last one.
        Self { node, taken: [0b11, 0, 0, 1 << 63], last: 1 }
    }

    /// The range, as nodes show it.
    pub fn range(&self) -> String {
        format!("{}/24", self.address(0))
    }

    /// The node's own address.
    pub fn own(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// Takes a free one, that which was free for longest; any if none is free.
    pub fn take(&mut self) -> Ipv4Addr {
        let mut next = (1..=u8::MAX).map(|step| self.last.wrapping_add(step));
        let free = next.find(|number| self.taken[usize::from(number / 64)] >> (number % 64) & 1 == 0);
        self.last = free.unwrap_or_else(|| self.last.wrapping_add(1));
        self.set(self.last, true);
        self.address(self.last)
    }

    /// Notes that this one is in use.
    pub fn note(&mut self, address: Ipv4Addr) {
        if let Some(number) = self.number(address) {
            self.set(number, true);
        }
    }

    /// This one is in use no more.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(number) = self.number(address).filter(|number| (2..u8::MAX).contains(number)) {
            self.set(number, false);
        }
    }

    fn set(&mut self, number: u8, taken: bool) {
        let (word, bit) = (&mut self.taken[usize::from(number / 64)], 1 << (number % 64));
        *word = if taken { *word | bit } else { *word & !bit };
    }

    fn number(&self, address: Ipv4Addr) -> Option<u8> {
        let number = u32::from(address).checked_sub(u32::from(self.address(0)))?;
        u8::try_from(number).ok()
    }

    fn address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::from(FIRST + (self.node << 8) + u32::from(number))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_pod_has_its_own_until_they_are_all_taken() {
        let mut all = Addresses::of(300);
        assert_eq!((all.range(), all.own().to_string()), ("100.65.44.0/24".into(), "100.65.44.1".into()));
        all.note("100.65.44.3".parse().unwrap());
        let given: BTreeSet<_> = (0..252).map(|_| all.take()).collect();
        assert_eq!(given.len(), 252);
        assert!(!given.contains(&"100.65.44.3".parse().unwrap()) && !given.contains(&all.own()));
        all.release(all.own());
        all.release("100.65.43.9".parse().unwrap());
        all.release("100.65.44.7".parse().unwrap());
        assert_eq!(all.take().to_string(), "100.65.44.7");
    }

    #[test]
    fn an_address_is_not_given_again_at_once() {
        let mut all = Addresses::of(0);
        let first = all.take();
        all.release(first);
        assert_ne!(all.take(), first);
    }
}
