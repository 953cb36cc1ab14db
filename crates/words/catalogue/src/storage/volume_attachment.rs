//! Volumes at nodes.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::{BASE, stored};
use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::pod_spec::volumes::check_csi_driver;
use crate::report::{IMMUTABLE, Report};
use crate::strategy::Strategy;

pub(super) const VOLUME_ATTACHMENT: Kind = Kind {
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
