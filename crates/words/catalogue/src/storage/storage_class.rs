//! Classes of storage.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::{BASE, stored};
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const STORAGE_CLASS: Kind = Kind {
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    definition: "io.k8s.api.storage.v1.StorageClass",
    storage: stored("/registry/storageclasses"),
    columns: &[
        Column {
            cell: |object, _| match is_default(object) {
                true => format!("{} (default)", object.text("metadata.name")).into(),
                false => object.text("metadata.name").into(),
            },
            ..column::NAME
        },
        Column::text("Provisioner", "who makes volumes", |object, _| object.text("provisioner").into()),
        Column::text("ReclaimPolicy", "what becomes of released volumes", |object, _| {
            column::or(object.text("reclaimPolicy"), "Delete")
        }),
        Column::text("VolumeBindingMode", "when volumes are made and bound", |object, _| {
            column::or(object.text("volumeBindingMode"), "Immediate")
        }),
        Column::text("AllowVolumeExpansion", "whether claims may grow", |object, _| {
            object.flag("allowVolumeExpansion").into()
        }),
        column::AGE,
    ],
    unconditional_update: true,
    strategy: &StorageClass,
    ..BASE
};

struct StorageClass;

impl Strategy for StorageClass {
    fn default(&self, object: &mut Value) {
        object.fill("reclaimPolicy", "Delete");
        object.fill("volumeBindingMode", "Immediate");
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let root = Path::default();
        if report.need(object, "provisioner", &root) {
            let provisioner = object.text("provisioner");
            report.rule(
                &root.child("provisioner"),
                provisioner,
                name::is_qualified_name(&provisioner.to_lowercase()),
            );
        }
        check_parameters(object, &mut report);
        report.choice_if_set(object, "reclaimPolicy", &root, &["Delete", "Retain"]);
        report.choice_if_set(object, "volumeBindingMode", &root, &["Immediate", "WaitForFirstConsumer"]);
        check_topologies(object.list("allowedTopologies"), &root.child("allowedTopologies"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        for field in ["parameters", "provisioner", "reclaimPolicy"] {
            if !access::same(new.at(field), old.at(field)) {
                report.forbidden(&Path::root(field), format!("updates to {field} are forbidden."));
            }
        }
        report.immutable(new, old, "volumeBindingMode");
        report.into_errors()
    }
}

/// Whether annotations make the class the one for claims that name none.
fn is_default(object: &Value) -> bool {
    let annotations = object.map("metadata.annotations");
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|key| annotations.get(*key).is_some_and(|value| value == "true"))
}

/// All parameters of a class together, in bytes.
const PARAMETERS_LIMIT: usize = 256 << 10;
/// Parameters of a class.
const MOST_PARAMETERS: usize = 512;

/// The parameters of a class, whatever it is a class of.
pub(super) fn check_parameters(object: &Value, report: &mut Report) {
    let (parameters, path) = (object.map("parameters"), Path::root("parameters"));
    if parameters.len() > MOST_PARAMETERS {
        report.push(FieldError::too_long(&path, MOST_PARAMETERS));
    }
    if parameters.contains_key("") {
        report.invalid(&path, "", "field can not be empty.");
    }
    let size: usize =
        parameters.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if size > PARAMETERS_LIMIT {
        report.push(FieldError::too_long(&path, PARAMETERS_LIMIT));
    }
}

fn check_topologies(terms: &[Value], path: &Path, report: &mut Report) {
    for (at, term) in terms.iter().enumerate() {
        let path = path.index(at).child("matchLabelExpressions");
        let expressions = term.list("matchLabelExpressions");
        for (index, expression) in expressions.iter().enumerate() {
            let (path, key) = (path.index(index), expression.text("key"));
            check_topology_expression(expression, &path, report);
            if expressions[..index].iter().any(|other| other.text("key") == key) {
                report.duplicate(&path.child("key"), key);
            }
        }
        let found = topology(term);
        // Upstream compares with as many empty terms as there are terms, besides those before.
        let empty = if found.is_empty() { terms.len() } else { 0 };
        let before = terms[..at].iter().filter(|other| topology(other) == found).count();
        for _ in 0..empty + before {
            report.duplicate(&path, "");
        }
    }
}

fn check_topology_expression(expression: &Value, path: &Path, report: &mut Report) {
    let (key, values) = (expression.text("key"), expression.texts("values"));
    report.need(expression, "values", path);
    for (at, value) in values.iter().enumerate().filter(|(at, value)| values[..*at].contains(value)) {
        report.duplicate(&path.child("values").index(at), *value);
    }
    report.rule(&path.child("key"), key, name::is_qualified_name(key));
}

/// What a term asks for: values, whose order means nothing, for each key.
fn topology(term: &Value) -> BTreeMap<&str, BTreeSet<&str>> {
    let expressions = term.list("matchLabelExpressions").iter();
    expressions.map(|one| (one.text("key"), one.texts("values").into_iter().collect())).collect()
}
