//! MutatingAdmissionPolicies: expressions that change objects.

use std::time::Instant;

use plimsoll_admission::policy::{
    Binding, Denial, Match, Mutator, Policy, forbidden_by_mutating, matches, mutate as mutated,
};
use plimsoll_admission::webhook::{FailurePolicy, Reinvocation};
use plimsoll_cel::Authorizer;
use plimsoll_merge::{PatchError, json_patch, overlay};
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::chain::Round;
use super::expressions::{Scene, answered};
use super::mutating::present;
use super::params;
use super::policies::Active;
use super::seen::Seen;
use super::subject::Subject;
use crate::object::meta;
use crate::shape::Shape;

/// Lets each policy that wants the request change its object; tells whether one did.
pub(crate) async fn mutate(
    subject: &Subject<'_>,
    object: &mut Value,
    old: Option<&Value>,
    round: Round,
    rounds: &mut Reinvocation,
) -> Result<bool, Status> {
    let policies = subject.api.policies.mutating();
    let attributes = subject.attributes(present(object), old);
    if policies.is_empty() || attributes.is_exempt() || attributes.is_beyond_policies() {
        return Ok(false);
    }
    let mut denials = Vec::new();
    let mut any = false;
    for active in policies.iter() {
        any |= ask(subject, active, object, old, (round, &mut *rounds), &mut denials).await?;
    }
    match forbidden_by_mutating(&subject.attributes(present(object), old), &denials) {
        Some(status) => Err(status),
        None => Ok(any),
    }
}

async fn ask(
    subject: &Subject<'_>,
    active: &Active,
    object: &mut Value,
    old: Option<&Value>,
    (round, rounds): (Round, &mut Reinvocation),
    denials: &mut Vec<Denial>,
) -> Result<bool, Status> {
    let policy = &*active.policy;
    let mut deny = |binding: Option<&Binding>, message: String, reason: &str| {
        if policy.failure_policy == FailurePolicy::Fail {
            let binding = binding.map(|binding| binding.name.clone());
            denials.push(Denial { policy: policy.name.clone(), binding, message, reason: reason.to_owned() });
        }
    };
    let attributes = subject.attributes(present(object), old);
    let target = match policy.criteria.target(&attributes, subject) {
        Ok(Some(target)) => target,
        Ok(None) => return Ok(false),
        Err(status) => {
            deny(None, format!("failed to configure policy: {}", status.message), "");
            return Ok(false);
        }
    };
    if let Err(cause) = params::known(subject, policy) {
        deny(None, format!("failed to configure policy: {cause}"), "");
        return Ok(false);
    }
    let seen = Seen::new(subject, &target)?;
    let namespace = attributes.namespace.to_owned();
    let mut any = false;
    for binding in &active.bindings {
        let attributes = subject.attributes(present(object), old);
        let failed = |cause: &str| format!("failed to configure binding: {cause}");
        match binding.criteria.as_ref().map(|criteria| criteria.target(&attributes, subject)) {
            None | Some(Ok(Some(_))) => {}
            Some(Ok(None)) => continue,
            Some(Err(status)) => {
                deny(Some(binding), failed(&status.message), "");
                continue;
            }
        }
        let params = match params::collect(subject, policy, binding, &namespace).await {
            Ok(params) => params,
            Err(cause) => {
                deny(Some(binding), failed(&cause), "");
                continue;
            }
        };
        for param in &params {
            let id = key(policy, binding, param);
            let skip = round == Round::Second && !rounds.wants(&id);
            match one(subject, (policy, binding), &seen, object, old, param, skip).await? {
                Found::Nothing => continue,
                Found::Refused(error) => deny(Some(binding), error, "Invalid"),
                Found::Seen { changed, errors } => {
                    errors.into_iter().for_each(|error| deny(Some(binding), error, "Invalid"));
                    if let Some(changed) = changed {
                        *object = changed;
                        any = true;
                        rounds.changed();
                    }
                    if policy.reinvoked {
                        rounds.saw(&id);
                    }
                }
            }
        }
    }
    Ok(any)
}

/// What one policy with one parameter came to.
enum Found {
    /// It does not want the object.
    Nothing,
    /// Its conditions failed.
    Refused(String),
    /// It saw the object and perhaps changed it.
    Seen { changed: Option<Value>, errors: Vec<String> },
}

async fn one(
    subject: &Subject<'_>,
    (policy, binding): (&Policy, &Binding),
    seen: &Seen,
    object: &Value,
    old: Option<&Value>,
    param: &Value,
    skip: bool,
) -> Result<Found, Status> {
    let scene = Scene::new(subject, seen, present(object), old).with_namespace(subject)?;
    let before = seen.show_present(subject, old).await?;
    let shown = seen.show_present(subject, present(object)).await?;
    let run = |authorizer: &dyn Authorizer| {
        matches(policy, scene.input(shown.as_deref(), before.as_deref(), param, authorizer))
    };
    match answered(subject, run).await {
        Match::No => return Ok(Found::Nothing),
        Match::Failed(error) => return Ok(Found::Refused(error)),
        Match::Yes if skip => return Ok(Found::Nothing),
        Match::Yes => {}
    }
    let Some(shown) = shown else { return Ok(Found::Seen { changed: None, errors: Vec::new() }) };
    let kind = Form { subject, seen, shape: seen.own_shape(subject)? };
    let (mut now, mut errors) = (shown.into_owned(), Vec::new());
    let first = now.clone();
    for mutation in &policy.mutations {
        let run = |authorizer: &dyn Authorizer| {
            mutated(policy, mutation, scene.input(Some(&now), before.as_deref(), param, authorizer), &kind)
        };
        let since = Instant::now();
        let outcome = answered(subject, run).await;
        let (names, error) = ((policy.name.as_str(), binding.name.as_str()), outcome.as_ref().err());
        subject.api.metrics.policies.mutated(names, error.map(String::as_str), since.elapsed());
        match outcome {
            Ok(changed) => now = changed,
            Err(error) => errors.push(error),
        }
    }
    let changed = if now == first { None } else { Some(seen.back(subject, now).await?) };
    Ok(Found::Seen { changed, errors })
}

/// Tells a policy with one of its bindings and parameters from all others.
fn key(policy: &Policy, binding: &Binding, param: &Value) -> String {
    let (namespace, name) = (meta(param, "namespace"), meta(param, "name"));
    format!("policy/{}/{}/{namespace}/{name}", policy.name, binding.name)
}

/// Patches objects of one kind.
struct Form<'a> {
    subject: &'a Subject<'a>,
    seen: &'a Seen,
    shape: Option<Shape>,
}

impl Mutator for Form<'_> {
    fn merge(&self, object: &Value, configuration: Value) -> Result<Value, String> {
        let typed = self.shape.as_ref().map_or(plimsoll_merge::Typed::DEDUCED, Shape::typed);
        overlay(object, &configuration, typed)
    }

    fn patch(&self, object: &Value, operations: Vec<Value>) -> Result<Value, String> {
        match json_patch(object.clone(), &Value::Array(operations)) {
            Ok(patched) => Ok(patched),
            Err(PatchError::NotApplicable(cause)) if cause.ends_with(": test failed") => Ok(object.clone()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn settle(&self, object: Value) -> Result<Value, String> {
        self.seen.settle(self.subject, object).map_err(|status| status.message)
    }
}
