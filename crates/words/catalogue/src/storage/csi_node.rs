//! The CSI drivers of a node.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::{BASE, stored};
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::pod_spec::volumes::check_csi_driver;
use crate::report::{IMMUTABLE, Report, names_of};
use crate::strategy::Strategy;

pub(super) const CSI_NODE: Kind = Kind {
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
