//! The group `events.k8s.io`: the core group's events under newer field names.

use serde_json::Value;

use crate::access::Access;
use crate::core::EVENT_COLUMNS;
use crate::kind::{Kind, Storage};
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    definition: "io.k8s.api.events.v1.Event",
    storage: Storage::Stored { prefix: "/registry/events", group: "", version: "v1" },
    columns: EVENT_COLUMNS,
    create_on_update: true,
    strategy: &Event,
    ..Kind::BASE
}];

struct Event;

impl Strategy for Event {
    fn fields(&self, event: &Value) -> Vec<(&'static str, String)> {
        let text = |path: &str| event.text(path).to_owned();
        vec![
            ("reason", text("reason")),
            ("regarding.kind", text("regarding.kind")),
            ("regarding.namespace", text("regarding.namespace")),
            ("regarding.name", text("regarding.name")),
            ("regarding.uid", text("regarding.uid")),
            ("regarding.apiVersion", text("regarding.apiVersion")),
            ("regarding.resourceVersion", text("regarding.resourceVersion")),
            ("regarding.fieldPath", text("regarding.fieldPath")),
            ("reportingController", text("reportingController")),
            ("type", text("type")),
        ]
    }
}
