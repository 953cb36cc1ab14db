//! One call of a webhook.

use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request};
use plimsoll_admission::matching::Attributes;
use plimsoll_admission::webhook::{
    Asker, Failure, FailurePolicy, Mutation, Review, SideEffects, Verdict, Versioned, no_dry_run,
    server_answer,
};
use plimsoll_audit::Level;
use plimsoll_meta::status::Status;

use super::hooks::Ready;
use super::subject::Subject;
use crate::audit;
use crate::metrics::{Fault, Step, Webhook};

/// Why a webhook has no verdict.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It could not be asked: its failure policy decides.
    Failed(Failure),
    /// The request is refused in any case.
    Refused(Status),
}

/// Asks a webhook about a request.
pub(crate) async fn ask(
    ready: &Ready,
    subject: &Subject<'_>,
    attributes: &Attributes<'_>,
    versioned: Versioned<'_>,
    mutation: Mutation,
) -> Result<Verdict, Trouble> {
    let hook = &ready.hook;
    if subject.dry_run && hook.side_effects == SideEffects::Some {
        return Err(Trouble::Refused(no_dry_run(&hook.name)));
    }
    let failed = |cause: String| Trouble::Failed(Failure { name: hook.name.clone(), cause });
    let Some(version) = hook.version else {
        let cause = "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(failed(cause.to_owned()));
    };
    let uid = uuid::Uuid::new_v4().to_string();
    let review = Review {
        uid: &uid,
        attributes,
        versioned,
        asker: Asker {
            name: &subject.user.name,
            uid: &subject.user.uid,
            groups: &subject.user.groups,
            extra: &subject.user.extra,
        },
        dry_run: subject.dry_run,
        options: &subject.options,
    };
    let answer = post(ready, review.encode(version).into()).await.map_err(failed)?;
    let verdict = Verdict::read(hook, version, &uid, mutation, &answer).map_err(failed)?;
    subject.warnings.extend(verdict.warnings.iter().cloned());
    verdict.annotations.iter().for_each(|(key, value)| audit::note(key, value, Level::Metadata));
    Ok(verdict)
}

/// Notes how long a webhook took and what came of it.
pub(super) fn count(
    ready: &Ready,
    subject: &Subject<'_>,
    step: Step,
    since: Instant,
    answer: &Result<Verdict, Trouble>,
) {
    let metrics = &subject.api.metrics.admission;
    let asked = Webhook { name: &ready.hook.name, step, operation: subject.operation, took: since.elapsed() };
    match answer {
        Ok(Verdict { patch: Ok(_), .. }) => metrics.accepted(&asked),
        Ok(Verdict { patch: Err(status), .. }) => metrics.refused(&asked, Fault::None, status.code),
        Err(Trouble::Refused(status)) => metrics.refused(&asked, Fault::Server, status.code),
        Err(Trouble::Failed(_)) if ready.hook.failure_policy == FailurePolicy::Ignore => {
            metrics.failed_open(&asked);
        }
        Err(Trouble::Failed(_)) => metrics.refused(&asked, Fault::Call, 0),
    }
}

async fn post(ready: &Ready, body: Bytes) -> Result<Bytes, String> {
    let (remote, uri) = ready.way.as_ref().map_err(|cause| format!("could not get REST client: {cause}"))?;
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    let json = HeaderValue::from_static("application/json");
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, json.clone());
    headers.insert(ACCEPT, json);
    headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
    let answer = remote
        .send(request, ready.hook.timeout)
        .await
        .map_err(|error| format!("failed to call webhook: Post {:?}: {error}", ready.url))?;
    match answer.status().as_u16() {
        200..=206 => Ok(answer.into_body()),
        code => Err(format!("failed to call webhook: {}", server_answer(code, answer.body()))),
    }
}
