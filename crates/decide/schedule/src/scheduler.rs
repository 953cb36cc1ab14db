//! One decision: filter, score, choose.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::class::{Class, best_of, next_ones};
use crate::devices::Extended;
use crate::diagnosis::{Attempt, Diagnosis, Reason};
use crate::extender::Scored;
use crate::needs::Needs;
use crate::node::Node;
use crate::plugin::{Plugin, Point};
use crate::plugins::dynamic_resources::{Booking, Claims};
use crate::plugins::pod_topology_spread::Constraints;
use crate::plugins::{inter_pod_affinity, pod_topology_spread, refusal, volume_binding};
use crate::pod::PodInfo;
use crate::profile::{DEFAULT_SCHEDULER, Profile, Share, SpreadDefaults};
use crate::reservation::Reservation;
use crate::snapshot::{Row, Snapshot};
use crate::topology::{Column, Slot};
use crate::volumes::Volumes;

/// Classes whose verdicts are kept.
const KEPT_CLASSES: usize = 1024;

/// Numbers for each domain of a [`Column`].
pub(crate) type Sums = Vec<i64>;

/// A rule that refuses some values of a node label.
pub(crate) struct Check<'s> {
    pub(crate) column: &'s Column,
    /// By domain.
    pub(crate) refused: Vec<bool>,
    pub(crate) reason: Reason<'static>,
    /// The reason for nodes without the label; none if they pass.
    pub(crate) absent: Option<Reason<'static>>,
}

impl Check<'_> {
    pub(crate) fn refuses(&self, slot: Slot) -> Option<Reason<'static>> {
        match self.column.domains.get(slot).copied().unwrap_or(0) {
            0 => self.absent,
            domain => self.refused.get(domain).copied().unwrap_or(false).then_some(self.reason),
        }
    }
}

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Node(String),
    /// Nowhere now.
    Nowhere(Diagnosis),
}

/// Decides over a [`Snapshot`].
pub struct Scheduler {
    /// At least one; whose pods are not among them are decided about by the first.
    profiles: Arc<[Profile]>,
    /// The cluster; tell it what changes.
    pub snapshot: Snapshot,
    pub(crate) classes: HashMap<Arc<Needs>, Class>,
    known: HashSet<Arc<Needs>>,
    decisions: u64,
    /// Where the search among equally good nodes begins, so that they take turns.
    start: usize,
}

impl Default for Scheduler {
    fn default() -> Self {
        Scheduler::new(vec![Profile::default()])
    }
}

impl Scheduler {
    /// Decides by these profiles.
    pub fn new(mut profiles: Vec<Profile>) -> Self {
        if profiles.is_empty() {
            profiles.push(Profile::default());
        }
        Scheduler {
            profiles: profiles.into(),
            snapshot: Snapshot::default(),
            classes: HashMap::new(),
            known: HashSet::new(),
            decisions: 0,
            start: 0,
        }
    }

    /// The profile that a pod asks for, if it is here.
    pub fn profile_of(&self, pod: &Pod) -> Option<&Profile> {
        self.profile_at(pod).map(|at| &self.profiles[at])
    }

    /// The profile that decides about a pod.
    pub fn profile(&self, pod: &PodInfo) -> &Profile {
        &self.profiles[pod.needs.profile]
    }

