//! How much storage there is where.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::{BASE, stored};
use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::label_selector;
use crate::quantities;
use crate::report::{NOT_NEGATIVE, Report};
use crate::strategy::Strategy;

pub(super) const CSI_STORAGE_CAPACITY: Kind = Kind {
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
