//! Pods that nobody else will remove
//! (kube-controller-manager: pkg/controller/podgc, v1.37).

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;

use crate::action::Action;
use crate::taint_eviction::disrupted;
use crate::{node, pod};

/// Ended pods that may pile up before the oldest go.
pub const ENDED: usize = 12_500;

/// What is known about a pod's node.
#[derive(Clone, Copy)]
pub enum On<'a> {
    /// The pod is bound to none.
    None,
    /// This one.
    Node(&'a Node),
    /// One that the server has not had for a while.
    Gone,
}

/// What to do about one pod.
pub fn decide(left: &Pod, on: On<'_>, now: Timestamp) -> Vec<Action> {
    match on {
        On::None if pod::deleting(left) => remove(left, ("", ""), now),
        On::Gone => remove(left, ("DeletionByPodGC", "PodGC: node no longer exists"), now),
        On::Node(on) if pod::deleting(left) && !node::ready(on) && out_of_service(on) => {
            remove(left, ("", ""), now)
        }
        On::None | On::Node(_) => Vec::new(),
    }
}

/// Whether an operator has given the node up.
pub fn out_of_service(on: &Node) -> bool {
    node::taints(on).iter().any(|taint| taint.key == node::OUT_OF_SERVICE)
}

/// Deletes an ended pod because there are too many.
pub fn discard(ended: &Pod, now: Timestamp) -> Vec<Action> {
    remove(ended, ("", ""), now)
}

/// The ended pods beyond the limit, evicted ones first, then the oldest.
pub fn surplus<P: AsRef<Pod> + Clone>(pods: &[P], limit: usize) -> Vec<P> {
    let mut ended: Vec<_> = pods.iter().filter(|pod| pod::finished((*pod).as_ref())).cloned().collect();
    let count = ended.len().saturating_sub(limit);
    let order = |one: &P| {
        let one = one.as_ref();
        let evicted = one.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
        (!evicted, pod::created(one), one.metadata.name.clone())
    };
    ended.sort_by_key(order);
    ended.truncate(count);
    ended
}

fn remove(left: &Pod, why: (&str, &str), now: Timestamp) -> Vec<Action> {
    let write = if pod::finished(left) { None } else { disrupted(left, why, Some("Failed"), now) };
    let mut delete = Action::delete(left);
    delete.grace = Some(0);
    write.into_iter().chain(std::iter::once(delete.into())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{at, object, summary};

    #[test]
    fn only_hopeless_pods_are_removed() {
        let make = |deleting: bool, phase: &str| -> Pod {
            object(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u",
                "deletionTimestamp": deleting.then(|| at(0).to_string())}, "status": {"phase": phase}}))
        };
        let healthy: Node = object(
            json!({"metadata": {"name": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        );
        let given_up: Node = object(json!({"metadata": {"name": "n"},
            "spec": {"taints": [{"key": node::OUT_OF_SERVICE, "effect": "NoExecute"}]}}));
        let cases = [
            (On::None, false, "Pending", 0),
            (On::None, true, "Pending", 2),
            (On::Gone, false, "Running", 2),
            (On::Gone, false, "Succeeded", 1),
            (On::Node(&healthy), true, "Running", 0),
            (On::Node(&given_up), true, "Running", 2),
            (On::Node(&given_up), false, "Running", 0),
        ];
        for (number, (on, deleting, phase, count)) in cases.into_iter().enumerate() {
            let got: Vec<_> = decide(&make(deleting, phase), on, at(0)).iter().map(summary).collect();
            assert_eq!(got.len(), count, "case {number}: {got:?}");
        }
    }
}
