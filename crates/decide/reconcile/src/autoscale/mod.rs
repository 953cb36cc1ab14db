//! The HorizontalPodAutoscaler: how many replicas the load asks for
//! (kube-controller-manager: pkg/controller/podautoscaler, v1.37).
//!
//! What enters: an autoscaler, its target's scale, the pods, and what the metrics say. What leaves: the new size, the
//! status and what users are told.

mod behavior;
mod condition;
mod metric;
mod outcome;
mod reading;
mod replicas;
mod zero;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus,
};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_meta::quantity::Quantity;
use plimsoll_meta::selector::Labels;
use serde_json::json;

use crate::action::{Action, Failure, Patch, Severity, Target};
pub use behavior::Memory;
use behavior::{Bounds, normalize};
use condition::Conditions;
use metric::Evaluated;
pub use outcome::{Change, Outcome, Trouble};
pub use reading::{Reading, Sample, Samples};
use replicas::{Case, Tolerance};
use zero::Zero;

/// How autoscalers work in this cluster.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How often each is looked at.
    pub period: Duration,
    /// By how much a ratio may differ from 1.
    pub tolerance: f64,
    /// For how long the highest recommendation counts.
    pub downscale_stabilization: SignedDuration,
    /// For how long after its start what a pod uses of processors may be its start.
    pub cpu_initialization: SignedDuration,
    /// For how long after its start a change of readiness is the first one.
    pub initial_readiness: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(15),
            tolerance: 0.1,
            downscale_stabilization: SignedDuration::from_mins(5),
            cpu_initialization: SignedDuration::from_mins(5),
            initial_readiness: SignedDuration::from_secs(30),
        }
    }
}

/// The scale of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Where it is.
    pub target: Target,
    /// Its version.
    pub resource_version: Option<String>,
    /// Replicas that are asked for.
    pub wanted: i32,
    /// Replicas that there are.
    pub present: i32,
    /// Which pods they are; "" if it does not say.
    pub selector: String,
}

impl Scale {
    /// Asks for so many replicas, unless the target has changed since.
    pub fn to(&self, replicas: i32) -> Action {
        let mut body = json!({"spec": {"replicas": replicas}});
        if let Some(version) = &self.resource_version {
            body["metadata"]["resourceVersion"] = json!(version);
        }
        let target = self.target.clone();
        Action::Patch(Box::new(Patch { target, subresource: Some("scale"), body, guard: None }))
    }
}

/// What is known when an autoscaler is looked at.
pub struct Observed<'a> {
    /// The autoscaler.
    pub hpa: &'a HorizontalPodAutoscaler,
    /// The scale of its target, or why it is not known.
    pub scale: Result<&'a Scale, &'a str>,
    /// The pods that the scale's selector selects.
    pub pods: &'a [Arc<Pod>],
    /// Other autoscalers that select some of these pods, as `namespace/name`.
    pub rivals: &'a [String],
    /// What each of its metrics says, in their order.
    pub readings: &'a [Reading],
    /// How autoscalers work.
    pub settings: &'a Settings,
}

/// What to do, and what is counted of it. `memory` is the autoscaler's own.
pub fn decide(observed: &Observed<'_>, memory: &mut Memory, now: Timestamp) -> (Vec<Action>, Outcome) {
    memory.succeeded();
    let mut look = Look::new(observed, now);
    match observed.scale {
        Ok(scale) => look.at(scale, memory),
        Err(error) => {
            look.conditions.set(
                "AbleToScale",
                "False",
                "FailedGetScale",
                format!("the HPA controller was unable to get the target's current scale: {error}"),
            );
            look.warn("FailedGetScale", error.to_owned());
            look.outcome.trouble = Trouble::Internal;
        }
    }
    let outcome = std::mem::take(&mut look.outcome);
    (look.finish(), outcome)
}

