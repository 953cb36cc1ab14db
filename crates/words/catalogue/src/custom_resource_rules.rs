//! What is wrong with the definition of a custom resource, its schemas aside (upstream:
//! `apiextensions-apiserver/pkg/apis/apiextensions/validation`).

use serde_json::Value;

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::report::{Report, names_of};
use crate::webhook;

pub(crate) fn check(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    check_group(spec.text("group"), &path.child("group"), report);
    report.choice(&path.child("scope"), spec.text("scope"), &["Cluster", "Namespaced"]);
    check_versions(spec, &path.child("versions"), report);
    check_names(spec.at("names").unwrap_or(&null), &path.child("names"), report);
    check_conversion(spec.at("conversion").unwrap_or(&null), &path.child("conversion"), report);
    if spec.flag("preserveUnknownFields") {
        let message = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        report.invalid(&path.child("preserveUnknownFields"), true, message);
    }
}

pub(crate) fn check_name(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let spec = object.at("spec").unwrap_or(&null);
    let own = object.text("metadata.name");
    if !own.is_empty() && own != format!("{}.{}", spec.text("names.plural"), spec.text("group")) {
        let at = Path::root("metadata").child("name");
        report.invalid(&at, own, "must be spec.names.plural+\".\"+spec.group");
    }
}

fn check_group(group: &str, path: &Path, report: &mut Report) {
    match name::is_dns1123_subdomain(group) {
        _ if group.is_empty() => report.required(path, ""),
        Err(messages) => report.invalid(path, group, messages.join(",")),
        Ok(()) if !group.contains('.') => {
            report.invalid(path, group, "should be a domain with at least one dot")
        }
        Ok(()) => {}
    }
}

const APPROVAL: &str = "api-approved.kubernetes.io";

/// Groups of the project itself need its approval.
pub(crate) fn check_approval(object: &Value, report: &mut Report) {
    let group = object.text("spec.group");
    let is_protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if !is_protected {
        return;
    }
    let path = Path::root("metadata").child("annotations").key(APPROVAL);
    match object.map("metadata.annotations").get(APPROVAL).and_then(Value::as_str) {
        None => report.required(
            &path,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see \
             https://github.com/kubernetes/enhancements/pull/1111",
        ),
        Some(text) if text.starts_with("unapproved") || text.contains("://") => {}
        Some(text) => report.invalid(
            &path,
            text,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason \
             starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        ),
    }
}

fn check_versions(spec: &Value, path: &Path, report: &mut Report) {
    let versions = spec.list("versions");
    for (at, version) in versions.iter().enumerate() {
        let path = path.index(at);
        let text = version.text("name");
        if let Err(messages) = name::is_dns1035_label(text) {
            report.invalid(&path.child("name"), text, messages.join(","));
            if at == 0 {
                report.invalid(&Path::root("spec").child("version"), text, messages.join(","));
            }
        }
        if !version.has("schema.openAPIV3Schema") {
            report.required(&path.child("schema").child("openAPIV3Schema"), "schemas are required");
        }
        check_deprecation(version, &path.child("deprecationWarning"), report);
    }
    check_shared(versions, report);
    let repeated = (0..versions.len())
        .any(|at| names_of(&versions[..at]).any(|other| other == versions[at].text("name")));
    if repeated {
        report.invalid(path, versions.to_vec(), "must contain unique version names");
    }
    if versions.iter().filter(|version| version.flag("storage")).count() != 1 {
        report.invalid(path, versions.to_vec(), "must have exactly one version marked as storage version");
    }
}

fn check_deprecation(version: &Value, path: &Path, report: &mut Report) {
    let Some(warning) = version.at("deprecationWarning").and_then(Value::as_str) else { return };
    if !version.flag("deprecated") {
        report.invalid(path, warning, "can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        report.invalid(path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        report.invalid(path, warning, "must not be an empty string");
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, char)| char.is_control()) {
        let detail = format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        );
        report.invalid(path, warning, detail);
    }
}

