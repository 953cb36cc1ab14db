//! The ProportionalAutoscaler: as many replicas as the cluster's nodes and cores ask for.
//!
//! What enters: an autoscaler, its target's scale, the nodes, and who else scales the target. What leaves: the new
//! size, the status and what users are told. The parameters mean what they mean to cluster-proportional-autoscaler.

mod kind;
mod size;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::action::{Action, Failure, Severity};
use crate::autoscale::Scale;
pub use kind::{DEFINITION, Ladder, Linear, ProportionalAutoscaler, Reference, Spec, Status};
use size::{Limit, Size, Wanted};

/// How soon a target is looked at again that nobody tells of.
const PERIOD: Duration = Duration::from_secs(10);

/// What is known when an autoscaler is looked at.
pub struct Observed<'a> {
    /// The autoscaler.
    pub autoscaler: &'a ProportionalAutoscaler,
    /// The scale of its target, or why it is not known.
    pub scale: Result<&'a Scale, &'a str>,
    /// Whether changes of the target lead to another look.
    pub is_watched: bool,
    /// All nodes.
    pub nodes: &'a [Arc<Node>],
    /// Another autoscaler that scales the target and goes first, as `Kind name`.
    pub rival: Option<&'a str>,
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let mut look = Look::new(observed, now);
    match observed.scale {
        Ok(scale) => look.at(scale),
        Err(error) => {
            look.fail("FailedGetScale", format!("unable to get the target's current scale: {error}"))
        }
    }
    look.finish()
}

/// What to do when the scale could not be written.
pub fn report(observed: &Observed<'_>, now: Timestamp, failure: &Failure) -> Vec<Action> {
    let Action::Patch(patch) = &failure.action else { return Vec::new() };
    if patch.subresource != Some("scale") {
        return Vec::new();
    }
    let mut look = Look::new(observed, now);
    let (size, error) = (&patch.body["spec"]["replicas"], &failure.message);
    look.warn("FailedRescale", format!("New size: {size}; reason: {}; error: {error}", look.reason()));
    let message = format!("unable to update the target scale: {error}");
    look.condition("AbleToScale", "False", "FailedUpdateScale", message);
    look.finish()
}

/// Whether `one` goes before `other` where both scale the same target.
pub fn precedes(one: &ProportionalAutoscaler, other: &ProportionalAutoscaler) -> bool {
    let age = |of: &ProportionalAutoscaler| {
        (of.metadata.creation_timestamp.as_ref().map(|time| time.0), of.metadata.name.clone())
    };
    one.spec.scale_target_ref == other.spec.scale_target_ref && age(one) < age(other)
}

/// One look at an autoscaler.
struct Look<'a> {
    observed: &'a Observed<'a>,
    size: Size,
    now: Timestamp,
    status: Status,
    actions: Vec<Action>,
}

impl<'a> Look<'a> {
    fn new(observed: &'a Observed<'a>, now: Timestamp) -> Self {
        let size = Size::of(observed.nodes, &observed.autoscaler.spec);
        let mut status = observed.autoscaler.status.clone().unwrap_or_default();
        (status.nodes, status.cores) = (size.nodes, size.cores);
        Self { observed, size, now, status, actions: Vec::new() }
    }

    fn at(&mut self, scale: &Scale) {
        let wanted = self.size.asks_for(&self.observed.autoscaler.spec);
        self.status.current_replicas = scale.wanted;
        self.status.desired_replicas = wanted.replicas;
        self.limit(wanted);
        if let Some(rival) = self.observed.rival {
            return self.fail("AmbiguousTarget", format!("the target is scaled by {rival} already"));
        }
        if scale.wanted == wanted.replicas {
            let message = "the target has the replicas that nodes and cores ask for";
            return self.condition("AbleToScale", "True", "ReadyForNewScale", message.to_owned());
        }
        self.actions.push(scale.to(wanted.replicas));
        let message = format!("New size: {}; reason: {}", wanted.replicas, self.reason());
        let autoscaler = self.observed.autoscaler;
        self.actions.push(Action::event(autoscaler, Severity::Normal, "SuccessfulRescale", message));
        let message = format!("the target scale was updated to {}", wanted.replicas);
        self.condition("AbleToScale", "True", "SucceededRescale", message);
        self.status.last_scale_time = Some(Time(self.now));
    }

    fn reason(&self) -> String {
        format!("{} nodes with {} cores", self.size.nodes, self.size.cores)
    }

    fn limit(&mut self, wanted: Wanted) {
        let (status, reason, message) = match wanted.limit {
            Limit::Nothing => {
                ("False", "DesiredWithinRange", "the desired count is within the acceptable range")
            }
            Limit::Min => ("True", "TooFewReplicas", "the desired replica count is less than the minimum"),
            Limit::Max => ("True", "TooManyReplicas", "the desired replica count is more than the maximum"),
        };
        self.condition("ScalingLimited", status, reason, message.to_owned());
    }

    /// Users are told once, not at every look.
    fn fail(&mut self, reason: &'static str, message: String) {
        let is_told =
            |one: &Condition| one.type_ == "AbleToScale" && one.reason == reason && one.message == message;
        if !self.status.conditions.iter().any(is_told) {
            self.warn(reason, message.clone());
        }
        self.condition("AbleToScale", "False", reason, message);
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.actions.push(Action::event(self.observed.autoscaler, Severity::Warning, reason, message));
    }

    fn condition(&mut self, kind: &str, status: &str, reason: &str, message: String) {
        let known = self.status.conditions.iter().position(|one| one.type_ == kind);
        let before = known.map(|place| &self.status.conditions[place]).filter(|one| one.status == status);
        let condition = Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            observed_generation: self.observed.autoscaler.metadata.generation,
            last_transition_time: before.map_or(Time(self.now), |one| one.last_transition_time.clone()),
            reason: reason.to_owned(),
            message,
        };
        match known {
            Some(place) => self.status.conditions[place] = condition,
            None => self.status.conditions.push(condition),
        }
    }

    fn finish(mut self) -> Vec<Action> {
        let autoscaler = self.observed.autoscaler;
        self.status.observed_generation = autoscaler.metadata.generation;
        self.actions.extend(Action::update_status(autoscaler, &autoscaler.status, &Some(self.status)));
        if !self.observed.is_watched || self.observed.scale.is_err() {
            self.actions.push(Action::RequeueAfter(PERIOD));
        }
        self.actions
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
