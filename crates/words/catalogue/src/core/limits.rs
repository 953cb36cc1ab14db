//! Limits of namespaces: LimitRange and ResourceQuota.

use serde_json::{Map, Value};

use super::stored;
use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::quantities;
use crate::strategy::Strategy;

pub(super) const LIMIT_RANGE: Kind = Kind {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    definition: "io.k8s.api.core.v1.LimitRange",
    storage: stored("/registry/limitranges"),
    create_on_update: true,
    strategy: &LimitRange,
    ..Kind::BASE
};

pub(super) const RESOURCE_QUOTA: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    short_names: &["quota"],
    subresources: &[Subresource::status("ResourceQuota")],
    definition: "io.k8s.api.core.v1.ResourceQuota",
    storage: stored("/registry/resourcequotas"),
    columns: &[
        column::NAME,
        Column::text("Request", "used and allowed, but for limits", |quota, _| usage(quota, false).into()),
        Column::text("Limit", "used and allowed limits", |quota, _| usage(quota, true).into()),
        column::AGE,
    ],
    strategy: &ResourceQuota,
    ..Kind::BASE
};

struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, object: &mut Value) {
        for item in object.elements("spec.limits") {
            if item.text("type") == "Container" {
                container_defaults(item);
            }
        }
    }
}

struct ResourceQuota;

impl Strategy for ResourceQuota {}

/// A maximum is the default limit, the default limit the default request, else the minimum.
fn container_defaults(item: &mut Value) {
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let from: Map<String, Value> = item.map(source).clone();
        if from.is_empty() {
            continue;
        }
        if let Some(object) = item.object(target) {
            for (name, amount) in from {
                object.fill(&name, amount);
            }
        }
    }
}

fn usage(quota: &Value, limits: bool) -> String {
    let hard = quota.map("status.hard");
    let used = quota.map("status.used");
    let mut names: Vec<&String> = hard.keys().filter(|name| name.starts_with("limits.") == limits).collect();
    names.sort_unstable();
    let shown = |name: &str| {
        format!("{name}: {}/{}", quantities::shown(used.get(name)), quantities::shown(hard.get(name)))
    };
    names.into_iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ")
}
