//! What a DeviceTaintRule tells of the pods that it ends, or would end
//! (kube-controller-manager: pkg/controller/devicetainteviction, v1.37).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{
    DeviceRequestAllocationResult, DeviceTaint, DeviceTaintRule, DeviceTaintRuleStatus, ResourceClaim,
    ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{covers, end, newest, users};
use crate::action::Action;
use crate::{pod, resource_claim};

const IN_PROGRESS: &str = "EvictionInProgress";

/// The shortest time between two changes of the condition.
const PERIOD: SignedDuration = SignedDuration::from_secs(10);

/// What is known when deciding.
pub struct ObservedRule<'a> {
    /// The rule.
    pub rule: &'a DeviceTaintRule,
    /// All claims.
    pub claims: &'a [Arc<ResourceClaim>],
    /// The devices that there are.
    pub slices: &'a [Arc<ResourceSlice>],
    /// Finds a pod by namespace and name.
    pub pod: &'a dyn Fn(&str, &str) -> Option<Arc<Pod>>,
    /// How many pods went because of the rule since this process began.
    pub evicted: usize,
}

/// What to do about a rule: its condition follows at most once in a while, and what a rule without effect
/// would do is told once.
pub fn decide_rule(observed: &ObservedRule<'_>, now: Timestamp) -> Vec<Action> {
    let rule = observed.rule;
    let status = rule.status.clone().unwrap_or_default();
    let known = status.conditions.iter().flatten().find(|one| one.type_ == IN_PROGRESS);
    if let Some(known) = known.filter(|known| known.observed_generation == rule.metadata.generation) {
        let rest = PERIOD - now.duration_since(known.last_transition_time.0);
        if rule.spec.taint.effect == "None" {
            return Vec::new();
        }
        if rest.is_positive() {
            return vec![Action::RequeueAfter(Duration::try_from(rest).unwrap_or_default())];
        }
    }
    let next = observed.condition(now);
    if known.is_some_and(|known| Condition { last_transition_time: Time(now), ..known.clone() } == next) {
        return Vec::new();
    }
    let mut conditions = status.conditions.clone().unwrap_or_default();
    conditions.retain(|one| one.type_ != IN_PROGRESS);
    conditions.push(next);
    let told = DeviceTaintRuleStatus { conditions: Some(conditions) };
    Action::update_status(rule, &status, &told).into_iter().collect()
}

