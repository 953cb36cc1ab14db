//! Which nodes are alive, and what their taints say about it
//! (kube-controller-manager: pkg/controller/nodelifecycle, v1.37).

mod zones;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeCondition, ObjectReference, Pod, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::action::{Action, Note, Severity};
use crate::node::{self, NOT_READY, UNREACHABLE};
use crate::pod;
pub use zones::{Disruption, Rate, Zones, rate};

/// How long a node may be silent.
pub const GRACE: SignedDuration = SignedDuration::from_secs(50);
/// How long a node may take to speak for the first time.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// What is known when deciding.
pub struct Observed<'a> {
    /// The node.
    pub node: &'a Node,
    /// When this process last saw it renew its lease or its status. Its own clock is not asked.
    pub last_seen: Timestamp,
    /// How long it may be silent.
    pub grace: SignedDuration,
    /// The pods on it.
    pub pods: &'a [Arc<Pod>],
    /// Whether all nodes are silent: then it is us who cannot see.
    pub all_silent: bool,
    /// Whether it is this node's turn to have its pods evicted, or how long until it is.
    pub turn: Turn,
}

/// Nodes of a zone are given up one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// After this long.
    Wait(Duration),
    /// Not while its zone is as it is.
    Never,
}

/// Taints by condition and status.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Older names of labels that tools still read.
const LABELS: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let present = observed.node;
    let deadline = deadline(present, observed.last_seen, observed.grace);
    let silent = deadline.is_some_and(|deadline| now > deadline);
    let mut actions = Vec::new();
    let mut after = present.clone();
    if silent {
        after = forget(present, now);
        if let Some(write) = Action::update_status(present, &present.status, &after.status) {
            actions.push(write);
            if node::ready(present) {
                let message = format!("Node {} status is now: NodeNotReady", node::name(present));
                actions.push(event(present, Severity::Normal, "NodeNotReady", message));
            }
            // The taints follow when the caches show the conditions.
            return actions;
        }
    } else if let Some(deadline) = deadline {
        let wait = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
        actions.push(Action::RequeueAfter(wait + Duration::from_millis(10)));
    }
    actions.extend(write_taints(observed, &after, now));
    actions.extend(write_labels(present));
    if node::condition(&after, "Ready").is_some_and(|ready| ready.status == "Unknown") {
        actions
            .extend(observed.pods.iter().filter(|pod| pod::ready(pod)).flat_map(|pod| not_ready(pod, now)));
    }
    actions
}

/// Whether a node's pods are to be evicted and it is not tainted so yet.
pub fn wants_eviction(present: &Node) -> bool {
    let Some(wanted) = eviction_taint(present) else { return false };
    !node::taints(present).iter().any(|taint| taint.effect == "NoExecute" && taint.key == wanted)
        && !node::taints(present).iter().any(is_eviction)
}