    fn profile_at(&self, pod: &Pod) -> Option<usize> {
        let name = pod.spec.as_ref()?.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER);
        self.profiles.iter().position(|profile| profile.scheduler_name == name)
    }

    /// Reads a pod; pods of equal needs share them.
    pub fn read(&mut self, pod: &Pod) -> PodInfo {
        let profile = self.profile_at(pod).unwrap_or(0);
        let heeds = self.profiles[profile].filters.has(Plugin::DynamicResources);
        let extended = heeds.then(|| Extended::of(pod, &self.snapshot.devices)).flatten();
        let of_devices = extended.iter().flat_map(|extended| extended.resources().cloned()).collect();
        let needs = Needs { profile, of_devices, ..Needs::of(pod) };
        let needs = match self.known.get(&needs) {
            Some(known) => known.clone(),
            None => {
                self.forget_unused();
                let needs = Arc::new(needs);
                self.known.insert(needs.clone());
                needs
            }
        };
        let must_spread = match &self.profiles[profile].spread {
            SpreadDefaults::System => false,
            SpreadDefaults::List(list) => list.iter().any(|one| one.hard),
        };
        PodInfo { must_spread, extended, ..PodInfo::of(pod, needs) }
    }

    /// Chooses the node of a pending pod. The caller tells the snapshot if it follows.
    ///
    /// A node that was promised to the pod is taken if it fits. What is promised to other pods counts as
    /// taken unless they are less important.
    pub fn decide(&mut self, pod: &PodInfo) -> Decision {
        self.decide_observed(pod, &mut |_| {})
    }

    /// As [`Scheduler::decide`]; says which point it has passed, for those who have a clock.
    pub fn decide_observed(&mut self, pod: &PodInfo, passed: &mut dyn FnMut(Point)) -> Decision {
        let promised = self.snapshot.nominated(&pod.uid);
        let lesser = self.snapshot.take_lesser_nominations(pod);
        let decision = self.decide_among(pod, promised, passed);
        self.snapshot.give_back(lesser);
        decision
    }

    /// Where the search among equally good nodes begins.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    fn decide_among(
        &mut self,
        pod: &PodInfo,
        promised: Option<Slot>,
        passed: &mut dyn FnMut(Point),
    ) -> Decision {
        let chosen = self.look(pod, passed, |view, class, passed| {
            let feasible = view.linked.then(|| view.feasible(class, promised));
            passed(Point::Filter);
            let chosen = match feasible {
                Some(feasible) => view.among_linked(class, feasible, promised),
                None => {
                    let enough = view.profile.share.enough(view.snapshot.nodes());
                    let promised = promised.filter(|slot| class.takes(*slot));
                    promised.or_else(|| class.best(view.profile, view.start, enough))
                }
            };
            if chosen.is_some() {
                passed(Point::Score);
            }
            chosen.ok_or_else(|| view.diagnose(class))
        });
        match chosen.and_then(|chosen| chosen) {
            Ok(slot) => {
                self.start = slot + 1;
                Decision::Node(self.snapshot.rows()[slot].name.clone())
            }
            Err(diagnosis) => Decision::Nowhere(diagnosis),
        }
    }

    /// The nodes that take a pending pod and their scores, for others to have their say.
    ///
    /// # Errors
    /// Why none does.
    pub fn candidates(&mut self, pod: &PodInfo) -> Result<Scored, Diagnosis> {
        let lesser = self.snapshot.take_lesser_nominations(pod);
        let found = self.look(pod, &mut |_| {}, |view, class, _| {
            let feasible = view.feasible(class, None);
            if feasible.is_empty() {
                return Err(view.diagnose(class));
            }
            let scores = view.scores(class, &feasible);
            let name = |slot: Slot| view.snapshot.rows()[slot].name.clone();
            Ok(feasible.iter().zip(scores).map(|(slot, score)| (name(*slot), score)).collect())
        });
        self.snapshot.give_back(lesser);
        found.and_then(|found| found)
    }

    /// Whether a node takes a pod.
    pub fn takes(&mut self, pod: &PodInfo, node: &str) -> bool {
        let Some(slot) = self.snapshot.slot_of(node) else { return false };
        let lesser = self.snapshot.take_lesser_nominations(pod);
        let takes = self
            .look(pod, &mut |_| {}, |view, class, _| view.feasible(class, None).binary_search(&slot).is_ok());
        self.snapshot.give_back(lesser);
        takes.unwrap_or(false)
    }

    /// Why nodes refuse a pod, as far as they do.
    pub fn diagnosis(&mut self, pod: &PodInfo) -> Diagnosis {
        let found = self.look(pod, &mut |_| {}, |view, class, _| view.diagnose(class));
        found.unwrap_or_else(|diagnosis| diagnosis)
    }

    /// Prepares everything that a decision looks at.
    fn look<T>(
        &mut self,
        pod: &PodInfo,
        passed: &mut dyn FnMut(Point),
        act: impl FnOnce(&View<'_>, &mut Class, &mut dyn FnMut(Point)) -> T,
    ) -> Result<T, Diagnosis> {
        self.decisions += 1;
        let Scheduler { profiles, snapshot, classes, decisions, start, .. } = self;
        let profile = &profiles[pod.needs.profile];
        make_room(classes);
        let class = classes.entry(pod.needs.clone()).or_insert_with(|| Class::new(pod.needs.clone()));
        class.used = *decisions;
        let constraints = Constraints::of(pod, profile, &snapshot.selectors);
        let linked =
            pod.has_links() || !constraints.list.is_empty() || inter_pod_affinity::is_claimed(pod, snapshot);
        if linked {
            snapshot.prepare(pod, &constraints.list);
        }
        let snapshot = &*snapshot;
        let named = profile.filters.has(Plugin::NodeAffinity).then(|| pod.needs.named_nodes()).flatten();
        if named.is_some_and(|named| named.is_empty()) {
            let why = ("pod affinity terms conflict".to_owned(), Plugin::NodeAffinity);
            return Err(nowhere(pod, profile, snapshot, why));
        }
        let volumes =
            Volumes::of(pod, profile, snapshot).map_err(|why| nowhere(pod, profile, snapshot, why))?;
        let view = View {
            pod,
            profile,
            constraints: &constraints,
            volumes: &volumes,
            snapshot,
            linked,
            start: *start,
        };
        passed(Point::PreFilter);
        class.refresh(profile, snapshot);
        Ok(act(&view, class, passed))
    }

    /// What the pod's claims on devices get on the node that was chosen. It is kept for them until the API shows it,
    /// or [`Devices::release`](crate::Devices::release). Nothing if one of them gets nothing.
    pub fn book(&mut self, pod: &PodInfo, node: &str) -> Option<Vec<Booking>> {
        let devices = &self.snapshot.devices;
        let claims = Claims::of(pod, devices).ok()?;
        let booked = claims.book(pod, self.snapshot.node(node)?)?;
        for booking in &booked {
            if let Some(allocation) = &booking.allocation {
                self.snapshot.devices.keep(&booking.claim, allocation.clone());
            }
        }
        Some(booked)
    }

    /// The claim that an attempt before made for the extended resources of a pending pod. It stands in the way of
    /// another, and is to go.
    pub fn stale_claim(&self, pod: &PodInfo) -> Option<Arc<ResourceClaim>> {
        self.snapshot.devices.made_for(&pod.uid).cloned()
    }

    /// The claims of a pod that nobody uses and that keep it from nodes where it could run: they may get other devices.
    pub fn idle_claims(&self, pod: &PodInfo) -> Vec<Arc<ResourceClaim>> {
        let named = pod.device_claims.iter().flatten();
        let claims = named.filter_map(|name| self.snapshot.devices.claim(&pod.namespace, name));
        let idle = |claim: &&Arc<ResourceClaim>| {
            let status = claim.status.as_ref();
            let mut users = status.iter().flat_map(|status| status.reserved_for.iter().flatten());
            status.is_some_and(|status| status.allocation.is_some())
                && users.all(|user| *user.uid == *pod.uid)
        };
        claims.filter(idle).cloned().collect()
    }

    /// What the pod's claims get on the node that was chosen. It is kept for them until it is released.
    pub fn reserve(&mut self, pod: &PodInfo, node: &str) -> Vec<Reservation> {
        if !self.profile(pod).acts(Plugin::VolumeBinding, Point::PreBind) {
            return Vec::new();
        }
        let storage = &self.snapshot.storage;
        let plan = volume_binding::Plan::of(pod, storage).ok();
        let reserved = plan.zip(self.snapshot.node(node)).and_then(|(plan, node)| plan.reserve(node).ok());
        let reserved = reserved.unwrap_or_default();
        reserved.iter().for_each(|one| self.snapshot.storage.keep(one));
        reserved
    }

    /// Drops needs that only this set and its class still know.
    fn forget_unused(&mut self) {
        if self.known.len() < 2 * KEPT_CLASSES || !self.known.len().is_power_of_two() {
            return;
        }
        let classes = &self.classes;
        self.known.retain(|needs| Arc::strong_count(needs) > 1 || classes.contains_key(needs));
    }
}

