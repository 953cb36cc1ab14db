//! The group `flowcontrol.apiserver.k8s.io`: whose requests wait for whom.

use serde_json::Value;

use plimsoll_meta::field::FieldError;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::flow_rules;
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::report::Report;
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[FLOW_SCHEMA, PRIORITY_LEVEL];

const BASE: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    namespaced: false,
    generation: Generation::Spec,
    ..Kind::BASE
};

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "flowcontrol.apiserver.k8s.io", version: "v1" }
}

const FLOW_SCHEMA: Kind = Kind {
    kind: "FlowSchema",
    plural: "flowschemas",
    singular: "flowschema",
    subresources: &[Subresource::status("FlowSchema")],
    definition: "io.k8s.api.flowcontrol.v1.FlowSchema",
    storage: stored("/registry/flowschemas"),
    columns: &[
        column::NAME,
        Column::text("PriorityLevel", "level that takes the requests", |object, _| {
            object.text("spec.priorityLevelConfiguration.name").into()
        }),
        Column::text("MatchingPrecedence", "lower matches first", |object, _| {
            object.count("spec.matchingPrecedence").into()
        }),
        Column::text("DistinguisherMethod", "what makes a flow", |object, _| {
            column::or(object.text("spec.distinguisherMethod.type"), "<none>")
        }),
        column::AGE,
        Column::text("MissingPL", "whether the level does not exist", |object, _| {
            let conditions = object.list("status.conditions");
            let found = conditions.iter().find(|condition| condition.text("type") == "Dangling");
            found.map_or("?", |condition| condition.text("status")).into()
        }),
    ],
    strategy: &FlowSchema,
    ..BASE
};

const PRIORITY_LEVEL: Kind = Kind {
    kind: "PriorityLevelConfiguration",
    plural: "prioritylevelconfigurations",
    singular: "prioritylevelconfiguration",
    subresources: &[Subresource::status("PriorityLevelConfiguration")],
    definition: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
    storage: stored("/registry/prioritylevelconfigurations"),
    columns: &[
        column::NAME,
        Column::text("Type", "whether requests are limited", |object, _| object.text("spec.type").into()),
        Column::text("NominalConcurrencyShares", "share of the server's seats", |object, _| {
            number(object, "spec.limited.nominalConcurrencyShares")
        }),
        Column::text("Queues", "number of queues", |object, _| {
            number(object, "spec.limited.limitResponse.queuing.queues")
        }),
        Column::text("HandSize", "queues that a flow is dealt", |object, _| {
            number(object, "spec.limited.limitResponse.queuing.handSize")
        }),
        Column::text("QueueLengthLimit", "requests that may wait in a queue", |object, _| {
            number(object, "spec.limited.limitResponse.queuing.queueLengthLimit")
        }),
        column::AGE,
    ],
    strategy: &PriorityLevel,
    ..BASE
};

struct FlowSchema;

impl Strategy for FlowSchema {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.object("spec") {
            spec.fill_zero("matchingPrecedence", 1000);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        flow_rules::check_schema(object, &mut report);
        flow_rules::check_status(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        match subresource {
            None => report.extend(self.validate(new)),
            Some(_) => flow_rules::check_status(new, &mut report),
        }
        report.into_errors()
    }
}

struct PriorityLevel;

impl Strategy for PriorityLevel {
    fn default(&self, object: &mut Value) {
        if let Some(exempt) = object.inside("spec.exempt") {
            exempt.fill("nominalConcurrencyShares", 0);
            exempt.fill("lendablePercent", 0);
        }
        if let Some(limited) = object.inside("spec.limited") {
            limited.fill("nominalConcurrencyShares", 30);
            limited.fill("lendablePercent", 0);
            if let Some(queuing) = limited.inside("limitResponse.queuing") {
                queuing.fill_zero("queues", 64);
                queuing.fill_zero("handSize", 8);
                queuing.fill_zero("queueLengthLimit", 50);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        flow_rules::check_level(object, &mut report);
        flow_rules::check_status(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        match subresource {
            None => report.extend(self.validate(new)),
            Some(_) => flow_rules::check_status(new, &mut report),
        }
        report.into_errors()
    }
}

fn number(object: &Value, path: &str) -> Value {
    object.int(path).map_or_else(|| "<none>".into(), Value::from)
}
