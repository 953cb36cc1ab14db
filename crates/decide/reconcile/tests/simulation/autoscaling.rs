//! Autoscalers: each goes by the load that its users say there is, one replica for each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::action::{Action, Failure, Target};
use plimsoll_reconcile::autoscale::{self, Memory, Observed, Reading, Scale, Settings};
use serde_json::{Value, json};

use crate::api::{Api, Name};
use crate::cache::Caches;
use crate::kind::{Typed, typed};
use crate::wiring::{Controller, Key};

/// The annotation that says how large the load is.
const LOAD: &str = "load";
const MOST: i32 = 5;

/// An autoscaler of the Deployment of that name. A load of nothing would be told in other words after a restart:
/// what is there counts as the first recommendation.
pub(crate) fn object(name: &str, load: usize) -> Value {
    let metric = json!({"type": "External", "external": {"metric": {"name": LOAD},
        "target": {"type": "AverageValue", "averageValue": "1"}}});
    json!({"metadata": {"name": name, "annotations": {LOAD: load.to_string()}},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": MOST, "metrics": [metric]}})
}

/// The load changes.
pub(crate) fn set_load(autoscaler: &mut Value, load: usize) {
    autoscaler["metadata"]["annotations"][LOAD] = json!(load.to_string());
}

/// The keys that an object leads to, here.
pub(crate) fn keys(_: &Caches, kind: &str, object: &Typed) -> Vec<Key> {
    match kind {
        "HorizontalPodAutoscaler" => {
            let meta = &typed::<HorizontalPodAutoscaler>(object).metadata;
            let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            vec![(Controller::Autoscaler, name)]
        }
        _ => Vec::new(),
    }
}

/// What is remembered of one autoscaler.
#[derive(Default)]
struct Known {
    memory: Memory,
    looked: Option<Timestamp>,
}

/// What is remembered of all.
#[derive(Default)]
pub(crate) struct Autoscalers(BTreeMap<Name, Known>);

impl Autoscalers {
    /// What one of them does next, or does about a refusal.
    pub(crate) fn decide(
        &mut self,
        api: &Api,
        caches: &Caches,
        name: &Name,
        now: Timestamp,
        failure: Option<&Failure>,
    ) -> Vec<Action> {
        let Some(hpa) = caches.get::<HorizontalPodAutoscaler>(name) else {
            self.0.remove(name);
            return Vec::new();
        };
        let settings =
            Settings { downscale_stabilization: SignedDuration::from_secs(30), ..Settings::default() };
        let known = self.0.entry(name.clone()).or_default();
        // A clock that was set back must not hold it up.
        let passed = |at| Duration::try_from(now.duration_since(at)).ok();
        let left = known.looked.and_then(passed).and_then(|passed| settings.period.checked_sub(passed));
        if let Some(left) = left.filter(|left| failure.is_none() && !left.is_zero()) {
            return vec![Action::RequeueAfter(left)];
        }
        let deployment = target(api, &hpa);
        let scale = deployment.as_deref().map(scale_of);
        let mut pods = caches.all::<Pod>();
        pods.retain(|pod| deployment.as_ref().is_some_and(|deployment| selects(deployment, pod)));
        let observed = Observed {
            hpa: &hpa,
            scale: scale.as_ref().ok_or("not found"),
            pods: &pods,
            rivals: &[],
            readings: &[Reading::One(Ok(load(&hpa) * 1000))],
            settings: &settings,
        };
        match failure {
            Some(failure) => autoscale::report(&observed, &mut known.memory, now, failure),
            None => {
                known.looked = Some(now);
                autoscale::decide(&observed, &mut known.memory, now).0
            }
        }
    }
}

fn target(api: &Api, hpa: &HorizontalPodAutoscaler) -> Option<Arc<Deployment>> {
    let name = (hpa.metadata.namespace.clone()?, hpa.spec.scale_target_ref.name.clone());
    Some(typed(&api.get(api.kind_named("Deployment"), &name)?.typed))
}

fn scale_of(deployment: &Deployment) -> Scale {
    let status = deployment.status.as_ref();
    Scale {
        target: Target::of(deployment),
        resource_version: deployment.metadata.resource_version.clone(),
        wanted: deployment.spec.replicas.unwrap_or(1),
        present: status.and_then(|status| status.replicas).unwrap_or_default(),
        selector: format!("app={}", deployment.metadata.name.as_deref().unwrap_or_default()),
    }
}

fn selects(deployment: &Deployment, pod: &Pod) -> bool {
    Labels::from(&deployment.spec.selector).matches_map(pod.metadata.labels.as_ref())
}

fn load(hpa: &HorizontalPodAutoscaler) -> i64 {
    let load = hpa.metadata.annotations.as_ref().and_then(|all| all.get(LOAD));
    load.and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// What holds at rest: Deployments are as large as the load, unless they are turned off.
pub(crate) fn check(api: &Api) -> Result<(), String> {
    for hpa in api.all::<HorizontalPodAutoscaler>() {
        let size = target(api, &hpa).and_then(|deployment| deployment.spec.replicas).unwrap_or_default();
        let wanted = load(&hpa).clamp(1, i64::from(MOST));
        if size != 0 && i64::from(size) != wanted {
            let name = &hpa.metadata.name;
            return Err(format!(
                "at rest: Deployment {name:?} has a size of {size}, its load asks for {wanted}"
            ));
        }
    }
    Ok(())
}
