//! What a webhook's answer comes to.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::{Hook, ReviewVersion};

/// Whether a webhook may change the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// It may, by a JSON patch.
    Allowed,
    /// It only says yes or no.
    Forbidden,
}

/// A valid answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The operations of its patch, none if it changes nothing; or why the request is refused.
    pub patch: Result<Vec<Value>, Status>,
    /// For the client.
    pub warnings: Vec<String>,
    /// For the audit log, their keys prefixed by the webhook's name.
    pub annotations: Vec<(String, String)>,
}

impl Verdict {
    /// Reads the answer to the question `uid`.
    ///
    /// # Errors
    /// What makes the call a failure, to which the failure policy applies.
    pub fn read(
        hook: &Hook,
        version: ReviewVersion,
        uid: &str,
        mutation: Mutation,
        body: &[u8],
    ) -> Result<Self, String> {
        let review: Value = serde_json::from_slice(body).map_err(|error| {
            format!("failed to call webhook: couldn't get version/kind; json parse error: {error}")
        })?;
        same_version(&review, version).map_err(|cause| format!("failed to call webhook: {cause}"))?;
        let invalid = |cause: String| format!("received invalid webhook response: {cause}");
        let response = &review["response"];
        if !response.is_object() {
            return Err(invalid("webhook response was absent".to_owned()));
        }
        if version == ReviewVersion::V1 {
            check(&review, uid, mutation).map_err(invalid)?;
        }
        let patch = if response["allowed"] == true {
            operations(version, mutation, response)?
        } else {
            Err(denial(&hook.name, &response["status"]))
        };
        Ok(Self {
            patch,
            warnings: texts(&response["warnings"]),
            annotations: response["auditAnnotations"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(key, value)| Some((format!("{}/{key}", hook.name), value.as_str()?.to_owned())))
                .collect(),
        })
    }
}

/// The answer must be a review, of the version of the question if it says which.
fn same_version(review: &Value, version: ReviewVersion) -> Result<(), String> {
    let text = |key: &str| review[key].as_str().unwrap_or_default();
    let (given, kind) = (text("apiVersion"), text("kind"));
    let known =
        [ReviewVersion::V1, ReviewVersion::V1Beta1].into_iter().find(|one| one.api_version() == given);
    match known {
        _ if !matches!(kind, "" | "AdmissionReview") || (known.is_none() && !given.is_empty()) => {
            Err(format!("no kind {kind:?} is registered for version {given:?} in scheme"))
        }
        Some(known) if known != version => Err(format!(
            "converting ({}.AdmissionReview) to ({}.AdmissionReview): unknown conversion",
            known.name(),
            version.name()
        )),
        _ => Ok(()),
    }
}

