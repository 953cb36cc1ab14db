//! Mutating webhooks, one after the other.

use std::time::Instant;

use plimsoll_admission::webhook::{FailurePolicy, Mutation, Reinvocation, Versioned};
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::call::{Trouble, ask, count};
use super::chain::Round;
use super::hooks::Ready;
use super::notes::Notes;
use super::seen::Seen;
use super::subject::Subject;
use crate::metrics::{Step, waiting};

/// Lets each webhook that wants the request change its object; tells whether one did.
pub(crate) async fn mutate(
    subject: &Subject<'_>,
    object: &mut Value,
    old: Option<&Value>,
    round: Round,
    rounds: &mut Reinvocation,
) -> Result<bool, Status> {
    let hooks = subject.api.hooks.mutating();
    let mut any = false;
    if hooks.is_empty() || subject.attributes(present(object), old).is_exempt() {
        return Ok(any);
    }
    for (at, ready) in hooks.iter().enumerate() {
        let attributes = subject.attributes(present(object), old);
        let Some(target) = ready.hook.criteria.target(&attributes, subject)? else { continue };
        let seen = Seen::new(subject, &target)?;
        if round == Round::Second && !rounds.wants(&ready.hook.id) {
            continue;
        }
        if !ready.wants(subject, &seen, present(object), old).await? {
            continue;
        }
        let notes = Notes::new(&ready.hook, round, at);
        let outcome = call(ready, subject, &seen, object, old, &notes).await;
        notes.mutated(matches!(outcome, Ok(Some(_))));
        if let Some(changed) = outcome? {
            *object = changed;
            any = true;
            rounds.changed();
        }
        if ready.hook.reinvoked {
            rounds.saw(&ready.hook.id);
        }
    }
    Ok(any)
}

/// Asks one webhook; the object that it made, if it changed anything.
async fn call(
    ready: &Ready,
    subject: &Subject<'_>,
    seen: &Seen,
    object: &Value,
    old: Option<&Value>,
    notes: &Notes<'_>,
) -> Result<Option<Value>, Status> {
    let shown = seen.show_present(subject, present(object)).await?;
    let before = seen.show_present(subject, old).await?;
    let versioned = Versioned { target: seen.target, object: shown.as_deref(), old: before.as_deref() };
    let attributes = subject.attributes(present(object), old);
    let since = Instant::now();
    let answer = waiting(ask(ready, subject, &attributes, versioned, Mutation::Allowed)).await;
    count(ready, subject, Step::Admit, since, &answer);
    let patch = match answer {
        Ok(verdict) => verdict.patch?,
        Err(Trouble::Refused(status)) => return Err(status),
        Err(Trouble::Failed(failure)) if ready.hook.failure_policy == FailurePolicy::Ignore => {
            tracing::warn!(%failure, "failing open");
            notes.failed_open();
            return Ok(None);
        }
        Err(Trouble::Failed(failure)) => return Err(failure.into()),
    };
    if patch.is_empty() {
        return Ok(None);
    }
    let Some(shown) = shown else {
        return Err(Status::internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            ready.hook.name
        )));
    };
    let patch = Value::Array(patch);
    let patched = plimsoll_merge::json_patch(shown.into_owned(), &patch)
        .map_err(|error| Status::internal(error.to_string()))?;
    let changed = seen.back(subject, seen.settle(subject, patched)?).await?;
    notes.patched(&patch);
    Ok((changed != *object).then_some(changed))
}

/// Deleted objects are null.
pub(crate) fn present(object: &Value) -> Option<&Value> {
    (!object.is_null()).then_some(object)
}
