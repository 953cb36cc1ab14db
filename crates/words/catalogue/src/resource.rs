//! The group `resource.k8s.io`: devices and claims on them.

use serde_json::Value;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] =
    &[DEVICE_CLASS, DEVICE_TAINT_RULE, RESOURCE_CLAIM, RESOURCE_CLAIM_TEMPLATE, RESOURCE_SLICE];

const BASE: Kind = Kind { group: "resource.k8s.io", ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "resource.k8s.io", version: "v1" }
}

const DEVICE_CLASS: Kind = Kind {
    kind: "DeviceClass",
    plural: "deviceclasses",
    singular: "deviceclass",
    namespaced: false,
    definition: "io.k8s.api.resource.v1.DeviceClass",
    storage: stored("/registry/deviceclasses"),
    columns: &[column::NAME, column::AGE],
    generation: Generation::Spec,
    ..BASE
};

const DEVICE_TAINT_RULE: Kind = Kind {
    kind: "DeviceTaintRule",
    plural: "devicetaintrules",
    singular: "devicetaintrule",
    namespaced: false,
    subresources: &[Subresource::status("DeviceTaintRule")],
    definition: "io.k8s.api.resource.v1.DeviceTaintRule",
    storage: stored("/registry/devicetaintrules"),
    generation: Generation::Spec,
    ..BASE
};

const RESOURCE_CLAIM: Kind = Kind {
    kind: "ResourceClaim",
    plural: "resourceclaims",
    singular: "resourceclaim",
    subresources: &[Subresource::status("ResourceClaim")],
    definition: "io.k8s.api.resource.v1.ResourceClaim",
    storage: stored("/registry/resourceclaims"),
    columns: &[
        column::NAME,
        Column::text("State", "whether the claim is allocated and reserved", |object, _| {
            state(object).into()
        }),
        column::AGE,
    ],
    strategy: &Claim,
    ..BASE
};

const RESOURCE_CLAIM_TEMPLATE: Kind = Kind {
    kind: "ResourceClaimTemplate",
    plural: "resourceclaimtemplates",
    singular: "resourceclaimtemplate",
    definition: "io.k8s.api.resource.v1.ResourceClaimTemplate",
    storage: stored("/registry/resourceclaimtemplates"),
    columns: &[column::NAME, column::AGE],
    strategy: &ClaimTemplate,
    ..BASE
};

const RESOURCE_SLICE: Kind = Kind {
    kind: "ResourceSlice",
    plural: "resourceslices",
    singular: "resourceslice",
    namespaced: false,
    definition: "io.k8s.api.resource.v1.ResourceSlice",
    storage: stored("/registry/resourceslices"),
    columns: &[
        column::NAME,
        Column::text("Node", "node that has the devices", |object, _| {
            column::or(object.text("spec.nodeName"), "<unset>")
        }),
        Column::text("Driver", "driver of the devices", |object, _| object.text("spec.driver").into()),
        Column::text("Pool", "pool that the devices belong to", |object, _| {
            object.text("spec.pool.name").into()
        }),
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &Slice,
    ..BASE
};

struct Claim;

impl Strategy for Claim {
    fn default(&self, object: &mut Value) {
        object.elements("spec.devices.requests").iter_mut().for_each(request);
    }
}

struct ClaimTemplate;

impl Strategy for ClaimTemplate {
    fn default(&self, object: &mut Value) {
        object.elements("spec.spec.devices.requests").iter_mut().for_each(request);
    }
}

struct Slice;

impl Strategy for Slice {
    fn fields(&self, object: &Value) -> Vec<(&'static str, String)> {
        vec![
            ("spec.driver", object.text("spec.driver").to_owned()),
            ("spec.nodeName", object.text("spec.nodeName").to_owned()),
        ]
    }
}

/// A request, or each of its alternatives, is for exactly one device.
fn request(request: &mut Value) {
    if let Some(exactly) = request.inside("exactly") {
        device_count(exactly);
    }
    request.elements("firstAvailable").iter_mut().for_each(device_count);
}

fn device_count(request: &mut Value) {
    request.fill_zero("allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        request.fill_zero("count", 1);
    }
    for toleration in request.elements("tolerations") {
        toleration.fill_zero("operator", "Equal");
    }
}

fn state(object: &Value) -> String {
    let deleted = object.has("metadata.deletionTimestamp");
    let mut words = if deleted { vec!["deleted"] } else { Vec::new() };
    match object.at("status.allocation") {
        None if deleted => {}
        None => words.push("pending"),
        Some(_) => {
            words.push("allocated");
            if !object.list("status.reservedFor").is_empty() {
                words.push("reserved");
            }
        }
    }
    words.join(",")
}
