//! What all pods of a node were given, and who has to wait
//! (kubelet: pkg/kubelet/allocation/allocation_manager.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{Allocation, Pending, Reason, told};
use crate::cgroup::swap::behavior;
use crate::cgroup::{Machine, Swap, request_sum};
use crate::effect::Event;
use crate::qos::{Class, class};
use crate::spec::is_over;

/// How much there is for pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Thousandths of processors.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The pod.
    pub uid: String,
    /// The pod as if it asked for what it was given.
    pub pod: Arc<Pod>,
    /// Why it was not given what it asks for.
    pub pending: Option<Pending>,
    /// What users are told.
    pub event: Option<Event>,
    /// Whether it was given something else than before: that must be kept before it is acted upon.
    pub granted: bool,
}

struct Entry {
    /// The pod as it wishes to be.
    desired: Arc<Pod>,
    allocation: Allocation,
    pending: Option<Pending>,
}

/// The allocations of a node.
pub struct Book {
    /// Capacity less reservations: more than this no pod can have.
    whole: Room,
    /// What is left for pods when nothing is to be evicted.
    allocatable: Room,
    machine: Machine,
    /// Resources of which guaranteed pods have parts for themselves: they cannot be resized.
    fixed: Vec<Fixed>,
    entries: BTreeMap<String, Entry>,
}

