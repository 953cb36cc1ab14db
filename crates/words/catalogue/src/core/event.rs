//! Events. The same objects are served as `v1` and as `events.k8s.io/v1`; they are stored as `v1`.

use jiff::Timestamp;
use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::stored;
use crate::access::{Access, Fill};
use crate::age;
use crate::column::{self, Column};
use crate::kind::Kind;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const EVENT: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    definition: "io.k8s.api.core.v1.Event",
    storage: stored("/registry/events"),
    columns: COLUMNS,
    create_on_update: true,
    strategy: &Event,
    ..Kind::BASE
};

/// Both versions show the same table; the cells find the fields of either.
pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Last Seen", "time since it happened last", |event, now| last_seen(event, now).into()),
    Column::text("Type", "`Normal` or `Warning`", |event, _| event.text("type").into()),
    Column::text("Reason", "what happened, in one word", |event, _| event.text("reason").into()),
    Column::text("Object", "what it happened to", |event, _| target(event).into()),
    Column::text("Subobject", "part of the object", |event, _| object(event).text("fieldPath").into()).wide(),
    Column::text("Source", "who says so", |event, _| source(event).into()).wide(),
    Column::text("Message", "what happened, for people", |event, _| {
        let message = if event.has("note") { event.text("note") } else { event.text("message") };
        message.trim().into()
    }),
    Column::text("First Seen", "time since it happened first", |event, now| first_seen(event, now).into())
        .wide(),
    Column::text("Count", "how often it happened", |event, _| count(event).into()).wide(),
    Column { priority: 1, ..column::NAME },
];

struct Event;

impl Strategy for Event {
    /// Upstream always writes these, and clients may rely on them.
    fn default(&self, event: &mut Value) {
        event.object("source");
        event.fill("reportingComponent", "");
        event.fill("reportingInstance", "");
    }

    fn validate(&self, event: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check(event, "involvedObject", "reportingComponent", "message", &mut report);
        report.into_errors()
    }

    /// The names of both versions, because both are asked for what is stored as this one.
    fn fields(&self, event: &Value) -> Vec<(&'static str, String)> {
        let source = match event.text("source.component") {
            "" => event.text("reportingComponent"),
            component => component,
        };
        let mut fields = Vec::with_capacity(2 * OBJECT_FIELDS.len() + 5);
        for (core, new, field) in OBJECT_FIELDS {
            let value = event.at("involvedObject").map_or("", |object| object.text(field)).to_owned();
            fields.push((core, value.clone()));
            fields.push((new, value));
        }
        fields.push(("reason", event.text("reason").to_owned()));
        fields.push(("reportingComponent", event.text("reportingComponent").to_owned()));
        fields.push(("reportingController", event.text("reportingComponent").to_owned()));
        fields.push(("source", source.to_owned()));
        fields.push(("type", event.text("type").to_owned()));
        fields
    }
}

/// The first of these fields that the event has: those of `v1` and of `events.k8s.io/v1`.
fn either<'a>(event: &'a Value, old: &str, new: &str) -> Option<&'a Value> {
    event.at(old).or_else(|| event.at(new))
}

fn object(event: &Value) -> &Value {
    either(event, "involvedObject", "regarding").unwrap_or(&Value::Null)
}

fn target(event: &Value) -> String {
    let kind = object(event).text("kind").to_lowercase();
    match object(event).text("name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let first = either(event, "firstTimestamp", "deprecatedFirstTimestamp");
    age::since(first.or_else(|| event.at("eventTime")), now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    if event.has("series") {
        return age::since(event.at("series.lastObservedTime"), now);
    }
    match either(event, "lastTimestamp", "deprecatedLastTimestamp") {
        Some(last) => age::since(Some(last), now),
        None => first_seen(event, now),
    }
}

fn count(event: &Value) -> i64 {
    let single = either(event, "count", "deprecatedCount").and_then(Value::as_i64).unwrap_or(0);
    event.int("series.count").unwrap_or(if single == 0 { 1 } else { single })
}

fn source(event: &Value) -> String {
    let old = either(event, "source", "deprecatedSource").unwrap_or(&Value::Null);
    let reporter =
        either(event, "reportingComponent", "reportingController").and_then(Value::as_str).unwrap_or("");
    let component = if old.text("component").is_empty() { reporter } else { old.text("component") };
    let host = if old.text("host").is_empty() { event.text("reportingInstance") } else { old.text("host") };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

/// What an event is about: the name in `v1`, in `events.k8s.io/v1` and within the reference.
const OBJECT_FIELDS: [(&str, &str, &str); 7] = [
    ("involvedObject.kind", "regarding.kind", "kind"),
    ("involvedObject.namespace", "regarding.namespace", "namespace"),
    ("involvedObject.name", "regarding.name", "name"),
    ("involvedObject.uid", "regarding.uid", "uid"),
    ("involvedObject.apiVersion", "regarding.apiVersion", "apiVersion"),
    ("involvedObject.resourceVersion", "regarding.resourceVersion", "resourceVersion"),
    ("involvedObject.fieldPath", "regarding.fieldPath", "fieldPath"),
];

/// What holds for events of both versions.
pub(crate) fn check(event: &Value, object: &str, reporter: &str, message: &str, report: &mut Report) {
    const MISMATCH: &str = "does not match event.namespace";
    let about = event.at(object).map_or("", |found| found.text("namespace"));
    let own = event.text("metadata.namespace");
    let at = Path::root("involvedObject").child("namespace");
    if !event.has("eventTime") {
        let agrees = if about.is_empty() { matches!(own, "" | "default") } else { own == about };
        if !agrees {
            report.invalid(&at, about, MISMATCH);
        }
        return;
    }
    if about.is_empty() && !matches!(own, "default" | "kube-system") {
        report.invalid(&at, about, MISMATCH);
    }
    report.need(event, reporter, &Path::default());
    let text = event.text(reporter);
    report.rule(&Path::root(reporter), text, name::is_qualified_name(text));
    for (field, limit) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        report.need(event, field, &Path::default());
        if event.text(field).len() > limit {
            report.invalid(&Path::root(field), "", format!("can have at most {limit} characters"));
        }
    }
    if event.text(message).len() > 1024 {
        report.invalid(&Path::root(message), "", "can have at most 1024 characters");
    }
}
