//! The status of a definition: which names it gets, and whether it is served (upstream: the controllers of
//! `apiextensions-apiserver/pkg/controller`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::check::non_structural;

/// The finalizer under which instances are deleted before their definition goes.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

const APPROVAL: &str = "api-approved.kubernetes.io";

/// Names that are in use in a group, by other definitions and built-in kinds.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Plurals, singulars and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and list kinds.
    pub kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds the names that a definition was granted.
    pub fn claim(&mut self, definition: &Value) {
        let names = &definition["status"]["acceptedNames"];
        let text = |key: &str| names[key].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        let short = names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        self.resources.extend(["plural", "singular"].into_iter().filter_map(text));
        self.resources.extend(short.map(str::to_owned));
        self.kinds.extend(["kind", "listKind"].into_iter().filter_map(text));
    }
}

/// The status that a definition should have, given what the others of its group have.
pub fn settle(definition: &Value, taken: &Taken, now: Timestamp) -> Value {
    let mut status = definition["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    names(definition, &mut status, taken, now);
    match non_structural(definition) {
        None => remove(&mut status, "NonStructuralSchema"),
        Some((reason, message)) => {
            let state = if reason == "StructuralError" { "Unknown" } else { "True" };
            set(&mut status, Condition("NonStructuralSchema", state, reason, &message), now);
        }
    }
    if let Some((state, reason, message)) = approval(definition) {
        set(&mut status, Condition("KubernetesAPIApprovalPolicyConformant", state, reason, &message), now);
    }
    status
}

/// Type, status, reason and message.
#[derive(Clone, Copy)]
struct Condition<'a>(&'a str, &'a str, &'a str, &'a str);

fn names(definition: &Value, status: &mut Value, taken: &Taken, now: Timestamp) {
    let wanted = &definition["spec"]["names"];
    let before = definition["status"]["acceptedNames"].clone();
    if *wanted == before && condition(status, "Established").is_some_and(|found| found["status"] == "True") {
        return;
    }
    let mut granted = if before.is_object() { before.clone() } else { json!({}) };
    let mut conflict: Option<(&str, String)> = None;
    for (key, used, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("shortNames", &taken.resources, "ShortNamesConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        let known = texts(&before[key]);
        let in_use: Vec<String> = texts(&wanted[key])
            .into_iter()
            .filter(|name| !known.contains(name) && used.contains(*name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        match in_use.as_slice() {
            [] => copy(&mut granted, wanted, key),
            [one] => conflict = Some((reason, one.clone())),
            many => conflict = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    copy(&mut granted, wanted, "categories");
    for key in ["plural", "kind"] {
        if granted[key].is_null() {
            granted[key] = "".into();
        }
    }
    status["acceptedNames"] = granted;
    let was = condition(status, "Established").is_some_and(|found| found["status"] == "True");
    match conflict {
        Some((reason, message)) => {
            set(status, Condition("NamesAccepted", "False", reason, &message), now);
            if !was {
                let message = "not all names are accepted";
                set(status, Condition("Established", "False", "NotAccepted", message), now);
            }
        }
        None => {
            set(status, Condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"), now);
            if !was {
                let message = "the initial names have been accepted";
                set(status, Condition("Established", "True", "InitialNamesAccepted", message), now);
            }
        }
    }
}

fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) if !text.is_empty() => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn copy(to: &mut Value, from: &Value, key: &str) {
    let Some(map) = to.as_object_mut() else { return };
    match from.get(key) {
        Some(value) => drop(map.insert(key.to_owned(), value.clone())),
        None => drop(map.remove(key)),
    }
}

/// Groups of the project itself tell whether their API is approved.
fn approval(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let protects = |domain: &str| group == domain || group.ends_with(&format!(".{domain}"));
    if !protects("k8s.io") && !protects("kubernetes.io") {
        return None;
    }
    let text = definition["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default();
    let required = format!("protected groups must have approval annotation {APPROVAL:?}");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    Some(if text.is_empty() {
        ("False", "MissingAnnotation", format!("{required}, {see}"))
    } else if text.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {text:?}"))
    } else if text.split_once("://").is_some_and(|(scheme, host)| !scheme.is_empty() && !host.is_empty()) {
        ("True", "ApprovedAnnotation", format!("approved in {text}"))
    } else {
        let message = format!("{required} with either a URL or a reason starting with \"unapproved\", {see}");
        ("False", "InvalidAnnotation", message)
    })
}

/// The state of a definition's end, as the condition `Terminating` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Asked for.
    Pending,
    /// Instances are being deleted.
    InProgress,
    /// Instances could not be deleted.
    Failed(String),
    /// There are none left.
    Completed,
    /// There never were any.
    NeverEstablished,
}

/// Writes the condition `Terminating` into a status.
pub fn end(status: &mut Value, ending: &Ending, now: Timestamp) {
    let failed;
    let (state, reason, message) = match ending {
        Ending::Pending => (
            "True",
            "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        ),
        Ending::InProgress => {
            ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress")
        }
        Ending::Failed(why) => {
            failed = format!("could not issue all deletes: {why}");
            ("True", "InstanceDeletionFailed", failed.as_str())
        }
        Ending::Completed => ("False", "InstanceDeletionCompleted", "removed all instances"),
        Ending::NeverEstablished => ("False", "NeverEstablished", "resource was never established"),
    };
    set(status, Condition("Terminating", state, reason, message), now);
}

/// Whether a condition of a definition is true.
pub fn holds(definition: &Value, kind: &str) -> bool {
    condition(&definition["status"], kind).is_some_and(|found| found["status"] == "True")
}

fn condition<'s>(status: &'s Value, kind: &str) -> Option<&'s Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn set(status: &mut Value, wanted: Condition<'_>, now: Timestamp) {
    let Condition(kind, state, reason, message) = wanted;
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    let time = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let fresh = json!({"lastTransitionTime": time, "message": message, "reason": reason, "status": state, "type": kind});
    match conditions.iter_mut().find(|condition| condition["type"] == kind) {
        None => conditions.push(fresh),
        Some(there) => {
            let time = there["lastTransitionTime"].clone();
            let stays = there["status"] == state && time.is_string();
            *there = fresh;
            if stays {
                there["lastTransitionTime"] = time;
            }
        }
    }
}

fn remove(status: &mut Value, kind: &str) {
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crd(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({"metadata": {}, "spec": {"group": "g.example.com", "names": {
            "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"), "shortNames": short},
            "versions": [{"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    }

    fn now() -> Timestamp {
        "2024-01-01T00:00:00Z".parse().expect("a time")
    }

    fn reasons(status: &Value) -> Vec<String> {
        let conditions = status["conditions"].as_array().expect("conditions");
        conditions
            .iter()
            .map(|one| format!("{}={} {}", one["type"], one["status"], one["reason"]).replace('"', ""))
            .collect()
    }

    #[test]
    fn free_names_are_granted() {
        let definition = crd("foos", "Foo", &["f"]);
        let status = settle(&definition, &Taken::default(), now());
        assert_eq!(status["acceptedNames"], definition["spec"]["names"]);
        assert_eq!(
            reasons(&status),
            ["NamesAccepted=True NoConflicts", "Established=True InitialNamesAccepted"]
        );
        let again = json!({"metadata": {}, "spec": definition["spec"], "status": status});
        let later = "2025-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(settle(&again, &Taken::default(), later), status);
    }

    #[test]
    fn names_in_use_are_told() {
        let mut taken = Taken::default();
        let other = crd("bars", "Foo", &["f", "g"]);
        taken.claim(&json!({"status": settle(&other, &Taken::default(), now())}));
        let status = settle(&crd("foos", "Foo", &["f", "g"]), &taken, now());
        assert_eq!(
            reasons(&status),
            ["NamesAccepted=False ListKindConflict", "Established=False NotAccepted"]
        );
        assert_eq!(status["conditions"][0]["message"], "\"FooList\" is already in use");
        assert_eq!(status["acceptedNames"], json!({"plural": "foos", "kind": ""}));
        let short = settle(&crd("foos", "Other", &["f", "g"]), &taken, now());
        assert_eq!(short["conditions"][0]["message"], r#"["f" is already in use, "g" is already in use]"#);
    }

    #[test]
    fn a_kind_stays_established_when_new_names_conflict() {
        let mut definition = crd("foos", "Foo", &[]);
        definition["status"] = settle(&definition, &Taken::default(), now());
        definition["spec"]["names"]["shortNames"] = json!(["x"]);
        let taken = Taken { resources: ["x".to_owned()].into(), ..Taken::default() };
        let status = settle(&definition, &taken, now());
        assert_eq!(
            reasons(&status),
            ["NamesAccepted=False ShortNamesConflict", "Established=True InitialNamesAccepted"]
        );
    }

    #[test]
    fn protected_groups_tell_their_approval() {
        for (annotation, expected) in [
            (json!(null), "KubernetesAPIApprovalPolicyConformant=False MissingAnnotation"),
            (json!("unapproved, test"), "KubernetesAPIApprovalPolicyConformant=False UnapprovedAnnotation"),
            (json!("https://example.com/1"), "KubernetesAPIApprovalPolicyConformant=True ApprovedAnnotation"),
            (json!("yes"), "KubernetesAPIApprovalPolicyConformant=False InvalidAnnotation"),
        ] {
            let mut definition = crd("foos", "Foo", &[]);
            definition["spec"]["group"] = json!("x.k8s.io");
            definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": annotation});
            let status = settle(&definition, &Taken::default(), now());
            assert_eq!(reasons(&status)[2], expected);
        }
    }

    #[test]
    fn an_end_is_told_step_by_step() {
        let mut status = json!({});
        for (ending, expected) in [
            (Ending::Pending, "Terminating=True InstanceDeletionPending"),
            (Ending::InProgress, "Terminating=True InstanceDeletionInProgress"),
            (Ending::Failed("x".to_owned()), "Terminating=True InstanceDeletionFailed"),
            (Ending::Completed, "Terminating=False InstanceDeletionCompleted"),
        ] {
            end(&mut status, &ending, now());
            assert_eq!(reasons(&status), [expected]);
        }
    }
}