/// A resource that is given to containers alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fixed {
    /// Processors, by the static policy.
    Cpu,
    /// Memory, by the static policy.
    Memory,
}

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new(whole: Room, allocatable: Room, machine: Machine, fixed: Vec<Fixed>) -> Self {
        Self { whole, allocatable, machine, fixed, entries: BTreeMap::new() }
    }

    /// A pod as the API has it now. The first time it is given what it asks for, or what `known` says that it
    /// was given before.
    pub fn desired(
        &mut self,
        uid: &str,
        pod: &Arc<Pod>,
        known: Option<Allocation>,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let is_known = self.entries.contains_key(uid);
        let entry = self.entries.entry(uid.to_owned()).or_insert_with(|| Entry {
            desired: pod.clone(),
            allocation: known.unwrap_or_else(|| Allocation::of(pod)),
            pending: None,
        });
        let is_freed = !is_over(&entry.desired) && is_over(pod);
        entry.desired = pod.clone();
        let mut outcomes = self.judge(uid, now).into_iter().collect::<Vec<_>>();
        let shrunk = outcomes.iter().any(|outcome| outcome.granted);
        if is_known && (is_freed || shrunk) {
            outcomes.extend(self.retry(uid, now));
        }
        outcomes
    }

    /// A pod is gone; those that waited for its room may get it.
    pub fn gone(&mut self, uid: &str, now: Timestamp) -> Vec<Outcome> {
        match self.entries.remove(uid) {
            Some(_) => self.retry(uid, now),
            None => Vec::new(),
        }
    }

    /// What a pod was given.
    #[must_use]
    pub fn allocation(&self, uid: &str) -> Option<&Allocation> {
        self.entries.get(uid).map(|entry| &entry.allocation)
    }

    /// Tries those that wait, in their order: first who asks for no more than he has, then by priority, by
    /// class, and by how long they have waited.
    fn retry(&mut self, except: &str, now: Timestamp) -> Vec<Outcome> {
        let waiting = self.entries.iter().filter(|(uid, entry)| {
            *uid != except && entry.pending.as_ref().is_some_and(|pending| pending.reason == Reason::Deferred)
        });
        let mut waiting: Vec<_> = waiting.map(|(uid, entry)| (rank(entry), uid.clone())).collect();
        waiting.sort();
        waiting.into_iter().filter_map(|(_, uid)| self.judge(&uid, now)).collect()
    }

    /// Decides about one pod's wish.
    fn judge(&mut self, uid: &str, now: Timestamp) -> Option<Outcome> {
        let entry = self.entries.get(uid)?;
        let desired = entry.desired.clone();
        let outcome =
            |pod, pending, event, granted| Outcome { uid: uid.to_owned(), pod, pending, event, granted };
        if entry.allocation.agrees(&desired) {
            self.entries.get_mut(uid)?.pending = None;
            return Some(outcome(desired, None, None, false));
        }
        let allocated = entry.allocation.apply(&desired);
        match self.refusal(uid, &desired, &allocated) {
            None => {
                let entry = self.entries.get_mut(uid)?;
                (entry.allocation, entry.pending) = (Allocation::of(&desired), None);
                let event = Event::normal("ResizeStarted", told("Pod resize started", &desired, None), None);
                Some(outcome(desired, None, Some(event), true))
            }
            Some((reason, message)) => {
                let entry = self.entries.get_mut(uid)?;
                let generation = desired.metadata.generation;
                let known = entry.pending.as_ref();
                let is_same = known.is_some_and(|known| (known.reason, &known.message) == (reason, &message));
                let since = known.filter(|known| known.reason == reason).map_or(now, |known| known.since);
                let what = format!("Pod resize {}", reason.as_str());
                let name = match reason {
                    Reason::Deferred => "ResizeDeferred",
                    Reason::Infeasible => "ResizeInfeasible",
                };
                let event = Event::warning(name, told(&what, &desired, Some(&message)), None);
                let pending = Pending { reason, message, since, generation };
                entry.pending = Some(pending.clone());
                Some(outcome(allocated, Some(pending), Some(event).filter(|_| !is_same), false))
            }
        }
    }

    fn refusal(&self, uid: &str, desired: &Pod, allocated: &Pod) -> Option<(Reason, String)> {
        let never = |message: String| Some((Reason::Infeasible, message));
        let (wish, have) = (desired.spec.as_ref()?, allocated.spec.as_ref()?);
        if is_static(desired) {
            return never("In-place resize of static-pods is not supported".into());
        }
        if self.swaps(wish, have) {
            return never("In-place resize of containers with swap is not supported.".into());
        }
        if let Some(message) = self.fixed(wish, have) {
            return never(message);
        }
        let asked = Room::of(wish);
        let cases = [("memory", asked.memory, self.whole.memory), ("cpu", asked.cpu, self.whole.cpu)];
        if let Some((name, asked, capacity)) = cases.into_iter().find(|(_, asked, whole)| asked > whole) {
            return never(format!(
                "Node didn't have enough capacity: {name}, requested: {asked}, capacity: {capacity}"
            ));
        }
        let used = self.used(uid);
        let cases = [
            ("cpu", asked.cpu, used.cpu, self.allocatable.cpu),
            ("memory", asked.memory, used.memory, self.allocatable.memory),
        ];
        let short = cases.into_iter().find(|(_, asked, used, all)| *asked > 0 && asked + used > *all)?;
        let (name, asked, used, capacity) = short;
        let message = format!(
            "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, capacity: {capacity}"
        );
        Some((Reason::Deferred, message))
    }

    /// What the other pods were given.
    fn used(&self, except: &str) -> Room {
        let others = self.entries.iter().filter(|(uid, entry)| *uid != except && !is_over(&entry.desired));
        let mut used = Room::default();
        for (_, entry) in others {
            let pod = entry.allocation.apply(&entry.desired);
            let room = pod.spec.as_ref().map(Room::of).unwrap_or_default();
            used = Room { cpu: used.cpu + room.cpu, memory: used.memory + room.memory };
        }
        used
    }

    /// Whether a container would be given another part of the swap while it runs.
    fn swaps(&self, wish: &PodSpec, have: &PodSpec) -> bool {
        let memory = |it: &k8s_openapi::api::core::v1::Container| {
            let requests = it.resources.as_ref().and_then(|it| it.requests.as_ref());
            crate::qos::amount(requests, "memory")
        };
        let restarts = |it: &k8s_openapi::api::core::v1::Container| {
            it.resize_policy
                .iter()
                .flatten()
                .any(|policy| policy.resource_name == "memory" && policy.restart_policy == "RestartContainer")
        };
        wish.containers.iter().zip(&have.containers).any(|(wish_of, have_of)| {
            memory(wish_of) != memory(have_of)
                && !restarts(have_of)
                && [(wish, wish_of), (have, have_of)]
                    .into_iter()
                    .any(|(spec, container)| behavior(spec, container, &self.machine) != Swap::No)
        })
    }

    /// Why a guaranteed pod keeps what it has for itself alone.
    fn fixed(&self, wish: &PodSpec, have: &PodSpec) -> Option<String> {
        if class(wish) != Class::Guaranteed {
            return None;
        }
        let (wish, have) = (Room::of(wish), Room::of(have));
        if self.fixed.contains(&Fixed::Cpu) && wish.cpu != have.cpu {
            let message = "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"";
            return Some(message.to_owned());
        }
        if self.fixed.contains(&Fixed::Memory) && wish.memory != have.memory {
            let message =
                "Resize is infeasible for Guaranteed Pods alongside Memory Manager policy \"Static\"";
            return Some(message.to_owned());
        }
        None
    }
}

impl Room {
    /// What a pod asks for.
    #[must_use]
    pub fn of(spec: &PodSpec) -> Self {
        Self {
            cpu: request_sum(spec, "cpu", |amount| amount.milli()),
            memory: request_sum(spec, "memory", |amount| amount.value()),
        }
    }
}

fn rank(entry: &Entry) -> (bool, std::cmp::Reverse<i32>, bool, Option<Timestamp>) {
    let room = |pod: &Pod| pod.spec.as_ref().map(Room::of).unwrap_or_default();
    let (wish, have) = (room(&entry.desired), room(&entry.allocation.apply(&entry.desired)));
    let grows = wish.cpu > have.cpu || wish.memory > have.memory;
    let spec = entry.desired.spec.as_ref();
    let priority = spec.and_then(|spec| spec.priority).unwrap_or(0);
    let is_elastic = spec.is_some_and(|spec| class(spec) != Class::Guaranteed);
    (grows, std::cmp::Reverse(priority), is_elastic, entry.pending.as_ref().map(|pending| pending.since))
}

fn is_static(pod: &Pod) -> bool {
    let source = pod.metadata.annotations.as_ref().and_then(|all| all.get("kubernetes.io/config.source"));
    source.is_some_and(|source| source != "api")
}
