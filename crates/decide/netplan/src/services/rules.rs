//! Elements of the packet rules' maps, and the least difference between two states of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Audience, Frontend, Handling};
use crate::endpoints::{Protocol, Target};

/// One element of a map or set in the kernel. Those of a frontend are neighbours in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The frontend it belongs to.
    pub frontend: Frontend,
    /// What it says of the frontend.
    pub part: Part,
}

/// What an element says of its frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// How to choose a target; its value is [`Value::Choice`].
    Choice,
    /// The target with a number below the choice's count; its value is [`Value::Target`].
    Slot(u32),
    /// The identity of the target with this number, where clients return; its value is
    /// [`Value::Identity`].
    Identity(u32),
    /// The target with this identity, which outlives numbers; its value is [`Value::Target`].
    Sticky(u32),
    /// Targets see this node as the client.
    Masquerade,
    /// Only those who are admitted may come.
    Guarded,
    /// These clients are admitted.
    Admitted(IpNet),
    /// Connections are refused.
    Rejected,
    /// Packets disappear.
    Dropped,
}

/// What an element's key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// Nothing: the key alone says it.
    None,
    /// How to choose one of several targets.
    Choice(Choice),
    /// A target's identity.
    Identity(u32),
    /// A target.
    Target(Target),
}

/// Targets that one frontend is spread over; more would not be told apart by a [`Choice`].
pub const MOST_TARGETS: u32 = (1 << 13) - 1;

/// Identities are below this number.
pub const IDENTITIES: u32 = 1 << 22;

/// How to choose one of several targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Choice {
    /// How many targets there are: at least one, at most [`MOST_TARGETS`].
    pub count: u32,
    /// Seconds that clients return to their last target, at most a day; 0 means each connection chooses
    /// anew.
    pub affinity: u32,
}

/// A chain of the rules that chooses among so many targets for one kind of frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Balancer {
    /// Whether its frontends have an address of their own, or else are ports of the node.
    pub addressed: bool,
    /// Whose traffic it handles.
    pub audience: Audience,
    /// How it chooses.
    pub choice: Choice,
}

/// All elements.
pub type Elements = BTreeMap<Element, Value>;

/// What must change in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Elements that go, or whose value changes. Removed before anything is added.
    pub removed: Vec<Element>,
    /// Elements that come, with the new value of those that change.
    pub added: Vec<(Element, Value)>,
    /// Chains to make before elements are added.
    pub new_balancers: Vec<Balancer>,
    /// Chains that nothing leads to any more.
    pub old_balancers: Vec<Balancer>,
    /// UDP "connections" that must be forgotten, since they would go on to a wrong place.
    pub stale_flows: Vec<StaleFlow>,
}

/// UDP packets that the kernel would treat like earlier ones, although the rules changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StaleFlow {
    /// Answered by a target that is gone.
    Target(Target),
    /// Sent to a frontend that led nowhere before.
    Frontend(Frontend),
}

impl Difference {
    /// Whether the kernel is as it should be.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

/// The elements that are in the kernel, and who uses its chains.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    elements: Elements,
    balancers: BTreeMap<Balancer, u32>,
}

impl Applied {
    /// What was found in the kernel.
    pub fn found(elements: Elements) -> Self {
        let mut applied = Self::default();
        let added = elements.into_iter().collect();
        applied.apply(&Difference { added, ..Difference::default() });
        applied
    }

