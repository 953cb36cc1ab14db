//! Measuring control groups.

use std::collections::HashMap;

use jiff::Timestamp;
use plimsoll_kernel::cgroup::{Account, Cgroup};

use super::disk::Used;
use super::link::{self, Link};
use super::owner::{Labels, Owners};
use super::process::{self, Open};

/// What a group is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The root.
    Machine,
    /// All pods, or all of a class, or something unknown among them.
    Other,
    Pod,
    Sandbox,
    Container,
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Processors and memory.
    Usage,
    /// Everything.
    All,
}

/// A group and what it used.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// The group's path.
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) labels: Labels,
    /// The pod's UID.
    pub(super) uid: String,
    pub(super) at: Timestamp,
    pub(super) started: Timestamp,
    pub(super) account: Account,
    /// The links of its network, where they are told of.
    pub(super) links: Vec<Link>,
    pub(super) open: Open,
    /// What it wrote beside its image.
    pub(super) layer: Option<Used>,
}

/// The machine, the groups of pods, and all in them that the engine knows.
pub(super) fn all(machine: &Cgroup, pods: &Cgroup, owners: &Owners, depth: Depth) -> Vec<Measured> {
    let mut found: Vec<Measured> = one(machine, owners, depth).into_iter().collect();
    if let Some(machine) = found.first_mut() {
        machine.kind = Kind::Machine;
        machine.links = if depth == Depth::All { link::of_machine() } else { Vec::new() };
    }
    let mut groups = vec![pods.clone()];
    while let Some(group) = groups.pop() {
        // Groups come and go while they are read.
        let Some(measured) = one(&group, owners, depth) else { continue };
        // What containers do in their own groups is theirs.
        if !matches!(measured.kind, Kind::Container | Kind::Sandbox) {
            groups.extend(group.children());
        }
        found.push(measured);
    }
    if depth == Depth::All {
        give_links(&mut found);
    }
    found
}

fn one(group: &Cgroup, owners: &Owners, depth: Depth) -> Option<Measured> {
    let account = match depth {
        Depth::All => group.account().ok()?,
        Depth::Usage => {
            Account { stats: group.stats().ok()?, created: group.created(), ..Account::default() }
        }
    };
    let id = group.path();
    let owner = owners.get(&id);
    let kind = owner.map_or(Kind::Other, |owner| owner.kind);
    let made = account.created.and_then(|time| Timestamp::try_from(time).ok());
    let open = match depth {
        Depth::All => process::open(&account.processes, kind == Kind::Container),
        Depth::Usage => Open::default(),
    };
    Some(Measured {
        kind,
        labels: owner.map(|owner| owner.labels.clone()).unwrap_or_default(),
        uid: owner.map(|owner| owner.uid.clone()).unwrap_or_default(),
        at: Timestamp::now(),
        started: owner.and_then(|owner| owner.created).or(made).unwrap_or(Timestamp::UNIX_EPOCH),
        open,
        account,
        id,
        links: Vec::new(),
        layer: None,
    })
}

/// A pod's links are told of its sandbox, whoever's process shows them. Pods in the node's network have none.
fn give_links(found: &mut [Measured]) {
    let mut places: HashMap<String, (usize, Vec<i32>)> = HashMap::new();
    for (place, it) in found.iter().enumerate().filter(|(_, it)| !it.uid.is_empty()) {
        let entry = places.entry(it.uid.clone()).or_insert((place, Vec::new()));
        if it.kind == Kind::Sandbox {
            entry.0 = place;
        }
        // The sandbox's own process is the surest one.
        let at = if it.kind == Kind::Sandbox { 0 } else { entry.1.len() };
        if let Some(process) = it.account.processes.first() {
            entry.1.insert(at, *process);
        }
    }
    for (place, processes) in places.into_values() {
        let links = processes.into_iter().find_map(link::of_process);
        found[place].links = links.unwrap_or_default();
    }
}
