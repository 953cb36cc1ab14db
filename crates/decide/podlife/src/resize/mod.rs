//! Resources of pods that run: what they ask for now, what they were given, and what the kernel has
//! (kubelet: pkg/kubelet/allocation, pkg/kubelet/kuberuntime).
//!
//! A wish enters with a new version of a pod. [`Book`] knows what all pods of the node were given: it grants
//! the wish, defers it until there is room, or says that it can never be. What was granted is an
//! [`Allocation`]; from here on the pod's life goes by it. [`steps`] orders the changes in control groups, so
//! that no group is ever smaller than what is in it.

mod allocation;
mod book;
mod progress;
mod steps;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use allocation::Allocation;
pub use book::{Book, Fixed, Outcome, Room};
pub(crate) use progress::Progress;
pub use steps::{Step, Target, steps};

/// The condition of a pod whose wish is not granted.
pub(crate) const PENDING: &str = "PodResizePending";
/// The condition of a pod whose wish is granted and not everywhere in effect.
pub(crate) const IN_PROGRESS: &str = "PodResizeInProgress";

/// Why a wish is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no room now.
    Deferred,
    /// There never will be.
    Infeasible,
}

impl Reason {
    /// The word in the condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "Deferred",
            Self::Infeasible => "Infeasible",
        }
    }
}

/// A wish that is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Why.
    pub reason: Reason,
    /// A sentence.
    pub message: String,
    /// Since when this is so.
    pub since: Timestamp,
    /// The version of the pod that wishes it.
    pub generation: Option<i64>,
}

pub(crate) fn condition(
    kind: &str,
    reason: Option<&str>,
    message: Option<&str>,
    generation: Option<i64>,
    since: Timestamp,
) -> PodCondition {
    PodCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.map(str::to_owned),
        message: message.map(str::to_owned),
        last_transition_time: Some(Time(since)),
        last_probe_time: None,
        observed_generation: generation,
    }
}

/// What users are told of a resize: a sentence, and the resources that the pod wishes as JSON.
pub(crate) fn told(what: &str, pod: &Pod, error: Option<&str>) -> String {
    use std::fmt::Write as _;
    let allocation = Allocation::of(pod);
    let list = |sidecars: bool| -> Vec<String> {
        let specs = crate::spec::specs(pod).into_iter();
        let role = if sidecars { crate::spec::Role::Sidecar } else { crate::spec::Role::Main };
        let names = specs.filter(|spec| spec.role == role).map(|spec| spec.container.name);
        let one = |name: String| {
            let resources = serde_json::to_string(allocation.containers.get(&name)?).ok()?;
            Some(format!("{{\"name\":{},\"resources\":{resources}}}", serde_json::Value::String(name)))
        };
        names.filter_map(one).collect()
    };
    let mut text = format!("{what}: {{");
    for (name, all) in [("initContainers", list(true)), ("containers", list(false))] {
        if !all.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\"{name}\":[{}],", all.join(","));
        }
    }
    let _ = write!(text, "\"generation\":{}", pod.metadata.generation.unwrap_or_default());
    if let Some(error) = error {
        let _ = write!(text, ",\"error\":{}", serde_json::Value::String(error.to_owned()));
    }
    text.push('}');
    text
}
