//! Objects that are written anew (`storagemigration.k8s.io`).

use super::BASE;
use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage, Subresource};

pub(super) const STORAGE_VERSION_MIGRATION: Kind = Kind {
    group: "storagemigration.k8s.io",
    kind: "StorageVersionMigration",
    plural: "storageversionmigrations",
    singular: "storageversionmigration",
    subresources: &[Subresource::status("StorageVersionMigration")],
    definition: "io.k8s.api.storagemigration.v1.StorageVersionMigration",
    storage: Storage::Stored {
        prefix: "/registry/storageversionmigrations",
        group: "storagemigration.k8s.io",
        version: "v1",
    },
    columns: &[
        column::NAME,
        Column::text("Resource", "what is written anew", |object, _| {
            match object.text("spec.resource.group") {
                "" => object.text("spec.resource.resource").into(),
                group => format!("{}.{group}", object.text("spec.resource.resource")).into(),
            }
        }),
        column::AGE,
    ],
    ..BASE
};
