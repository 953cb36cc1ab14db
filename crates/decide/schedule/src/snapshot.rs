//! The cluster as the scheduler sees it, changed by differences.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as ApiNode;

use crate::devices::Devices;
use crate::hint::Change;
use crate::mounts::Mounts;
use crate::needs::{HostPort, Needs};
use crate::node::{Amounts, Node};
use crate::pod::{PodInfo, Spread};
use crate::profile::Resource;
use crate::selectors::Selectors;
use crate::storage::Storage;
use crate::topology::{Claimed, NamespaceLabels, Slot, Topology};

/// Changes that are remembered for classes to catch up with.
const REMEMBERED: usize = 8192;

/// A node and what runs on it. The node is unknown while only its pods are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) node: Option<Node>,
    pub(crate) used: Amounts,
    pub(crate) used_extended: BTreeMap<String, i64>,
    pub(crate) scored_cpu: i64,
    pub(crate) scored_memory: i64,
    pub(crate) ports: Vec<HostPort>,
    /// The lowest priority of its pods.
    pub(crate) lowest: Option<i32>,
    /// The pods that are here, or about to be.
    pods: Vec<Arc<str>>,
}

/// How much bytes an image has, and how many nodes have it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Image {
    pub(crate) bytes: i64,
    pub(crate) nodes: usize,
}

struct Placed {
    slot: Slot,
    pod: Arc<PodInfo>,
}

/// Nodes, the pods on them, and namespaces.
#[derive(Default)]
pub struct Snapshot {
    rows: Vec<Row>,
    by_name: HashMap<String, Slot>,
    free: Vec<Slot>,
    nodes: usize,
    pods: HashMap<Arc<str>, Placed>,
    /// How many of them there are of each priority.
    priorities: BTreeMap<i32, usize>,
    /// Pending pods that a node is promised to: they count as placed there.
    nominated: HashMap<Arc<str>, String>,
    namespaces: NamespaceLabels,
    images: HashMap<String, Image>,
    /// Moves on when scores for images may have changed on all nodes.
    pub(crate) image_epoch: u64,
    changed: VecDeque<Slot>,
    /// Number of the change after the last one.
    pub(crate) position: u64,
    topology: Topology,
    mounts: Mounts,
    /// Claims and volumes.
    pub storage: Storage,
    /// Devices and claims on them.
    pub devices: Devices,
    /// What Services and the owners of pods select.
    pub selectors: Selectors,
}

impl Snapshot {
    /// A node is new or changed.
    pub fn set_node(&mut self, node: &ApiNode) -> Change {
        let node = Node::of(node);
        let slot = self.slot(&node.name);
        let before = self.rows[slot].node.take();
        if before.as_ref() == Some(&node) {
            self.rows[slot].node = before;
            return Change::Nothing;
        }
        self.nodes += usize::from(before.is_none());
        self.exchange_images(before.as_ref(), Some(&node));
        self.topology.set_node(slot, Some(&node.labels));
        self.rows[slot].node = Some(node);
        self.touch(slot);
        Change::Node(slot)
    }

    /// A node is gone. Its pods are remembered until they go, too.
    pub fn remove_node(&mut self, name: &str) -> Change {
        let Some(&slot) = self.by_name.get(name) else { return Change::Nothing };
        let Some(node) = self.rows[slot].node.take() else { return Change::Nothing };
        self.nodes -= 1;
        self.exchange_images(Some(&node), None);
        self.topology.set_node(slot, None);
        self.touch(slot);
        self.release(slot);
        Change::NodeGone
    }

