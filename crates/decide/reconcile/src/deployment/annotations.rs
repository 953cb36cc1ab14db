//! The annotations by which Deployments and ReplicaSets remember revisions and sizes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
pub(super) const ROLLBACK: &str = "deprecated.deployment.rollback.to";

/// Annotations of a Deployment that say nothing about its template.
pub(super) const OWN: [&str; 6] =
    ["kubectl.kubernetes.io/last-applied-configuration", REVISION, HISTORY, DESIRED, MAX, ROLLBACK];

/// Longest list of earlier revisions, in characters.
const HISTORY_LENGTH: usize = 2000;

/// Copies what the Deployment says, and raises the revision to `revision`.
pub(super) fn of_replica_set(
    deployment: &Deployment,
    annotations: &mut BTreeMap<String, String>,
    revision: i64,
) {
    let copied =
        deployment.metadata.annotations.iter().flatten().filter(|(key, _)| !OWN.contains(&key.as_str()));
    annotations.extend(copied.map(|(key, value)| (key.clone(), value.clone())));
    let known = annotations.get(REVISION).cloned();
    let Ok(old) = known.as_deref().unwrap_or("0").parse::<i64>() else { return };
    if old >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    if let Some(known) = known {
        remember(annotations, &known);
    }
}

/// Adds a revision that the ReplicaSet had before; the oldest make room.
fn remember(annotations: &mut BTreeMap<String, String>, revision: &str) {
    let history = annotations.get(HISTORY).cloned().unwrap_or_default();
    let mut revisions: Vec<_> = history.split(',').filter(|one| !one.is_empty()).collect();
    revisions.push(revision);
    while revisions.len() > 1 && revisions.iter().map(|one| one.len() + 1).sum::<usize>() > HISTORY_LENGTH + 1
    {
        revisions.remove(0);
    }
    annotations.insert(HISTORY.to_owned(), revisions.join(","));
}

/// Notes the Deployment's size, by which a later change of it is noticed.
pub(super) fn set_sizes(annotations: &mut BTreeMap<String, String>, desired: i32, max: i32) {
    annotations.insert(DESIRED.to_owned(), desired.to_string());
    annotations.insert(MAX.to_owned(), max.to_string());
}
