//! Pods whose devices have become what they do not tolerate
//! (kube-controller-manager: pkg/controller/devicetainteviction, v1.37).

mod rule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{
    DeviceRequestAllocationResult, DeviceTaint, DeviceTaintRule, DeviceTaintSelector, DeviceToleration,
    ResourceClaim, ResourceClaimConsumerReference, ResourceSlice,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Severity};
use crate::pod;
use crate::taint_eviction::disrupted;
pub use rule::{ObservedRule, decide_rule};

/// What is known when deciding.
pub struct Observed<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The claims that it names.
    pub claims: &'a [Arc<ResourceClaim>],
    /// The devices that there are.
    pub slices: &'a [Arc<ResourceSlice>],
    /// Taints that administrators give to devices.
    pub rules: &'a [Arc<DeviceTaintRule>],
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let doomed = observed.pod;
    if pod::deleting(doomed) || pod::finished(doomed) || pod::node(doomed).is_empty() {
        return Vec::new();
    }
    match observed.claims.iter().filter_map(|claim| deadline(observed, claim, now)).min() {
        None => Vec::new(),
        Some(deadline) if deadline <= now => evict(doomed, now),
        Some(deadline) => {
            let wait = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
            vec![Action::RequeueAfter(wait + Duration::from_millis(1))]
        }
    }
}

/// The ids of the rules that have a part in the pod's end.
pub fn rules_ending(observed: &Observed<'_>) -> Vec<String> {
    let ended = |rule: &&Arc<DeviceTaintRule>| {
        let alone = Observed { slices: &[], rules: &[(*rule).clone()], ..*observed };
        observed.claims.iter().any(|claim| deadline(&alone, claim, Timestamp::MIN).is_some())
    };
    observed.rules.iter().filter(ended).filter_map(|rule| rule.metadata.uid.clone()).collect()
}

/// Tells that a pod that was to be evicted stays after all.
pub fn spared(running: &Pod) -> Action {
    Action::event(running, Severity::Normal, "DeviceTaintManagerEviction", "Cancelling deletion")
}

fn evict(doomed: &Pod, now: Timestamp) -> Vec<Action> {
    let tell = Action::event(doomed, Severity::Normal, "DeviceTaintManagerEviction", "Marking for deletion");
    let why = ("DeletionByDeviceTaintManager", "Device Taint manager: deleting due to NoExecute taint");
    let write = disrupted(doomed, why, None, now);
    std::iter::once(tell).chain(write).chain(std::iter::once(Action::delete(doomed).into())).collect()
}

/// When the devices of a claim end the pod, if it is one of the claim's users.
fn deadline(observed: &Observed<'_>, claim: &ResourceClaim, now: Timestamp) -> Option<Timestamp> {
    users(claim).find(|user| Some(&user.uid) == observed.pod.metadata.uid.as_ref())?;
    let devices = claim.status.as_ref()?.allocation.as_ref()?.devices.as_ref()?.results.iter().flatten();
    let ends = devices.flat_map(|device| {
        let taints = taints(observed, device).filter(|taint| taint.effect == "NoExecute");
        taints.filter_map(|taint| end(device.tolerations.as_deref().unwrap_or_default(), taint, now))
    });
    ends.min()
}

/// The taints of a device: those its driver tells, in the newest state of its pool, and those of rules.
fn taints<'a>(
    observed: &'a Observed<'_>,
    device: &'a DeviceRequestAllocationResult,
) -> impl Iterator<Item = &'a DeviceTaint> {
    let slices = newest(observed.slices)
        .filter(|slice| slice.spec.driver == device.driver && slice.spec.pool.name == device.pool);
    let devices = slices.flat_map(|slice| slice.spec.devices.iter().flatten());
    let told = devices.filter(|one| one.name == device.device).flat_map(|one| one.taints.iter().flatten());
    // A rule that selects nothing in particular is about no device.
    let concerns = |rule: &&Arc<DeviceTaintRule>| {
        let selector = rule.spec.device_selector.as_ref();
        selector.is_some_and(|selector| covers(selector, &device.driver, &device.pool, &device.device))
    };
    told.chain(observed.rules.iter().filter(concerns).map(|rule| &rule.spec.taint))
}

/// What is known of each pool in its newest state.
fn newest(slices: &[Arc<ResourceSlice>]) -> impl Iterator<Item = &Arc<ResourceSlice>> {
    fn pool(slice: &ResourceSlice) -> (&str, &str) {
        (&slice.spec.driver, &slice.spec.pool.name)
    }
    let mut newest = HashMap::new();
    for slice in slices {
        let known = newest.entry(pool(slice)).or_insert(slice.spec.pool.generation);
        *known = slice.spec.pool.generation.max(*known);
    }
    slices.iter().filter(move |slice| newest.get(&pool(slice)) == Some(&slice.spec.pool.generation))
}

/// Whether a selector is about a device.
fn covers(selector: &DeviceTaintSelector, driver: &str, pool: &str, device: &str) -> bool {
    let fits = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    fits(&selector.driver, driver) && fits(&selector.pool, pool) && fits(&selector.device, device)
}

