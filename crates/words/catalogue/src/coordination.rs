//! The group `coordination.k8s.io`.

use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    definition: "io.k8s.api.coordination.v1.Lease",
    storage: Storage::Stored { prefix: "/registry/leases", group: "coordination.k8s.io", version: "v1" },
    columns: &[
        column::NAME,
        Column::text("Holder", "who holds the lease", |object, _| object.text("spec.holderIdentity").into()),
        column::AGE,
    ],
    create_on_update: true,
    unconditional_update: false,
    ..Kind::BASE
}];
