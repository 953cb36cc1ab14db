//! Namespaces.

use serde_json::{Value, json};

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::names;
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
            _ => return,
        };
        match old.at(field) {
            Some(value) => new.put(field, value.clone()),
            None => new.drop_key(field),
        }
    }

    fn fields(&self, namespace: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("status.phase", namespace.text("status.phase").to_owned()),
            ("name", namespace.text("metadata.name").to_owned()),
        ]
    }
}
