//! Certificates: who asked for one, and who may approve, sign or attest
//! (plugin/pkg/admission/certificates, pkg/registry/certificates, v1.37).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plimsoll_admission::MASTERS;
use plimsoll_admission::plugins::Plugin;
use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use super::Operation;
use crate::authorize;
use crate::object::{self, meta};
use crate::write::Write;

const GROUP: &str = "certificates.k8s.io";
/// The signer of certificates for clients of the API.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

/// Notes who asks, and when conditions came about.
pub(crate) fn settle(write: &Write<'_>, operation: Operation, object: &mut Value, old: Option<&Value>) {
    if write.kind.group != GROUP || write.kind.kind != "CertificateSigningRequest" {
        return;
    }
    match operation {
        Operation::Create => {
            let user = write.user;
            object["spec"]["username"] = json!(user.name);
            object["spec"]["groups"] = json!(user.groups);
            for (field, value, empty) in [
                ("uid", json!(user.uid), user.uid.is_empty()),
                ("extra", json!(user.extra), user.extra.is_empty()),
            ] {
                match (empty, object["spec"].as_object_mut()) {
                    (true, Some(spec)) => drop(spec.remove(field)),
                    _ => object["spec"][field] = value,
                }
            }
        }
        Operation::Update => {
            let now = object::time(write.now);
            let before = old.map(|old| &old["status"]["conditions"]).and_then(Value::as_array);
            for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
                let same =
                    |one: &&Value| one["type"] == condition["type"] && one["status"] == condition["status"];
                let since =
                    before.into_iter().flatten().find(same).map(|one| one["lastTransitionTime"].clone());
                if condition["lastUpdateTime"].is_null() {
                    condition["lastUpdateTime"] = now.clone();
                }
                if condition["lastTransitionTime"].is_null() {
                    let since = since.filter(|since| !since.is_null());
                    condition["lastTransitionTime"] = since.unwrap_or_else(|| now.clone());
                }
            }
        }
        Operation::Delete | Operation::Connect => {}
    }
}

/// Holds the permissions of the signer against the writer.
pub(crate) async fn check(
    write: &Write<'_>,
    operation: Operation,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if write.kind.group != GROUP || operation == Operation::Delete {
        return Ok(());
    }
    let signer_of = |one: &Value| one["spec"]["signerName"].as_str().unwrap_or_default().to_owned();
    let null = Value::Null;
    let before = old.unwrap_or(&null);
    let on = |plugin: Plugin| super::on(write, plugin);
    match (write.kind.kind, operation, write.subresource) {
        ("CertificateSigningRequest", Operation::Create, None)
            if on(Plugin::CertificateSubjectRestriction) =>
        {
            subject(write, object)
        }
        ("CertificateSigningRequest", Operation::Update, Some("approval"))
            if on(Plugin::CertificateApproval) =>
        {
            let signer = signer_of(before);
            require(write, "approve", &signer, object, "approve requests with").await
        }
        ("CertificateSigningRequest", Operation::Update, Some("status"))
            if on(Plugin::CertificateSigning)
                && ["certificate", "conditions"]
                    .iter()
                    .any(|field| object["status"][*field] != before["status"][*field]) =>
        {
            let signer = signer_of(before);
            require(write, "sign", &signer, object, "sign requests with").await
        }
        ("ClusterTrustBundle", _, None)
            if on(Plugin::ClusterTrustBundleAttest) && !signer_of(object).is_empty() =>
        {
            require(write, "attest", &signer_of(object), object, "attest for").await
        }
        _ => Ok(()),
    }
}

/// Nobody gets a certificate of the group that may do everything.
fn subject(write: &Write<'_>, object: &Value) -> Result<(), Status> {
    if object["spec"]["signerName"] != CLIENTS {
        return Ok(());
    }
    let forbidden = |cause: String| Status::forbidden(GROUP, write.kind.plural, meta(object, "name"), cause);
    let pem = STANDARD.decode(object["spec"]["request"].as_str().unwrap_or_default());
    let requested = pem
        .map_err(|error| error.to_string())
        .and_then(|pem| plimsoll_pki::requested(&String::from_utf8_lossy(&pem)))
        .map_err(|error| forbidden(format!("failed to parse CSR: {error}")))?;
    match requested.organizations.iter().any(|group| group == MASTERS) {
        true => Err(forbidden(format!("use of {CLIENTS} signer with {MASTERS} group is not allowed"))),
        false => Ok(()),
    }
}

/// The verb is needed on the signer itself or on all of its domain.
async fn require(
    write: &Write<'_>,
    verb: &str,
    signer: &str,
    object: &Value,
    action: &str,
) -> Result<(), Status> {
    let domain = format!("{}/*", signer.split('/').next().unwrap_or_default());
    for name in [signer, &domain] {
        let wanted = Attributes {
            verb,
            group: GROUP,
            version: "*",
            resource: "signers",
            name,
            ..Attributes::default()
        };
        if authorize::allowed(write.api, write.user, &wanted).await {
            return Ok(());
        }
    }
    let cause = format!("user not permitted to {action} signerName {signer:?}");
    Err(Status::forbidden(GROUP, write.kind.plural, meta(object, "name"), cause))
}