/// What to do when the scale or the status could not be written.
pub fn report(
    observed: &Observed<'_>,
    memory: &mut Memory,
    now: Timestamp,
    failure: &Failure,
) -> Vec<Action> {
    let Action::Patch(patch) = &failure.action else { return Vec::new() };
    let error = &failure.message;
    let (Some("scale"), Ok(scale)) = (patch.subresource, observed.scale) else {
        return vec![Action::event(observed.hpa, Severity::Warning, "FailedUpdateStatus", error.clone())];
    };
    let (reason, size) = (memory.failed(), &patch.body["spec"]["replicas"]);
    let mut look = Look::new(observed, now);
    look.conditions.set(
        "AbleToScale",
        "False",
        "FailedUpdateScale",
        format!("the HPA controller was unable to update the target scale: {error}"),
    );
    look.warn("FailedRescale", format!("New size: {size}; reason: {reason}; error: {error}"));
    look.status.current_replicas = Some(scale.wanted);
    look.finish()
}

/// One look at an autoscaler.
struct Look<'a> {
    observed: &'a Observed<'a>,
    now: Timestamp,
    status: HorizontalPodAutoscalerStatus,
    conditions: Conditions,
    actions: Vec<Action>,
    outcome: Outcome,
}

impl<'a> Look<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let status = observed.hpa.status.clone().unwrap_or_default();
        let conditions = Conditions::of(&status, now);
        Self { observed, now, status, conditions, actions: Vec::new(), outcome: Outcome::default() }
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.actions.push(Action::event(self.observed.hpa, Severity::Warning, reason, message));
    }

    fn at(&mut self, scale: &Scale, memory: &mut Memory) {
        let reason = "the HPA controller was able to get the target's current scale";
        self.conditions.set("AbleToScale", "True", "SucceededGetScale", reason);
        memory.first(scale.wanted, self.now);
        let spec = &self.observed.hpa.spec;
        let (min, max, current) = (spec.min_replicas.unwrap_or(1), spec.max_replicas, scale.wanted);
        let bounds = Bounds { min, max, current };
        if current == 0 && Zero::of(self.observed.hpa).may_grow() {
            self.follow(scale, bounds, memory);
        } else if current == 0 {
            let reason = "scaling is disabled since the replica count of the target is zero";
            self.conditions.set("ScalingActive", "False", "ScalingDisabled", reason);
            self.tell(current, current, Vec::new());
        } else if current > max {
            self.rescale(scale, max, "Current number of replicas above Spec.MaxReplicas", Vec::new(), memory);
        } else if current < min {
            self.rescale(scale, min, "Current number of replicas below Spec.MinReplicas", Vec::new(), memory);
        } else {
            self.follow(scale, bounds, memory);
        }
    }

    /// Lets the metrics say how many there should be.
    fn follow(&mut self, scale: &Scale, bounds: Bounds, memory: &mut Memory) {
        let current = bounds.current;
        let Evaluated { replicas, metric, statuses, error } = match self.check(scale) {
            Ok(()) => self.evaluate(scale),
            Err(error) => {
                Evaluated { replicas: None, metric: String::new(), statuses: None, error: Some(error) }
            }
        };
        if error.is_some() {
            self.outcome.trouble = Trouble::Internal;
        }
        let Some(wanted) = replicas else {
            self.status.current_replicas = Some(current);
            self.warn("FailedComputeMetricsReplicas", error.unwrap_or_default());
            return;
        };
        let hpa = &self.observed.hpa.spec;
        let window = self.observed.settings.downscale_stabilization;
        let (stable, limited) = normalize(hpa.behavior.as_ref(), window, memory, bounds, wanted, self.now);
        self.conditions.set("AbleToScale", "True", stable.reason, stable.message);
        let is_limited = if limited.replicas == stable.replicas { "False" } else { "True" };
        self.conditions.set("ScalingLimited", is_limited, limited.reason, limited.message);
        let statuses = statuses.unwrap_or_default();
        // Where nothing ran, the smallest size counts from the first pod on.
        let replicas = if current == 0 { limited.replicas.max(bounds.min) } else { limited.replicas };
        if replicas == current {
            return self.tell(current, current, statuses);
        }
        let reason = match wanted {
            _ if wanted > current => format!("{metric} above target"),
            _ if wanted < current => "All metrics below target".to_owned(),
            _ => String::new(),
        };
        self.rescale(scale, replicas, &reason, statuses, memory);
    }

    /// Whether the pods are known, and are nobody else's business.
    fn check(&mut self, scale: &Scale) -> Result<(), String> {
        if scale.selector.is_empty() {
            self.warn("SelectorRequired", "selector is required".to_owned());
            let reason = "the HPA target's scale is missing a selector";
            self.conditions.set("ScalingActive", "False", "InvalidSelector", reason);
            return Err("selector is required".to_owned());
        }
        if let Err(error) = Labels::parse(&scale.selector) {
            let text =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            self.warn("InvalidSelector", text.clone());
            self.conditions.set("ScalingActive", "False", "InvalidSelector", text.clone());
            return Err(text);
        }
        if !self.observed.rivals.is_empty() {
            let meta = &self.observed.hpa.metadata;
            let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
            let own = format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default());
            let all: Vec<_> = std::iter::once(&own).chain(self.observed.rivals).map(String::as_str).collect();
            let all = all.join(" ");
            let text =
                format!("pods by selector {} are controlled by multiple HPAs: [{all}]", scale.selector);
            self.warn("AmbiguousSelector", text.clone());
            self.conditions.set("ScalingActive", "False", "AmbiguousSelector", text.clone());
            return Err(text);
        }
        Ok(())
    }

    fn evaluate(&mut self, scale: &Scale) -> Evaluated {
        let behavior = self.observed.hpa.spec.behavior.as_ref();
        let usual = self.observed.settings.tolerance;
        let of = |text: Option<&Text>| text.and_then(|text| text.0.parse::<Quantity>().ok());
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
        let case = Case {
            current: scale.wanted,
            present: scale.present,
            pods: self.observed.pods,
            settings: self.observed.settings,
            tolerance: Tolerance {
                up: of(up.and_then(|rules| rules.tolerance.as_ref())).map_or(usual, |it| it.as_f64()),
                down: of(down.and_then(|rules| rules.tolerance.as_ref())).map_or(usual, |it| it.as_f64()),
            },
            now: self.now,
        };
        metric::evaluate(&case, self)
    }

    fn rescale(
        &mut self,
        scale: &Scale,
        size: i32,
        reason: &str,
        statuses: Vec<MetricStatus>,
        memory: &mut Memory,
    ) {
        memory.begin(size - scale.wanted, reason, self.now);
        self.outcome.change = Change::of(scale.wanted, size);
        self.actions.push(scale.to(size));
        let message = format!("the HPA controller was able to update the target scale to {size}");
        self.conditions.set("AbleToScale", "True", "SucceededRescale", message);
        let message = format!("New size: {size}; reason: {reason}");
        let told = Action::event(self.observed.hpa, Severity::Normal, "SuccessfulRescale", message);
        self.actions.push(told);
        Zero::of(self.observed.hpa).tell(scale.wanted, size, &mut self.conditions);
        self.status.last_scale_time = Some(Time(self.now));
        self.tell(scale.wanted, size, statuses);
    }

    fn tell(&mut self, current: i32, desired: i32, statuses: Vec<MetricStatus>) {
        self.status.current_replicas = Some(current);
        self.status.desired_replicas = desired;
        self.status.current_metrics = (!statuses.is_empty()).then_some(statuses);
    }

    fn finish(mut self) -> Vec<Action> {
        let hpa = self.observed.hpa;
        self.status.conditions = Some(self.conditions.list());
        if hpa.metadata.generation.is_some() {
            self.status.observed_generation = hpa.metadata.generation;
        }
        let old = hpa.status.clone().unwrap_or_default();
        self.actions.extend(Action::update_status(hpa, &old, &self.status));
        self.actions.push(Action::RequeueAfter(self.observed.settings.period));
        self.actions
    }
}

/// A quantity in thousandths.
fn milli(text: &Text) -> i64 {
    text.0.parse::<Quantity>().map_or(0, |quantity| quantity.milli())
}

/// Thousandths as a quantity.
fn quantity(milli: i64) -> Text {
    Text(Quantity::from_milli(milli).to_string())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
