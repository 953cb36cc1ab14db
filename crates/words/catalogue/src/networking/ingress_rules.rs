//! What is wrong with an Ingress or IngressClass (upstream: `pkg/apis/networking/validation`).

use std::net::IpAddr;

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::report::Report;

pub(super) fn check(ingress: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (ingress.at("spec").unwrap_or(&null), Path::root("spec"));
    let rules = spec.list("rules");
    if rules.is_empty() && !spec.has("defaultBackend") {
        let shown = spec.at("rules").cloned().unwrap_or(Value::Null);
        report.invalid(&path, shown, "either `defaultBackend` or `rules` must be specified");
    }
    if let Some(backend) = spec.at("defaultBackend") {
        check_backend(backend, &path.child("defaultBackend"), report);
    }
    for (at, rule) in rules.iter().enumerate() {
        check_rule(rule, &path.child("rules").index(at), report);
    }
    for (at, tls) in spec.list("tls").iter().enumerate() {
        let path = path.child("tls").index(at);
        for (index, host) in tls.texts("hosts").iter().enumerate() {
            report.rule(&path.child("hosts").index(index), host, host_name(host));
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() {
            report.rule(&path.child("secretName"), secret, name::is_dns1123_subdomain(secret));
        }
    }
    if let Some(class) = spec.at("ingressClassName").and_then(Value::as_str) {
        report.rule(&path.child("ingressClassName"), class, name::is_dns1123_subdomain(class));
    }
}

/// The old annotation and the field must agree on new objects.
pub(super) fn check_class(ingress: &Value, report: &mut Report) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let annotation = ingress.map("metadata.annotations").get(CLASS);
    if let (Some(annotation), Some(class)) = (annotation, ingress.at("spec.ingressClassName"))
        && annotation != class
    {
        let message = "must match `ingressClassName` when both are specified";
        report.invalid(&Path::root("annotations").child(CLASS), annotation.clone(), message);
    }
}

fn host_name(host: &str) -> Result<(), Vec<String>> {
    if !host.contains('*') {
        return name::is_dns1123_subdomain(host);
    }
    match host.strip_prefix("*.") {
        Some(rest) if name::is_dns1123_subdomain(rest).is_ok() => Ok(()),
        _ => Err(vec![
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
             '*.example.com', regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        ]),
    }
}

fn check_rule(rule: &Value, path: &Path, report: &mut Report) {
    let host = rule.text("host");
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            report.invalid(&path.child("host"), host, "must be a DNS name, not an IP address");
        }
        report.rule(&path.child("host"), host, host_name(host));
    }
    let Some(http) = rule.at("http") else { return };
    let path = path.child("http");
    report.need(http, "paths", &path);
    for (at, entry) in http.list("paths").iter().enumerate() {
        check_path(entry, &path.child("paths").index(at), report);
    }
}

fn check_path(entry: &Value, path: &Path, report: &mut Report) {
    let (kind, target, at) = (entry.text("pathType"), entry.text("path"), path.child("path"));
    match kind {
        "" if !entry.has("pathType") => {
            report.required(&path.child("pathType"), "pathType must be specified");
            return;
        }
        "Exact" | "Prefix" => {
            if !target.starts_with('/') {
                report.invalid(&at, target, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| target.contains(**part)) {
                report.invalid(&at, target, format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].iter().filter(|end| target.ends_with(**end)) {
                report.invalid(&at, target, format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !target.is_empty() && !target.starts_with('/') {
                report.invalid(&at, target, "must be an absolute path");
            }
        }
        other => {
            report.not_supported(
                &path.child("pathType"),
                other,
                &["Exact", "ImplementationSpecific", "Prefix"],
            );
        }
    }
    check_backend(entry.at("backend").unwrap_or(&Value::Null), &path.child("backend"), report);
}

fn check_backend(backend: &Value, path: &Path, report: &mut Report) {
    match (backend.at("service"), backend.at("resource")) {
        (Some(_), Some(_)) => report.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => report.invalid(path, "", "resource or service backend is required"),
        (None, Some(resource)) => check_reference(resource, &path.child("resource"), report),
        (Some(service), None) => {
            if report.need(service, "name", &path.child("service")) {
                let name = service.text("name");
                report.rule(&path.child("service").child("name"), name, name::is_dns1035_label(name));
            }
            let port = path.child("service").child("port");
            match (service.text("port.name"), service.count("port.number")) {
                ("", 0) => report.required(path, "port name or number is required"),
                ("", number) => report.port(&port.child("number"), number),
                (name, 0) => report.rule(&port.child("name"), name, name::is_port_name(name)),
                _ => report.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}

fn check_reference(reference: &Value, path: &Path, report: &mut Report) {
    if let Some(group) = reference.at("apiGroup").and_then(Value::as_str) {
        report.rule(&path.child("apiGroup"), group, name::is_dns1123_subdomain(group));
    }
    for field in ["kind", "name"] {
        match reference.text(field) {
            "" => report.required(&path.child(field), format!("{field} is required")),
            text => report.rule(&path.child(field), text, name::is_path_segment(text)),
        }
    }
}

/// The specification of a class.
pub(super) fn check_ingress_class(class: &Value, report: &mut Report) {
    let path = Path::root("spec");
    let controller = class.text("spec.controller");
    if controller.len() > 250 {
        report.push(FieldError::too_long(&path.child("controller"), 250));
    }
    check_domain_path(controller, &path.child("controller"), report);
    let Some(parameters) = class.at("spec.parameters") else { return };
    let path = path.child("parameters");
    check_reference(parameters, &path, report);
    match (parameters.text("scope"), parameters.at("namespace").and_then(Value::as_str)) {
        ("", _) => report.required(&path.child("scope"), ""),
        ("Namespace", None) => {
            report.required(&path.child("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", Some(namespace)) => {
            report.rule(&path.child("namespace"), namespace, name::is_dns1123_label(namespace));
        }
        ("Cluster", Some(_)) => {
            report.forbidden(&path.child("namespace"), "`parameters.scope` is set to 'Cluster'")
        }
        ("Cluster", None) => {}
        (other, _) => report.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

/// A name such as `acme.io/foo`.
pub(crate) fn check_domain_path(text: &str, path: &Path, report: &mut Report) {
    let Some((domain, rest)) =
        text.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        match text {
            "" => report.required(path, ""),
            _ => report.invalid(path, text, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        }
        return;
    };
    report.rule(path, domain, name::is_dns1123_subdomain(domain));
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&c);
    if !rest.bytes().all(allowed) {
        report.invalid(
            path,
            rest,
            "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
        );
    }
}
