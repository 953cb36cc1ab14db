//! Certificate requests: approving those of node agents, signing what was approved, cleaning up
//! (kube-controller-manager: pkg/controller/certificates, v1.37).

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::{Action, Patch, Target};

/// Signer of certificates for clients of the API.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Signer of certificates that node agents ask the API with.
const AGENT_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Signer of certificates that node agents serve with.
const AGENT_SERVER: &str = "kubernetes.io/kubelet-serving";
/// How long a certificate lasts where no less is asked for, if nobody says (`--cluster-signing-duration`).
pub const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// Fewest seconds that a certificate lasts.
const SHORTEST: i64 = 600;
/// Clocks of others may be this many seconds behind.
const BACKDATE: i64 = 300;
/// A certificate that lasts less than this ends when it was asked to, not that much earlier.
const SHORT: i64 = 8 * 3600;
/// Seconds that a decided request is kept, and one that nobody decides.
const DECIDED: i64 = 3600;
const PENDING: i64 = 24 * 3600;
/// When to ask again whether somebody may have what was refused: roles may have changed.
pub const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What a request asks to be certified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// Common name.
    pub common_name: String,
    /// Organizations.
    pub organizations: Vec<String>,
    /// How many alternative names of each kind: DNS, mail, IP, URI.
    pub names: [usize; 4],
}

/// Why a request may be approved without anybody looking: whoever asked may create this subresource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognized {
    /// Subresource of `certificatesigningrequests`.
    pub permission: &'static str,
    /// What the approval says.
    pub message: &'static str,
}

/// What the signer does about a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Signing {
    /// Nothing.
    None,
    /// Says why it will not.
    Refuse(Box<Action>),
    /// Signs for this time, in seconds since 1970.
    Sign {
        /// Begin.
        not_before: i64,
        /// End.
        not_after: i64,
    },
}

/// The permissions that approve a request, the first that is given counts.
pub fn recognized(request: &CertificateSigningRequest, asked: &Requested) -> Vec<Recognized> {
    let open = condition(request, "Approved").is_none() && condition(request, "Denied").is_none();
    let mut found = Vec::new();
    if issued(request)
        || !open
        || request.spec.signer_name != AGENT_CLIENT
        || agent_client(request, asked).is_err()
    {
        return found;
    }
    if request.spec.username.as_deref() == Some(&asked.common_name) {
        found.push(Recognized {
            permission: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        });
    }
    found.push(Recognized {
        permission: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    });
    found
}

/// The review that asks whether whoever made the request has a permission.
pub fn review(request: &CertificateSigningRequest, permission: &str) -> Value {
    let spec = &request.spec;
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
            "verb": "create", "subresource": permission, "version": "*"}}})
}

/// Approves a request.
pub fn approve(request: &CertificateSigningRequest, message: &str) -> Action {
    with_condition(request, "approval", "Approved", "AutoApproved", message)
}

/// What the cluster's signer does; no certificate of it lasts longer than `longest`.
pub fn signing(
    request: &CertificateSigningRequest,
    asked: &Requested,
    longest: Duration,
    now: Timestamp,
) -> Signing {
    let approved = condition(request, "Approved").is_some() && condition(request, "Denied").is_none();
    if !approved || condition(request, "Failed").is_some() || issued(request) {
        return Signing::None;
    }
    let checked = match request.spec.signer_name.as_str() {
        CLIENT => client(request),
        AGENT_CLIENT => agent_client(request, asked),
        AGENT_SERVER => agent_server(request, asked),
        _ => return Signing::None,
    };
    if let Err(cause) = checked {
        let refusal = with_condition(request, "status", "Failed", "SignerValidationFailure", &cause);
        return Signing::Refuse(Box::new(refusal));
    }
    let longest = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
    let seconds = request.spec.expiration_seconds.map_or(longest, |asked| i64::from(asked).max(SHORTEST));
    let seconds = seconds.min(longest);
    let early = if seconds < SHORT { 0 } else { BACKDATE };
    let now = now.as_second();
    Signing::Sign { not_before: now - BACKDATE, not_after: now + seconds - early }
}

/// Hands out the certificate (base64 of PEM).
pub fn issue(request: &CertificateSigningRequest, certificate: &str) -> Action {
    change(request, "status", json!({"status": {"certificate": certificate}}))
}

