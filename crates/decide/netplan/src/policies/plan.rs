//! Numbers for what is wanted, and what to change next.
//!
//! Groups and lists of ports become chains with numbers; isolated addresses and peers become elements
//! that lead to them. A pod that comes or goes is a matter of elements alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::blocks::AddressRange;
use super::ports::Ports;
use super::{Direction, Group, Wanted};

/// What a rule looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// An isolated pod's address; leads to its group.
    Isolated(Direction, IpAddr),
    /// A group and a peer's address; leads to a list of ports.
    Peer(u32, IpAddr),
    /// A group and peers' addresses; leads to a list of ports.
    Block(u32, AddressRange),
}

/// The chain of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupChain {
    /// Which way its packets go.
    pub direction: Direction,
    /// The list of ports that is allowed whoever the peer is.
    pub anyone: Option<u32>,
}

/// Elements with the numbers of what they lead to, and chains by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The elements.
    pub elements: BTreeMap<Element, u32>,
    /// The groups' chains.
    pub groups: BTreeMap<u32, GroupChain>,
    /// The lists' chains.
    pub lists: BTreeMap<u32, Ports>,
}

/// What leads from one state to another. Chains come before elements that lead to them, and go after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Elements that go, also those whose number changes.
    pub removed: Vec<Element>,
    /// Elements that come.
    pub added: Vec<(Element, u32)>,
    /// Groups' chains to write.
    pub groups: Vec<(u32, GroupChain)>,
    /// Groups' chains that go.
    pub old_groups: Vec<u32>,
    /// Lists' chains to write.
    pub lists: Vec<(u32, Ports)>,
    /// Lists' chains that go.
    pub old_lists: Vec<u32>,
}

impl Difference {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is in the kernel, and which numbers stand for what.
#[derive(Debug, Default)]
pub struct Plan {
    groups: BTreeMap<Group, u32>,
    lists: BTreeMap<Ports, u32>,
    newest: u32,
    applied: Rules,
    next: Rules,
}

impl Plan {
    /// A plan for a kernel without rules of policies whose numbers are above `newest`.
    pub fn after(newest: u32) -> Self {
        Self { newest, ..Self::default() }
    }

    /// Tells what is wanted now; answers with what leads there.
    pub fn wish(&mut self, wanted: &Wanted) -> Difference {
        self.next = self.number(wanted);
        difference(&self.applied, &self.next)
    }

    /// Takes note that the kernel accepted the last answer.
    pub fn apply(&mut self) {
        self.applied = std::mem::take(&mut self.next);
        self.groups.retain(|_, number| self.applied.groups.contains_key(number));
        self.lists.retain(|_, number| self.applied.lists.contains_key(number));
    }

    /// What the kernel has.
    pub fn applied(&self) -> &Rules {
        &self.applied
    }

    fn number(&mut self, wanted: &Wanted) -> Rules {
        let mut rules = Rules::default();
        for (group, allowed) in &wanted.groups {
            let anyone = (!allowed.anyone.is_none()).then(|| self.list(&allowed.anyone, &mut rules.lists));
            let number = number_of(&mut self.groups, &mut self.newest, group);
            rules.groups.insert(number, GroupChain { direction: group.direction, anyone });
            for (address, ports) in &allowed.peers {
                let list = self.list(ports, &mut rules.lists);
                rules.elements.insert(Element::Peer(number, *address), list);
            }
            for (range, ports) in &allowed.blocks {
                let list = self.list(ports, &mut rules.lists);
                rules.elements.insert(Element::Block(number, *range), list);
            }
        }
        for ((direction, address), group) in &wanted.isolated {
            let number = number_of(&mut self.groups, &mut self.newest, group);
            rules.elements.insert(Element::Isolated(*direction, *address), number);
        }
        rules
    }

    fn list(&mut self, ports: &Ports, lists: &mut BTreeMap<u32, Ports>) -> u32 {
        let number = number_of(&mut self.lists, &mut self.newest, ports);
        lists.entry(number).or_insert_with(|| ports.clone());
        number
    }
}

fn number_of<T: Ord + Clone>(book: &mut BTreeMap<T, u32>, newest: &mut u32, thing: &T) -> u32 {
    if let Some(number) = book.get(thing) {
        return *number;
    }
    *newest += 1;
    book.insert(thing.clone(), *newest);
    *newest
}

fn difference(before: &Rules, after: &Rules) -> Difference {
    let (removed, added) = changed(&before.elements, &after.elements);
    let (old_groups, groups) = changed(&before.groups, &after.groups);
    let (old_lists, lists) = changed(&before.lists, &after.lists);
    let gone = |numbers: Vec<u32>, kept: BTreeSet<u32>| {
        numbers.into_iter().filter(|number| !kept.contains(number)).collect()
    };
    Difference {
        removed,
        added,
        old_groups: gone(old_groups, after.groups.keys().copied().collect()),
        groups,
        old_lists: gone(old_lists, after.lists.keys().copied().collect()),
        lists,
    }
}

/// The keys that go or change, and those that come or changed with their values.
fn changed<K: Ord + Copy, V: PartialEq + Clone>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
) -> (Vec<K>, Vec<(K, V)>) {
    let gone = before.iter().filter(|(key, value)| after.get(key) != Some(value)).map(|(key, _)| *key);
    let come = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    (gone.collect(), come.map(|(key, value)| (*key, value.clone())).collect())
}
