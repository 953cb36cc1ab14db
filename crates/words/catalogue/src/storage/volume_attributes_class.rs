//! Classes of what can be changed of a volume.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use super::storage_class::check_parameters;
use super::{BASE, stored};
use crate::access::{self, Access};
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::pod_spec::volumes::check_csi_driver;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const VOLUME_ATTRIBUTES_CLASS: Kind = Kind {
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
