//! What is wrong with flow schemas and priority levels (upstream:
//! `pkg/apis/flowcontrol/validation`).

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::report::Report;

pub(crate) fn check_schema(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    let (precedence, at) = (spec.count("matchingPrecedence"), path.child("matchingPrecedence"));
    if precedence <= 0 {
        report.invalid(&at, precedence, "must be a positive value");
    } else if precedence > 10_000 {
        report.invalid(&at, precedence, "must not be greater than 10000");
    } else if precedence == 1 && object.text("metadata.name") != "exempt" {
        report.invalid(&at, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if let Some(method) = spec.at("distinguisherMethod") {
        let types = ["ByNamespace", "ByUser"];
        if !types.contains(&method.text("type")) {
            report.not_supported(&path.child("distinguisherMethod").child("type"), method.clone(), &types);
        }
    }
    let (level, at) = (
        spec.text("priorityLevelConfiguration.name"),
        path.child("priorityLevelConfiguration").child("name"),
    );
    match level {
        "" => report.required(&at, "must reference a priority level"),
        _ => report.rule(&at, level, name::is_dns1123_subdomain(level)),
    }
    for (at, rule) in spec.list("rules").iter().enumerate() {
        check_rule(rule, &path.child("rules").index(at), report);
    }
}

fn check_rule(rule: &Value, path: &Path, report: &mut Report) {
    let subjects = rule.list("subjects");
    if subjects.is_empty() {
        report.required(&path.child("subjects"), "subjects must contain at least one value");
    }
    for (at, subject) in subjects.iter().enumerate() {
        check_subject(subject, &path.child("subjects").index(at), report);
    }
    let (resources, others) = (rule.list("resourceRules"), rule.list("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        report.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for (at, rule) in resources.iter().enumerate() {
        let path = path.child("resourceRules").index(at);
        check_verbs(rule, &path, report);
        for (field, noun) in [("apiGroups", "api group"), ("resources", "resource")] {
            if rule.list(field).is_empty() {
                report
                    .required(&path.child(field), format!("resource rules must supply at least one {noun}"));
            }
            check_star(rule, field, &format!("{noun}s"), &path, report);
        }
        if rule.list("namespaces").is_empty() && !rule.flag("clusterScope") {
            let message = "resource rules that are not cluster scoped must supply at least one namespace";
            report.required(&path.child("namespaces"), message);
        }
        check_star(rule, "namespaces", "namespaces", &path, report);
        check_namespaces(&rule.texts("namespaces"), &path.child("namespaces"), report);
    }
    for (at, rule) in others.iter().enumerate() {
        let path = path.child("nonResourceRules").index(at);
        check_verbs(rule, &path, report);
        if rule.list("nonResourceURLs").is_empty() {
            report
                .required(&path.child("nonResourceURLs"), "nonResourceURLs must contain at least one value");
        }
        check_star(rule, "nonResourceURLs", "non-resource URLs", &path, report);
        check_urls(&rule.texts("nonResourceURLs"), &path.child("nonResourceURLs"), report);
    }
}

fn check_namespaces(namespaces: &[&str], path: &Path, report: &mut Report) {
    if namespaces.contains(&"*") {
        return;
    }
    for (at, namespace) in namespaces.iter().enumerate() {
        for message in name::is_dns1123_label(namespace).err().unwrap_or_default() {
            let message = format!("each member of this list must be '*' or a DNS-1123 label; {message}");
            report.invalid(&path.index(at), *namespace, message);
        }
    }
}

fn check_urls(urls: &[&str], path: &Path, report: &mut Report) {
    if urls.contains(&"*") {
        return;
    }
    for (at, url) in urls.iter().enumerate() {
        let stars = url.matches('*').count();
        let message = match *url {
            "" => "must not be empty",
            "/" => continue,
            _ if !url.starts_with('/') => "must start with slash",
            _ if url.contains(' ') => "must not contain white-space",
            _ if url.contains("//") => "must not contain double slash",
            _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => "wildcard can only do suffix matching",
            _ => continue,
        };
        report.invalid(&path.index(at), *url, message);
    }
}

/// What rules can name, by the alphabet.
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

fn check_verbs(rule: &Value, path: &Path, report: &mut Report) {
    if rule.list("verbs").is_empty() {
        report.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    check_star(rule, "verbs", "verbs", path, report);
    let verbs = rule.texts("verbs");
    if !verbs.contains(&"*") && verbs.iter().any(|verb| !VERBS.contains(verb)) {
        report.not_supported(&path.child("verbs"), verbs, &VERBS);
    }
}

/// Conditions of either kind's status: each has a type of its own.
pub(crate) fn check_status(object: &Value, report: &mut Report) {
    let path = Path::root("status").child("conditions");
    let conditions = object.list("status.conditions");
    for (at, condition) in conditions.iter().enumerate() {
        let (path, kind) = (path.index(at).child("type"), condition.text("type"));
        if conditions[..at].iter().any(|other| other.text("type") == kind) {
            report.duplicate(&path, kind);
        }
        if kind.is_empty() {
            report.required(&path, "must not be empty");
        }
    }
}

fn check_star(rule: &Value, field: &str, others: &str, path: &Path, report: &mut Report) {
    let texts = rule.texts(field);
    if texts.len() > 1 && texts.contains(&"*") {
        report.invalid(
            &path.child(field),
            texts,
            format!("if '*' is present, must not specify other {others}"),
        );
    }
}

fn check_subject(subject: &Value, path: &Path, report: &mut Report) {
    let kinds = [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];
    let kind = subject.text("kind");
    let Some((_, own)) = kinds.iter().find(|(name, _)| *name == kind) else {
        report.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    match subject.at(own) {
        None => report.required(&path.child(own), format!("{own} is required when subject kind is '{kind}'")),
        Some(inner) => {
            report.need(inner, "name", &path.child(own));
            if kind == "ServiceAccount" && inner.text("namespace").is_empty() {
                let message = "must specify namespace for service account";
                report.required(&path.child(own).child("namespace"), message);
            }
        }
    }
    for (name, field) in kinds.iter().filter(|(name, field)| *name != kind && subject.has(field)) {
        report
            .forbidden(&path.child(field), format!("{field} is forbidden when subject kind is not '{name}'"));
    }
}

pub(crate) fn check_level(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    let kind = spec.text("type");
    match kind {
        "Exempt" => {
            if spec.has("limited") {
                let message = "must be nil if the type is not Limited";
                report.forbidden(&path.child("limited"), message);
            }
            check_lendable(spec, "exempt", &path, report);
        }
        "Limited" => {
            if spec.has("exempt") {
                report.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            match spec.at("limited") {
                None => report.required(&path.child("limited"), "must not be empty when type is Limited"),
                Some(limited) => check_limited(limited, spec, &path, report),
            }
        }
        other => report.not_supported(&path.child("type"), other, &["Exempt", "Limited"]),
    }
}

fn check_lendable(spec: &Value, field: &str, path: &Path, report: &mut Report) {
    let Some(holder) = spec.at(field) else { return };
    let percent = holder.count("lendablePercent");
    if !(0..=100).contains(&percent) {
        let at = path.child(field).child("lendablePercent");
        report.invalid(&at, percent, "must be between 0 and 100, inclusive");
    }
}

fn check_limited(limited: &Value, spec: &Value, path: &Path, report: &mut Report) {
    let at = path.child("limited");
    report.not_negative(limited, "nominalConcurrencyShares", &at);
    check_lendable(spec, "limited", path, report);
    report.not_negative(limited, "borrowingLimitPercent", &at);
    let (response, at) = (limited.text("limitResponse.type"), at.child("limitResponse"));
    match (response, limited.at("limitResponse").and_then(|response| response.at("queuing"))) {
        ("Reject", Some(_)) => {
            report.forbidden(&at.child("queuing"), "must be nil if limited.limitResponse.type is not Limited")
        }
        ("Queue", None) => report
            .required(&at.child("queuing"), "must not be empty if limited.limitResponse.type is Limited"),
        ("Queue", Some(queuing)) => check_queuing(queuing, &at.child("queuing"), report),
        ("Reject", None) => {}
        (other, _) => report.not_supported(&at.child("type"), other, &["Queue", "Reject"]),
    }
}

fn check_queuing(queuing: &Value, path: &Path, report: &mut Report) {
    let (queues, hand) = (queuing.count("queues"), queuing.count("handSize"));
    for (field, number) in [("queueLengthLimit", queuing.count("queueLengthLimit")), ("queues", queues)] {
        if number <= 0 {
            report.invalid(&path.child(field), number, "must be positive");
        }
    }
    if queues > 10_000_000 {
        report.invalid(&path.child("queues"), queues, "must not be greater than 10000000");
    }
    if hand <= 0 {
        report.invalid(&path.child("handSize"), hand, "must be positive");
    } else if hand > queues {
        let message = format!("should not be greater than queues ({queues})");
        report.invalid(&path.child("handSize"), hand, message);
    }
}
