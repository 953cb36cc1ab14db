//! Which pod is next.
//!
//! Pods wait in one of three places: *ready* (highest priority first, then longest waiting),
//! *backing off* until their time comes, or *parked* until something changes that may help. Time
//! is given by the caller as the duration since any fixed moment.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::needs::Needs;
use crate::pod::PodInfo;
use crate::profile::Plugins;

/// How long a pod waits that could not be placed, twice as long each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first attempt (upstream: podInitialBackoffSeconds).
    pub first: Duration,
    /// At most (upstream: podMaxBackoffSeconds).
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { first: Duration::from_secs(1), most: Duration::from_secs(10) }
    }
}

/// Parked pods are tried again after this, whatever happens (upstream: podMaxInUnschedulablePodsDuration).
const MAX_PARKED: Duration = Duration::from_secs(5 * 60);

type Uid = Arc<str>;

/// Pods that wait for a node.
#[derive(Default)]
pub struct Queue {
    backoff: Backoff,
    pods: HashMap<Uid, Waiting>,
    ready: BTreeSet<(Reverse<i32>, u64, Uid)>,
    backing_off: BTreeSet<(Duration, Uid)>,
    parked: HashMap<Group, BTreeSet<Uid>>,
    parked_since: BTreeSet<(Duration, Uid)>,
    arrivals: u64,
    /// How many pods came to which place for which event, since somebody asked.
    moves: BTreeMap<(&'static str, &'static str), u64>,
}

struct Waiting {
    pod: Arc<PodInfo>,
    arrival: u64,
    attempts: u32,
    /// When its back-off ends.
    until: Duration,
    place: Place,
    /// Who refused it when it was tried.
    refused: Plugins,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Ready,
    BackingOff,
    Parked(Duration),
    /// Handed out by [`Queue::pop`].
    Out,
}

impl Place {
    /// Upstream's name of the queue.
    fn name(self) -> Option<&'static str> {
        match self {
            Place::Ready => Some("active"),
            Place::BackingOff => Some("backoff"),
            Place::Parked(_) => Some("unschedulable"),
            Place::Out => None,
        }
    }
}

/// Pods that the same changes help.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Group {
    needs: Arc<Needs>,
    refused: Plugins,
    /// What else of the pod decides, where other pods or volumes do.
    links: Option<String>,
}

impl Queue {
    /// A queue whose pods wait like this.
    pub fn new(backoff: Backoff) -> Self {
        Queue { backoff, ..Queue::default() }
    }

