//! The scheduler's state, and what each change does to it.

mod binding;
mod extended;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use plimsoll_client::{Delta, EventType, Informer};
use plimsoll_schedule::{
    Attempt, Booking, Budget, Change, Decision, Diagnosis, Freed, Plugin, PodInfo, Point, Preemption, Queue,
    Scheduler,
};

use crate::Config;
use crate::effects::{Effects, Outcome};
use crate::extenders::Question;
use crate::metrics::{Ended, Laps};
use crate::storage;
use crate::waiting::Waiting;

type Uid = Arc<str>;

/// What the scheduler knows and waits for.
pub(crate) struct Cycle {
    config: Config,
    effects: Effects,
    /// For those who decide elsewhere.
    objects: (Informer<Node>, Informer<Pod>),
    scheduler: Scheduler,
    queue: Queue,
    /// Pods whose gates are not lifted, or whose claims on devices are not made.
    gated: HashSet<Uid>,
    /// Decided pods that the API does not show on their node yet.
    assumed: HashSet<Uid>,
    /// Pods whose claims are not bound yet.
    waiting: Waiting,
    /// What the claims on devices of decided pods get.
    booked: HashMap<Uid, Vec<Booking>>,
    /// Claims or volumes changed, or what is written about them.
    stirred: bool,
    /// Bindings under way.
    binding: usize,
    /// The message in the condition of pods that found no node.
    reported: HashMap<Uid, String>,
    /// Changes that parked pods have not been told of.
    changes: Vec<Change>,
    budgets: HashMap<Uid, Budget>,
    /// Since when pods wait for a node, and how often those were tried that got one.
    entered: HashMap<Uid, (Instant, u32)>,
    /// How many parked pods metrics tell of.
    parked: usize,
    /// Informers whose first content is not complete yet.
    unsynced: u8,
}

impl Cycle {
    pub(crate) fn new(config: Config, effects: Effects, objects: (Informer<Node>, Informer<Pod>)) -> Self {
        Cycle {
            effects,
            objects,
            scheduler: Scheduler::new(config.profiles.clone()),
            queue: Queue::new(config.backoff),
            gated: HashSet::new(),
            assumed: HashSet::new(),
            waiting: Waiting::default(),
            booked: HashMap::new(),
            stirred: false,
            binding: 0,
            reported: HashMap::new(),
            changes: Vec::new(),
            budgets: HashMap::new(),
            entered: HashMap::new(),
            parked: 0,
            unsynced: 4 + storage::KINDS,
            config,
        }
    }