/// Who may use what was allocated to a claim.
fn users(claim: &ResourceClaim) -> impl Iterator<Item = &ResourceClaimConsumerReference> {
    claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten())
}

/// When a taint ends the pod; never if it is tolerated without limit.
fn end(tolerations: &[DeviceToleration], taint: &DeviceTaint, now: Timestamp) -> Option<Timestamp> {
    let added = taint.time_added.as_ref().map_or(now, |time| time.0);
    let mut fitting = tolerations.iter().filter(|one| tolerates(one, taint)).peekable();
    if fitting.peek().is_none() {
        return Some(added);
    }
    let limits: Option<Vec<i64>> = fitting.map(|one| one.toleration_seconds).collect();
    let seconds = limits?.into_iter().min().unwrap_or_default().max(0);
    Some(added.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let fits = |wanted: &Option<String>, found: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == found)
    };
    let value = taint.value.as_deref().unwrap_or_default();
    fits(&toleration.effect, &taint.effect)
        && fits(&toleration.key, &taint.key)
        && match toleration.operator.as_deref().unwrap_or("Equal") {
            "Exists" => true,
            _ => toleration.value.as_deref().unwrap_or_default() == value,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, summary};

    fn run(taint: &Value, tolerations: &Value, rule: &Value, user: &str, now: i64) -> Vec<String> {
        let pod: Pod = object(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "pod"},
            "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running"}}));
        let device = json!({"request": "r", "driver": "d", "pool": "pool", "device": "gpu", "tolerations": tolerations});
        let claim: ResourceClaim = object(json!({"metadata": {"name": "c"}, "spec": {}, "status": {
            "allocation": {"devices": {"results": [device]}},
            "reservedFor": [{"resource": "pods", "name": "p", "uid": user}]}}));
        let slice = |generation: i64, taints: Value| -> Arc<ResourceSlice> {
            Arc::new(object(json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "nodeName": "n",
                "pool": {"name": "pool", "generation": generation, "resourceSliceCount": 1},
                "devices": [{"name": "gpu", "taints": taints}, {"name": "other"}]}})))
        };
        let old = json!([{"key": "old", "effect": "NoExecute", "timeAdded": at(0).to_string()}]);
        let slices = [slice(1, old), slice(2, taint.clone())];
        let rules: Vec<Arc<DeviceTaintRule>> = rule
            .as_object()
            .map(|_| Arc::new(object(json!({"metadata": {"name": "rule"}, "spec": rule}))))
            .into_iter()
            .collect();
        let observed = Observed { pod: &pod, claims: &[Arc::new(claim)], slices: &slices, rules: &rules };
        decide(&observed, at(now)).iter().map(summary).collect()
    }

    #[test]
    fn devices_decide_when_their_users_go() {
        let taint = |effect: &str| json!([{"key": "broken", "value": "v", "effect": effect, "timeAdded": at(0).to_string()}]);
        let tolerate = |seconds: Value| json!([{"key": "broken", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        let rule = |selector: Value| {
            json!({"deviceSelector": selector,
            "taint": {"key": "rule", "effect": "NoExecute", "timeAdded": at(0).to_string()}})
        };
        let none = json!(null);
        let cases = [
            (none.clone(), none.clone(), none.clone(), "pod", 0, None),
            (taint("NoExecute"), none.clone(), none.clone(), "pod", 0, Some("delete Pod p")),
            (taint("NoSchedule"), none.clone(), none.clone(), "pod", 0, None),
            (taint("NoExecute"), none.clone(), none.clone(), "another", 0, None),
            (taint("NoExecute"), tolerate(none.clone()), none.clone(), "pod", 999, None),
            (taint("NoExecute"), tolerate(json!(60)), none.clone(), "pod", 10, Some("again 50.001s")),
            (taint("NoExecute"), tolerate(json!(60)), none.clone(), "pod", 60, Some("delete Pod p")),
            (
                taint("NoExecute"),
                json!([{"key": "broken", "value": "w"}]),
                none.clone(),
                "pod",
                0,
                Some("delete Pod p"),
            ),
            (taint("NoExecute"), json!([{"key": "broken", "value": "v"}]), none.clone(), "pod", 0, None),
            (none.clone(), none.clone(), rule(json!({"driver": "d"})), "pod", 0, Some("delete Pod p")),
            (none.clone(), none.clone(), rule(json!({"driver": "d", "device": "other"})), "pod", 0, None),
            (none.clone(), none.clone(), rule(none.clone()), "pod", 0, None),
        ];
        for (number, (taint, tolerations, rule, user, now, expected)) in cases.into_iter().enumerate() {
            let lines = run(&taint, &tolerations, &rule, user, now);
            assert_eq!(lines.last().map(String::as_str), expected, "case {number}");
        }
        let lines = run(&taint("NoExecute"), &none, &none, "pod", 0);
        assert_eq!(lines[0], "event DeviceTaintManagerEviction Marking for deletion");
        assert!(lines[1].contains("DeletionByDeviceTaintManager"), "{lines:?}");
    }
}
