//! What webhooks of admission, custom resources and API services share.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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

const FORM: &str = "; desired format: https://host[/path]";

fn check_url(url: &str, path: &Path, report: &mut Report) {
    if let Some(why) = misread(url) {
        report.required(path, format!("url must be a valid URL: parse {url:?}: {why}{FORM}"));
        return;
    }
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

/// Why Go cannot read a URL, in its words.
fn misread(url: &str) -> Option<String> {
    if url.chars().any(|char| char.is_ascii_control()) {
        return Some("net/url: invalid control character in URL".to_owned());
    }
    if url.starts_with(':') {
        return Some("missing protocol scheme".to_owned());
    }
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority =
        if rest.len() == url.len() { "" } else { rest.split(['/', '?', '#']).next().unwrap_or("") };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Some(bad) = host.chars().find(|char| " <>\"\\^`{|}".contains(*char)) {
        return Some(format!("invalid character {:?} in host name", bad.to_string()));
    }
    let port = match host.rsplit_once(']') {
        Some((_, port)) => port,
        None => host.find(':').map_or("", |at| &host[at..]),
    };
    if !port.is_empty()
        && !port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    {
        return Some(format!("invalid port {port:?} after host"));
    }
    let is_hex = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let path_end = rest.find('?').unwrap_or(rest.len());
    let escape = rest[..path_end].match_indices('%').find(|(at, _)| !(is_hex(at + 1) && is_hex(at + 2)));
    escape.map(|(at, _)| {
        let end = rest.char_indices().map(|(at, _)| at).chain([rest.len()]).find(|end| *end >= at + 3);
        format!("invalid URL escape {:?}", &rest[at..end.unwrap_or(rest.len())])
    })
}

/// Certificates that a client trusts: PEM, in base64.
pub(crate) fn check_authorities(bundle: &str, path: &Path, report: &mut Report) {
    let pem = STANDARD.decode(bundle).unwrap_or_default();
    if let Some(why) = unloadable(&String::from_utf8_lossy(&pem)) {
        report.invalid(path, bundle, format!("unable to load root certificates: {why}"));
    }
}

/// Whether authorities can be loaded.
pub(crate) fn has_authorities(bundle: &str) -> bool {
    let pem = STANDARD.decode(bundle).unwrap_or_default();
    unloadable(&String::from_utf8_lossy(&pem)).is_none()
}

/// Why text holds no certificate; one that can be read is enough.
fn unloadable(pem: &str) -> Option<&'static str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let mut blocks =
        pem.split(BEGIN).skip(1).filter_map(|block| block.split_once("-----END CERTIFICATE-----"));
    let mut any = false;
    let readable = blocks.any(|(body, _)| {
        any = true;
        let body: String = body.split_whitespace().collect();
        // A certificate is a sequence in DER.
        STANDARD.decode(body).is_ok_and(|der| der.first() == Some(&0x30))
    });
    match (readable, any) {
        (true, _) => None,
        (false, true) => Some("failed to parse certificate: x509: malformed certificate"),
        (false, false) => Some("unable to parse bytes as PEM block"),
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

/// Versions of the review that a webhook understands; at least one must be known here if `known` says so.
pub(crate) fn check_review_versions(versions: &[Value], known: bool, path: &Path, report: &mut Report) {
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
    if known && !versions.iter().any(|version| KNOWN.iter().any(|known| version == known)) {
        report.invalid(path, versions.to_vec(), format!("must include at least one of {}", KNOWN.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_read_are_told_apart() {
        for (url, expected) in [
            ("https://h/x", ""),
            ("https://[::1]:4/x", ""),
            ("https://h b/", "invalid character \" \" in host name"),
            ("::", "missing protocol scheme"),
            ("%zz", "invalid URL escape \"%zz\""),
            ("https://h/%zz", "invalid URL escape \"%zz\""),
            ("https://h:a/", "invalid port \":a\" after host"),
        ] {
            assert_eq!(misread(url).unwrap_or_default(), expected, "{url}");
        }
    }

    #[test]
    fn authorities_are_certificates() {
        let pem = |body: &str| {
            STANDARD.encode(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
        };
        assert!(has_authorities(&pem("MAA=")));
        for (bundle, expected) in [
            ("Cg==".to_owned(), "unable to parse bytes as PEM block"),
            (pem("AAAA"), "failed to parse certificate: x509: malformed certificate"),
        ] {
            let mut report = Report::new();
            check_authorities(&bundle, &Path::root("caBundle"), &mut report);
            let found: Vec<String> = report.into_errors().iter().map(ToString::to_string).collect();
            assert_eq!(
                found,
                [format!(
                    "caBundle: Invalid value: {bundle:?}: unable to load root certificates: {expected}"
                )]
            );
        }
    }
}