    /// A pod is on a node, or about to be. Telling it again with the same facts changes nothing.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) -> Change {
        let slot = self.slot(node);
        self.nominated.remove(&pod.uid);
        let freed = match self.pods.get_mut(&pod.uid) {
            Some(there) if there.slot == slot && there.pod.same_place(&pod) => {
                there.pod = pod;
                return Change::Nothing;
            }
            Some(there) => {
                let shrinks = there.slot == slot && there.pod.needs != pod.needs;
                self.remove_pod(&pod.uid.clone());
                shrinks
            }
            None => false,
        };
        // Removing the pod may have freed the slot of a node that is not known.
        let slot = self.slot(node);
        self.lower(slot, &pod, true);
        let uid = pod.uid.clone();
        let row = &mut self.rows[slot];
        row.pods.push(uid.clone());
        row.lowest = Some(row.lowest.map_or(pod.priority, |lowest| lowest.min(pod.priority)));
        *self.priorities.entry(pod.priority).or_default() += 1;
        self.pods.insert(uid.clone(), Placed { slot, pod });
        self.touch(slot);
        if freed { Change::Node(slot) } else { Change::Placed(uid) }
    }

    /// A pod is gone, or not about to be on its node any more.
    pub fn remove_pod(&mut self, uid: &str) -> Change {
        let Some(Placed { slot, pod }) = self.pods.remove(uid) else { return Change::Nothing };
        self.nominated.remove(uid);
        self.lift(slot, &pod, true);
        self.rows[slot].pods.retain(|other| **other != *uid);
        if self.rows[slot].lowest == Some(pod.priority) {
            self.rows[slot].lowest = self.on(slot).map(|other| other.priority).min();
        }
        self.forget_priority(pod.priority);
        self.touch(slot);
        self.release(slot);
        Change::Node(slot)
    }

    fn forget_priority(&mut self, priority: i32) {
        if let Some(count) = self.priorities.get_mut(&priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&priority);
            }
        }
    }

    /// Whether there is a pod of lower priority on any node.
    pub(crate) fn has_lesser(&self, priority: i32) -> bool {
        self.priorities.first_key_value().is_some_and(|(lowest, _)| *lowest < priority)
    }

    /// The node that a pod is on.
    pub fn node_of(&self, uid: &str) -> Option<&str> {
        self.pods.get(uid).map(|placed| self.rows[placed.slot].name.as_str())
    }

    /// A pod that is on a node, or about to be.
    pub(crate) fn pod(&self, uid: &str) -> Option<&PodInfo> {
        self.pods.get(uid).map(|placed| &*placed.pod)
    }

    /// A node is promised to a pending pod, which counts as placed there for pods that are not more important.
    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) -> Change {
        let uid = pod.uid.clone();
        let change = self.place(pod, node);
        self.nominated.insert(uid, node.to_owned());
        change
    }

    /// The pending pods that a node is promised to.
    pub fn nominated_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Arc<str>> {
        self.nominated.iter().filter(move |(_, promised)| *promised == node).map(|(uid, _)| uid)
    }

    /// Those of them whose priority is lower.
    pub fn lesser_nominated_on(&self, node: &str, priority: i32) -> Vec<Arc<str>> {
        let lesser =
            |uid: &&Arc<str>| self.pods.get(*uid).is_some_and(|placed| placed.pod.priority < priority);
        self.nominated_on(node).filter(lesser).cloned().collect()
    }

    /// The node that a pending pod is promised, if it is.
    pub fn promised(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(String::as_str)
    }

    /// The slot of the node that a pending pod is promised.
    pub(crate) fn nominated(&self, uid: &str) -> Option<Slot> {
        self.nominated.get(uid).and_then(|node| self.by_name.get(node)).copied()
    }

    /// Takes away what is promised to this pod and to those of lower priority, which it may take the place of.
    pub(crate) fn take_lesser_nominations(&mut self, pod: &PodInfo) -> Vec<(Arc<PodInfo>, String)> {
        let lesser = |uid: &Arc<str>| {
            let placed = self.pods.get(uid)?;
            (*placed.pod.uid == *pod.uid || placed.pod.priority < pod.priority).then(|| placed.pod.clone())
        };
        let taken: Vec<_> =
            self.nominated.iter().filter_map(|(uid, node)| Some((lesser(uid)?, node.clone()))).collect();
        for (other, _) in &taken {
            self.remove_pod(&other.uid);
        }
        taken
    }

    /// Promises again what was taken.
    pub(crate) fn give_back(&mut self, taken: Vec<(Arc<PodInfo>, String)>) {
        for (pod, node) in taken {
            self.nominate(pod, &node);
        }
    }

    /// The pods on a node, with those that are promised it.
    pub(crate) fn on(&self, slot: Slot) -> impl Iterator<Item = &PodInfo> {
        self.shared_on(slot).map(Arc::as_ref)
    }

    /// As [`Snapshot::on`].
    pub(crate) fn shared_on(&self, slot: Slot) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.rows[slot].pods.iter().filter_map(|uid| self.pods.get(uid).map(|placed| &placed.pod))
    }

    /// Counts as if a pod were not on its node. `linked`: also where other pods' rules look.
    pub(crate) fn lift(&mut self, slot: Slot, pod: &PodInfo, linked: bool) {
        self.rows[slot].account(&pod.needs, -1);
        if linked {
            self.mounts.remove(&self.rows[slot].name, pod);
            self.topology.count(slot, pod, &self.namespaces, false);
        }
    }

    /// Counts a pod again that was lifted.
    pub(crate) fn lower(&mut self, slot: Slot, pod: &PodInfo, linked: bool) {
        self.rows[slot].account(&pod.needs, 1);
        if linked {
            self.mounts.add(&self.rows[slot].name, pod);
            self.topology.count(slot, pod, &self.namespaces, true);
        }
    }

    /// The labels of a namespace.
    pub fn set_namespace(&mut self, name: &str, labels: Option<&BTreeMap<String, String>>) -> Change {
        let labels = labels.cloned().unwrap_or_default();
        if self.namespaces.get(name) == Some(&labels) {
            return Change::Nothing;
        }
        self.namespaces.insert(name.to_owned(), labels);
        self.topology.forget_counters_by_namespace();
        Change::Namespace
    }

    /// A namespace is gone.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many pods are on nodes, or promised one.
    pub fn pods(&self) -> usize {
        self.pods.len()
    }

    /// The place of a node.
    pub(crate) fn slot_of(&self, name: &str) -> Option<Slot> {
        self.by_name.get(name).copied()
    }

    /// A node by name, if it is known.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.rows[*self.by_name.get(name)?].node.as_ref()
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(crate) fn image(&self, name: &str) -> Option<Image> {
        self.images.get(name).copied()
    }

    pub(crate) fn mounts(&self) -> &Mounts {
        &self.mounts
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    pub(crate) fn namespaces(&self) -> &NamespaceLabels {
        &self.namespaces
    }

    /// The slots that changed since `position`; none if that is too long ago.
    pub(crate) fn changed_since(&self, position: u64) -> Option<impl Iterator<Item = Slot> + '_> {
        let behind = usize::try_from(self.position - position).ok()?;
        let known = behind <= self.changed.len() && behind < self.rows.len();
        known.then(|| self.changed.iter().skip(self.changed.len() - behind).copied())
    }

    /// Prepares the columns and counters that a pod's links ask for, and those of other pods that mean it.
    pub(crate) fn prepare(&mut self, pod: &PodInfo, spreads: &[Spread]) {
        let links = &pod.links;
        let Snapshot { rows, pods, namespaces, topology, .. } = self;
        let nodes = || {
            rows.iter()
                .enumerate()
                .filter_map(|(slot, row)| row.node.as_ref().map(|node| (slot, &node.labels)))
        };
        let placed = || pods.values().map(|placed| (placed.slot, &*placed.pod));
        if !links.affinity.is_empty() {
            let all: Vec<_> = links.affinity.iter().map(|term| &term.matcher).collect();
            topology.ensure_counter(&all, false, namespaces, placed());
        }
        let single = links.anti_affinity.iter().chain(links.preferred.iter().map(|(_, term)| term));
        for term in single {
            topology.ensure_counter(&[&term.matcher], false, namespaces, placed());
        }
        for spread in spreads {
            topology.ensure_counter(&[&spread.term.matcher], true, namespaces, placed());
        }
        for term in links.terms().chain(spreads.iter().map(|spread| &spread.term)) {
            topology.ensure_column(&term.topology, nodes());
        }
        let missing = |claimed: &&Claimed| topology.column(&claimed.term.topology).is_none();
        let labels: Vec<String> =
            topology.claims_on(pod).filter(missing).map(|claimed| claimed.term.topology.clone()).collect();
        for label in labels {
            topology.ensure_column(&label, nodes());
        }
    }

    fn slot(&mut self, name: &str) -> Slot {
        if let Some(&slot) = self.by_name.get(name) {
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.rows.push(Row::default());
            self.rows.len() - 1
        });
        self.rows[slot] = Row { name: name.to_owned(), ..Row::default() };
        self.by_name.insert(name.to_owned(), slot);
        slot
    }

    /// Gives a slot back if neither a node nor a pod is in it.
    fn release(&mut self, slot: Slot) {
        let row = &self.rows[slot];
        if row.node.is_none() && row.used.pods == 0 {
            self.by_name.remove(&row.name);
            self.free.push(slot);
        }
    }

    fn touch(&mut self, slot: Slot) {
        if self.changed.len() == REMEMBERED {
            self.changed.pop_front();
        }
        self.changed.push_back(slot);
        self.position += 1;
    }

    fn exchange_images(&mut self, before: Option<&Node>, after: Option<&Node>) {
        let (none, none_too) = (BTreeMap::new(), BTreeMap::new());
        let old = before.map_or(&none, |node| &node.images);
        let new = after.map_or(&none_too, |node| &node.images);
        if old == new && before.is_some() == after.is_some() {
            return;
        }
        self.image_epoch += 1;
        for name in old.keys() {
            if let Some(image) = self.images.get_mut(name) {
                image.nodes -= 1;
                if image.nodes == 0 {
                    self.images.remove(name);
                }
            }
        }
        for (name, bytes) in new {
            let image = self.images.entry(name.clone()).or_default();
            image.bytes = *bytes;
            image.nodes += 1;
        }
    }
}