/// Subresources and columns; where all versions have the same, upstream's unversioned form has them once.
fn check_shared(versions: &[Value], report: &mut Report) {
    for (key, check) in [
        ("subresources", check_subresources as fn(&Value, &Path, &mut Report)),
        ("additionalPrinterColumns", check_columns),
    ] {
        let there = |version: &Value| version.has(key) && version.at(key) == versions[0].at(key);
        if !versions.is_empty() && versions.iter().all(there) {
            check(&versions[0][key], &Path::root("spec").child(key), report);
            continue;
        }
        for (at, version) in versions.iter().enumerate() {
            check(&version[key], &Path::root("spec").child("versions").index(at).child(key), report);
        }
    }
}

fn check_subresources(subresources: &Value, path: &Path, report: &mut Report) {
    let Some(scale) = subresources.at("scale") else { return };
    for (field, roots, required) in [
        ("specReplicasPath", &["spec"][..], true),
        ("statusReplicasPath", &["status"], true),
        ("labelSelectorPath", &["spec", "status"], false),
    ] {
        let (at, text) = (path.child(&format!("scale.{field}")), scale.text(field));
        let is_below = |root: &&str| text.starts_with(&format!(".{root}."));
        if text.is_empty() {
            if required {
                report.required(&at, "");
            }
        } else if check_simple_path(text, &at, report) && !roots.iter().any(is_below) {
            let detail = match roots {
                [root] => format!("should be a json path under .{root}"),
                _ => "should be a json path under either .spec or .status".to_owned(),
            };
            report.invalid(&at, text, detail);
        }
    }
}

fn check_simple_path(text: &str, path: &Path, report: &mut Report) -> bool {
    let good = text.starts_with('.');
    if !good {
        report.invalid(path, text, "must be a simple json path starting with .");
    }
    good
}

fn check_columns(columns: &Value, path: &Path, report: &mut Report) {
    const TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
    const FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (at, column) in columns.list("").iter().enumerate() {
        let path = path.index(at);
        if column.text("name").is_empty() {
            report.required(&path.child("name"), "");
        }
        let one_of = |choices: &[&str]| format!("must be one of {}", choices.join(","));
        let (kind, format) = (column.text("type"), column.text("format"));
        if kind.is_empty() {
            report.required(&path.child("type"), one_of(TYPES));
        } else if !TYPES.contains(&kind) {
            report.invalid(&path.child("type"), kind, one_of(TYPES));
        }
        if !format.is_empty() && !FORMATS.contains(&format) {
            report.invalid(&path.child("format"), format, one_of(FORMATS));
        }
        let text = column.text("jsonPath");
        if text.is_empty() {
            report.required(&path.child("JSONPath"), "");
        } else {
            check_simple_path(text, &path.child("JSONPath"), report);
        }
    }
}

fn check_names(names: &Value, path: &Path, report: &mut Report) {
    for field in ["plural", "singular", "kind", "listKind"] {
        report.need(names, field, path);
    }
    check_given_names(names, path, report);
}

/// Names that are there, in `spec` or in `status`.
fn check_given_names(names: &Value, path: &Path, report: &mut Report) {
    let label = |field: &str, text: &str, report: &mut Report| {
        if let (false, Err(messages)) = (text.is_empty(), name::is_dns1035_label(&text.to_lowercase())) {
            let prefix =
                if field.ends_with("ind") { "may have mixed case, but should otherwise match: " } else { "" };
            report.invalid(&path.child(field), text, format!("{prefix}{}", messages.join(",")));
        }
    };
    for field in ["plural", "singular", "kind", "listKind"] {
        let text = names.text(field);
        match field {
            "plural" | "singular" if !text.is_empty() => {
                if let Err(messages) = name::is_dns1035_label(text) {
                    report.invalid(&path.child(field), text, messages.join(","));
                }
            }
            _ => label(field, text, report),
        }
    }
    check_labels(names, "shortNames", path, report);
    let (kind, list) = (names.text("kind"), names.text("listKind"));
    if !kind.is_empty() && kind == list {
        report.invalid(&path.child("listKind"), list, "kind and listKind may not be the same");
    }
    check_labels(names, "categories", path, report);
}

