//! The groups `storage.k8s.io` and `storagemigration.k8s.io`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::label_selector;
use crate::pod_spec::volumes::check_csi_driver;
use crate::quantities;
use crate::report::{IMMUTABLE, NOT_NEGATIVE, Report, names_of};
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
    strategy: &CsiNode,
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
    strategy: &CsiStorageCapacity,
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
    strategy: &VolumeAttributesClass,
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

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        for field in ["attachRequired", "podInfoOnMount", "storageCapacity", "requiresRepublish"] {
            if !spec.has(field) {
                report.required(&path.child(field), "");
            }
        }
        let policies = ["File", "None", "ReadWriteOnceWithFSType"];
        report.choice_if_set(spec, "fsGroupPolicy", &path, &policies);
        for mode in spec.texts("volumeLifecycleModes") {
            if !["Persistent", "Ephemeral"].contains(&mode) {
                report.not_supported(&path.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
            }
        }
        check_token_requests(spec.list("tokenRequests"), &path.child("tokenRequests"), &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        for (field, shown) in [
            ("attachRequired", "attachedRequired"),
            ("fsGroupPolicy", "fsGroupPolicy"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            let (after, before) = (new["spec"].at(field), old["spec"].at(field));
            if after != before {
                let value = after.cloned().unwrap_or(Value::Null);
                report.invalid(&Path::root("spec").child(shown), value, IMMUTABLE);
            }
        }
        report.into_errors()
    }
}

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

struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({"attached": false}));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
        if report.need(spec, "attacher", &path) {
            check_csi_driver(spec.text("attacher"), &path.child("attacher"), &mut report);
        }
        let source = path.child("source");
        match (
            spec.has("source.inlineVolumeSpec"),
            spec.at("source.persistentVolumeName").and_then(Value::as_str),
        ) {
            (false, None) => {
                report.required(
                    &source,
                    "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                );
            }
            (true, Some(_)) => {
                report.forbidden(
                    &source,
                    "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
                );
            }
            (false, Some("")) => {
                report.required(
                    &source.child("persistentVolumeName"),
                    "must specify non empty persistentVolumeName",
                );
            }
            (false, Some(volume)) => {
                let at = Path::root("spec.source.persistentVolumeName");
                report.rule(&at, volume, name::is_dns1123_subdomain(volume));
            }
            (true, None) => {}
        }
        let node = spec.text("nodeName");
        report.rule(&path.child("nodeName"), node, name::is_dns1123_subdomain(node));
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource.is_none() {
            report.extend(self.validate(new));
            if !access::same(new.at("spec"), old.at("spec")) {
                report.invalid(&Path::root("spec"), new["spec"].clone(), IMMUTABLE);
            }
        }
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

fn check_parameters(object: &Value, report: &mut Report) {
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

fn check_token_requests(requests: &[Value], path: &Path, report: &mut Report) {
    for (at, request) in requests.iter().enumerate() {
        let (path, audience) = (path.index(at), request.text("audience"));
        if requests[..at].iter().any(|other| other.text("audience") == audience) {
            report.duplicate(&path.child("audience"), audience);
        }
        match request.int("expirationSeconds") {
            Some(seconds) if seconds < 600 => {
                report.invalid(
                    &path.child("expirationSeconds"),
                    seconds,
                    "may not specify a duration less than 10 minutes",
                );
            }
            Some(seconds) if seconds > 1 << 32 => report.invalid(
                &path.child("expirationSeconds"),
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            ),
            _ => {}
        }
    }
}

struct CsiNode;

impl Strategy for CsiNode {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let drivers = object.list("spec.drivers");
        for (at, driver) in drivers.iter().enumerate() {
            let path = Path::root("spec").child("drivers").index(at);
            let name = driver.text("name");
            report.need(driver, "name", &path);
            check_csi_driver(name, &path.child("name"), &mut report);
            if names_of(&drivers[..at]).any(|other| other == name) {
                report.duplicate(&path.child("name"), name);
            }
            if report.need(driver, "nodeID", &path) && driver.text("nodeID").len() > 256 {
                report.invalid(
                    &path.child("nodeID"),
                    driver.text("nodeID"),
                    "must be 256 characters or less",
                );
            }
            if let Some(allocatable) = driver.at("allocatable") {
                report.not_negative(allocatable, "count", &path.child("allocatable"));
            }
            let keys = driver.texts("topologyKeys");
            for (at, key) in keys.iter().enumerate() {
                if key.is_empty() {
                    report.required(&path, "");
                }
                if keys[..at].contains(key) {
                    report.duplicate(&path, *key);
                }
                report.rule(&path, key, name::is_qualified_name(key));
            }
        }
        report.into_errors()
    }

    /// A driver may come and go, and its capacity may change; the rest of it stays.
    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        let fixed = |driver: &Value| {
            let mut driver = driver.clone();
            driver.drop_key("allocatable");
            driver
        };
        for driver in new.list("spec.drivers") {
            let before =
                old.list("spec.drivers").iter().find(|other| other.text("name") == driver.text("name"));
            if let Some(before) = before
                && !access::same(Some(&fixed(driver)), Some(&fixed(before)))
            {
                report.invalid(&Path::root("CSINodeDriver"), driver.clone(), IMMUTABLE);
            }
        }
        report.into_errors()
    }
}

struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        if let Some(selector) = object.at("nodeTopology") {
            label_selector::check(selector, &Path::root("nodeTopology"), &mut report);
        }
        let class = object.text("storageClassName");
        report.rule(&Path::root("storageClassName"), class, name::is_dns1123_subdomain(class));
        for field in ["capacity", "maximumVolumeSize"] {
            if let Some(quantity) = quantities::parse(object.at(field))
                && quantity.sign() < 0
            {
                report.invalid(&Path::root(field), quantity.to_string(), NOT_NEGATIVE);
            }
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        for field in ["nodeTopology", "storageClassName"] {
            report.immutable(new, old, field);
        }
        report.into_errors()
    }
}

struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let root = Path::default();
        if report.need(object, "driverName", &root) {
            check_csi_driver(object.text("driverName"), &root.child("driverName"), &mut report);
        }
        if object.map("parameters").is_empty() {
            report.required(&root.child("parameters"), "must contain at least one key/value pair");
        }
        check_parameters(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        for field in ["driverName", "parameters"] {
            if !access::same(new.at(field), old.at(field)) {
                report.forbidden(&Path::root(field), format!("updates to {field} are forbidden."));
            }
        }
        report.into_errors()
    }
}
