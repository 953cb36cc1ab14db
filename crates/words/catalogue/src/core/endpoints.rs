//! Endpoints: the addresses behind a Service, as one object.

use serde_json::Value;

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::strategy::Strategy;

pub(super) const ENDPOINTS: Kind = Kind {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    definition: "io.k8s.api.core.v1.Endpoints",
    storage: stored("/registry/services/endpoints"),
    columns: &[
        column::NAME,
        Column::text("Endpoints", "ready addresses and their ports", |object, _| addresses(object).into()),
        column::AGE,
    ],
    create_on_update: true,
    strategy: &Endpoints,
    ..Kind::BASE
};

struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        for subset in object.elements("subsets") {
            for port in subset.elements("ports") {
                port.fill_zero("protocol", "TCP");
            }
        }
    }

    fn warnings(&self, _object: &Value) -> Vec<String> {
        vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()]
    }
}

fn addresses(object: &Value) -> String {
    let mut shown = Vec::new();
    for subset in object.list("subsets") {
        let hosts = || subset.list("addresses").iter().map(|address| address.text("ip"));
        match subset.list("ports") {
            [] => shown.extend(hosts().map(str::to_owned)),
            ports => {
                for port in ports {
                    shown.extend(hosts().map(|host| match host.contains(':') {
                        true => format!("[{host}]:{}", port.count("port")),
                        false => format!("{host}:{}", port.count("port")),
                    }));
                }
            }
        }
    }
    let empty = if object.list("subsets").is_empty() { "<none>" } else { "" };
    column::at_most(&shown, 3, ",", empty)
}