    /// The chains in use. Those of a table that was found may be an earlier version's.
    pub fn balancers(&self) -> impl Iterator<Item = Balancer> + '_ {
        self.balancers.keys().copied()
    }

    /// All frontends that have an element.
    pub fn frontends(&self) -> BTreeSet<Frontend> {
        self.elements.keys().map(|element| element.frontend).collect()
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// What leads from here to the handling of these frontends; `None` means that a frontend goes.
    pub fn difference(&self, wanted: &BTreeMap<Frontend, Option<&Handling>>) -> Difference {
        let mut difference = Difference::default();
        for (frontend, handling) in wanted {
            let before: Vec<_> = self.of(frontend).collect();
            let after = handling.map(|handling| elements(frontend, handling, &before)).unwrap_or_default();
            compare(&before, &after, &mut difference);
            if frontend.protocol == Protocol::Udp {
                stale_flows(frontend, &before, &after, &mut difference.stale_flows);
            }
        }
        self.count_balancers(&mut difference);
        difference
    }

    /// Takes over a difference that the kernel accepted.
    pub fn apply(&mut self, difference: &Difference) {
        for element in &difference.removed {
            if let Some(value) = self.elements.remove(element)
                && let Some(balancer) = balancer(element, &value)
                && let Some(users) = self.balancers.get_mut(&balancer)
            {
                *users = users.saturating_sub(1);
            }
        }
        for (element, value) in &difference.added {
            self.elements.insert(*element, *value);
            if let Some(balancer) = balancer(element, value) {
                *self.balancers.entry(balancer).or_default() += 1;
            }
        }
        self.balancers.retain(|_, users| *users > 0);
    }

    fn of(&self, frontend: &Frontend) -> impl Iterator<Item = (Element, Value)> + '_ {
        let first = Element { frontend: *frontend, part: Part::Choice };
        let last = Element { frontend: *frontend, part: Part::Dropped };
        self.elements.range(first..=last).map(|(element, value)| (*element, *value))
    }

    /// Which chains come and go with the elements of the difference.
    fn count_balancers(&self, difference: &mut Difference) {
        let mut users: BTreeMap<Balancer, i64> = BTreeMap::new();
        for element in &difference.removed {
            let value = self.elements.get(element).copied().unwrap_or(Value::None);
            if let Some(balancer) = balancer(element, &value) {
                *users.entry(balancer).or_default() -= 1;
            }
        }
        for (element, value) in &difference.added {
            if let Some(balancer) = balancer(element, value) {
                *users.entry(balancer).or_default() += 1;
            }
        }
        for (balancer, change) in users {
            let before = self.balancers.get(&balancer).copied().map_or(0, i64::from);
            match (before, before + change) {
                (0, 1..) => difference.new_balancers.push(balancer),
                (1.., ..=0) => difference.old_balancers.push(balancer),
                _ => {}
            }
        }
    }
}

fn balancer(element: &Element, value: &Value) -> Option<Balancer> {
    match value {
        Value::Choice(choice) => Some(Balancer {
            addressed: element.frontend.address.is_some(),
            audience: element.frontend.audience,
            choice: *choice,
        }),
        _ => None,
    }
}

/// The elements of a frontend; targets keep their slots of `before` where they can.
fn elements(frontend: &Frontend, handling: &Handling, before: &[(Element, Value)]) -> Elements {
    let mut elements = Elements::new();
    let mut add = |part, value| {
        elements.insert(Element { frontend: *frontend, part }, value);
    };
    match handling {
        Handling::Reject => add(Part::Rejected, Value::None),
        Handling::Drop => add(Part::Dropped, Value::None),
        Handling::Balance { targets, affinity, masquerade, sources } => {
            let slots = arrange(&slots(before), targets);
            let count = u32::try_from(slots.len()).expect("endpoints of a Service are far fewer");
            add(Part::Choice, Value::Choice(Choice { count, affinity: affinity.unwrap_or(0) }));
            let identities = affinity.map(|_| identities(&slots)).unwrap_or_default();
            for (slot, target) in (0..count).zip(&slots) {
                add(Part::Slot(slot), Value::Target(*target));
                if let Some(identity) = identities.get(target) {
                    add(Part::Identity(slot), Value::Identity(*identity));
                    add(Part::Sticky(*identity), Value::Target(*target));
                }
            }
            if *masquerade {
                add(Part::Masquerade, Value::None);
            }
            if !sources.is_empty() {
                add(Part::Guarded, Value::None);
            }
            sources.iter().for_each(|range| add(Part::Admitted(*range), Value::None));
        }
    }
    elements
}

fn slots(elements: &[(Element, Value)]) -> BTreeMap<u32, Target> {
    let slot = |(element, value): &(Element, Value)| match (element.part, value) {
        (Part::Slot(slot), Value::Target(target)) => Some((slot, *target)),
        _ => None,
    };
    elements.iter().filter_map(slot).collect()
}

/// Numbers the targets from 0; each keeps its number of before unless that would leave a hole.
fn arrange(before: &BTreeMap<u32, Target>, targets: &BTreeSet<Target>) -> Vec<Target> {
    let mut waiting = targets.clone();
    let kept: Vec<Option<Target>> = (0u32..)
        .take(targets.len().min(MOST_TARGETS as usize))
        .map(|slot| before.get(&slot).filter(|target| waiting.remove(target)).copied())
        .collect();
    let mut waiting = waiting.into_iter();
    kept.into_iter().filter_map(|target| target.or_else(|| waiting.next())).collect()
}

