//! Namespaces.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::names;
use crate::report::Report;
use crate::strategy::Strategy;
use crate::verbs::{Verb, Verbs};

pub(super) const NAMESPACE: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: Verbs::STANDARD.without(Verb::DeleteCollection),
    subresources: &[
        Subresource {
            name: "finalize",
            verbs: Verbs::of(&[Verb::Update]),
            group: "",
            version: "",
            kind: "Namespace",
        },
        Subresource::status("Namespace"),
    ],
    definition: "io.k8s.api.core.v1.Namespace",
    storage: stored("/registry/namespaces"),
    columns: &[
        column::NAME,
        Column::text("Status", "whether the namespace is in use or on its way out", |object, _| {
            object.text("status.phase").into()
        }),
        column::AGE,
    ],
    name_rule: names::dns_label,
    strategy: &Namespace,
    ..Kind::BASE
};

/// The finalizer that keeps a namespace until all in it is gone.
const FINALIZER: &str = "kubernetes";

struct Namespace;

impl Strategy for Namespace {
    fn default(&self, namespace: &mut Value) {
        let name = namespace.text("metadata.name").to_owned();
        if name.is_empty() {
            return;
        }
        if let Some(labels) = namespace.object("metadata").and_then(|metadata| metadata.object("labels")) {
            labels.put("kubernetes.io/metadata.name", name);
        }
    }

    fn prepare_create(&self, namespace: &mut Value) {
        namespace.put("status", json!({"phase": "Active"}));
        let mut finalizers = namespace.list("spec.finalizers").to_vec();
        if !finalizers.iter().any(|one| one == FINALIZER) {
            finalizers.push(FINALIZER.into());
        }
        if let Some(spec) = namespace.object("spec") {
            spec.put("finalizers", finalizers);
        }
        self.default(namespace);
    }

    /// Finalizers of the specification change through `finalize` only, and nothing else does.
    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        let field = match subresource {
            None => "spec",
            Some("finalize") => "status",
            Some("status") => {
                if let Some(status) = new.object("status") {
                    status.fill_zero("phase", "Active");
                }
                return;
            }
            _ => return,
        };
        match old.at(field) {
            Some(value) => new.put(field, value.clone()),
            None => new.drop_key(field),
        }
    }

    fn validate(&self, namespace: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("spec").child("finalizers");
        for finalizer in namespace.texts("spec.finalizers") {
            report.rule(&path, finalizer, name::is_qualified_name(finalizer));
            if !finalizer.contains('/')
                && !["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer)
            {
                let message = "name is neither a standard finalizer name nor is it fully qualified";
                report.invalid(&path, finalizer, message);
            }
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        let (phase, deleted) = (new.text("status.phase"), new.has("metadata.deletionTimestamp"));
        let path = Path::root("status").child("Phase");
        match (subresource, deleted, phase) {
            (Some("finalize"), ..) => report.extend(self.validate(new)),
            (Some("status"), false, phase) if phase != "Active" => {
                report.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty");
            }
            (Some("status"), true, phase) if phase != "Terminating" => {
                report.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
            }
            _ => {}
        }
        report.into_errors()
    }

    fn fields(&self, namespace: &Value) -> Vec<(&'static str, String)> {
        vec![("status.phase", namespace.text("status.phase").to_owned())]
    }
}
