//! Which pods go first when there are too many
//! (kube-controller-manager: ActivePodsWithRanks in pkg/controller/controller_utils.go, v1.37).

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use crate::pod;

/// The annotation by which users say what a pod's deletion costs them.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// `count` of the active pods: those of least use.
pub(crate) fn first_to_go(
    active: &[Arc<Pod>],
    related: &[Arc<Pod>],
    count: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    if count == 0 {
        return Vec::new();
    }
    let mut per_node = HashMap::<&str, usize>::new();
    for pod in related.iter().filter(|pod| pod::active(pod)) {
        *per_node.entry(pod::node(pod)).or_default() += 1;
    }
    let mut ranked: Vec<_> = active.iter().collect();
    if count < active.len() {
        ranked.sort_by(|one, two| compare(one, two, &per_node, now));
    }
    ranked.into_iter().take(count).cloned().collect()
}

fn compare(one: &Pod, two: &Pod, per_node: &HashMap<&str, usize>, now: Timestamp) -> Ordering {
    let companions = |pod| per_node.get(pod::node(pod)).copied().unwrap_or_default();
    let bound = |pod| !pod::node(pod).is_empty();
    (bound(one).cmp(&bound(two)))
        .then_with(|| phase_order(one).cmp(&phase_order(two)))
        .then_with(|| pod::ready(one).cmp(&pod::ready(two)))
        .then_with(|| cost(one).cmp(&cost(two)))
        .then_with(|| companions(two).cmp(&companions(one)))
        .then_with(|| match pod::ready(one) && pod::ready(two) {
            true => younger_first(pod::ready_since(one), pod::ready_since(two), one, two, now),
            false => Ordering::Equal,
        })
        .then_with(|| pod::restarts(two).cmp(&pod::restarts(one)))
        .then_with(|| pod::sidecar_restarts(two).cmp(&pod::sidecar_restarts(one)))
        .then_with(|| younger_first(pod::created(one), pod::created(two), one, two, now))
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

/// By the logarithm of the age, those of no known age first; within one power of two by id, so that age alone
/// is no target.
fn younger_first(
    one: Option<Timestamp>,
    two: Option<Timestamp>,
    first: &Pod,
    second: &Pod,
    now: Timestamp,
) -> Ordering {
    let (Some(one), Some(two)) = (one, two) else { return one.is_some().cmp(&two.is_some()) };
    if one == two {
        return Ordering::Equal;
    }
    magnitude(one, now).cmp(&magnitude(two, now)).then_with(|| first.metadata.uid.cmp(&second.metadata.uid))
}

fn magnitude(since: Timestamp, now: Timestamp) -> i64 {
    let age = now.as_nanosecond() - since.as_nanosecond();
    if age > 0 { (age as f64).log2() as i64 } else { -1 }
}
