//! Which pods go first when there are too many
//! (kube-controller-manager: ActivePodsWithRanks in pkg/controller/controller_utils.go, v1.37).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::pod::{self, Availability};

/// The annotation by which users say what a pod's deletion costs them.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `count` of the active pods: those of least use.
pub(crate) fn first_to_go(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<_> = active.iter().collect();
    if count < active.len() {
        let ranks = Ranks::new(active, related, min_ready_seconds, now);
        ranked.sort_by_cached_key(|pod| ranks.of(pod));
    }
    ranked.into_iter().take(count).cloned().collect()
}

/// What the ranks of pods depend on beside themselves.
struct Ranks<'a> {
    per_node: HashMap<&'a str, usize>,
    ready: Ages<'a>,
    created: Ages<'a>,
    min_ready_seconds: i32,
    now: Timestamp,
}

/// Those that come first go first.
type Rank<'a> =
    (bool, u8, bool, i32, Reverse<usize>, bool, Option<Age<'a>>, Reverse<i32>, Reverse<i32>, Option<Age<'a>>);

impl<'a> Ranks<'a> {
    fn new(active: &'a [Arc<Pod>], related: &'a [Arc<Pod>], min_ready_seconds: i32, now: Timestamp) -> Self {
        let mut per_node = HashMap::new();
        for pod in related.iter().filter(|pod| pod::active(pod)) {
            *per_node.entry(pod::node(pod)).or_default() += 1;
        }
        let ages = |time: fn(&Pod) -> Option<Timestamp>| Ages::new(active, time, now);
        Self { per_node, ready: ages(pod::ready_since), created: ages(pod::created), min_ready_seconds, now }
    }

    fn of(&self, pod: &Pod) -> Rank<'a> {
        let ready = pod::ready(pod);
        (
            !pod::node(pod).is_empty(),
            phase_order(pod),
            ready,
            cost(pod),
            Reverse(self.per_node.get(pod::node(pod)).copied().unwrap_or_default()),
            // Of one magnitude of readiness those go that do not count as available yet.
            pod::available(pod, self.min_ready_seconds, self.now) == Availability::Yes,
            if ready { self.ready.of(pod::ready_since(pod)) } else { None },
            Reverse(pod::restarts(pod)),
            Reverse(pod::sidecar_restarts(pod)),
            self.created.of(pod::created(pod)),
        )
    }
}

/// The logarithm of an age, and what chooses among those of one: an id, so that age alone is no target.
type Age<'a> = (i64, &'a str);

/// Ages by the time of their beginning. Pods of one time have one age, so that what comes after it decides;
/// it goes by the first id among them, so that all pods have an order.
struct Ages<'a>(HashMap<Timestamp, Age<'a>>);

impl<'a> Ages<'a> {
    fn new(pods: &'a [Arc<Pod>], time: fn(&Pod) -> Option<Timestamp>, now: Timestamp) -> Self {
        let mut ages = HashMap::<Timestamp, Age<'a>>::new();
        for pod in pods {
            let (Some(since), id) = (time(pod), pod.metadata.uid.as_deref().unwrap_or_default()) else {
                continue;
            };
            let age = ages.entry(since).or_insert_with(|| (magnitude(since, now), id));
            age.1 = age.1.min(id);
        }
        Self(ages)
    }

    fn of(&self, since: Option<Timestamp>) -> Option<Age<'a>> {
        self.0.get(&since?).copied()
    }
}

fn phase_order(pod: &Pod) -> u8 {
    match pod::phase(pod) {
        "Running" => 2,
        "Unknown" => 1,
        _ => 0,
    }
}

fn cost(pod: &Pod) -> i32 {
    let text = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(COST));
    // A plus sign or zeros in front make it no number to upstream.
    let number =
        |text: &&String| *text == "0" || text.starts_with(|first: char| matches!(first, '-' | '1'..='9'));
    text.filter(number).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.as_nanosecond() - since.as_nanosecond();
    if age > 0 { (age as f64).log2() as i64 } else { -1 }
}