/// Deletes a request whose time is over; `ends` is the end of its certificate in seconds since 1970.
pub fn clean(request: &CertificateSigningRequest, ends: Option<i64>, now: Timestamp) -> Vec<Action> {
    let second = |time: Option<Timestamp>| time.map(Timestamp::as_second);
    let decided = |kind: &str| {
        let at = condition(request, kind)?.last_update_time.as_ref().map(|time| time.0);
        second(at).map(|at| at + DECIDED)
    };
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_ref());
    let pending = conditions.is_none_or(Vec::is_empty);
    let created = request.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let approved = if issued(request) { decided("Approved") } else { None };
    let due = [
        if pending { second(created).map(|at| at + PENDING) } else { None },
        decided("Denied"),
        decided("Failed"),
        approved,
        ends.filter(|_| issued(request) && condition(request, "Approved").is_some()),
    ];
    match due.into_iter().flatten().min() {
        Some(due) if due < now.as_second() => vec![Action::delete(request).into()],
        Some(due) => {
            let wait = u64::try_from(due - now.as_second() + 1).unwrap_or(0);
            vec![Action::RequeueAfter(Duration::from_secs(wait))]
        }
        None => Vec::new(),
    }
}

fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|one| one.type_ == kind)
}

fn issued(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

fn usages(request: &CertificateSigningRequest) -> BTreeSet<&str> {
    request.spec.usages.iter().flatten().map(String::as_str).collect()
}

fn client(request: &CertificateSigningRequest) -> Result<(), String> {
    for usage in request.spec.usages.iter().flatten() {
        if !matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth") {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    match usages(request).contains("client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

/// Usages of an agent's certificate: with and without what only RSA keys need.
fn agent_usages(request: &CertificateSigningRequest, main: &'static str) -> Result<(), String> {
    let all = BTreeSet::from(["digital signature", "key encipherment", main]);
    let few = BTreeSet::from(["digital signature", main]);
    let found = usages(request);
    match found == all || found == few {
        true => Ok(()),
        false => {
            let all: Vec<&str> = all.into_iter().collect();
            Err(format!("usages did not match [{}]", all.join(" ")))
        }
    }
}

fn agent_name(asked: &Requested) -> Result<(), String> {
    match asked.common_name.starts_with("system:node:") {
        true => Ok(()),
        false => Err("subject common name does not begin with system:node:".to_owned()),
    }
}

fn agent_group(asked: &Requested) -> Result<(), String> {
    match asked.organizations == ["system:nodes"] {
        true => Ok(()),
        false => Err("subject organization is not system:nodes".to_owned()),
    }
}

fn agent_client(request: &CertificateSigningRequest, asked: &Requested) -> Result<(), String> {
    agent_group(asked)?;
    for (count, kind) in asked.names.into_iter().zip(["DNS", "Email", "IP", "URI"]) {
        if count > 0 {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    agent_name(asked)?;
    agent_usages(request, "client auth")
}

fn agent_server(request: &CertificateSigningRequest, asked: &Requested) -> Result<(), String> {
    let [dns, mail, address, uri] = asked.names;
    agent_group(asked)?;
    match (dns + address, mail, uri) {
        (0, _, _) => return Err("DNS or IP subjectAltName is required".to_owned()),
        (_, 1.., _) => return Err("Email subjectAltNames are not allowed".to_owned()),
        (_, _, 1..) => return Err("URI subjectAltNames are not allowed".to_owned()),
        _ => {}
    }
    agent_usages(request, "server auth")?;
    agent_name(asked)
}

/// The server fills in when the condition came about.
fn with_condition(
    request: &CertificateSigningRequest,
    door: &'static str,
    kind: &str,
    reason: &str,
    message: &str,
) -> Action {
    let known = request.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut all: Vec<Value> =
        known.iter().map(|one| serde_json::to_value(one).expect("API types are JSON")).collect();
    all.push(json!({"type": kind, "status": "True", "reason": reason, "message": message}));
    change(request, door, json!({"status": {"conditions": all}}))
}

fn change(request: &CertificateSigningRequest, door: &'static str, mut body: Value) -> Action {
    body["metadata"]["resourceVersion"] = json!(request.metadata.resource_version);
    let target = Target::of(request);
    Action::Patch(Box::new(Patch { target, subresource: Some(door), body, guard: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, summary};

    fn request(signer: &str, usages: &[&str], status: Value) -> CertificateSigningRequest {
        object(json!({"metadata": {"name": "r", "creationTimestamp": at(0)},
            "spec": {"request": "", "signerName": signer, "usages": usages, "username": "system:node:n"}, "status": status}))
    }

    fn approved() -> Value {
        json!({"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": at(0)}]})
    }

    fn agent(names: [usize; 4]) -> Requested {
        Requested {
            common_name: "system:node:n".to_owned(),
            organizations: vec!["system:nodes".to_owned()],
            names,
        }
    }

    #[test]
    fn agents_requests_are_recognized() {
        let usages = ["digital signature", "client auth"];
        let permissions = |request: &CertificateSigningRequest, asked: &Requested| -> Vec<&str> {
            recognized(request, asked).into_iter().map(|one| one.permission).collect()
        };
        let plain = request(AGENT_CLIENT, &usages, json!({}));
        assert_eq!(permissions(&plain, &agent([0; 4])), ["selfnodeclient", "nodeclient"]);
        let other = Requested { common_name: "system:node:m".to_owned(), ..agent([0; 4]) };
        assert_eq!(permissions(&plain, &other), ["nodeclient"]);
        assert!(permissions(&plain, &agent([1, 0, 0, 0])).is_empty());
        assert!(permissions(&request(AGENT_CLIENT, &usages, approved()), &agent([0; 4])).is_empty());
        assert!(permissions(&request(CLIENT, &usages, json!({})), &agent([0; 4])).is_empty());
        let done = summary(&approve(&plain, "m"));
        assert!(done.starts_with("patch CertificateSigningRequest/approval r"), "{done}");
    }

    #[test]
    fn only_what_was_approved_and_fits_is_signed() {
        let client = ["client auth"];
        let server = ["digital signature", "key encipherment", "server auth"];
        let refused = |cause: &str| Err(cause.to_owned());
        for (request, asked, expected) in [
            (request(CLIENT, &client, json!({})), Requested::default(), Ok(false)),
            (request(CLIENT, &client, approved()), Requested::default(), Ok(true)),
            (
                request(CLIENT, &["server auth"], approved()),
                Requested::default(),
                refused("invalid usage for client certificate: server auth"),
            ),
            (
                request(CLIENT, &["key encipherment"], approved()),
                Requested::default(),
                refused("missing required usage for client certificate: client auth"),
            ),
            (request(AGENT_SERVER, &server, approved()), agent([1, 0, 1, 0]), Ok(true)),
            (
                request(AGENT_SERVER, &server, approved()),
                agent([0; 4]),
                refused("DNS or IP subjectAltName is required"),
            ),
            (
                request(AGENT_SERVER, &client, approved()),
                agent([1, 0, 0, 0]),
                refused("usages did not match [digital signature key encipherment server auth]"),
            ),
            (request("kubernetes.io/legacy-unknown", &client, approved()), Requested::default(), Ok(false)),
            (request("example.com/own", &client, approved()), Requested::default(), Ok(false)),
        ] {
            let outcome = match signing(&request, &asked, LONGEST, at(0)) {
                Signing::None => Ok(false),
                Signing::Sign { .. } => Ok(true),
                Signing::Refuse(action) => {
                    let Action::Patch(patch) = *action else { panic!("a patch") };
                    let conditions =
                        patch.body["status"]["conditions"].as_array().cloned().unwrap_or_default();
                    let last = conditions.last().cloned().unwrap_or_default();
                    Err(last["message"].as_str().unwrap_or_default().to_owned())
                }
            };
            assert_eq!(outcome, expected, "{:?}", request.spec);
        }
    }

    #[test]
    fn certificates_last_as_long_as_asked_within_bounds() {
        let (year, day, minute) = (365 * 86_400, 86_400, 60);
        for (longest, seconds, lasts) in [
            (year, None, year - BACKDATE),
            (year, Some(3600), 3600),
            (year, Some(10), 600),
            (year, Some(9 * 3600), 9 * 3600 - 300),
            (day, None, day - 300),
            (day, Some(2 * 86_400), day - 300),
            (day, Some(3600), 3600),
            (minute, None, minute),
            (minute, Some(3600), minute),
        ] {
            let mut wanted = request(CLIENT, &["client auth"], approved());
            wanted.spec.expiration_seconds = seconds;
            let begin = at(0).as_second();
            let expected = Signing::Sign { not_before: begin - 300, not_after: begin + lasts };
            let longest = Duration::from_secs(longest.unsigned_abs());
            let signed = signing(&wanted, &Requested::default(), longest, at(0));
            assert_eq!(signed, expected, "{longest:?} {seconds:?}");
        }
    }

    #[test]
    fn requests_go_when_their_time_is_over() {
        let issued = json!({"certificate": "YQ==", "conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": at(0)}]});
        let denied = json!({"conditions": [{"type": "Denied", "status": "True", "lastUpdateTime": at(0)}]});
        for (status, ends, seconds, expected) in [
            (json!({}), None, PENDING + 1, "delete CertificateSigningRequest r"),
            (json!({}), None, PENDING - 10, "again 11s"),
            (denied, None, DECIDED + 1, "delete CertificateSigningRequest r"),
            (issued.clone(), None, DECIDED + 1, "delete CertificateSigningRequest r"),
            (issued, Some(at(600).as_second()), 601, "delete CertificateSigningRequest r"),
        ] {
            let actions = clean(&request(CLIENT, &[], status.clone()), ends, at(seconds));
            assert_eq!(actions.iter().map(summary).collect::<Vec<_>>(), [expected], "{status}");
        }
        assert!(clean(&request(CLIENT, &[], approved()), None, at(PENDING * 2)).is_empty());
    }
}
