//! The group `discovery.k8s.io`: slices of the addresses behind a Service.

use serde_json::Value;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage};
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "discovery.k8s.io",
    kind: "EndpointSlice",
    plural: "endpointslices",
    singular: "endpointslice",
    definition: "io.k8s.api.discovery.v1.EndpointSlice",
    storage: Storage::Stored { prefix: "/registry/endpointslices", group: "discovery.k8s.io", version: "v1" },
    columns: &[
        column::NAME,
        Column::text("AddressType", "family of the addresses", |slice, _| slice.text("addressType").into()),
        Column::text("Ports", "ports of each endpoint", |slice, _| {
            let shown: Vec<String> = slice.list("ports").iter().map(port).collect();
            column::at_most(&shown, 3, ",", "<unset>").into()
        }),
        Column::text("Endpoints", "addresses", |slice, _| {
            let endpoints = slice.list("endpoints").iter();
            let shown: Vec<String> =
                endpoints.flat_map(|endpoint| endpoint.texts("addresses")).map(str::to_owned).collect();
            column::at_most(&shown, 3, ",", "<unset>").into()
        }),
        column::AGE,
    ],
    generation: Generation::Content,
    strategy: &EndpointSlice,
    ..Kind::BASE
}];

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, slice: &mut Value) {
        for port in slice.elements("ports") {
            port.fill("name", "");
            port.fill("protocol", "TCP");
        }
    }

    /// Labels choose the service, so they count.
    fn counts_generation(&self, new: &Value, old: &Value) -> bool {
        new.map("metadata.labels") != old.map("metadata.labels")
    }
}

fn port(port: &Value) -> String {
    match (port.int("port"), port.text("name")) {
        (Some(number), _) => number.to_string(),
        (None, name) if port.has("name") => name.to_owned(),
        (None, _) => "*".to_owned(),
    }
}
