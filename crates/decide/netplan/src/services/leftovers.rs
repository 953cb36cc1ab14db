//! What stays in the kernel for a while although the rules lead there no more.
//!
//! A packet looks up one map after the other, each as it is at that moment: how many targets there are, then one of them.
//! What it was sent to by the first must be there when it comes to the second, or a connection is refused although there
//! are targets all the time.

use std::collections::BTreeSet;

use super::rules::{Balancer, Difference, Element, Part};

/// Numbers of targets beyond the count, and chains that nothing leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    slots: BTreeSet<Element>,
    balancers: BTreeSet<Balancer>,
}

impl Leftovers {
    /// The chains that were found in the kernel, of which some are in use.
    pub fn found(
        balancers: impl IntoIterator<Item = Balancer>,
        used: impl Iterator<Item = Balancer>,
    ) -> Self {
        let used: BTreeSet<_> = used.collect();
        let balancers = balancers.into_iter().filter(|balancer| !used.contains(balancer)).collect();
        Self { slots: BTreeSet::new(), balancers }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.balancers.is_empty()
    }

    /// What of a difference is to be done now. The rest is for later, and what is needed again stays.
    pub fn put_off(&mut self, difference: &Difference) -> Difference {
        let added: BTreeSet<Element> = difference.added.iter().map(|(element, _)| *element).collect();
        let shrinks = |element: &Element| {
            let choice = Element { part: Part::Choice, ..*element };
            matches!(element.part, Part::Slot(_)) && !added.contains(element) && added.contains(&choice)
        };
        let (later, mut removed): (Vec<_>, Vec<_>) =
            difference.removed.iter().copied().partition(|element| shrinks(element));
        // What is there already cannot be added.
        removed.extend(added.iter().filter(|element| self.slots.remove(element)));
        self.slots.extend(later);
        let mut new_balancers = difference.new_balancers.clone();
        new_balancers.retain(|balancer| !self.balancers.remove(balancer));
        self.balancers.extend(&difference.old_balancers);
        Difference { removed, new_balancers, old_balancers: Vec::new(), ..difference.clone() }
    }

    /// Everything that is left, to be removed.
    pub fn take(&mut self) -> Difference {
        let Self { slots, balancers } = std::mem::take(self);
        Difference {
            removed: slots.into_iter().collect(),
            old_balancers: balancers.into_iter().collect(),
            ..Difference::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::rules::Applied;
    use super::super::{Audience, Frontend, Handling};
    use super::*;
    use crate::endpoints::{Protocol, Target};

    const FRONTEND: Frontend =
        Frontend { address: None, protocol: Protocol::Tcp, port: 80, audience: Audience::Everyone };

    fn balance(targets: &[u8]) -> Handling {
        let target = |last: &u8| Target { address: [10, 42, 0, *last].into(), port: 80 };
        let targets = targets.iter().map(target).collect();
        Handling::Balance { targets, affinity: None, masquerade: false, sources: BTreeSet::new() }
    }

    fn parts(elements: &[Element]) -> Vec<Part> {
        elements.iter().map(|element| element.part).collect()
    }

    #[test]
    fn what_a_packet_may_come_to_stays_until_it_is_taken() {
        let (mut applied, mut left) = (Applied::default(), Leftovers::default());
        let mut step = |left: &mut Leftovers, handling: Option<&Handling>| {
            let difference = applied.difference(&BTreeMap::from([(FRONTEND, handling)]));
            applied.apply(&difference);
            left.put_off(&difference)
        };
        assert_eq!(step(&mut left, Some(&balance(&[1, 2, 3]))).new_balancers.len(), 1);
        assert!(left.is_empty(), "nothing goes when targets come");

        // The first target goes: the last one takes its number, and has its own a while longer.
        let fewer = step(&mut left, Some(&balance(&[2, 3])));
        assert_eq!(parts(&fewer.removed), [Part::Choice, Part::Slot(0)]);
        assert!(fewer.old_balancers.is_empty());

        // It comes back: its number is there, and so is the chain.
        let more = step(&mut left, Some(&balance(&[1, 2, 3])));
        assert_eq!(parts(&more.removed), [Part::Choice, Part::Slot(2)]);
        assert!(more.new_balancers.is_empty());
        let rest = left.take();
        assert!(rest.removed.is_empty());
        assert_eq!(rest.old_balancers[0].choice.count, 2, "that of two is used no more");

        // Where a frontend goes, or its targets all, nobody shall be sent on.
        step(&mut left, Some(&balance(&[1])));
        assert_eq!(parts(&left.clone().take().removed), [Part::Slot(1), Part::Slot(2)]);
        let refused = step(&mut left, Some(&Handling::Reject));
        assert_eq!(parts(&refused.removed), [Part::Choice, Part::Slot(0)]);
        assert_eq!(left.take().old_balancers.len(), 2);
        assert!(left.is_empty());
    }

    #[test]
    fn chains_that_were_left_are_found_again() {
        let of = |count| Balancer {
            addressed: false,
            audience: Audience::Everyone,
            choice: super::super::rules::Choice { count, affinity: 0 },
        };
        let mut left = Leftovers::found([1, 2, 3].map(of), [of(2)].into_iter());
        assert_eq!(left.take().old_balancers, [of(1), of(3)]);
    }
}
