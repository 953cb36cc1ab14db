//! Between versions that share a storage.

use serde_json::Value;

use crate::access::{Access, Fill};
use crate::autoscaling;
use crate::kind::Kind;

/// `object`, a `from`, as a `to`. Most versions differ in their `apiVersion` only.
pub fn convert(from: &Kind, to: &Kind, mut object: Value) -> Value {
    match ((from.group, from.version), (to.group, to.version), to.kind) {
        (before, after, _) if before == after => object,
        (("autoscaling", "v2"), ("autoscaling", "v1"), "HorizontalPodAutoscaler") => {
            autoscaling::convert::to_v1(object)
        }
        (("autoscaling", "v1"), ("autoscaling", "v2"), "HorizontalPodAutoscaler") => {
            autoscaling::convert::to_v2(object)
        }
        (("", "v1"), ("events.k8s.io", "v1"), "Event") => event_to_new(object),
        (("events.k8s.io", "v1"), ("", "v1"), "Event") => event_to_core(object),
        _ => {
            object.put("apiVersion", to.api_version());
            object
        }
    }
}

/// Fields of events: their name in `v1` and in `events.k8s.io/v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn event_to_new(mut event: Value) -> Value {
    event.put("apiVersion", "events.k8s.io/v1");
    for (core, new) in EVENT_FIELDS {
        rename(&mut event, core, new);
    }
    event
}

fn event_to_core(mut event: Value) -> Value {
    event.put("apiVersion", "v1");
    for (core, new) in EVENT_FIELDS {
        rename(&mut event, new, core);
    }
    event.fill("involvedObject", Value::Object(serde_json::Map::new()));
    event
}

fn rename(object: &mut Value, from: &str, to: &str) {
    if let Some(value) = object.at(from).cloned() {
        object.put(to, value);
    }
    object.drop_key(from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_change_their_field_names() {
        let core = crate::find("", "v1", "events").expect("row");
        let new = crate::find("events.k8s.io", "v1", "events").expect("row");
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "reason": "Started", "message": "it runs", "count": 2,
            "involvedObject": {"kind": "Pod", "name": "web"}, "reportingComponent": "kubelet", "source": {"host": "n"},
        });
        let renamed = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "reason": "Started", "note": "it runs",
            "deprecatedCount": 2, "regarding": {"kind": "Pod", "name": "web"}, "reportingController": "kubelet",
            "deprecatedSource": {"host": "n"},
        });
        assert_eq!(convert(core, new, event.clone()), renamed);
        assert_eq!(convert(new, core, renamed), event);
    }
}