/// Drops the classes that were not used for longest.
fn make_room(classes: &mut HashMap<Arc<Needs>, Class>) {
    if classes.len() <= KEPT_CLASSES {
        return;
    }
    let mut used: Vec<u64> = classes.values().map(|class| class.used).collect();
    used.sort_unstable();
    let middle = used[used.len() / 2];
    classes.retain(|_, class| class.used >= middle);
}

pub(crate) fn checks<'s>(
    pod: &PodInfo,
    profile: &Profile,
    constraints: &Constraints<'_>,
    snapshot: &'s Snapshot,
) -> Vec<Check<'s>> {
    let mut checks = Vec::new();
    if profile.filters.has(Plugin::PodTopologySpread) {
        checks.extend(pod_topology_spread::checks(pod, constraints, snapshot));
    }
    if profile.filters.has(Plugin::InterPodAffinity) {
        checks.extend(inter_pod_affinity::checks(pod, snapshot));
    }
    checks
}

/// Everything that a decision looks at.
struct View<'v> {
    pod: &'v PodInfo,
    profile: &'v Profile,
    constraints: &'v Constraints<'v>,
    volumes: &'v Volumes<'v>,
    snapshot: &'v Snapshot,
    /// Other pods, volumes or devices decide, too.
    linked: bool,
    /// Where the search among equally good nodes begins.
    start: usize,
}