impl ObservedRule<'_> {
    fn condition(&self, now: Timestamp) -> Condition {
        let (status, reason, mut message) = match self.rule.spec.taint.effect.as_str() {
            "NoExecute" => self.progress(),
            "None" => ("False", "NoEffect", self.forecast()),
            _ => ("False", "OtherEffect", "Eviction only happens for the NoExecute effect.".to_owned()),
        };
        if self.evicted > 0 {
            let space = if message.is_empty() { "" } else { " " };
            let pods = counted(self.evicted, "pod", "pods");
            message = format!("{message}{space}{pods} evicted since starting the controller.");
        }
        Condition {
            type_: IN_PROGRESS.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: self.rule.metadata.generation,
            last_transition_time: Time(now),
        }
    }

    fn progress(&self) -> (&'static str, &'static str, String) {
        let (pods, namespaces) = self.doomed();
        match pods {
            0 if self.evicted > 0 => ("False", "Completed", String::new()),
            0 => ("False", "NotStarted", String::new()),
            _ => {
                let pods = counted(pods, "pod needs", "pods need");
                let message = format!("{pods} to be evicted in {}.", places(namespaces));
                ("True", "PodsPendingEviction", message)
            }
        }
    }

    fn forecast(&self) -> String {
        let slices = newest(self.slices);
        let published =
            slices.flat_map(|slice| slice.spec.devices.iter().flatten().map(move |one| (slice, one)));
        let published = published.filter(|(slice, device)| {
            let selector = self.rule.spec.device_selector.as_ref();
            selector.is_some_and(|selector| {
                covers(selector, &slice.spec.driver, &slice.spec.pool.name, &device.name)
            })
        });
        let allocated = self.claims.iter().flat_map(|claim| self.tainted(claim));
        let (pods, namespaces) = self.doomed();
        format!(
            "{} selected. {} selected. {} would be evicted in {} if the effect was NoExecute. This information \
             will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
            counted(published.count(), "published device", "published devices"),
            counted(allocated.count(), "allocated device", "allocated devices"),
            counted(pods, "pod", "pods"),
            places(namespaces),
        )
    }

    /// How many pods the rule ends, now or when their tolerance is over, and in how many namespaces.
    fn doomed(&self) -> (usize, usize) {
        let taint = DeviceTaint { effect: "NoExecute".to_owned(), ..self.rule.spec.taint.clone() };
        let ends = |device: &&DeviceRequestAllocationResult| {
            end(device.tolerations.as_deref().unwrap_or_default(), &taint, Timestamp::MIN).is_some()
        };
        let mut pods = BTreeSet::new();
        for claim in self.claims.iter().filter(|claim| self.tainted(claim).any(|device| ends(&device))) {
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            for user in users(claim) {
                let found = (self.pod)(namespace, &user.name);
                if found.is_some_and(|pod| pod.metadata.uid.as_ref() == Some(&user.uid) && uses(&pod, claim))
                {
                    pods.insert((namespace, user.name.as_str()));
                }
            }
        }
        let namespaces: BTreeSet<_> = pods.iter().map(|(namespace, _)| namespace).collect();
        (pods.len(), namespaces.len())
    }

    /// The devices of a claim that the rule is about.
    fn tainted<'c>(
        &self,
        claim: &'c ResourceClaim,
    ) -> impl Iterator<Item = &'c DeviceRequestAllocationResult> {
        let selector = self.rule.spec.device_selector.clone();
        let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
        devices.into_iter().flat_map(|devices| devices.results.iter().flatten()).filter(move |device| {
            selector
                .as_ref()
                .is_some_and(|selector| covers(selector, &device.driver, &device.pool, &device.device))
        })
    }
}

