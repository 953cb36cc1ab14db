//! Snapshots of templates, kept for roll-backs.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, stored};
use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const CONTROLLER_REVISION: Kind = Kind {
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    definition: "io.k8s.api.apps.v1.ControllerRevision",
    storage: stored("/registry/controllerrevisions"),
    columns: &[
        column::NAME,
        Column::text("Controller", "owner of the revision", |object, _| {
            column::or(controller(object), "<none>")
        }),
        Column::text("Revision", "number of the revision", |object, _| object.count("revision").into()),
        column::AGE,
    ],
    strategy: &ControllerRevision,
    ..BASE
};

struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        if !object.has("data") {
            report.required(&Path::root("data"), "data is mandatory");
        }
        report.not_negative(object, "revision", &Path::default());
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        report.immutable(new, old, "data");
        report.into_errors()
    }
}

/// `deployment.apps/web` for the owner that controls the object.
fn controller(object: &Value) -> String {
    let Some(owner) = object.list("metadata.ownerReferences").iter().find(|owner| owner.flag("controller"))
    else {
        return String::new();
    };
    let kind = owner.text("kind").to_lowercase();
    match owner.text("apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.text("name")),
        None => format!("{kind}/{}", owner.text("name")),
    }
}