/// A number for each target that depends on its address and port, so that it is the same whenever the
/// target comes and goes. Where two would share one, the greater takes the next.
fn identities(targets: &[Target]) -> BTreeMap<Target, u32> {
    let sorted: BTreeSet<_> = targets.iter().copied().collect();
    let (mut identities, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for target in sorted {
        let mut identity = digest(&target) % IDENTITIES;
        while !taken.insert(identity) {
            identity = (identity + 1) % IDENTITIES;
        }
        identities.insert(target, identity);
    }
    identities
}

/// FNV-1a of the address and port.
fn digest(target: &Target) -> u32 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = match target.address {
        IpAddr::V4(address) => address.octets().into_iter().fold(0x811c_9dc5, fold),
        IpAddr::V6(address) => address.octets().into_iter().fold(0x811c_9dc5, fold),
    };
    let hash = target.port.to_be_bytes().into_iter().fold(hash, fold);
    hash ^ (hash >> 15)
}

fn compare(before: &[(Element, Value)], after: &Elements, difference: &mut Difference) {
    for (element, value) in before {
        if after.get(element) != Some(value) {
            difference.removed.push(*element);
        }
    }
    let before: BTreeMap<_, _> = before.iter().copied().collect();
    for (element, value) in after {
        if before.get(element) != Some(value) {
            difference.added.push((*element, *value));
        }
    }
}

fn stale_flows(
    frontend: &Frontend,
    before: &[(Element, Value)],
    after: &Elements,
    stale: &mut Vec<StaleFlow>,
) {
    let now: BTreeSet<Target> = after.values().filter_map(target).collect();
    let gone = before.iter().filter_map(|(_, value)| target(value)).filter(|target| !now.contains(target));
    stale.extend(gone.map(StaleFlow::Target));
    let led_nowhere = !before.iter().any(|(_, value)| matches!(value, Value::Choice(_)));
    if led_nowhere && !now.is_empty() {
        stale.push(StaleFlow::Frontend(*frontend));
    }
}