/// Whether a pod runs somewhere with a claim, and stays so far.
fn uses(user: &Pod, claim: &ResourceClaim) -> bool {
    let mut claims = resource_claim::claims(user).iter().filter_map(|one| resource_claim::name(user, one));
    !pod::deleting(user)
        && !pod::node(user).is_empty()
        && claims.any(|name| Some(name) == claim.metadata.name.as_deref())
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn places(count: usize) -> String {
    counted(count, "namespace", "different namespaces")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, summary};

    /// Pods by name: whether they run, and whether they tolerate the taint for a while or for ever.
    const PODS: [(&str, &str, Option<Option<i64>>); 5] = [
        ("a", "running", None),
        ("b", "running", Some(Some(60))),
        ("c", "running", Some(None)),
        ("d", "deleting", None),
        ("e", "waiting", None),
    ];

    fn claim(name: &str, tolerated: Option<Option<i64>>) -> Arc<ResourceClaim> {
        let tolerations =
            tolerated.map(|seconds| json!([{"operator": "Exists", "tolerationSeconds": seconds}]));
        let device = json!({"request": "r", "driver": "d", "pool": "pool", "device": "gpu",
            "tolerations": tolerations});
        Arc::new(object(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {}, "status": {
            "allocation": {"devices": {"results": [device]}},
            "reservedFor": [{"resource": "pods", "name": name, "uid": name}]}})))
    }

    fn pod(name: &str) -> Option<Arc<Pod>> {
        let (_, state, _) = PODS.iter().find(|pod| pod.0 == name)?;
        Some(Arc::new(object(json!({"metadata": {"name": name, "namespace": "ns", "uid": name,
                "deletionTimestamp": (*state == "deleting").then(|| at(0).to_string())},
            "spec": {"nodeName": (*state != "waiting").then_some("n"), "containers": [],
                "resourceClaims": [{"name": "r", "resourceClaimName": name}]}}))))
    }

    fn run(effect: &str, known: Option<Value>, users: &[&str], evicted: usize) -> Vec<String> {
        let rule: DeviceTaintRule = object(json!({
            "metadata": {"name": "rule", "generation": 2},
            "spec": {"deviceSelector": {"driver": "d"},
                "taint": {"key": "broken", "effect": effect, "timeAdded": at(0).to_string()}},
            "status": {"conditions": known.map(|known| json!([known]))}}));
        let claims: Vec<_> =
            PODS.iter().filter(|pod| users.contains(&pod.0)).map(|pod| claim(pod.0, pod.2)).collect();
        let slice =
            Arc::new(object(json!({"metadata": {"name": "s"}, "spec": {"driver": "d", "nodeName": "n",
            "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu"}, {"name": "other"}]}})));
        let observed = ObservedRule {
            rule: &rule,
            claims: &claims,
            slices: &[slice],
            pod: &|_, name| pod(name),
            evicted,
        };
        let told = |action: &Action| match action {
            Action::Patch(patch) => {
                let condition = &patch.body["status"]["conditions"][0];
                let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
                format!("{} {}: {}", text("status"), text("reason"), text("message"))
            }
            other => summary(other),
        };
        decide_rule(&observed, at(100)).iter().map(told).collect()
    }

    fn known(generation: i64, since: i64, reason: &str) -> Option<Value> {
        Some(json!({"type": IN_PROGRESS, "status": "False", "reason": reason, "message": "",
            "observedGeneration": generation, "lastTransitionTime": at(since).to_string()}))
    }

    #[test]
    fn rules_tell_whom_they_end() {
        let all = ["a", "b", "c", "d", "e"];
        let none = "0 pods would be evicted in 0 different namespaces";
        let forecast = |counts: &str| {
            format!(
                "False NoEffect: 2 published devices selected. {counts} if the effect was NoExecute. This \
                 information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
            )
        };
        type Case<'a> = (&'a str, Option<Value>, &'a [&'a str], usize, Option<String>);
        let cases: [Case<'_>; 12] = [
            ("NoExecute", None, &[], 0, Some("False NotStarted: ".to_owned())),
            (
                "NoExecute",
                None,
                &all,
                0,
                Some("True PodsPendingEviction: 2 pods need to be evicted in 1 namespace.".to_owned()),
            ),
            (
                "NoExecute",
                known(2, 0, "NotStarted"),
                &["a"],
                1,
                Some(
                    "True PodsPendingEviction: 1 pod needs to be evicted in 1 namespace. 1 pod evicted since \
                     starting the controller."
                        .to_owned(),
                ),
            ),
            (
                "NoExecute",
                known(2, 90, "PodsPendingEviction"),
                &[],
                2,
                Some("False Completed: 2 pods evicted since starting the controller.".to_owned()),
            ),
            ("NoExecute", known(2, 0, "NotStarted"), &["c", "d", "e"], 0, None),
            ("NoExecute", known(2, 95, "NotStarted"), &["a"], 0, Some("again 5s".to_owned())),
            (
                "NoExecute",
                known(1, 95, "NotStarted"),
                &["a"],
                0,
                Some("True PodsPendingEviction: 1 pod needs to be evicted in 1 namespace.".to_owned()),
            ),
            (
                "NoSchedule",
                None,
                &all,
                0,
                Some("False OtherEffect: Eviction only happens for the NoExecute effect.".to_owned()),
            ),
            ("None", None, &[], 0, Some(forecast(&format!("0 allocated devices selected. {none}")))),
            (
                "None",
                None,
                &all,
                0,
                Some(forecast("5 allocated devices selected. 2 pods would be evicted in 1 namespace")),
            ),
            ("None", known(2, 0, "NoEffect"), &["a"], 0, None),
            ("None", known(1, 0, "NoEffect"), &[], 0, Some(forecast(&format!("0 allocated devices selected. {none}")))),
        ];
        for (number, (effect, known, users, evicted, expected)) in cases.into_iter().enumerate() {
            assert_eq!(run(effect, known, users, evicted), Vec::from_iter(expected), "case {number}");
        }
    }
}
