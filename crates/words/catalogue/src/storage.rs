//! The groups `storage.k8s.io` and `storagemigration.k8s.io`.

use serde_json::{Value, json};

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::quantities;
use crate::strategy::Strategy;

/// The rows of `storage.k8s.io` in the order of discovery.
pub(crate) const KINDS: &[Kind] =
    &[CSI_DRIVER, CSI_NODE, CSI_STORAGE_CAPACITY, STORAGE_CLASS, VOLUME_ATTACHMENT, VOLUME_ATTRIBUTES_CLASS];

/// The rows of `storagemigration.k8s.io`.
pub(crate) const MIGRATION: &[Kind] = &[STORAGE_VERSION_MIGRATION];

const BASE: Kind =
    Kind { group: "storage.k8s.io", namespaced: false, unconditional_update: false, ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "storage.k8s.io", version: "v1" }
}

const CSI_DRIVER: Kind = Kind {
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    definition: "io.k8s.api.storage.v1.CSIDriver",
    storage: stored("/registry/csidrivers"),
    columns: &[
        column::NAME,
        Column::boolean("AttachRequired", "volumes are attached to nodes first", |object, _| {
            object.at("spec.attachRequired").and_then(Value::as_bool).unwrap_or(true).into()
        }),
        Column::boolean("PodInfoOnMount", "the driver is told about the pod", |object, _| {
            object.flag("spec.podInfoOnMount").into()
        }),
        Column::boolean("StorageCapacity", "scheduling looks at capacities", |object, _| {
            object.flag("spec.storageCapacity").into()
        }),
        Column::text("TokenRequests", "audiences of tokens that the driver gets", |object, _| {
            match object.at("spec.tokenRequests") {
                Some(_) => column::joined(object.list("spec.tokenRequests"), "audience").into(),
                None => "<unset>".into(),
            }
        }),
        Column::boolean("RequiresRepublish", "volumes are published again and again", |object, _| {
            object.flag("spec.requiresRepublish").into()
        }),
        Column::text("Modes", "lives that volumes may have", |object, _| {
            column::or(object.texts("spec.volumeLifecycleModes").join(","), "<none>")
        }),
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &CsiDriver,
    ..BASE
};

const CSI_NODE: Kind = Kind {
    kind: "CSINode",
    plural: "csinodes",
    singular: "csinode",
    definition: "io.k8s.api.storage.v1.CSINode",
    storage: stored("/registry/csinodes"),
    columns: &[
        column::NAME,
        Column::integer("Drivers", "number of drivers on the node", |object, _| {
            object.list("spec.drivers").len().into()
        }),
        column::AGE,
    ],
    ..BASE
};

const CSI_STORAGE_CAPACITY: Kind = Kind {
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    namespaced: true,
    definition: "io.k8s.api.storage.v1.CSIStorageCapacity",
    storage: stored("/registry/csistoragecapacities"),
    columns: &[
        column::NAME,
        Column::text("StorageClassName", "class that the capacity is for", |object, _| {
            object.text("storageClassName").into()
        }),
        Column::text("Capacity", "what is left", |object, _| match object.at("capacity") {
            Some(capacity) => quantities::shown(Some(capacity)).into(),
            None => "<unset>".into(),
        }),
    ],
    ..BASE
};

const STORAGE_CLASS: Kind = Kind {
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

const VOLUME_ATTACHMENT: Kind = Kind {
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    subresources: &[Subresource::status("VolumeAttachment")],
    definition: "io.k8s.api.storage.v1.VolumeAttachment",
    storage: stored("/registry/volumeattachments"),
    columns: &[
        column::NAME,
        Column {
            format: "name",
            ..Column::text("Attacher", "who attaches", |object, _| object.text("spec.attacher").into())
        },
        Column::text("PV", "volume", |object, _| object.text("spec.source.persistentVolumeName").into()),
        Column::text("Node", "node", |object, _| object.text("spec.nodeName").into()),
        Column::boolean("Attached", "whether the volume is attached", |object, _| {
            object.flag("status.attached").into()
        }),
        column::AGE,
    ],
    strategy: &VolumeAttachment,
    ..BASE
};

const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
    kind: "VolumeAttributesClass",
    plural: "volumeattributesclasses",
    singular: "volumeattributesclass",
    short_names: &["vac"],
    definition: "io.k8s.api.storage.v1.VolumeAttributesClass",
    storage: stored("/registry/volumeattributesclasses"),
    columns: &[
        column::NAME,
        Column::text("DriverName", "driver that knows the attributes", |object, _| {
            object.text("driverName").into()
        }),
        column::AGE,
    ],
    unconditional_update: true,
    ..BASE
};

const STORAGE_VERSION_MIGRATION: Kind = Kind {
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

struct CsiDriver;

impl Strategy for CsiDriver {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("attachRequired", true);
        spec.fill("podInfoOnMount", false);
        spec.fill("storageCapacity", false);
        spec.fill("fsGroupPolicy", "ReadWriteOnceWithFSType");
        spec.fill("requiresRepublish", false);
        spec.fill("seLinuxMount", false);
        if spec.list("volumeLifecycleModes").is_empty() {
            spec.put("volumeLifecycleModes", json!(["Persistent"]));
        }
    }
}

struct StorageClass;

impl Strategy for StorageClass {
    fn default(&self, object: &mut Value) {
        object.fill("reclaimPolicy", "Delete");
        object.fill("volumeBindingMode", "Immediate");
    }
}

struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"attached": false}));
    }
}

/// Whether annotations make the class the one for claims that name none.
fn is_default(object: &Value) -> bool {
    let annotations = object.map("metadata.annotations");
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|key| annotations.get(*key).is_some_and(|value| value == "true"))
}
