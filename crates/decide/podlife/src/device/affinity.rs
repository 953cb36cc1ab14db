//! On which memory nodes devices are to be had, and which of them are taken first
//! (kubelet: pkg/kubelet/cm/devicemanager/topology_hints.go, manager.go).

use std::collections::{BTreeMap, BTreeSet};

use super::{Choice, Device, Ledger, Resource};
use crate::placement::combinations;
use crate::placement::hints::{Hint, Hints};

/// Whose devices are asked for: how many of each resource.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The pod's UID.
    pub pod: &'a str,
    /// The container; none for the pod as a whole.
    pub container: Option<&'a str>,
    /// Counts by resource.
    pub counts: &'a BTreeMap<String, usize>,
    /// The devices that init containers of the pod leave, by resource.
    pub reusable: &'a BTreeMap<String, BTreeSet<String>>,
}

impl Ledger {
    /// Where what is asked for could be on a machine with these memory nodes.
    #[must_use]
    pub fn hints(&self, asked: Asked<'_>, nodes: &BTreeSet<u32>) -> Hints {
        let of = |(resource, count): (&String, &usize)| {
            let known = self.resources.get(resource).filter(|known| known.is_placed());
            (resource.clone(), known.map(|known| self.hints_of(asked, resource, known, *count, nodes)))
        };
        asked.counts.iter().map(of).collect()
    }

    fn hints_of(
        &self,
        asked: Asked<'_>,
        name: &str,
        known: &Resource,
        count: usize,
        nodes: &BTreeSet<u32>,
    ) -> Vec<Hint> {
        let none = BTreeSet::new();
        let had = self.had(asked, name);
        if !had.is_empty() {
            return if had.len() == count { known.hints(&had, &none, count, nodes) } else { Vec::new() };
        }
        let used = self.used(name);
        let healthy = known.devices.iter().filter(|(_, device)| device.healthy).map(|(id, _)| id.as_str());
        let free: BTreeSet<&str> = healthy.filter(|id| !used.contains(id)).collect();
        let reusable = asked.reusable.get(name).into_iter().flatten().map(String::as_str).collect();
        if free.union(&reusable).count() < count {
            return Vec::new();
        }
        known.hints(&free, &reusable, count, nodes)
    }

    fn had(&self, asked: Asked<'_>, name: &str) -> BTreeSet<&str> {
        let held = self.held.get(asked.pod).into_iter().flatten();
        let own = held.filter(|((container, resource), _)| {
            resource == name && asked.container.is_none_or(|only| only == container)
        });
        own.flat_map(|(_, held)| held.devices.iter().map(String::as_str)).collect()
    }

    /// Takes those of a choice first that lie on the nodes that were agreed on.
    #[must_use]
    pub fn align(&self, resource: &str, choice: Choice, nodes: Option<&BTreeSet<u32>>) -> Choice {
        let known = self.resources.get(resource).filter(|known| known.is_placed());
        match (choice, known, nodes) {
            (Choice::Of { given, more, free, .. }, Some(known), Some(nodes)) => {
                known.align(given, more, free, nodes)
            }
            (choice, ..) => choice,
        }
    }
}

impl Resource {
    /// Whether any device says where it is: without, nobody cares.
    fn is_placed(&self) -> bool {
        self.devices.values().any(|device| !device.nodes.is_empty())
    }

    fn hints(
        &self,
        free: &BTreeSet<&str>,
        reusable: &BTreeSet<&str>,
        count: usize,
        nodes: &BTreeSet<u32>,
    ) -> Vec<Hint> {
        let all: Vec<u32> = nodes.iter().copied().collect();
        let mut least = all.len();
        let mut found = Vec::new();
        for size in 1..=all.len() {
            for group in combinations(&all, size) {
                let near = |id: &str| self.devices.get(id).is_some_and(|device| is_near(device, &group));
                if self.devices.values().filter(|device| is_near(device, &group)).count() >= count {
                    least = least.min(size);
                }
                let placed =
                    |id: &&&str| self.devices.get(**id).is_some_and(|device| !device.nodes.is_empty());
                let bound: Vec<&&str> = reusable.iter().filter(placed).collect();
                if bound.iter().all(|id| near(id))
                    && bound.len() + free.iter().filter(|id| near(id)).count() >= count
                {
                    found.push(group);
                }
            }
        }
        let hint = |group: Vec<u32>| Hint {
            preferred: group.len() == least,
            nodes: Some(group.into_iter().collect()),
        };
        found.into_iter().map(hint).collect()
    }

