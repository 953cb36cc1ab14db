//! Objects written anew, so that all lie on disk in the form of today
//! (kube-controller-manager: pkg/controller/storageversionmigrator, v1.37).
//!
//! What enters is a migration and how far it has come; what leaves is what its status says. Writing the
//! objects is the runner's part: a write that changes nothing is enough.

use std::time::Duration;

use k8s_openapi::api::storagemigration::v1::StorageVersionMigration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::Action;

/// How long a kind may take to become known.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// When to look again for it.
const AGAIN: Duration = Duration::from_secs(5);

/// How far a migration has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its kind is not known.
    Unknown,
    /// Nothing is written yet; the server's present version.
    Before(String),
    /// All is written.
    Done,
    /// An object could not be written.
    Failed,
}

/// Whether a migration has ended.
pub fn ended(migration: &StorageVersionMigration) -> bool {
    is(migration, "Succeeded") || is(migration, "Failed")
}

/// Whether objects are to be written now.
pub fn running(migration: &StorageVersionMigration) -> bool {
    !ended(migration) && is(migration, "Running")
}

fn is(migration: &StorageVersionMigration, kind: &str) -> bool {
    let conditions = migration.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|one| one.type_ == kind && one.status == "True")
}

/// What to do.
pub fn decide(migration: &StorageVersionMigration, progress: &Progress, now: Timestamp) -> Vec<Action> {
    if ended(migration) {
        return Vec::new();
    }
    let told = match progress {
        Progress::Unknown => {
            let made = migration.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0);
            if now.duration_since(made) < PATIENCE {
                return vec![Action::RequeueAfter(AGAIN)];
            }
            ("Failed", "StorageVersionMigrationFailed", "resource not found")
        }
        Progress::Before(_) => ("Running", "StorageVersionMigrationInProgress", ""),
        Progress::Done => ("Succeeded", "StorageVersionMigrationSucceeded", ""),
        Progress::Failed => {
            ("Failed", "StorageVersionMigrationFailed", "migration encountered unhandled error")
        }
    };
    let old = migration.status.clone().unwrap_or_default();
    let mut status = old.clone();
    if let Progress::Before(version) = progress {
        status.resource_version.get_or_insert_with(|| version.clone());
    }
    let (kind, reason, message) = told;
    let conditions = status.conditions.get_or_insert_default();
    for condition in conditions.iter_mut().filter(|one| one.type_ == "Running" && one.status == "True") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Time(now);
    }
    conditions.retain(|condition| condition.type_ != kind);
    conditions.push(Condition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    });
    Action::update_status(migration, &old, &status).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, summary};

    fn migration(conditions: Value) -> StorageVersionMigration {
        object(json!({"metadata": {"name": "m", "creationTimestamp": at(0).to_string()},
            "spec": {"resource": {"group": "", "resource": "secrets"}},
            "status": {"conditions": conditions}}))
    }

    #[test]
    fn a_migration_begins_runs_and_ends_once() {
        let condition = |kind: &str| {
            json!([{"type": kind, "status": "True", "reason": "r", "message": "",
            "lastTransitionTime": at(0).to_string()}])
        };
        let cases = [
            (json!(null), Progress::Unknown, 10, Some("again 5s"), None),
            (json!(null), Progress::Unknown, 60, Some("resource not found"), Some("Failed")),
            (
                json!(null),
                Progress::Before("7".to_owned()),
                0,
                Some(r#""resourceVersion":"7""#),
                Some("Running"),
            ),
            (
                condition("Running"),
                Progress::Done,
                9,
                Some("StorageVersionMigrationSucceeded"),
                Some("Succeeded"),
            ),
            (
                condition("Running"),
                Progress::Failed,
                9,
                Some("migration encountered unhandled error"),
                Some("Failed"),
            ),
            (condition("Succeeded"), Progress::Done, 9, None, None),
            (condition("Failed"), Progress::Unknown, 99, None, None),
        ];
        for (number, (conditions, progress, now, part, last)) in cases.into_iter().enumerate() {
            let before = migration(conditions);
            let actions = decide(&before, &progress, at(now));
            let line = actions.first().map(summary);
            assert_eq!(line.is_some(), part.is_some(), "case {number}: {line:?}");
            assert!(
                part.is_none_or(|part| line.clone().unwrap_or_default().contains(part)),
                "case {number}: {line:?}"
            );
            let Some(Action::Patch(patch)) = actions.first() else { continue };
            let conditions: Vec<Condition> = object(patch.body["status"]["conditions"].clone());
            let open: Vec<_> =
                conditions.iter().filter(|one| one.status == "True").map(|one| &*one.type_).collect();
            assert_eq!(open, last.into_iter().collect::<Vec<_>>(), "case {number}");
        }
        assert!(running(&migration(condition("Running"))) && !running(&migration(condition("Failed"))));
    }
}
