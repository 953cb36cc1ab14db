//! Everything that judges a request, in upstream's order.
//!
//! What may change the object: built-in plugins, then policies, then webhooks. When a policy or webhook changed
//! it, all of them get a second look, as far as they want one. What only says yes or no, after validation:
//! built-in plugins, then policies, then webhooks.

use std::time::Instant;

use plimsoll_admission::matching::Operation;
use plimsoll_admission::webhook::Reinvocation;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::subject::{Subject, options};
use super::{mutating, mutating_policies, validating, validating_policies};
use crate::delete;
use crate::metrics::Step;
use crate::server::Api;
use crate::stages::Asked;
use crate::target::ResourcePath;
use crate::write::{Judged, Write};

/// Which time the object is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    First,
    Second,
}

/// Brings the object of a write into the form that the cluster wants, or refuses it.
pub(crate) async fn mutate(
    write: &mut Write<'_>,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    step(write.api, Step::Admit, operation, mutate_all(write, operation, object, old)).await
}

/// Takes a step and notes how long it took.
async fn step(
    api: &Api,
    step: Step,
    operation: Operation,
    judging: impl Future<Output = Result<(), Status>>,
) -> Result<(), Status> {
    let since = Instant::now();
    let outcome = judging.await;
    api.metrics.admission.step(step, operation, outcome.is_ok(), since.elapsed());
    outcome
}

async fn mutate_all(
    write: &mut Write<'_>,
    operation: Operation,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    super::mutate(write, operation, object, old).await?;
    if matches!(write.judged, Judged::Before) || !changes(write.api) {
        return Ok(());
    }
    let subject = subject(write, operation);
    let mut rounds = Reinvocation::default();
    if change(write, &subject, object, old, Round::First, &mut rounds).await? {
        let before = object.clone();
        super::mutate(write, operation, object, old).await?;
        if *object != before {
            rounds.changed();
        }
        change(write, &subject, object, old, Round::Second, &mut rounds).await?;
    }
    Ok(())
}

/// One round of policies and webhooks, which see the object or a view of it; tells whether they changed it.
async fn change(
    write: &Write<'_>,
    subject: &Subject<'_>,
    object: &mut Value,
    old: Option<&Value>,
    round: Round,
    rounds: &mut Reinvocation,
) -> Result<bool, Status> {
    let Judged::View(view) = write.judged else {
        return dynamic(subject, object, old, round, rounds).await;
    };
    let (mut shown, was) = (view.show(object), old.map(|old| view.show(old)));
    let changed = dynamic(subject, &mut shown, was.as_ref(), round, rounds).await?;
    if changed {
        view.take(object, &shown);
    }
    Ok(changed)
}

async fn dynamic(
    subject: &Subject<'_>,
    object: &mut Value,
    old: Option<&Value>,
    round: Round,
    rounds: &mut Reinvocation,
) -> Result<bool, Status> {
    let policies = mutating_policies::mutate(subject, object, old, round, rounds);
    let by_policy = timed(subject, Step::Admit, "MutatingAdmissionPolicy", Box::pin(policies)).await?;
    let webhooks = mutating::mutate(subject, object, old, round, rounds);
    let by_webhook = timed(subject, Step::Admit, "MutatingAdmissionWebhook", Box::pin(webhooks)).await?;
    Ok(by_policy || by_webhook)
}

async fn check(subject: &Subject<'_>, object: Option<&Value>, old: Option<&Value>) -> Result<(), Status> {
    let policies = validating_policies::validate(subject, object, old);
    timed(subject, Step::Validate, "ValidatingAdmissionPolicy", Box::pin(policies)).await?;
    let webhooks = validating::validate(subject, object, old);
    timed(subject, Step::Validate, "ValidatingAdmissionWebhook", Box::pin(webhooks)).await
}

/// Runs a plugin and notes how long it took.
async fn timed<T>(
    subject: &Subject<'_>,
    step: Step,
    name: &str,
    plugin: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let since = Instant::now();
    let outcome = plugin.await;
    let metrics = &subject.api.metrics.admission;
    metrics.controller(name, step, subject.operation, outcome.is_ok(), since.elapsed());
    outcome
}

/// Has the last word about a write that is otherwise valid.
pub(crate) async fn validate(
    write: &mut Write<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    step(write.api, Step::Validate, operation, validate_all(write, operation, object, old)).await
}

async fn validate_all(
    write: &mut Write<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    super::validate(write, operation, object, old).await?;
    if !checks(write.api) {
        return Ok(());
    }
    let subject = subject(write, operation);
    match write.judged {
        Judged::Before => Ok(()),
        Judged::Object => check(&subject, Some(object), old).await,
        Judged::View(view) => {
            let was = old.map(|old| view.show(old));
            check(&subject, Some(&view.show(object)), was.as_ref()).await
        }
    }
}

fn subject<'a>(write: &Write<'a>, operation: Operation) -> Subject<'a> {
    Subject::of_write(write, operation, options(operation, write.query, write.dry_run))
}

/// A deletion: nobody can change anything, but all may refuse.
pub(crate) async fn delete(
    write: &mut Write<'_>,
    old: &Value,
    asked: &delete::Options,
) -> Result<(), Status> {
    step(write.api, Step::Validate, Operation::Delete, Box::pin(judge_deletion(write, old, asked))).await
}

async fn judge_deletion(write: &mut Write<'_>, old: &Value, asked: &delete::Options) -> Result<(), Status> {
    super::delete(write, old).await?;
    if matches!(write.judged, Judged::Before) || !awake(write.api) {
        return Ok(());
    }
    let subject = Subject::of_write(write, Operation::Delete, asked.to_value(write.dry_run));
    judge(&subject, &mut Value::Null, Some(old)).await
}

/// A question, or an action below an object: its body is not stored, but may be changed and refused.
pub(crate) async fn action(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    path: &ResourcePath,
    operation: Operation,
    body: &mut Value,
) -> Result<(), Status> {
    let judging = Box::pin(async {
        super::action(api, asked, path, operation, body).await?;
        match awake(api) {
            true => judge(&Subject::of_action(api, asked, kind, path, operation)?, body, None).await,
            false => Ok(()),
        }
    });
    step(api, Step::Validate, operation, judging).await
}

/// Is there anybody who may change objects?
fn changes(api: &Api) -> bool {
    !api.hooks.mutating().is_empty() || !api.policies.mutating().is_empty()
}

/// Is there anybody who may refuse objects?
fn checks(api: &Api) -> bool {
    !api.hooks.validating().is_empty() || !api.policies.validating().is_empty()
}

fn awake(api: &Api) -> bool {
    changes(api) || checks(api)
}

async fn judge(subject: &Subject<'_>, object: &mut Value, old: Option<&Value>) -> Result<(), Status> {
    let mut rounds = Reinvocation::default();
    dynamic(subject, object, old, Round::First, &mut rounds).await?;
    if rounds.is_needed() {
        dynamic(subject, object, old, Round::Second, &mut rounds).await?;
    }
    check(subject, mutating::present(object), old).await
}
