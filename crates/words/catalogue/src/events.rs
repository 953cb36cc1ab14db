//! The group `events.k8s.io`: the core group's events under newer field names.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use crate::access::{self, Access};
use crate::core::{EVENT_COLUMNS, check_event};
use crate::kind::{Kind, Storage};
use crate::report::{IMMUTABLE, Report};
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
    fn validate(&self, event: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check_event(event, "regarding", "reportingController", "note", &mut report);
        check_series(event, &mut report);
        if !event.has("eventTime") {
            report.required(&Path::root("eventTime"), "");
        }
        let kind = event.text("type");
        if !matches!(kind, "Normal" | "Warning") {
            report.invalid(&Path::root("type"), "", format!("has invalid value: {kind}"));
        }
        for (field, shown) in [
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("deprecatedSource", "source"),
        ] {
            if !access::same(event.at(field), None) && event.int(field) != Some(0) {
                report.invalid(&Path::root(shown), "", "needs to be unset");
            }
        }
        report.into_errors()
    }

    /// Only the series of an event goes on.
    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        check_event(new, "regarding", "reportingController", "note", &mut report);
        if new.at("series") != old.at("series") {
            check_series(new, &mut report);
        }
        for (field, shown) in [
            ("regarding", "involvedObject"),
            ("reason", "reason"),
            ("note", "message"),
            ("deprecatedSource", "source"),
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingController", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            if !access::same(new.at(field), old.at(field)) {
                let value = new.at(field).cloned().unwrap_or(Value::Null);
                report.invalid(&Path::root(shown), value, IMMUTABLE);
            }
        }
        report.into_errors()
    }

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

fn check_series(event: &Value, report: &mut Report) {
    let Some(series) = event.at("series") else { return };
    if series.count("count") < 2 {
        report.invalid(&Path::root("series.count"), "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        report.required(&Path::root("series.lastObservedTime"), "");
    }
}