/// The rules of `v1`.
fn check(review: &Value, uid: &str, mutation: Mutation) -> Result<(), String> {
    let response = &review["response"];
    let given = response["uid"].as_str().unwrap_or_default();
    if given != uid {
        return Err(format!("expected response.uid={uid:?}, got {given:?}"));
    }
    let (api_version, kind) = (review["apiVersion"].as_str(), review["kind"].as_str());
    if api_version != Some("admission.k8s.io/v1") || kind != Some("AdmissionReview") {
        let group_version = api_version.filter(|text| !text.is_empty()).unwrap_or("/");
        let kind = kind.unwrap_or_default();
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {group_version}, Kind={kind}"
        ));
    }
    let patch = response["patch"].as_str().is_some_and(|patch| !patch.is_empty());
    let patch_type = response["patchType"].as_str();
    let wrong = match (mutation, patch, patch_type) {
        (Mutation::Allowed, true, None) => "webhook returned response.patch but not response.patchType",
        (Mutation::Allowed, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (Mutation::Allowed, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (Mutation::Forbidden, true, _) => "validating webhook may not return response.patch",
        (Mutation::Forbidden, false, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

/// The patch of an answer that allows.
fn operations(
    version: ReviewVersion,
    mutation: Mutation,
    response: &Value,
) -> Result<Result<Vec<Value>, Status>, String> {
    let patch = response["patch"].as_str().unwrap_or_default();
    if patch.is_empty() || mutation == Mutation::Forbidden {
        return Ok(Ok(Vec::new()));
    }
    let bytes = BASE64_STANDARD
        .decode(patch)
        .map_err(|error| format!("failed to call webhook: illegal base64 data in response.patch: {error}"))?;
    let list: Vec<Value> = match serde_json::from_slice(&bytes) {
        Ok(list) => list,
        Err(error) => return Ok(Err(Status::internal(error))),
    };
    let patch_type = response["patchType"].as_str().unwrap_or_default();
    if !list.is_empty() && version == ReviewVersion::V1 && patch_type != "JSONPatch" {
        return Err(format!("unsupported patch type {patch_type:?}"));
    }
    Ok(Ok(list))
}

/// The refusal that the client sees.
fn denial(name: &str, status: &Value) -> Status {
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    let denied = format!("admission webhook {name:?} denied the request");
    let (message, reason) = (text("message"), text("reason"));
    let message = match (message.as_str(), reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = status["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 400);
    Status { details: status["details"].clone(), ..Status::new(code.unwrap_or(400), reason, message) }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::webhook::hooks;

    fn hook() -> Hook {
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [{"name": "a.example.com"}]});
        hooks([&configuration]).remove(0)
    }

    fn read(mutation: Mutation, answer: &Value) -> Result<Verdict, String> {
        Verdict::read(&hook(), ReviewVersion::V1, "u", mutation, answer.to_string().as_bytes())
    }

    fn answer(response: Value) -> Value {
        let mut answer =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "u"}});
        for (key, value) in response.as_object().expect("an object") {
            answer["response"][key] = value.clone();
        }
        answer
    }

    #[test]
    fn denials_are_explained() {
        for (status, code, reason, message) in [
            (
                json!(null),
                400,
                "",
                "admission webhook \"a.example.com\" denied the request without explanation",
            ),
            (
                json!({"message": "no", "code": 418, "reason": "Teapot"}),
                418,
                "Teapot",
                "admission webhook \"a.example.com\" denied the request: no",
            ),
            (
                json!({"reason": "bad", "code": 200}),
                400,
                "bad",
                "admission webhook \"a.example.com\" denied the request: bad",
            ),
        ] {
            let verdict = read(Mutation::Forbidden, &answer(json!({"allowed": false, "status": status})));
            let refusal = verdict.expect("a valid answer").patch.expect_err("a refusal");
            assert_eq!((refusal.code, &*refusal.reason, refusal.message.as_str()), (code, reason, message));
        }
    }

    #[test]
    fn invalid_answers_are_failures() {
        let invalid = |cause: &str| format!("received invalid webhook response: {cause}");
        for (mutation, given, expected) in [
            (Mutation::Allowed, json!({}), invalid("webhook response was absent")),
            (
                Mutation::Allowed,
                answer(json!({"uid": "other"})),
                invalid("expected response.uid=\"u\", got \"other\""),
            ),
            (
                Mutation::Allowed,
                json!({"response": {"uid": "u"}}),
                invalid("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind="),
            ),
            (
                Mutation::Allowed,
                json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}),
                "failed to call webhook: converting (v1beta1.AdmissionReview) to (v1.AdmissionReview): unknown conversion"
                    .to_owned(),
            ),
            (
                Mutation::Allowed,
                answer(json!({"patch": "W10="})),
                invalid("webhook returned response.patch but not response.patchType"),
            ),
            (
                Mutation::Allowed,
                answer(json!({"patchType": "JSONPatch"})),
                invalid("webhook returned response.patchType but not response.patch"),
            ),
            (
                Mutation::Forbidden,
                answer(json!({"patch": "W10=", "patchType": "JSONPatch"})),
                invalid("validating webhook may not return response.patch"),
            ),
            (
                Mutation::Allowed,
                answer(json!({"allowed": true, "patch": BASE64_STANDARD.encode("[{}]"), "patchType": "Merge"})),
                "unsupported patch type \"Merge\"".to_owned(),
            ),
        ] {
            assert_eq!(read(mutation, &given), Err(expected), "{given}");
        }
    }

    #[test]
    fn patches_warnings_and_annotations_are_handed_on() {
        let patch = BASE64_STANDARD.encode(r#"[{"op": "remove", "path": "/a"}]"#);
        let given = answer(json!({"allowed": true, "patch": patch, "patchType": "JSONPatch",
            "warnings": ["old"], "auditAnnotations": {"k": "v"}}));
        let verdict = read(Mutation::Allowed, &given).expect("a valid answer");
        assert_eq!(verdict.patch, Ok(vec![json!({"op": "remove", "path": "/a"})]));
        assert_eq!(verdict.warnings, ["old"]);
        assert_eq!(verdict.annotations, [("a.example.com/k".to_owned(), "v".to_owned())]);
    }

    #[test]
    fn the_older_review_is_checked_less() {
        let given = json!({"response": {"allowed": true, "patch": BASE64_STANDARD.encode("[{}]")}});
        let body = given.to_string();
        let read = |mutation| Verdict::read(&hook(), ReviewVersion::V1Beta1, "u", mutation, body.as_bytes());
        assert_eq!(read(Mutation::Allowed).expect("valid").patch, Ok(vec![json!({})]));
        assert_eq!(read(Mutation::Forbidden).expect("valid").patch, Ok(vec![]));
    }
}
