//! The group `node.k8s.io`.

use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};

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
    ..Kind::BASE
}];