impl View<'_> {
    fn among_linked(&self, class: &Class, feasible: Vec<Slot>, promised: Option<Slot>) -> Option<Slot> {
        if let Some(promised) = promised.filter(|slot| feasible.binary_search(slot).is_ok()) {
            return Some(promised);
        }
        let feasible = next_ones(feasible, self.start, self.profile.share.enough(self.snapshot.nodes()));
        best_of(&feasible, &self.scores(class, &feasible), self.start)
    }

    /// The nodes that take the pod.
    fn feasible(&self, class: &Class, promised: Option<Slot>) -> Vec<Slot> {
        let View { pod, profile, constraints, snapshot, .. } = self;
        let checks = checks(pod, profile, constraints, snapshot);
        let mut feasible = class.feasible();
        if pod.has_volumes() {
            let node = |slot: &Slot| snapshot.rows()[*slot].node.as_ref();
            feasible.retain(|slot| node(slot).is_some_and(|node| self.volumes.filter(node).is_empty()));
        }
        feasible.retain(|slot| checks.iter().all(|check| check.refuses(*slot).is_none()));
        if pod.has_device_claims() {
            feasible = self.with_devices(feasible, self.start, promised);
        }
        feasible
    }

    fn scores(&self, class: &Class, feasible: &[Slot]) -> Vec<i64> {
        let View { pod, profile, constraints, snapshot, .. } = self;
        let mut scores = class.scores(profile, feasible);
        let mut add = |weight: i64, more: Option<Vec<i64>>| {
            for (score, more) in scores.iter_mut().zip(more.into_iter().flatten()) {
                *score += weight * more;
            }
        };
        let spread = profile.weight(Plugin::PodTopologySpread);
        if spread > 0 {
            add(spread, pod_topology_spread::scores(pod, constraints, snapshot, feasible));
        }
        let affinity = profile.weight(Plugin::InterPodAffinity);
        if affinity > 0 {
            add(affinity, inter_pod_affinity::scores(pod, profile.affinity, snapshot, feasible));
        }
        scores
    }

    /// Those whose devices meet the pod's claims. Finding out takes long, so only as many as upstream would score
    /// are looked for.
    fn with_devices(&self, feasible: Vec<Slot>, start: usize, promised: Option<Slot>) -> Vec<Slot> {
        let suits = |slot: &Slot| {
            let node = self.snapshot.rows()[*slot].node.as_ref();
            node.is_some_and(|node| self.volumes.devices(node).is_ok())
        };
        if let Some(promised) = promised.filter(|slot| feasible.binary_search(slot).is_ok() && suits(slot)) {
            return vec![promised];
        }
        let enough = Share::Adaptive.enough(self.snapshot.nodes()).unwrap_or(usize::MAX);
        let at = feasible.partition_point(|slot| *slot < start);
        let next = feasible[at..].iter().chain(&feasible[..at]).copied();
        let mut found: Vec<Slot> = next.filter(suits).take(enough).collect();
        found.sort_unstable();
        found
    }

    fn diagnose(&self, class: &mut Class) -> Diagnosis {
        let mut diagnosis =
            if self.linked { self.diagnose_linked() } else { class.diagnosis(self.profile, self.snapshot) };
        if let Some(why) = self.volumes.broken() {
            diagnosis.everywhere = Some(why);
        }
        diagnosis.attempt = attempt(self.pod, self.profile);
        diagnosis
    }

    fn diagnose_linked(&self) -> Diagnosis {
        let checks = checks(self.pod, self.profile, self.constraints, self.snapshot);
        let mut diagnosis = Diagnosis { nodes: self.snapshot.nodes(), ..Diagnosis::default() };
        for (slot, row) in self.snapshot.rows().iter().enumerate() {
            if let Some(node) = &row.node {
                diagnosis.refuse(&self.reasons(&checks, slot, row, node));
            }
        }
        diagnosis
    }

    /// Why a node refuses the pod: the reasons of the first plugin that does.
    fn reasons<'a>(
        &'a self,
        checks: &[Check<'_>],
        slot: Slot,
        row: &'a Row,
        node: &'a Node,
    ) -> Vec<Reason<'a>> {
        let mut reasons = refusal(self.profile, &self.pod.needs, row, node);
        if reasons.is_empty() {
            reasons.extend(self.volumes.filter(node));
        }
        if reasons.is_empty() {
            reasons.extend(checks.iter().find_map(|check| check.refuses(slot)));
        }
        if reasons.is_empty() {
            reasons.extend(self.volumes.devices(node).err());
        }
        reasons
    }
}

/// No node can help.
fn nowhere(
    pod: &PodInfo,
    profile: &Profile,
    snapshot: &Snapshot,
    (why, plugin): (String, Plugin),
) -> Diagnosis {
    Diagnosis {
        nodes: snapshot.nodes(),
        everywhere: Some(why),
        plugins: [plugin].into_iter().collect(),
        attempt: attempt(pod, profile),
        ..Diagnosis::default()
    }
}

fn attempt(pod: &PodInfo, profile: &Profile) -> Attempt {
    match (profile.preempts(), pod.never_preempts) {
        (false, _) => Attempt::Off,
        (true, true) => Attempt::Forbidden,
        (true, false) => Attempt::InVain,
    }
}

#[cfg(test)]
mod tests;
