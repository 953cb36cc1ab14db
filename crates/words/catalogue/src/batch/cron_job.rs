//! CronJobs.

use serde_json::{Map, Value};

use super::{BASE, stored};
use crate::access::{Access, Fill};
use crate::age;
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::pod_spec::default;
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
}
