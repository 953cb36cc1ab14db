//! Labels of nodes that have new names.

use plimsoll_meta::field::Path;
use serde_json::Value;

use crate::access::Access;

const OLD: [(&str, &str); 5] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
];

/// What is said of a label, if it is an old one.
pub(super) fn old(label: &str) -> Option<&'static str> {
    OLD.iter().find(|(name, _)| *name == label).map(|(_, message)| *message)
}

/// The keys of an object whose keys are labels.
pub(super) fn keys(object: &Value) -> impl Iterator<Item = &str> {
    object.as_object().into_iter().flat_map(|object| object.keys()).map(String::as_str)
}

/// The expressions of a selector or of one term of it.
pub(super) fn expressions(term: &Value, at: &Path, told: &mut Vec<String>) {
    let root = at.child("matchExpressions");
    for (place, expression) in term.list("matchExpressions").iter().enumerate() {
        let key = expression.text("key");
        if let Some(message) = old(key) {
            told.push(format!("{}: {key} is {message}", root.index(place).child("key")));
        }
    }
}

/// A label selector.
pub(super) fn selector(selector: &Value, at: &Path, told: &mut Vec<String>) {
    expressions(selector, at, told);
    for label in keys(&selector["matchLabels"]) {
        if let Some(message) = old(label) {
            told.push(format!("{}: {message}", at.child("matchLabels").child(label)));
        }
    }
}

/// Where a StorageClass makes volumes.
pub(super) fn topologies(class: &Value, told: &mut Vec<String>) {
    let root = Path::root("allowedTopologies");
    for (place, topology) in class.list("allowedTopologies").iter().enumerate() {
        let at = root.index(place).child("matchLabelExpressions");
        for (number, expression) in topology.list("matchLabelExpressions").iter().enumerate() {
            if let Some(message) = old(expression.text("key")) {
                told.push(format!("{}: {message}", at.index(number).child("key")));
            }
        }
    }
}

/// The nodes of a RuntimeClass.
pub(super) fn runtime_class(class: &Value, told: &mut Vec<String>) {
    for label in keys(&class["scheduling"]["nodeSelector"]) {
        if let Some(message) = old(label) {
            told.push(format!("{}: {message}", Path::root("scheduling").child("nodeSelector")));
        }
    }
}
