//! The group `certificates.k8s.io`.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use crate::access::Access;
use crate::age;
use crate::certificate_rules;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage, Subresource};
use crate::names;
use crate::report::Report;
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[SIGNING_REQUEST, CLUSTER_TRUST_BUNDLE, POD_CERTIFICATE_REQUEST];

const BASE: Kind = Kind { group: "certificates.k8s.io", namespaced: false, ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "certificates.k8s.io", version: "v1" }
}

const SIGNING_REQUEST: Kind = Kind {
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    singular: "certificatesigningrequest",
    short_names: &["csr"],
    subresources: &[
        Subresource::view("approval", "CertificateSigningRequest"),
        Subresource::status("CertificateSigningRequest"),
    ],
    definition: "io.k8s.api.certificates.v1.CertificateSigningRequest",
    storage: stored("/registry/certificatesigningrequests"),
    columns: &[
        column::NAME,
        column::AGE,
        Column::text("SignerName", "who shall sign", |object, _| {
            column::or(object.text("spec.signerName"), "<none>")
        }),
        Column::text("Requestor", "who asked", |object, _| object.text("spec.username").into()),
        Column::text("RequestedDuration", "how long the certificate shall be valid", |object, _| {
            object.int("spec.expirationSeconds").map_or("<none>".into(), |seconds| age::human(seconds).into())
        }),
        Column::text("Condition", "what became of the request", |object, _| state(object).into()),
    ],
    name_rule: names::any,
    strategy: &SigningRequest,
    ..BASE
};

const CLUSTER_TRUST_BUNDLE: Kind = Kind {
    kind: "ClusterTrustBundle",
    plural: "clustertrustbundles",
    singular: "clustertrustbundle",
    definition: "io.k8s.api.certificates.v1.ClusterTrustBundle",
    storage: stored("/registry/clustertrustbundles"),
    columns: &[
        column::NAME,
        Column::text("SignerName", "who signs with these anchors", |object, _| {
            column::or(object.text("spec.signerName"), "<none>")
        }),
    ],
    name_rule: names::any,
    unconditional_update: false,
    strategy: &ClusterTrustBundle,
    ..BASE
};

const POD_CERTIFICATE_REQUEST: Kind = Kind {
    kind: "PodCertificateRequest",
    plural: "podcertificaterequests",
    singular: "podcertificaterequest",
    namespaced: true,
    subresources: &[Subresource::status("PodCertificateRequest")],
    definition: "io.k8s.api.certificates.v1.PodCertificateRequest",
    storage: stored("/registry/podcertificaterequests"),
    columns: &[
        column::NAME,
        Column::text("PodName", "pod that needs the certificate", |object, _| {
            object.text("spec.podName").into()
        }),
        Column::text("ServiceAccountName", "account of the pod", |object, _| {
            object.text("spec.serviceAccountName").into()
        }),
        Column::text("NodeName", "node of the pod", |object, _| object.text("spec.nodeName").into()),
        Column::text("SignerName", "who shall sign", |object, _| object.text("spec.signerName").into()),
        Column::text("State", "what became of the request", |object, _| pod_state(object).into()),
        column::AGE,
    ],
    unconditional_update: false,
    strategy: &PodCertificateRequest,
    ..BASE
};

struct SigningRequest;

impl Strategy for SigningRequest {
    /// The specification is what was asked for, once and for all; only approval sets
    /// approval conditions, only the signer the certificate.
    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        request::prepare_update(new, old, subresource);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        certificate_rules::check(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        certificate_rules::check_update(new, old, subresource, &mut report);
        report.into_errors()
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object.text("spec.signerName").to_owned())]
    }
}

struct ClusterTrustBundle;

impl Strategy for ClusterTrustBundle {
    /// Bundles of a signer carry its name, with colons in the place of slashes.
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let (name, signer) = (object.text("metadata.name"), object.text("spec.signerName"));
        let at = Path::root("metadata").child("name");
        if signer.is_empty() {
            if name.contains(':') {
                report.invalid(
                    &at,
                    name,
                    "ClusterTrustBundle without signer name must not have \":\" in its name",
                );
            }
        } else {
            certificate_rules::check_signer(signer, &Path::root("spec").child("signerName"), &mut report);
            let prefix = signer.replace('/', ":") + ":";
            if !name.starts_with(&prefix) {
                let message =
                    format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
                report.invalid(&at, name, message);
            }
        }
        if object.text("spec.trustBundle").trim().is_empty() {
            report.required(&Path::root("spec").child("trustBundle"), "");
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        report.immutable(new, old, "spec.signerName");
        report.into_errors()
    }

    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", object.text("spec.signerName").to_owned())]
    }
}

struct PodCertificateRequest;

impl Strategy for PodCertificateRequest {
    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.signerName", object.text("spec.signerName").to_owned()),
            ("spec.podName", object.text("spec.podName").to_owned()),
            ("spec.nodeName", object.text("spec.nodeName").to_owned()),
        ]
    }
}

fn has(object: &Value, condition: &str) -> bool {
    object.list("status.conditions").iter().any(|one| one.text("type") == condition)
}

fn state(object: &Value) -> String {
    let mut text = match () {
        () if has(object, "Denied") => "Denied",
        () if has(object, "Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has(object, "Failed") {
        text.push_str(",Failed");
    }
    if !object.text("status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}

fn pod_state(object: &Value) -> &'static str {
    ["Issued", "Denied", "Failed"].into_iter().find(|condition| has(object, condition)).unwrap_or("Pending")
}

mod request {
    //! Who may change what of a signing request.

    use serde_json::Value;

    use crate::access::{Access, Fill};

    pub(super) fn prepare_update(new: &mut Value, old: &Value, subresource: Option<&str>) {
        restore(new, old, "spec");
        match subresource {
            Some("approval") => {
                let conditions = new.at("status.conditions").cloned();
                restore(new, old, "status");
                if let Some(status) = new.object("status") {
                    match conditions {
                        Some(conditions) => status.put("conditions", conditions),
                        None => status.drop_key("conditions"),
                    }
                }
            }
            Some("status") => keep_decisions(new, old),
            _ => {}
        }
    }

    /// Through `status`, conditions `Approved` and `Denied` stay as they are.
    fn keep_decisions(new: &mut Value, old: &Value) {
        let decided = |condition: &&Value| matches!(condition.text("type"), "Approved" | "Denied");
        let mut conditions: Vec<Value> =
            old.list("status.conditions").iter().filter(decided).cloned().collect();
        conditions.extend(new.list("status.conditions").iter().filter(|one| !decided(one)).cloned());
        if let (false, Some(status)) = (conditions.is_empty(), new.object("status")) {
            status.put("conditions", conditions);
        }
    }

    fn restore(new: &mut Value, old: &Value, field: &str) {
        match old.at(field) {
            Some(value) => new.put(field, value.clone()),
            None => new.drop_key(field),
        }
    }
}
