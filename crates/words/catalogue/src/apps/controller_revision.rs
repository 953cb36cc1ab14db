//! Snapshots of templates, kept for roll-backs.

use serde_json::Value;

use super::{BASE, stored};
use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::Kind;

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
    ..BASE
};

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
