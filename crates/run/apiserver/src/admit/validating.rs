//! Validating webhooks, all at once.

use std::time::Instant;

use futures::future::join_all;
use plimsoll_admission::webhook::{FailurePolicy, Mutation, Versioned};
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::call::{Trouble, ask, count};
use super::hooks::Ready;
use super::notes;
use super::seen::Seen;
use super::subject::Subject;
use crate::metrics::{Step, waiting};

/// Asks each webhook that wants the request; the first refusal counts.
pub(crate) async fn validate(
    subject: &Subject<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let hooks = subject.api.hooks.validating();
    if hooks.is_empty() {
        return Ok(());
    }
    let attributes = subject.attributes(object, old);
    if attributes.is_exempt() {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for ready in hooks.iter() {
        if let Some(target) = ready.hook.criteria.target(&attributes, subject)? {
            let seen = Seen::new(subject, &target)?;
            if ready.wants(subject, &seen, object, old).await? {
                wanted.push((ready, seen));
            }
        }
    }
    let calls =
        wanted.iter().enumerate().map(|(at, (ready, seen))| call((at, ready), subject, seen, object, old));
    // All of them at once: the request waits for the slowest.
    waiting(join_all(calls)).await.into_iter().collect()
}

async fn call(
    (at, ready): (usize, &Ready),
    subject: &Subject<'_>,
    seen: &Seen,
    object: Option<&Value>,
    old: Option<&Value>,
) -> Result<(), Status> {
    let shown = seen.show_present(subject, object).await?;
    let before = seen.show_present(subject, old).await?;
    let versioned = Versioned { target: seen.target, object: shown.as_deref(), old: before.as_deref() };
    let attributes = subject.attributes(object, old);
    let since = Instant::now();
    let answer = ask(ready, subject, &attributes, versioned, Mutation::Forbidden).await;
    count(ready, subject, Step::Validate, since, &answer);
    match answer {
        Ok(verdict) => verdict.patch.map(drop),
        Err(Trouble::Refused(status)) => Err(status),
        Err(Trouble::Failed(failure)) if ready.hook.failure_policy == FailurePolicy::Ignore => {
            tracing::warn!(%failure, "failing open");
            notes::validating_failed_open(&ready.hook, at);
            Ok(())
        }
        Err(Trouble::Failed(failure)) => Err(failure.into()),
    }
}
