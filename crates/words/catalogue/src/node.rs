//! The group `node.k8s.io`.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};
use crate::object_meta;
use crate::pod_spec::resources;
use crate::report::Report;
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    namespaced: false,
    definition: "io.k8s.api.node.v1.RuntimeClass",
    storage: Storage::Stored { prefix: "/registry/runtimeclasses", group: "node.k8s.io", version: "v1" },
    columns: &[
        column::NAME,
        Column::text("Handler", "configuration of the container engine", |object, _| {
            object.text("handler").into()
        }),
        column::AGE,
    ],
    create_on_update: true,
    unconditional_update: false,
    strategy: &RuntimeClass,
    ..Kind::BASE
}];

struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let handler = object.text("handler");
        report.rule(&Path::root("handler"), handler, name::is_dns1123_label(handler));
        let path = Path::root("overhead").child("limits");
        resources::check_list(object.map("overhead.podFixed"), &path, &mut report);
        let path = Path::root("scheduling").child("nodeSelector");
        object_meta::check_labels(object.map("scheduling.nodeSelector"), &path, report.errors());
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.immutable(new, old, "handler");
        report.into_errors()
    }
}