fn target(value: &Value) -> Option<Target> {
    match value {
        Value::Target(target) => Some(*target),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn frontend(port: u16, protocol: Protocol) -> Frontend {
        let address = Some("10.96.0.1".parse().unwrap());
        Frontend { address, protocol, port, audience: Audience::Everyone }
    }

    fn target(last: u8) -> Target {
        Target { address: [10, 42, 0, last].into(), port: 80 }
    }

    fn balance(targets: &[u8], affinity: Option<u32>) -> Handling {
        let targets = targets.iter().map(|last| target(*last)).collect();
        Handling::Balance { targets, affinity, masquerade: false, sources: BTreeSet::new() }
    }

    fn step(applied: &mut Applied, frontend: Frontend, handling: Option<&Handling>) -> Difference {
        let difference = applied.difference(&BTreeMap::from([(frontend, handling)]));
        applied.apply(&difference);
        difference
    }

    fn slots_of(applied: &Applied, frontend: &Frontend) -> Vec<u8> {
        let elements: Vec<_> = applied.of(frontend).collect();
        slots(&elements)
            .values()
            .map(|target| match target.address {
                std::net::IpAddr::V4(address) => address.octets()[3],
                std::net::IpAddr::V6(_) => 0,
            })
            .collect()
    }

    /// Before, after, slots, elements removed and added (a changed value counts as one of each).
    type Case = (&'static [u8], &'static [u8], &'static [u8], usize, usize);

    #[test]
    fn targets_keep_their_slots() {
        let cases: [Case; 8] = [
            (&[], &[1, 2, 3], &[1, 2, 3], 0, 4),
            (&[1, 2, 3], &[1, 2, 3], &[1, 2, 3], 0, 0),
            (&[1, 2, 3], &[0, 1, 2, 3], &[1, 2, 3, 0], 1, 2),
            (&[1, 2, 3], &[2, 3], &[3, 2], 3, 2),
            (&[1, 2, 3], &[1, 2], &[1, 2], 2, 1),
            (&[1, 2, 3], &[1, 4, 3], &[1, 4, 3], 1, 1),
            (&[1, 2, 3], &[9], &[9], 4, 2),
            (&[1, 2, 3], &[3], &[3], 4, 2),
        ];
        for (before, after, slots, removed, added) in cases {
            let (mut applied, frontend) = (Applied::default(), frontend(80, Protocol::Tcp));
            if !before.is_empty() {
                step(&mut applied, frontend, Some(&balance(before, None)));
            }
            let difference = step(&mut applied, frontend, Some(&balance(after, None)));
            assert_eq!(slots_of(&applied, &frontend), slots, "{before:?} -> {after:?}");
            assert_eq!(
                (difference.removed.len(), difference.added.len()),
                (removed, added),
                "{before:?} -> {after:?}"
            );
            assert!(
                step(&mut applied, frontend, Some(&balance(after, None))).is_empty(),
                "nothing is left to do"
            );
            step(&mut applied, frontend, None);
            assert!(applied.is_empty() && applied.balancers.is_empty());
        }
    }

    #[test]
    fn one_endpoint_of_a_thousand_costs_a_handful_of_elements() {
        let (mut applied, frontend) = (Applied::default(), frontend(80, Protocol::Tcp));
        let many: BTreeSet<Target> = (0..1000u16)
            .map(|n| Target { address: [10, 42, (n / 250) as u8, (n % 250) as u8].into(), port: 80 })
            .collect();
        let mut fewer = many.clone();
        fewer.pop_first();
        let handling = |targets| Handling::Balance {
            targets,
            affinity: Some(60),
            masquerade: false,
            sources: BTreeSet::new(),
        };
        step(&mut applied, frontend, Some(&handling(many)));
        let difference = step(&mut applied, frontend, Some(&handling(fewer)));
        assert_eq!((difference.removed.len(), difference.added.len()), (6, 3));
    }

    #[test]
    fn targets_keep_their_identity() {
        let all: Vec<Target> = (0..200).map(target).collect();
        let of_all = identities(&all);
        assert_eq!(of_all.values().collect::<BTreeSet<_>>().len(), 200);
        for some in [&all[7..8], &all[100..], &all[..150]] {
            assert!(identities(some).iter().all(|(target, identity)| of_all[target] == *identity));
        }
    }

    #[test]
    fn balancers_come_with_their_first_and_go_with_their_last_frontend() {
        let mut applied = Applied::default();
        let (one, two) = (frontend(80, Protocol::Tcp), frontend(81, Protocol::Tcp));
        let first = step(&mut applied, one, Some(&balance(&[1, 2], None)));
        assert_eq!(first.new_balancers.len(), 1);
        let second = step(&mut applied, two, Some(&balance(&[3, 4], None)));
        assert!(second.new_balancers.is_empty() && second.old_balancers.is_empty());
        let third = step(&mut applied, one, Some(&balance(&[1, 2], Some(30))));
        assert_eq!(third.new_balancers[0].choice, Choice { count: 2, affinity: 30 });
        assert!(third.old_balancers.is_empty());
        let fourth = step(&mut applied, two, Some(&Handling::Reject));
        assert_eq!(fourth.old_balancers[0].choice, Choice { count: 2, affinity: 0 });
    }

    #[test]
    fn what_is_found_in_the_kernel_is_kept() {
        let mut applied = Applied::default();
        let frontend = frontend(80, Protocol::Tcp);
        step(&mut applied, frontend, Some(&balance(&[1, 2], None)));
        let mut restarted = Applied::found(applied.elements.clone());
        assert!(restarted.balancers().eq(applied.balancers()));
        assert!(step(&mut restarted, frontend, Some(&balance(&[1, 2], None))).is_empty());
        assert_eq!(step(&mut restarted, frontend, None).old_balancers.len(), 1);
    }

    #[test]
    fn udp_flows_are_forgotten_when_their_way_changes() {
        let (mut applied, udp) = (Applied::default(), frontend(53, Protocol::Udp));
        let mut stale = |handling: &Handling| step(&mut applied, udp, Some(handling)).stale_flows;
        assert_eq!(stale(&Handling::Reject), []);
        assert_eq!(stale(&balance(&[1, 2], None)), [StaleFlow::Frontend(udp)]);
        assert_eq!(stale(&balance(&[2, 3], None)), [StaleFlow::Target(target(1))]);
        assert_eq!(stale(&Handling::Reject), [StaleFlow::Target(target(3)), StaleFlow::Target(target(2))]);
        let tcp = frontend(53, Protocol::Tcp);
        assert_eq!(step(&mut applied, tcp, Some(&balance(&[1], None))).stale_flows, []);
    }
}
