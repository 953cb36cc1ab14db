//! The group `node.k8s.io`.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};
use crate::object_meta;
use crate::pod_spec::{placement, resources};
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
        check_tolerations(object.list("scheduling.tolerations"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        report.immutable(new, old, "handler");
        report.into_errors()
    }
}

/// Their path names the list twice when one of them is wrong, as upstream's does.
fn check_tolerations(tolerations: &[Value], report: &mut Report) {
    let path = Path::root("scheduling").child("tolerations");
    placement::check_tolerations(tolerations, &path.child("tolerations"), report);
    let key = |toleration: &Value| {
        ["key", "operator", "value", "effect"].map(|field| toleration.text(field).to_owned())
    };
    for (at, toleration) in tolerations.iter().enumerate() {
        if tolerations[..at].iter().any(|other| key(other) == key(toleration)) {
            report.duplicate(&path.index(at), toleration.clone());
        }
    }
}
