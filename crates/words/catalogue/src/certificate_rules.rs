//! What is wrong with certificate signing requests (upstream: `pkg/apis/certificates/validation`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::{self, Access};
use crate::report::Report;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Whether the bytes, in base64, hold a PEM block of the type that requests have.
fn is_request(encoded: &str) -> bool {
    const BEGIN: &str = "-----BEGIN CERTIFICATE REQUEST-----";
    const END: &str = "-----END CERTIFICATE REQUEST-----";
    let Ok(bytes) = STANDARD.decode(encoded) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    text.find(BEGIN).is_some_and(|at| text[at + BEGIN.len()..].contains(END))
}

pub(crate) fn check(request: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (request.at("spec").unwrap_or(&null), Path::root("spec"));
    if !is_request(spec.text("request")) {
        let message = "PEM block type must be CERTIFICATE REQUEST";
        report.invalid(&path.child("request"), spec.text("request"), message);
    }
    let usages = spec.texts("usages");
    if usages.is_empty() {
        report.required(&path.child("usages"), "");
    }
    for (at, usage) in usages.iter().enumerate() {
        let at_usage = path.child("usages").index(at);
        if !USAGES.contains(usage) {
            report.not_supported(&at_usage, *usage, &USAGES);
        }
        if usages[..at].contains(usage) {
            report.duplicate(&at_usage, *usage);
        }
    }
    let signer = spec.text("signerName");
    if signer == "kubernetes.io/legacy-unknown" {
        let message = "the legacy signerName is not allowed via this API version";
        report.invalid(&path.child("signerName"), signer, message);
    } else {
        check_signer(signer, &path.child("signerName"), report);
    }
    if let Some(seconds) = spec.int("expirationSeconds")
        && seconds < 600
    {
        let message = "may not specify a duration less than 600 seconds (10 minutes)";
        report.invalid(&path.child("expirationSeconds"), seconds, message);
    }
    check_conditions(request, report);
}

/// `example.com/signer-name`.
pub(crate) fn check_signer(signer: &str, path: &Path, report: &mut Report) {
    if signer.is_empty() {
        report.required(path, "");
        return;
    }
    let segments: Vec<&str> = signer.split('/').collect();
    let [domain, rest] = segments[..] else {
        let message = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        report.invalid(path, signer, message);
        return;
    };
    if domain.len() > 253 {
        report.push(FieldError::too_long(path, 253));
    }
    let mut labels = |part: &str, rule: fn(&str) -> Result<(), Vec<String>>| {
        let broken = part.split('.').find_map(|label| rule(label).err().map(|messages| (label, messages)));
        if let Some((label, messages)) = broken {
            for message in messages {
                report.invalid(path, part, format!("validating label {label:?}: {message}"));
            }
        }
    };
    labels(domain, name::is_dns1123_label);
    labels(rest, name::is_dns1123_subdomain);
    if !domain.contains('.') {
        report.invalid(path, domain, "should be a domain with at least two segments separated by dots");
    }
    if signer.len() > 571 {
        report.push(FieldError::too_long(path, 571));
    }
}

pub(crate) fn check_conditions(request: &Value, report: &mut Report) {
    let path = Path::root("status").child("conditions");
    let conditions = request.list("status.conditions");
    for (at, condition) in conditions.iter().enumerate() {
        let (path, kind) = (path.index(at), condition.text("type"));
        report.need(condition, "type", &path);
        let states: &[&str] = if matches!(kind, "Approved" | "Denied" | "Failed") {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        report.choice(&path.child("status"), condition.text("status"), states);
        let has = |other: &str| conditions[..at].iter().any(|one| one.text("type") == other);
        if (kind == "Approved" && has("Denied")) || (kind == "Denied" && has("Approved")) {
            report.invalid(
                &path.child("type"),
                kind,
                "Approved and Denied conditions are mutually exclusive",
            );
        }
        if has(kind) {
            report.duplicate(&path.child("type"), kind);
        }
    }
}

/// Decisions and certificates stay once they are there.
pub(crate) fn check_update(new: &Value, old: &Value, subresource: Option<&str>, report: &mut Report) {
    if subresource.is_none() {
        check(new, report);
    } else {
        check_conditions(new, report);
    }
    let path = Path::root("status").child("conditions");
    let shown = |kind: &str| format!("updates may not remove a condition of type {kind:?}");
    for kind in ["Approved", "Denied", "Failed"] {
        let count = |object: &Value| {
            object.list("status.conditions").iter().filter(|one| one.text("type") == kind).count()
        };
        if count(new) < count(old) {
            report.forbidden(&path, shown(kind));
        }
    }
    let (after, before) = (new.text("status.certificate"), old.text("status.certificate"));
    if subresource == Some("status")
        && !before.is_empty()
        && !access::same(Some(&after.into()), Some(&before.into()))
    {
        report.forbidden(
            &Path::root("status").child("certificate"),
            "updates may not modify existing certificate content",
        );
    }
}
