//! What a replica owner says about its pods.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use plimsoll_meta::selector::Labels;

use super::ReplicaOwner;
use crate::pod::{self, Availability};

const FAILURE: &str = "ReplicaFailure";

/// The status without failures, and when the next pod will count as available.
pub(super) fn of(
    owner: &ReplicaOwner,
    own: &[Arc<Pod>],
    active: &[Arc<Pod>],
    now: Timestamp,
) -> (ReplicaSetStatus, Option<Duration>) {
    let template_labels =
        owner.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let labelled = Labels::from_map(&template_labels);
    let availability: Vec<_> =
        active.iter().map(|pod| pod::available(pod, owner.min_ready_seconds, now)).collect();
    let count = |number: usize| Some(i32::try_from(number).unwrap_or(i32::MAX));
    // As upstream's types are written: most counts are left out when they are none.
    let some = |number: usize| count(number).filter(|number| *number != 0);
    let mut conditions = owner.status.conditions.clone().unwrap_or_default();
    conditions.retain(|condition| condition.type_.as_deref() != Some(FAILURE));
    let status = ReplicaSetStatus {
        replicas: count(active.len()).unwrap_or_default(),
        fully_labeled_replicas: some(
            active.iter().filter(|pod| labelled.matches_map(pod.metadata.labels.as_ref())).count(),
        ),
        ready_replicas: some(active.iter().filter(|pod| pod::ready(pod)).count()),
        available_replicas: some(availability.iter().filter(|one| **one == Availability::Yes).count()),
        terminating_replicas: owner
            .counts_terminating
            .then(|| own.iter().filter(|pod| pod::terminating(pod)).count())
            .and_then(count),
        observed_generation: owner.meta.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    };
    let wait = |one: &Availability| if let Availability::After(wait) = one { Some(*wait) } else { None };
    (status, availability.iter().filter_map(wait).min())
}

/// Adds why replicas could not be made or deleted.
pub(super) fn add_failure(
    status: &mut ReplicaSetStatus,
    owner: &ReplicaOwner,
    active: usize,
    message: &str,
    now: Timestamp,
) {
    let known = owner.status.conditions.iter().flatten().find(|one| one.type_.as_deref() == Some(FAILURE));
    let missing = active < usize::try_from(owner.replicas).unwrap_or_default();
    let new = || ReplicaSetCondition {
        type_: Some(FAILURE.to_owned()),
        status: Some("True".to_owned()),
        last_transition_time: Some(Time(now)),
        reason: Some(if missing { "FailedCreate" } else { "FailedDelete" }.to_owned()),
        message: Some(message.to_owned()),
    };
    status.conditions.get_or_insert_default().push(known.cloned().unwrap_or_else(new));
}
