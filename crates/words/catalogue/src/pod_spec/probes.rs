//! Probes and hooks of containers.

use serde_json::Value;

use plimsoll_meta::field::Path;

use crate::access::Access;
use crate::report::{NOT_NEGATIVE, Report};

/// All probes and hooks of a container that may have them.
pub(super) fn check(container: &Value, path: &Path, report: &mut Report) {
    for hook in ["postStart", "preStop"] {
        if let Some(found) = container.at("lifecycle").and_then(|lifecycle| lifecycle.at(hook)) {
            check_handler(
                found,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &path.child("lifecycle").child(hook),
                report,
            );
            check_sleep(found, &path.child("lifecycle").child(hook), report);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.at(name) {
            check_probe(probe, name, &path.child(name), report);
        }
    }
}

fn check_probe(probe: &Value, name: &str, path: &Path, report: &mut Report) {
    check_handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], path, report);
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        let number = probe.count(field);
        if number < 0 {
            report.invalid(&path.child(field), number, NOT_NEGATIVE);
        }
    }
    if let Some(seconds) = probe.int("terminationGracePeriodSeconds") {
        let at = path.child("terminationGracePeriodSeconds");
        if seconds <= 0 {
            report.invalid(&at, seconds, "must be greater than 0");
        }
        if name == "readinessProbe" {
            report.invalid(&at, seconds, "must not be set for readinessProbes");
        }
    }
    let successes = probe.count("successThreshold");
    if name != "readinessProbe" && successes != 1 {
        report.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
}

/// Exactly one of these kinds of handlers.
fn check_handler(holder: &Value, kinds: &[&str], path: &Path, report: &mut Report) {
    let mut found = 0;
    for kind in kinds {
        let Some(handler) = holder.at(kind) else { continue };
        found += 1;
        let at = path.child(kind);
        if found > 1 {
            report.forbidden(&at, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                report.need(handler, "command", &at);
            }
            "httpGet" => check_http(handler, &at, report),
            "tcpSocket" => report.port_or_name(&at.child("port"), handler.at("port").unwrap_or(&Value::Null)),
            "grpc" => report.port(&at.child("port"), handler.count("port")),
            _ => {}
        }
    }
    if found == 0 {
        report.required(path, "must specify a handler type");
    }
}

fn check_http(action: &Value, path: &Path, report: &mut Report) {
    report.need(action, "path", path);
    report.port_or_name(&path.child("port"), action.at("port").unwrap_or(&Value::Null));
    let scheme = action.text("scheme");
    let schemes = ["HTTP", "HTTPS"];
    if !schemes.contains(&scheme) {
        report.not_supported(&path.child("scheme"), scheme, &schemes);
    }
    for header in action.list("httpHeaders") {
        let name = header.text("name");
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
            report.invalid(
                &path.child("httpHeaders"),
                name,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used \
                 for validation is '[-A-Za-z0-9]+')",
            );
        }
    }
}

fn check_sleep(hook: &Value, path: &Path, report: &mut Report) {
    if let Some(sleep) = hook.at("sleep") {
        let seconds = sleep.count("seconds");
        if seconds < 0 {
            report.invalid(&path.child("sleep").child("seconds"), seconds, NOT_NEGATIVE);
        }
    }
}