fn check_labels(names: &Value, list: &str, path: &Path, report: &mut Report) {
    for (at, text) in names.texts(list).iter().enumerate() {
        if let Err(messages) = name::is_dns1035_label(text) {
            report.invalid(&path.child(list).index(at), *text, messages.join(","));
        }
    }
}

/// The paths are those of upstream's unversioned form.
fn check_conversion(conversion: &Value, path: &Path, report: &mut Report) {
    let strategy = conversion.text("strategy");
    report.choice(&path.child("strategy"), strategy, &["None", "Webhook"]);
    let (config, versions) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let reviews = conversion.list("webhook.conversionReviewVersions");
    match (strategy, conversion.at("webhook.clientConfig")) {
        ("Webhook", None) => report.required(&config, "required when strategy is set to Webhook"),
        ("Webhook", Some(client)) => webhook::check_client(client, &config, report),
        (_, Some(_)) => report.forbidden(&config, NOT_WEBHOOK),
        (_, None) => {}
    }
    if strategy == "Webhook" && reviews.is_empty() {
        report.required(&versions, "");
    } else if strategy == "Webhook" {
        webhook::check_review_versions(reviews, true, &versions, report);
    } else if !reviews.is_empty() {
        report.forbidden(&versions, NOT_WEBHOOK);
    }
}

const NOT_WEBHOOK: &str = "should not be set when strategy is not set to Webhook";

/// Established definitions keep their names, and stored versions stay listed.
pub(crate) fn check_update(new: &Value, old: &Value, report: &mut Report) {
    let mut fields = vec!["group"];
    if is_established(old) {
        fields.extend(["scope", "names.kind"]);
    }
    fields.push("names.plural");
    for field in fields {
        report.immutable(new, old, &format!("spec.{field}"));
    }
    let state = |object: &Value| object.map("metadata.annotations").get(APPROVAL).cloned();
    check_new_authorities(new, old, report);
    if state(new) != state(old) {
        check_approval(new, report);
    }
    check_stored_versions(new, report);
}

/// Once a definition is established, who converts its objects must be reachable with what is trusted.
fn check_new_authorities(new: &Value, old: &Value, report: &mut Report) {
    let bundle = |object: &Value| object.text("spec.conversion.webhook.clientConfig.caBundle").to_owned();
    let (now, before) = (bundle(new), bundle(old));
    let was_broken = !before.is_empty() && !webhook::has_authorities(&before);
    if new.text("spec.conversion.strategy") == "Webhook"
        && !now.is_empty()
        && is_established(old)
        && !was_broken
    {
        let path = Path::root("spec").child("conversion").child("webhookClientConfig").child("caBundle");
        webhook::check_authorities(&now, &path, report);
    }
}

fn is_established(object: &Value) -> bool {
    object
        .list("status.conditions")
        .iter()
        .any(|condition| condition.text("type") == "Established" && condition.text("status") == "True")
}

/// The part that other writers than users have.
pub(crate) fn check_status(object: &Value, report: &mut Report) {
    let names = object.at("status.acceptedNames").unwrap_or(&Value::Null);
    check_given_names(names, &Path::root("status").child("acceptedNames"), report);
    check_stored_versions(object, report);
}

/// Every version that objects may be stored in must still be there.
pub(crate) fn check_stored_versions(object: &Value, report: &mut Report) {
    let path = Path::root("status").child("storedVersions");
    let stored = object.texts("status.storedVersions");
    if stored.is_empty() {
        report.invalid(&path, Vec::<String>::new(), "must have at least one stored version");
        return;
    }
    let versions = object.list("spec.versions");
    for version in versions.iter().filter(|version| version.flag("storage")) {
        let name = version.text("name");
        if !stored.contains(&name) {
            report.invalid(&path, stored.clone(), format!("must have the storage version {name}"));
        }
    }
    for (at, version) in stored.iter().enumerate() {
        if !names_of(versions).any(|name| name == *version) {
            let why = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {version} and \
                 removes {version} from status.storedVersions"
            );
            report.invalid(&path.index(at), *version, why);
        }
    }
}