    pub(crate) fn node(&mut self, delta: Delta<Node>) {
        match delta {
            Delta::Applied { new, .. } => {
                let change = self.scheduler.snapshot.set_node(&new);
                self.changed(change);
            }
            Delta::Deleted(node) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let change = self.scheduler.snapshot.remove_node(name);
                self.changed(change);
            }
            Delta::Synced => self.unsynced -= 1,
        }
    }

    pub(crate) fn namespace(&mut self, delta: Delta<Namespace>) {
        match delta {
            Delta::Applied { new, .. } => {
                let name = new.metadata.name.as_deref().unwrap_or_default();
                let change = self.scheduler.snapshot.set_namespace(name, new.metadata.labels.as_ref());
                self.changed(change);
            }
            Delta::Deleted(namespace) => {
                self.scheduler
                    .snapshot
                    .remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            Delta::Synced => self.unsynced -= 1,
        }
    }

    pub(crate) fn budget(&mut self, delta: Delta<PodDisruptionBudget>) {
        let uid = |budget: &PodDisruptionBudget| budget.metadata.uid.as_deref().unwrap_or_default().into();
        match delta {
            Delta::Applied { new, .. } => match Budget::of(&new) {
                Some(budget) => drop(self.budgets.insert(uid(&new), budget)),
                None => drop(self.budgets.remove(&uid(&new))),
            },
            Delta::Deleted(budget) => drop(self.budgets.remove(&uid(&budget))),
            Delta::Synced => self.unsynced -= 1,
        }
    }

    pub(crate) fn storage(&mut self, change: storage::Change) {
        match change {
            Some(change) => {
                let news = change.apply(&mut self.scheduler.snapshot);
                self.stirred |= news == Change::Storage;
                if self.scheduler.snapshot.devices.take_remapped() {
                    self.read_again();
                }
                self.changed(news);
            }
            None => self.unsynced -= 1,
        }
    }

    /// What names of resources mean has changed.
    fn read_again(&mut self) {
        let name = |pod: &PodInfo| (pod.namespace.clone(), pod.name.clone());
        let names: Vec<_> = self.queue.pods().map(name).collect();
        for (namespace, name) in names {
            if let Some(pod) = self.objects.1.get(&namespace, &name).filter(|pod| node_of(pod).is_none()) {
                self.pending(&pod);
            }
        }
    }

    pub(crate) fn pod(&mut self, delta: Delta<Pod>) {
        match delta {
            Delta::Applied { new, .. } if is_over(&new) => self.gone(&new),
            Delta::Applied { new, .. } => match node_of(&new) {
                Some(node) => self.bound(&new, node),
                None => self.pending(&new),
            },
            Delta::Deleted(pod) => self.gone(&pod),
            Delta::Synced => self.unsynced -= 1,
        }
    }

    pub(crate) fn outcome(&mut self, outcome: Outcome, now: Duration) {
        match outcome {
            Outcome::Bound(pod, node) => {
                self.binding -= 1;
                self.reported.remove(&pod.uid);
                self.booked.remove(&pod.uid);
                if let Some((since, attempts)) = self.entered.remove(&pod.uid) {
                    self.config.metrics.bound_after(since.elapsed(), attempts);
                }
                self.queue.remove(&pod.uid);
                let message = format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                self.tell(&pod, EventType::Normal, "Scheduled", message);
            }
            Outcome::NotBound(pod, why) => {
                self.binding -= 1;
                self.failed(&pod, why, now);
            }
            Outcome::Consulted(pod, left) => self.consulted(pod, left, now),
            Outcome::Reviewed(pod, diagnosis, left) => self.reviewed(&pod, diagnosis, left),
            Outcome::Prepared(uid, versions) => {
                self.waiting.written(&uid, &versions);
                self.stirred = true;
            }
            Outcome::NotPrepared(uid, why) => {
                if let Some(ended) = self.waiting.remove(&uid, Some(why)) {
                    self.prepared(ended, now);
                }
            }
            Outcome::NotPreempted(pod, why) => {
                tracing::info!(pod = %pod.name, namespace = %pod.namespace, why, "no room made");
                let change = self.scheduler.snapshot.remove_pod(&pod.uid);
                self.changed(change);
                self.queue.hurry(&pod.uid);
            }
            Outcome::NotReported(uid) => {
                self.reported.remove(&uid);
            }
        }
    }

    /// When there is something to do without any change; none if never.
    pub(crate) fn next_time(&self) -> Option<Duration> {
        let ready = if self.is_ready() { self.queue.next_time() } else { None };
        ready.into_iter().chain(self.waiting.next_time()).min()
    }

    /// Wakes the pods that changes may help, and decides about up to `count` pods.
    pub(crate) fn schedule(&mut self, count: usize, now: Duration) {
        if std::mem::take(&mut self.stirred) || self.waiting.next_time().is_some_and(|time| time <= now) {
            for mut ended in self.waiting.ended(&self.scheduler.snapshot, now) {
                ended.failure = ended.failure.map(|why| format!("binding volumes: {why}"));
                self.prepared(ended, now);
            }
        }
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            let scheduler = &self.scheduler;
            self.queue.wake(now, |pod, refused| {
                let helps = changes.iter().find(|change| scheduler.may_help(change, pod, refused));
                helps.map(Change::event)
            });
        }
        for _ in 0..count {
            if !self.is_ready() {
                return;
            }
            let Some(pod) = self.queue.pop(now) else { return };
            if let Some(why) = self.scheduler.profile(&pod).flaw() {
                self.failed(&pod, why, now);
                continue;
            }
            if let Some(question) = self.question(&pod) {
                self.consult(pod, question, now);
                continue;
            }
            let begun = Instant::now();
            let mut laps = Laps::start(begun);
            let decision = self.scheduler.decide_observed(&pod, &mut |point| laps.passed(point));
            self.config.metrics.decided(begun.elapsed());
            let name = &self.scheduler.profile(&pod).scheduler_name;
            self.config.metrics.passed(name, &laps, matches!(decision, Decision::Node(_)));
            match decision {
                Decision::Node(node) => {
                    self.config.metrics.ended(name, Ended::Scheduled, begun.elapsed());
                    self.config.metrics.placed_after(self.queue.attempts(&pod.uid));
                    self.assume(pod, node, now);
                }
                Decision::Nowhere(diagnosis) => {
                    self.config.metrics.ended(name, Ended::Unschedulable, begun.elapsed());
                    self.nowhere(&pod, diagnosis, now);
                }
            }
        }
    }

    /// The pod waits, maybe for room that is made for it.
    fn nowhere(&mut self, pod: &Arc<PodInfo>, mut diagnosis: Diagnosis, now: Duration) {
        self.queue.park(&pod.uid, diagnosis.plugins, now);
        if diagnosis.attempt == Attempt::InVain {
            match self.find_room(pod, &diagnosis) {
                Ok(found) => match self.question(pod).filter(Question::reviews) {
                    Some(question) => return self.effects.review(pod.clone(), question, found, diagnosis),
                    None => {
                        let found = Preemption::cheapest(found);
                        diagnosis.attempt = found.map_or(Attempt::InVain, |found| self.make_room(pod, found));
                    }
                },
                Err(attempt) => diagnosis.attempt = attempt,
            }
        }
        let frees = self.scheduler.profile(pod).acts(Plugin::DynamicResources, Point::PostFilter);
        if frees && diagnosis.plugins.contains(Plugin::DynamicResources) && diagnosis.everywhere.is_none() {
            for claim in self.scheduler.idle_claims(pod) {
                self.effects.deallocate(claim);
                diagnosis.freed = Some(Freed::Deallocated);
            }
        }
        if frees && let Some(claim) = self.scheduler.stale_claim(pod) {
            self.effects.remove(claim);
            diagnosis.freed = Some(Freed::Removed);
        }
        self.report(pod, diagnosis.to_string());
    }

    fn find_room(&mut self, pod: &Arc<PodInfo>, diagnosis: &Diagnosis) -> Result<Vec<Preemption>, Attempt> {
        if self.scheduler.awaits_victims(pod) {
            return Err(Attempt::UnderWay);
        }
        if diagnosis.resolvable == 0 {
            return Err(Attempt::InVain);
        }
        let budgets: Vec<Budget> = self.budgets.values().cloned().collect();
        let begun = Instant::now();
        let found = self.scheduler.room(pod, &budgets);
        let name = &self.scheduler.profile(pod).scheduler_name;
        let plugin = (Point::PostFilter, Plugin::DefaultPreemption);
        let status = if found.is_empty() { "Unschedulable" } else { "Success" };
        self.config.metrics.executed(name, plugin, status, begun.elapsed());
        if found.is_empty() { Err(Attempt::InVain) } else { Ok(found) }
    }

    fn make_room(&mut self, pod: &Arc<PodInfo>, found: Preemption) -> Attempt {
        self.break_promises(pod, &found.node);
        self.scheduler.snapshot.nominate(pod.clone(), &found.node);
        for victim in found.victims.iter().filter(|victim| !victim.terminating) {
            let message = format!("Preempted by pod {} on node {}", pod.uid, found.node);
            self.tell(victim, EventType::Normal, "Preempted", message);
        }
        self.config.metrics.preempted(found.victims.len());
        self.effects.preempt(pod, found, &self.scheduler.profile(pod).scheduler_name);
        Attempt::Made
    }

    /// Pods of lower priority look for another node.
    fn break_promises(&mut self, pod: &PodInfo, node: &str) {
        for uid in self.scheduler.snapshot.lesser_nominated_on(node, pod.priority) {
            let change = self.scheduler.snapshot.remove_pod(&uid);
            self.changed(change);
            self.queue.hurry(&uid);
        }
    }

    fn is_ready(&self) -> bool {
        self.unsynced == 0 && self.binding < self.config.bindings_at_once
    }

    fn report(&mut self, pod: &Arc<PodInfo>, message: String) {
        self.tell(pod, EventType::Warning, "FailedScheduling", message.clone());
        if self.reported.get(&pod.uid) != Some(&message) {
            self.effects.report(pod, &message);
            self.reported.insert(pod.uid.clone(), message);
        }
    }

    fn pending(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let turn = self.turn(pod);
        if turn == Turn::Later {
            self.gated.insert(uid.into());
        } else {
            self.gated.remove(uid);
        }
        if turn != Turn::Now {
            self.queue.remove(uid);
            return;
        }
        let info = Arc::new(self.scheduler.read(pod));
        // What the API shows is older than the decision: the binding is under way.
        if self.assumed.contains(&info.uid) {
            return;
        }
        // Promised by a scheduler before this one, or by somebody who knows where there will be room.
        if let Some(node) = info.nominated.clone()
            && self.scheduler.snapshot.promised(&info.uid).is_none()
            && !self.queue.knows(&info.uid)
        {
            self.scheduler.snapshot.nominate(info.clone(), &node);
        }
        if let Some(message) = condition_message(pod) {
            self.reported.entry(info.uid.clone()).or_insert(message);
        }
        self.entered.entry(info.uid.clone()).or_insert_with(|| (Instant::now(), 0));
        self.queue.add(info);
    }

    fn turn(&self, pod: &Pod) -> Turn {
        let Some(profile) = self.scheduler.profile_of(pod) else { return Turn::Never };
        let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_deref()).unwrap_or_default();
        let acts = |plugin| profile.acts(plugin, Point::PreEnqueue);
        match pod.metadata.deletion_timestamp {
            Some(_) => Turn::Never,
            None if acts(Plugin::SchedulingGates) && !gates.is_empty() => Turn::Later,
            None if acts(Plugin::DynamicResources) && PodInfo::awaits_claims(pod) => Turn::Later,
            None => Turn::Now,
        }
    }

    /// Tells users, in the name of the scheduler that the pod asked for.
    fn tell(&self, pod: &PodInfo, kind: EventType, reason: &str, message: String) {
        self.effects.event(&self.scheduler.profile(pod).scheduler_name, pod, kind, reason, message);
    }

    /// Tells readers of metrics how much there is.
    pub(crate) fn tell_amounts(&mut self) {
        let (moves, [_, _, parked]) = (self.queue.take_moves(), self.queue.lengths());
        if std::mem::replace(&mut self.parked, parked) != parked
            || moves.keys().any(|(place, _)| *place == "unschedulable")
        {
            let mut refused = BTreeMap::new();
            for (pod, plugins, count) in self.queue.refused() {
                let name = &self.scheduler.profile(pod).scheduler_name;
                plugins
                    .iter()
                    .for_each(|plugin| *refused.entry((name.clone(), plugin)).or_default() += count);
            }
            self.config.metrics.refusals(&refused);
        }
        for ((queue, event), pods) in moves {
            self.config.metrics.came(queue, event, pods);
        }
        let cache = [self.scheduler.snapshot.nodes(), self.scheduler.snapshot.pods(), self.assumed.len()];
        self.config.metrics.amounts(self.queue.lengths(), self.gated.len(), cache);
    }

    fn bound(&mut self, pod: &Pod, node: &str) {
        let info = Arc::new(self.scheduler.read(pod));
        if !self.assumed.remove(&info.uid) {
            self.entered.remove(&info.uid);
        }
        self.reported.remove(&info.uid);
        self.queue.remove(&info.uid);
        let change = self.scheduler.snapshot.place(info, node);
        self.changed(change);
    }

    fn gone(&mut self, pod: &Pod) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        self.queue.remove(uid);
        self.entered.remove(uid);
        self.gated.remove(uid);
        self.unbook(uid);
        if let Some(ended) = self.waiting.remove(uid, None) {
            self.scheduler.snapshot.storage.release(&ended.reservations);
        }
        self.assumed.remove(uid);
        self.reported.remove(uid);
        let node = self.scheduler.snapshot.node_of(uid).map(str::to_owned);
        let change = self.scheduler.snapshot.remove_pod(uid);
        self.changed(change);
        // Whom the node is promised to has waited for this.
        let promised = |node: String| self.scheduler.snapshot.nominated_on(&node).cloned().collect();
        for uid in node.map_or_else(Vec::new, promised) {
            self.queue.hurry(&uid);
        }
    }

    /// Remembers a change for the pods that are parked; those that come later see it anyway.
    fn changed(&mut self, change: Change) {
        let [_, _, parked] = self.queue.lengths();
        if parked > 0 && change != Change::Nothing && !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }
}

/// Whether it is a pod's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Now,
    /// Its gates are to be lifted first, or claims on devices to be made.
    Later,
    /// It is somebody else's, or ends.
    Never,
}

/// The pod has ended and holds nothing of its node any more.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

/// Why the pod waits, as its condition says now.
fn condition_message(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let unschedulable = |reason: &Option<String>| reason.as_deref() == Some("Unschedulable");
    let found = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    unschedulable(&found.reason).then(|| found.message.clone()).flatten()
}
