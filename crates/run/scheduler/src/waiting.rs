//! Pods whose node is chosen and whose claims are not bound yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_schedule::{PodInfo, Progress, Reservation, Snapshot};

/// A pod that waits.
struct Entry {
    pod: Arc<PodInfo>,
    node: String,
    /// Each with the version since which the API shows it; unknown while it is being written.
    reservations: Vec<(Reservation, Option<u64>)>,
    until: Duration,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Waiting(HashMap<Arc<str>, Entry>);

/// A pod whose wait is over.
pub(crate) struct Waited {
    pub(crate) pod: Arc<PodInfo>,
    pub(crate) node: String,
    pub(crate) reservations: Vec<Reservation>,
    /// Why its claims got nothing, if so.
    pub(crate) failure: Option<String>,
}

impl Waiting {
    pub(crate) fn add(
        &mut self,
        pod: Arc<PodInfo>,
        node: String,
        reservations: Vec<Reservation>,
        until: Duration,
    ) {
        let reservations = reservations.into_iter().map(|one| (one, None)).collect();
        self.0.insert(pod.uid.clone(), Entry { pod, node, reservations, until });
    }

    pub(crate) fn written(&mut self, pod: &str, versions: &[u64]) {
        if let Some(entry) = self.0.get_mut(pod) {
            entry.reservations.iter_mut().zip(versions).for_each(|(one, version)| one.1 = Some(*version));
        }
    }

    /// The pod waits no more.
    pub(crate) fn remove(&mut self, pod: &str, failure: Option<String>) -> Option<Waited> {
        let Entry { pod, node, reservations, .. } = self.0.remove(pod)?;
        let reservations = reservations.into_iter().map(|(one, _)| one).collect();
        Some(Waited { pod, node, reservations, failure })
    }

    /// When the first of them has waited long enough.
    pub(crate) fn next_time(&self) -> Option<Duration> {
        self.0.values().map(|entry| entry.until).min()
    }

    /// Those whose claims are bound, or never will be.
    pub(crate) fn ended(&mut self, snapshot: &Snapshot, now: Duration) -> Vec<Waited> {
        let over = |entry: &Entry| match progress(entry, snapshot) {
            Progress::Bound => Some(None),
            Progress::Failed(why) => Some(Some(why)),
            Progress::Waiting if entry.until <= now => Some(Some("context deadline exceeded".to_owned())),
            Progress::Waiting => None,
        };
        let over: Vec<_> =
            self.0.iter().filter_map(|(uid, entry)| Some((uid.clone(), over(entry)?))).collect();
        over.into_iter().filter_map(|(uid, failure)| self.remove(&uid, failure)).collect()
    }
}

fn progress(entry: &Entry, snapshot: &Snapshot) -> Progress {
    let written = entry.reservations.iter().map(|(one, version)| Some((one.clone(), (*version)?)));
    match written.collect::<Option<Vec<_>>>() {
        Some(written) => snapshot.progress(&written, &entry.node),
        None => Progress::Waiting,
    }
}
