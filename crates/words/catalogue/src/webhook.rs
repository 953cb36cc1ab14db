//! What webhooks of admission, custom resources and API services share.

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::{Access, Fill};
use crate::report::Report;

/// A reference to a Service means port 443 unless it says otherwise.
pub(crate) fn default_service(holder: &mut Value) {
    if let Some(service) = holder.inside("service") {
        service.fill("port", 443);
    }
}

/// Where a webhook is: exactly one of a URL and a Service.
pub(crate) fn check_client(holder: &Value, path: &Path, report: &mut Report) {
    match (holder.at("url").and_then(Value::as_str), holder.at("service")) {
        (None, None) | (Some(_), Some(_)) => {
            report.required(path, "exactly one of url or service is required")
        }
        (Some(url), None) => check_url(url, &path.child("url"), report),
        (None, Some(service)) => check_service(service, &path.child("service"), report),
    }
}

fn check_url(url: &str, path: &Path, report: &mut Report) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        report.invalid(path, scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or("");
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() || scheme.is_empty() {
        report.invalid(path, "", format!("host must be specified{FORM}"));
    }
    for (part, message) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            report.invalid(path, part, message);
        }
    }
}

fn check_service(service: &Value, path: &Path, report: &mut Report) {
    // Upstream confuses the two: a missing one is reported as the other.
    for (missing, named) in [("namespace", "name"), ("name", "namespace")] {
        if service.text(missing).is_empty() {
            report.required(&path.child(named), format!("service {named} is required"));
        }
    }
    let port = service.int("port").unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        report.invalid(
            &path.child("port"),
            port,
            "port is not valid: must be between 1 and 65535, inclusive",
        );
    }
    let target = service.text("path");
    if !matches!(target, "" | "/") {
        check_path(target, &path.child("path"), report);
    }
}

fn check_path(target: &str, path: &Path, report: &mut Report) {
    if !target.starts_with('/') {
        report.invalid(path, target, "must start with a '/'");
    }
    let mut rest = target.chars();
    rest.next();
    let rest = rest.as_str();
    if rest == "/" {
        report.invalid(path, target, "segment[0] may not be empty");
        return;
    }
    for (at, segment) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if segment.is_empty() {
            report.invalid(path, target, format!("segment[{at}] may not be empty"));
            continue;
        }
        for message in name::is_dns1123_subdomain(segment).err().unwrap_or_default() {
            report.invalid(path, target, format!("segment[{at}]: {message}"));
        }
    }
}

/// Versions of the review that a webhook understands; at least one must be known here.
pub(crate) fn check_review_versions(versions: &[Value], path: &Path, report: &mut Report) {
    const KNOWN: [&str; 2] = ["v1", "v1beta1"];
    if versions.is_empty() {
        report.required(path, format!("must specify one of {}", KNOWN.join(", ")));
        return;
    }
    for (at, version) in versions.iter().enumerate() {
        let text = version.as_str().unwrap_or("");
        if versions[..at].contains(version) {
            report.invalid(&path.index(at), text, "duplicate version");
            continue;
        }
        report.rule(&path.index(at), text, name::is_dns1035_label(text));
    }
    if !versions.iter().any(|version| KNOWN.iter().any(|known| version == known)) {
        report.invalid(path, versions.to_vec(), format!("must include at least one of {}", KNOWN.join(", ")));
    }
}