fn eviction_taint(present: &Node) -> Option<&'static str> {
    match node::condition(present, "Ready")?.status.as_str() {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

fn is_eviction(taint: &Taint) -> bool {
    taint.effect == "NoExecute" && (taint.key == NOT_READY || taint.key == UNREACHABLE)
}

/// When a node counts as silent; never again once all is known to be unknown.
fn deadline(present: &Node, last_seen: Timestamp, grace: SignedDuration) -> Option<Timestamp> {
    let grace = match node::condition(present, "Ready") {
        Some(_) => grace,
        None => STARTUP_GRACE,
    };
    last_seen.checked_add(grace).ok()
}

/// The node with all it said about itself unknown.
fn forget(present: &Node, now: Timestamp) -> Node {
    let mut after = present.clone();
    let conditions = after.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: present.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    after
}

fn write_taints(observed: &Observed<'_>, after: &Node, now: Timestamp) -> Vec<Action> {
    let present = node::taints(observed.node);
    let mut wanted: Vec<(String, &'static str)> = Vec::new();
    for (kind, status, key) in TAINTS {
        if node::condition(after, kind).is_some_and(|condition| condition.status == status) {
            wanted.push((key.to_owned(), "NoSchedule"));
        }
    }
    if observed.node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE.to_owned(), "NoSchedule"));
    }
    let mut actions = Vec::new();
    if let Some(key) = eviction_taint(after).filter(|_| !observed.all_silent) {
        // A node that is given up already only changes the reason.
        let given_up = present.iter().any(is_eviction);
        match observed.turn {
            _ if given_up => wanted.push((key.to_owned(), "NoExecute")),
            Turn::Now => wanted.push((key.to_owned(), "NoExecute")),
            Turn::Wait(wait) => actions.push(Action::RequeueAfter(wait)),
            Turn::Never => {}
        }
    }
    let keep = |taint: &Taint| {
        !is_ours(taint) || wanted.iter().any(|(key, effect)| *key == taint.key && *effect == taint.effect)
    };
    let mut taints: Vec<_> = present.iter().filter(|taint| keep(taint)).cloned().collect();
    for (key, effect) in &wanted {
        if !taints.iter().any(|taint| taint.key == *key && taint.effect == *effect) {
            taints.push(Taint {
                key: key.clone(),
                effect: (*effect).to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    if taints != present {
        let taints = if taints.is_empty() { json!(null) } else { json!(taints) };
        actions.push(Action::patch(observed.node, json!({"spec": {"taints": taints}})));
    }
    actions
}

/// Whether a taint is this controller's business.
fn is_ours(taint: &Taint) -> bool {
    let by_condition = TAINTS.iter().any(|(_, _, key)| *key == taint.key) || taint.key == UNSCHEDULABLE;
    (taint.effect == "NoSchedule" && by_condition) || is_eviction(taint)
}

fn write_labels(present: &Node) -> Option<Action> {
    let labels = present.metadata.labels.as_ref()?;
    let stale = LABELS.iter().filter_map(|(name, older)| {
        let value = labels.get(*name)?;
        (labels.get(*older) != Some(value)).then(|| ((*older).to_owned(), json!(value)))
    });
    let stale: serde_json::Map<_, _> = stale.collect();
    (!stale.is_empty()).then(|| Action::patch(present, json!({"metadata": {"labels": stale}})))
}

/// A pod on a silent node takes no traffic.
fn not_ready(silent: &Pod, now: Timestamp) -> Vec<Action> {
    let mut status = silent.status.clone().unwrap_or_default();
    let of_ready = |condition: &&mut PodCondition| condition.type_ == "Ready";
    if let Some(ready) = status.conditions.iter_mut().flatten().find(of_ready) {
        ready.status = "False".to_owned();
        ready.last_transition_time = Some(Time(now));
    }
    let write = Action::update_status(silent, &silent.status.clone().unwrap_or_default(), &status);
    let tell = Action::event(silent, Severity::Warning, "NodeNotReady", "Node is not ready");
    write.into_iter().chain(std::iter::once(tell)).collect()
}

/// Tells that a node is looked after from now on.
pub fn registered(new: &Node) -> Action {
    let name = node::name(new);
    let message = format!("Node {name} event: Registered Node {name} in Controller");
    event(new, Severity::Normal, "RegisteredNode", message)
}

/// Tells that a node is gone.
pub fn removed(name: &str) -> Action {
    let message = format!("Node {name} event: Removing Node {name} from Controller");
    let about = ObjectReference {
        kind: Some("Node".to_owned()),
        api_version: Some("v1".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    };
    Action::Event(Note { about, severity: Severity::Normal, reason: "RemovingNode", message })
}

fn event(about: &Node, severity: Severity, reason: &'static str, message: String) -> Action {
    Action::event(about, severity, reason, message)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{at, object, summary};

    fn node(ready: Value, taints: Value) -> Node {
        object(json!({
            "metadata": {"name": "n1", "uid": "n1", "resourceVersion": "5"},
            "spec": {"taints": taints},
            "status": {"conditions": ready.as_str().map(|status| json!([{"type": "Ready", "status": status}]))},
        }))
    }

    fn run(node: &Node, now: i64, all_silent: bool, turn: Turn) -> Vec<String> {
        let observed = Observed { node, last_seen: at(0), grace: GRACE, pods: &[], all_silent, turn };
        decide(&observed, at(now)).iter().map(summary).collect()
    }

    #[test]
    fn a_silent_node_becomes_unknown_after_the_grace_period() {
        let alive = node(json!("True"), json!(null));
        assert_eq!(run(&alive, 10, false, Turn::Now), ["again 40.01s"]);
        let got = run(&alive, 51, false, Turn::Now);
        assert!(got[0].starts_with("patch Node/status n1"), "{got:?}");
        assert!(
            got[0].contains("NodeStatusUnknown") && got[0].contains("Kubelet stopped posting node status.")
        );
        assert_eq!(got[1], "event NodeNotReady Node n1 status is now: NodeNotReady");
        let new = node(json!(null), json!(null));
        assert_eq!(run(&new, 55, false, Turn::Now), ["again 5.01s"]);
        assert!(run(&new, 61, false, Turn::Now)[0].contains("Kubelet never posted node status."));
    }

    #[test]
    fn taints_follow_conditions() {
        let keys = |lines: &[String]| {
            let line =
                lines.iter().find(|line| line.starts_with("patch Node n1")).cloned().unwrap_or_default();
            let body: Value =
                serde_json::from_str(line.trim_start_matches("patch Node n1 ")).unwrap_or_default();
            let taints = body["spec"]["taints"].as_array().cloned().unwrap_or_default();
            let short = |taint: &Value| {
                let key = taint["key"].as_str().unwrap_or_default();
                format!(
                    "{}:{}",
                    key.trim_start_matches("node.kubernetes.io/"),
                    taint["effect"].as_str().unwrap_or_default()
                )
            };
            taints.iter().map(short).collect::<Vec<_>>()
        };
        let failing = node(json!("False"), json!([{"key": "mine", "effect": "NoSchedule"}]));
        let all = ["mine:NoSchedule", "not-ready:NoSchedule", "not-ready:NoExecute"];
        assert_eq!(keys(&run(&failing, 1, false, Turn::Now)), all);
        assert_eq!(keys(&run(&failing, 1, true, Turn::Now)), all[..2], "all are silent: nobody is evicted");
        let waiting = run(&failing, 1, false, Turn::Wait(Duration::from_secs(7)));
        assert_eq!(keys(&waiting), all[..2]);
        assert!(waiting.contains(&"again 7s".to_owned()));

        let both =
            json!([{"key": NOT_READY, "effect": "NoSchedule"}, {"key": NOT_READY, "effect": "NoExecute"}]);
        let gone = node(json!("Unknown"), both.clone());
        assert_eq!(
            keys(&run(&gone, 1, false, Turn::Never)),
            ["unreachable:NoSchedule", "unreachable:NoExecute"]
        );
        let back = run(&node(json!("True"), both), 1, false, Turn::Now);
        assert!(back.contains(&r#"patch Node n1 {"spec":{"taints":null}}"#.to_owned()), "{back:?}");
    }
}