impl Row {
    /// What its pods request of a resource.
    pub(crate) fn used(&self, resource: &Resource) -> i64 {
        match resource {
            Resource::Cpu => self.used.cpu,
            Resource::Memory => self.used.memory,
            Resource::Storage => self.used.storage,
            Resource::Other(name) => self.extended(name),
        }
    }

    /// What they request of an extended resource or the like.
    pub(crate) fn extended(&self, name: &str) -> i64 {
        self.used_extended.get(name).copied().unwrap_or(0)
    }

    /// Adds what a pod needs, or takes it off again.
    pub(crate) fn account(&mut self, needs: &Needs, sign: i64) {
        let requests = &needs.requests;
        self.used.cpu += sign * requests.cpu;
        self.used.memory += sign * requests.memory;
        self.used.storage += sign * requests.storage;
        self.used.pods += sign;
        self.scored_cpu += sign * requests.scored_cpu;
        self.scored_memory += sign * requests.scored_memory;
        for (name, amount) in &requests.extended {
            *self.used_extended.entry(name.clone()).or_insert(0) += sign * amount;
        }
        for port in &needs.ports {
            if sign > 0 {
                self.ports.push(port.clone());
            } else if let Some(at) = self.ports.iter().position(|there| there == port) {
                self.ports.swap_remove(at);
            }
        }
    }
}
