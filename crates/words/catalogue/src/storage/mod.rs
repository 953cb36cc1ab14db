//! The groups `storage.k8s.io` and `storagemigration.k8s.io`.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod migration;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use crate::kind::{Kind, Storage};

/// The rows of `storage.k8s.io` in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    csi_driver::CSI_DRIVER,
    csi_node::CSI_NODE,
    csi_storage_capacity::CSI_STORAGE_CAPACITY,
    storage_class::STORAGE_CLASS,
    volume_attachment::VOLUME_ATTACHMENT,
    volume_attributes_class::VOLUME_ATTRIBUTES_CLASS,
];

/// The rows of `storagemigration.k8s.io`.
pub(crate) const MIGRATION: &[Kind] = &[migration::STORAGE_VERSION_MIGRATION];

const BASE: Kind =
    Kind { group: "storage.k8s.io", namespaced: false, unconditional_update: false, ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "storage.k8s.io", version: "v1" }
}