    fn align(
        &self,
        mut given: BTreeSet<String>,
        more: usize,
        free: BTreeSet<String>,
        nodes: &BTreeSet<u32>,
    ) -> Choice {
        let group: Vec<u32> = nodes.iter().copied().collect();
        let device = |id: &String| self.devices.get(id);
        let near = |id: &&String| device(id).is_some_and(|device| is_near(device, &group));
        let aligned: BTreeSet<String> = free.iter().filter(near).cloned().collect();
        if more < aligned.len() {
            return Choice::Of { given, more, free: aligned, last: BTreeSet::new() };
        }
        let more = more - aligned.len();
        let free: BTreeSet<String> = free.difference(&aligned).cloned().collect();
        let last =
            free.iter().filter(|id| device(id).is_some_and(|it| it.nodes.is_empty())).cloned().collect();
        given.extend(aligned);
        Choice::Of { given, more, free, last }
    }
}

fn is_near(device: &Device, group: &[u32]) -> bool {
    device.nodes.iter().any(|node| u32::try_from(*node).is_ok_and(|node| group.contains(&node)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Held, Wish};

    const GPU: &str = "example.com/gpu";

    fn ledger(list: &[(&str, &[i64])]) -> Ledger {
        let one = |(id, nodes): &(&str, &[i64])| {
            ((*id).to_owned(), Device { healthy: true, nodes: nodes.to_vec() })
        };
        let mut ledger = Ledger::default();
        ledger.announce(GPU, list.iter().map(one).collect());
        ledger
    }

    fn ids(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    fn hints(ledger: &Ledger, count: usize, reusable: &[&str]) -> Option<Vec<(Vec<u32>, bool)>> {
        let counts = BTreeMap::from([(GPU.to_owned(), count)]);
        let reusable = BTreeMap::from([(GPU.to_owned(), ids(reusable))]);
        let asked = Asked { pod: "p", container: Some("c"), counts: &counts, reusable: &reusable };
        let found = ledger.hints(asked, &[0, 1].into()).remove(GPU)?;
        let plain = |hint: Hint| (hint.nodes.unwrap_or_default().into_iter().collect(), hint.preferred);
        Some(found?.into_iter().map(plain).collect())
    }

    #[test]
    fn devices_say_where_they_could_be_had() {
        let placed = ledger(&[("a", &[0]), ("b", &[0]), ("x", &[1])]);
        assert_eq!(hints(&placed, 1, &[]), Some(vec![(vec![0], true), (vec![1], true), (vec![0, 1], false)]));
        assert_eq!(hints(&placed, 2, &[]), Some(vec![(vec![0], true), (vec![0, 1], false)]));
        assert_eq!(hints(&placed, 3, &[]), Some(vec![(vec![0, 1], true)]));
        assert_eq!(hints(&placed, 4, &[]), Some(vec![]), "there is no place for so many");
        assert_eq!(hints(&ledger(&[("a", &[])]), 1, &[]), None, "who is nowhere has no opinion");
        let mut taken = placed.clone();
        let other = Wish { pod: "q", container: "c", resource: GPU, count: 1 };
        taken.give(other, Held { devices: ids(&["a"]), answer: Vec::new() });
        // Two on one node would do on an empty machine, so both nodes are nobody's wish.
        assert_eq!(hints(&taken, 2, &[]), Some(vec![(vec![0, 1], false)]));
        // What an init container had ties the others to its node.
        assert_eq!(hints(&taken, 1, &["x"]), Some(vec![(vec![1], true), (vec![0, 1], false)]));
        let own = Wish { pod: "p", container: "c", resource: GPU, count: 1 };
        taken.give(own, Held { devices: ids(&["x"]), answer: Vec::new() });
        assert_eq!(hints(&taken, 1, &[]), Some(vec![(vec![1], true), (vec![0, 1], false)]));
        assert_eq!(hints(&taken, 2, &[]), Some(vec![]), "it has another number already");
    }

    #[test]
    fn devices_on_the_nodes_agreed_on_are_taken_first() {
        let ledger = ledger(&[("a", &[0]), ("b", &[1]), ("c", &[1]), ("d", &[]), ("e", &[0])]);
        for (count, node, liked, expected) in [
            (1, Some(1), &["a", "c"][..], &["c"][..]),
            (2, Some(1), &[], &["b", "c"]),
            // The others with a place come before those without.
            (3, Some(1), &[], &["a", "b", "c"]),
            (4, Some(1), &["d"], &["a", "b", "c", "d"]),
            (1, None, &["d"], &["d"]),
        ] {
            let wish = Wish { pod: "p", container: "c", resource: GPU, count };
            let choice = ledger.choose(wish, &BTreeSet::new());
            let nodes = node.map(|node| BTreeSet::from([node]));
            let choice = choice.map(|choice| ledger.align(GPU, choice, nodes.as_ref()));
            let liked: Vec<String> = liked.iter().map(|id| (*id).to_owned()).collect();
            assert_eq!(choice.map(|it| it.settle(&liked)), Ok(ids(expected)), "{count} on {node:?}");
        }
    }
}
