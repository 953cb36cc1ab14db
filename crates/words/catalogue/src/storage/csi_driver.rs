//! CSI drivers.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, stored};
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind};
use crate::report::{IMMUTABLE, Report};
use crate::strategy::Strategy;

pub(super) const CSI_DRIVER: Kind = Kind {
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
