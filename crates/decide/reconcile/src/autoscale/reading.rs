//! What a metric says of each pod, and which pods' metrics count.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Settings;
use crate::pod;

/// One measurement of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Thousandths.
    pub value: i64,
    /// When it was taken.
    pub at: Timestamp,
    /// Over how long.
    pub window: SignedDuration,
}

/// What was measured, by the pods' names.
pub type Samples = BTreeMap<String, Sample>;

/// What is known of a metric; an error is the sentence that says why nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Of each pod.
    Pods(Result<Samples, String>),
    /// One value, in thousandths; for several values their sum.
    One(Result<i64, String>),
}

/// The names of pods by what their metrics are worth.
#[derive(Debug, Default)]
pub(super) struct Groups {
    pub(super) ready: usize,
    pub(super) unready: BTreeSet<String>,
    pub(super) missing: BTreeSet<String>,
}

/// Groups the pods, and drops samples that do not count.
pub(super) fn group(
    pods: &[Arc<Pod>],
    samples: &mut Samples,
    resource: &str,
    settings: &Settings,
    now: Timestamp,
) -> Groups {
    let mut groups = Groups::default();
    for one in pods {
        let name = one.metadata.name.clone().unwrap_or_default();
        if pod::deleting(one) || pod::phase(one) == "Failed" {
            samples.remove(&name);
            continue;
        }
        if pod::phase(one) == "Pending" {
            samples.remove(&name);
            groups.unready.insert(name);
            continue;
        }
        let Some(sample) = samples.get(&name) else {
            groups.missing.insert(name);
            continue;
        };
        if resource == "cpu" && is_starting(one, sample, settings, now) {
            samples.remove(&name);
            groups.unready.insert(name);
            continue;
        }
        groups.ready += 1;
    }
    groups
}

/// Whether what a pod uses says more of its start than of its work.
fn is_starting(one: &Pod, sample: &Sample, settings: &Settings, now: Timestamp) -> bool {
    let started = one.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    let (Some(ready), Some(started)) = (pod::condition(one, "Ready"), started) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let after = |time: Timestamp, span| time.checked_add(span).unwrap_or(Timestamp::MAX);
    if after(started, settings.cpu_initialization) > now {
        // A whole window has to be measured since the pod became ready.
        ready.status == "False" || sample.at < after(changed, sample.window)
    } else {
        // A pod that has been ready once and is not now is overloaded, perhaps.
        ready.status == "False" && after(started, settings.initial_readiness) > changed
    }
}

/// What the pods ask for of a resource, in thousandths; of one container or of all.
pub(super) fn requests(
    pods: &[Arc<Pod>],
    container: Option<&str>,
    resource: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let mut all = BTreeMap::new();
    for one in pods {
        let name = one.metadata.name.clone().unwrap_or_default();
        let Some(spec) = &one.spec else { continue };
        let whole =
            spec.resources.as_ref().and_then(|it| it.requests.as_ref()).and_then(|it| it.get(resource));
        if let (Some(whole), None) = (whole, container) {
            all.insert(name, super::milli(whole));
            continue;
        }
        let sidecars = spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
        let mut sum = 0;
        for one in spec.containers.iter().chain(sidecars) {
            if container.is_some_and(|wanted| wanted != one.name) {
                continue;
            }
            let requests = one.resources.as_ref().and_then(|resources| resources.requests.as_ref());
            let request = requests.and_then(|requests| requests.get(resource)).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {name}", one.name)
            })?;
            sum += super::milli(request);
        }
        all.insert(name, sum);
    }
    Ok(all)
}