    /// A pod is pending. One that is known keeps its turn; if what it needs changed it is tried
    /// again at once.
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        let (arrival, attempts) = match self.pods.get_mut(&pod.uid) {
            Some(known) if unchanged(&known.pod, &pod) => return,
            // It is being bound: what changed counts if that fails.
            Some(known) if known.place == Place::Out => {
                known.pod = pod;
                return;
            }
            Some(known) => (known.arrival, known.attempts),
            None => {
                self.arrivals += 1;
                (self.arrivals, 0)
            }
        };
        let uid = pod.uid.clone();
        self.remove(&uid);
        self.pods.insert(
            uid.clone(),
            Waiting {
                pod,
                arrival,
                attempts,
                until: Duration::ZERO,
                place: Place::Out,
                refused: Plugins::default(),
            },
        );
        self.put(&uid, Place::Ready, "PodAdd");
    }

    /// A pod is bound, gone or not this scheduler's any more.
    pub fn remove(&mut self, uid: &str) {
        if let Some((uid, _)) = self.pods.get_key_value(uid) {
            let uid = uid.clone();
            self.take_out(&uid);
            self.pods.remove(&uid);
        }
    }

    /// The next pod to schedule. It is out of the queue until [`Queue::park`], [`Queue::retry`]
    /// or [`Queue::remove`].
    pub fn pop(&mut self, now: Duration) -> Option<Arc<PodInfo>> {
        self.advance(now);
        let (_, _, uid) = self.ready.first()?.clone();
        self.put(&uid, Place::Out, "");
        let waiting = self.pods.get_mut(&uid)?;
        waiting.attempts += 1;
        Some(waiting.pod.clone())
    }

    /// The pod found no node, as these plugins refused them: it waits for a change that may help.
    pub fn park(&mut self, uid: &str, refused: Plugins, now: Duration) {
        if let Some(waiting) = self.pods.get_mut(uid).filter(|waiting| waiting.place == Place::Out) {
            waiting.refused = refused;
        }
        self.back_off(uid, now, Place::Parked(now));
    }

    /// Something went wrong with the pod: it is tried again after its back-off.
    pub fn retry(&mut self, uid: &str, now: Duration) {
        self.back_off(uid, now, Place::BackingOff);
    }

    /// How often a pod was tried.
    pub fn attempts(&self, uid: &str) -> u32 {
        self.pods.get(uid).map_or(0, |waiting| waiting.attempts)
    }

    /// Whether a pod waits here.
    pub fn knows(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// A parked pod is tried again at once: what it waited for has come.
    pub fn hurry(&mut self, uid: &str) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        if self.pods.get(&uid).is_some_and(|waiting| waiting.place != Place::Out) {
            self.put(&uid, Place::Ready, "ForceActivate");
        }
    }

    /// Wakes the parked pods that `helps` names an event for, asked once for all pods that are alike.
    pub fn wake(&mut self, now: Duration, helps: impl Fn(&PodInfo, Plugins) -> Option<&'static str>) {
        let one = |members: &BTreeSet<Uid>| self.pods.get(members.first()?);
        let event = |group: &Group, members| one(members).and_then(|one| helps(&one.pod, group.refused));
        let woken: Vec<(Uid, &'static str)> = self
            .parked
            .iter()
            .filter_map(|(group, members)| Some((members, event(group, members)?)))
            .flat_map(|(members, event)| members.iter().map(move |uid| (uid.clone(), event)))
            .collect();
        for (uid, event) in woken {
            self.unpark(&uid, now, event);
        }
    }

    /// All pods that wait, wherever.
    pub fn pods(&self) -> impl Iterator<Item = &PodInfo> {
        self.pods.values().map(|waiting| &*waiting.pod)
    }

    /// How many pods came to each place (`active`, `backoff`, `unschedulable`) for which event, since this was
    /// asked last.
    pub fn take_moves(&mut self) -> BTreeMap<(&'static str, &'static str), u64> {
        std::mem::take(&mut self.moves)
    }

    /// How many parked pods each set of plugins refused.
    pub fn refused(&self) -> impl Iterator<Item = (&PodInfo, Plugins, usize)> {
        self.parked.iter().filter_map(|(group, members)| {
            let one = self.pods.get(members.first()?)?;
            Some((&*one.pod, group.refused, members.len()))
        })
    }

    /// When [`Queue::pop`] has something without anything happening before; none if never.
    pub fn next_time(&self) -> Option<Duration> {
        let parked = self.parked_since.first().map(|(since, _)| *since + MAX_PARKED);
        let until = self.backing_off.first().map(|(until, _)| *until);
        let ready = (!self.ready.is_empty()).then_some(Duration::ZERO);
        [ready, until, parked].into_iter().flatten().min()
    }

    /// How many pods are ready, backing off and parked.
    pub fn lengths(&self) -> [usize; 3] {
        [self.ready.len(), self.backing_off.len(), self.parked_since.len()]
    }

    fn back_off(&mut self, uid: &str, now: Duration, place: Place) {
        let Some((uid, _)) = self.pods.get_key_value(uid) else { return };
        let uid = uid.clone();
        if let Some(waiting) = self.pods.get_mut(&uid).filter(|waiting| waiting.place == Place::Out) {
            let doublings = waiting.attempts.saturating_sub(1).min(16);
            let Backoff { first, most } = self.backoff;
            waiting.until = now + first.saturating_mul(2u32.pow(doublings)).min(most);
            self.put(&uid, place, "ScheduleAttemptFailure");
        }
    }

    fn advance(&mut self, now: Duration) {
        while let Some((since, uid)) = self.parked_since.first().cloned()
            && since + MAX_PARKED <= now
        {
            self.unpark(&uid, now, "UnschedulableTimeout");
        }
        while let Some((until, uid)) = self.backing_off.first().cloned()
            && until <= now
        {
            self.put(&uid, Place::Ready, "BackoffComplete");
        }
    }

    fn unpark(&mut self, uid: &Uid, now: Duration, event: &'static str) {
        let waits = self.pods.get(uid).is_some_and(|waiting| waiting.until > now);
        self.put(uid, if waits { Place::BackingOff } else { Place::Ready }, event);
    }

    fn put(&mut self, uid: &Uid, place: Place, event: &'static str) {
        self.take_out(uid);
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        waiting.place = place;
        if let Some(name) = place.name() {
            *self.moves.entry((name, event)).or_default() += 1;
        }
        match place {
            Place::Ready => {
                self.ready.insert((Reverse(waiting.pod.priority), waiting.arrival, uid.clone()));
            }
            Place::BackingOff => {
                self.backing_off.insert((waiting.until, uid.clone()));
            }
            Place::Parked(since) => {
                self.parked.entry(group(waiting)).or_default().insert(uid.clone());
                self.parked_since.insert((since, uid.clone()));
            }
            Place::Out => {}
        }
    }

    fn take_out(&mut self, uid: &Uid) {
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        match std::mem::replace(&mut waiting.place, Place::Out) {
            Place::Ready => {
                self.ready.remove(&(Reverse(waiting.pod.priority), waiting.arrival, uid.clone()));
            }
            Place::BackingOff => {
                self.backing_off.remove(&(waiting.until, uid.clone()));
            }
            Place::Parked(since) => {
                self.parked_since.remove(&(since, uid.clone()));
                let group = group(waiting);
                if let Some(members) = self.parked.get_mut(&group) {
                    members.remove(uid);
                    if members.is_empty() {
                        self.parked.remove(&group);
                    }
                }
            }
            Place::Out => {}
        }
    }
}

fn group(waiting: &Waiting) -> Group {
    let pod = &waiting.pod;
    // Pods with equal claims are not alike, so volumes are left out.
    let links = pod.has_links().then(|| format!("{} {:?} {:?}", pod.namespace, pod.labels, pod.links));
    Group { needs: pod.needs.clone(), refused: waiting.refused, links }
}

/// Nothing that decides about the pod's place or turn changed.
fn unchanged(old: &PodInfo, new: &PodInfo) -> bool {
    old.needs == new.needs
        && old.labels == new.labels
        && old.priority == new.priority
        && old.device_claims == new.device_claims
}

#[cfg(test)]
mod tests;
