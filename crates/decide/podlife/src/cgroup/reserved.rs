//! What is kept from pods, and the groups in which that is enforced
//! (kubelet: pkg/kubelet/cm/node_container_manager_linux.go).

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_meta::quantity::Quantity;

use super::{Machine, Values, page_size, shares};

/// Amounts by resource name.
pub type List = BTreeMap<String, Quantity>;

/// What is enforced (`enforceNodeAllocatable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Enforced {
    /// Pods together get what is not reserved.
    Pods,
    /// The group of the system gets its reservation.
    SystemReserved,
    /// The group of the agent and the engine gets theirs.
    KubeReserved,
    /// Of the system's reservation only what can be slowed down.
    SystemReservedCompressible,
    /// Of the agent's reservation only what can be slowed down.
    KubeReservedCompressible,
}

impl Enforced {
    /// Every one of them with its word.
    pub const ALL: [(Self, &str); 5] = [
        (Self::Pods, "pods"),
        (Self::SystemReserved, "system-reserved"),
        (Self::KubeReserved, "kube-reserved"),
        (Self::SystemReservedCompressible, "system-reserved-compressible"),
        (Self::KubeReservedCompressible, "kube-reserved-compressible"),
    ];

    /// The one with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(enforced, _)| *enforced)
    }
}

/// What the settings say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `kubeReserved`.
    pub kube: List,
    /// `systemReserved`.
    pub system: List,
    /// How many processors `reservedSystemCPUs` names; they count instead of those of the two lists.
    pub cpus: Option<i64>,
    /// `enforceNodeAllocatable`.
    pub enforced: BTreeSet<Enforced>,
}

impl Settings {
    /// What is reserved of a resource.
    #[must_use]
    pub fn of(&self, name: &str) -> Quantity {
        if let Some(cpus) = self.cpus.filter(|_| name == "cpu") {
            return Quantity::from_units(cpus);
        }
        let of = |list: &List| list.get(name).copied().unwrap_or_default();
        let mut sum = of(&self.kube);
        sum += of(&self.system);
        sum
    }

    /// The values of the group of all pods on a machine of this capacity: thresholds of eviction are not
    /// taken off, so that pods are evicted before the kernel kills.
    #[must_use]
    pub fn pods(&self, capacity: &List, machine: &Machine) -> Values {
        let enforced = self.enforced.contains(&Enforced::Pods);
        let left = |name: &str, amount: Quantity| {
            let mut left = amount;
            if enforced {
                left -= self.of(name);
            }
            if left.sign() < 0 { Quantity::default() } else { left }
        };
        let left = capacity.iter().map(|(name, amount)| (name.clone(), left(name, *amount)));
        values(&left.collect(), Part::All, machine)
    }

    /// The groups of what is reserved, and their values.
    #[must_use]
    pub fn groups(&self, machine: &Machine) -> Vec<(Owner, Values)> {
        let mut groups = Vec::new();
        let mut put = |enforced, owner, part| {
            if self.enforced.contains(&enforced) {
                let mut list = match owner {
                    Owner::Kube => self.kube.clone(),
                    Owner::System => self.system.clone(),
                };
                if let Some(cpus) = self.cpus {
                    list.remove("cpu");
                    if owner == Owner::System {
                        list.insert("cpu".to_owned(), Quantity::from_units(cpus));
                    }
                }
                groups.push((owner, values(&list, part, machine)));
            }
        };
        put(Enforced::SystemReserved, Owner::System, Part::All);
        put(Enforced::KubeReserved, Owner::Kube, Part::All);
        put(Enforced::SystemReservedCompressible, Owner::System, Part::Compressible);
        put(Enforced::KubeReservedCompressible, Owner::Kube, Part::Compressible);
        groups
    }
}

/// Whose reservation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// That of the agent and the engine.
    Kube,
    /// That of everything else.
    System,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Compressible,
}

fn values(list: &List, part: Part, machine: &Machine) -> Values {
    let cpu = list.get("cpu").map(|cpu| shares(cpu.milli()));
    if part == Part::Compressible {
        return Values { shares: cpu, ..Values::default() };
    }
    let bytes = |name: &str| list.get(name).map(|amount| amount.value());
    let pages = list.iter().filter_map(|(name, amount)| Some((page_size(name)?, amount.value())));
    let pages = pages.filter(|(size, _)| machine.page_sizes.contains(size));
    Values {
        shares: cpu,
        memory: bytes("memory"),
        pids: bytes("pid"),
        huge_pages: pages.collect(),
        ..Values::default()
    }
}
