//! Jobs.

use jiff::Timestamp;
use serde_json::{Map, Value};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use super::{BASE, job_spec, stored};
use crate::access::{Access, Fill};
use crate::age;
use crate::apps::workload;
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Subresource};
use crate::label_selector;
use crate::pod_spec::default;
use crate::report::Report;
use crate::strategy::Strategy;

pub(super) const JOB: Kind = Kind {
    kind: "Job",
    plural: "jobs",
    singular: "job",
    categories: &["all"],
    subresources: &[Subresource::status("Job")],
    definition: "io.k8s.api.batch.v1.Job",
    storage: stored("/registry/jobs"),
    columns: &[
        column::NAME,
        Column::text("Status", "what became of the job", |job, _| state(job).into()),
        Column::text("Completions", "successful pods, of all that are wanted", |job, _| {
            completions(job).into()
        }),
        Column::text("Duration", "how long the job takes or took", |job, now| duration(job, now).into()),
        column::AGE,
        column::CONTAINERS,
        column::IMAGES,
        column::SELECTOR,
    ],
    generation: Generation::Spec,
    strategy: &Job,
    ..BASE
};

/// Pods that ended and are not in the counts yet: each has a name, none comes twice.
fn check_uncounted(job: &Value) -> Vec<FieldError> {
    let mut report = Report::new();
    for list in ["succeeded", "failed"] {
        let path = Path::root("status").child("uncountedTerminatedPods").child(list);
        let pods = job.texts(&format!("status.uncountedTerminatedPods.{list}"));
        for (at, pod) in pods.iter().enumerate() {
            if pod.is_empty() {
                report.invalid(&path.index(at), *pod, "must not be empty");
            } else if pods[..at].contains(pod) {
                report.duplicate(&path.index(at), *pod);
            }
        }
    }
    report.into_errors()
}

struct Job;

impl Strategy for Job {
    fn default(&self, job: &mut Value) {
        let labels = job.at("spec.template.metadata.labels").cloned();
        if let Some(spec) = job.object("spec") {
            default_spec(spec);
        }
        if let (Some(labels), true) = (labels, job.map("metadata.labels").is_empty())
            && let Some(metadata) = job.object("metadata")
        {
            metadata.put("labels", labels);
        }
    }

    /// Unless the author chose a selector, pods are found by the uid of the job.
    fn prepare_create(&self, job: &mut Value) {
        let uid = job.text("metadata.uid").to_owned();
        let name = job.text("metadata.name").to_owned();
        if let (Some(spec), false) = (job.inside("spec"), uid.is_empty()) {
            generate_selector(spec, &name, &uid);
        }
    }

    fn validate(&self, job: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let null = Value::Null;
        let (spec, path) = (job.at("spec").unwrap_or(&null), Path::root("spec"));
        check_generated(job, &mut report);
        job_spec::check(spec, &path, &mut report);
        match spec.at("selector") {
            None => report.required(&path.child("selector"), ""),
            Some(selector) => label_selector::check(selector, &path.child("selector"), &mut report),
        }
        workload::check_match(spec, &path, &mut report);
        check_host_name(job, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource == Some("status") {
            let counts = ["active", "succeeded", "failed", "ready", "terminating"];
            let mut errors = workload::check_counts(new, &counts, &[]);
            errors.extend(check_uncounted(new));
            return errors;
        }
        let mut report = Report::new();
        report.extend(self.validate(new));
        job_spec::check_update(new, old, &mut report);
        report.into_errors()
    }

    fn fields(&self, job: &Value) -> Vec<(&'static str, String)> {
        vec![("status.successful", job.count("status.succeeded").to_string())]
    }
}

/// Defaults of jobs as such; the job in a cron job keeps its fields open until it is created.
fn default_spec(spec: &mut Value) {
    default::template(spec);
    if !spec.has("completions") && !spec.has("parallelism") {
        spec.put("completions", 1);
    }
    spec.fill("parallelism", 1);
    let backoff_limit = if spec.has("backoffLimitPerIndex") { i32::MAX } else { 6 };
    spec.fill("backoffLimit", backoff_limit);
    spec.fill("completionMode", "NonIndexed");
    spec.fill("suspend", false);
    let replacement = if spec.has("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    spec.fill("podReplacementPolicy", replacement);
    for rule in spec.elements("podFailurePolicy.rules") {
        for condition in rule.elements("onPodConditions") {
            condition.fill_zero("status", "True");
        }
    }
}

fn generate_selector(spec: &mut Value, name: &str, uid: &str) {
    if spec.flag("manualSelector") {
        return;
    }
    let labels = spec
        .object("template")
        .and_then(|template| template.object("metadata"))
        .and_then(|metadata| metadata.object("labels"));
    if let Some(labels) = labels {
        for (key, value) in generated_labels(name, uid) {
            labels.fill(key, value);
        }
    }
    if let Some(selector) = spec.object("selector").and_then(|selector| selector.object("matchLabels")) {
        selector.fill("batch.kubernetes.io/controller-uid", uid);
    }
}

/// The word of the first of these conditions that is true.
fn state(job: &Value) -> &'static str {
    let has = |name: &str| {
        let conditions = job.list("status.conditions");
        conditions.iter().any(|one| one.text("type") == name && one.text("status") == "True")
    };
    match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if job.has("metadata.deletionTimestamp") => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Value) -> String {
    let succeeded = job.count("status.succeeded");
    match (job.int("spec.completions"), job.count("spec.parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let Some(start) = age::timestamp(job.at("status.startTime")) else { return String::new() };
    let end = age::timestamp(job.at("status.completionTime")).unwrap_or(now);
    age::human(end.duration_since(start).as_secs())
}

/// Labels that tie pods to this job and no other.
fn check_generated(job: &Value, report: &mut Report) {
    if job.flag("spec.manualSelector") || !job.has("spec.selector") {
        return;
    }
    let (uid, name) = (job.text("metadata.uid"), job.text("metadata.name"));
    if uid.is_empty() {
        report.required(&Path::root("metadata").child("uid"), "");
    }
    let labels = job.map("spec.template.metadata.labels");
    let path = Path::root("spec").child("template").child("metadata").child("labels");
    let generated = generated_labels(name, uid);
    for (key, expected) in generated {
        match labels.get(key).and_then(Value::as_str) {
            None => report.required(&path.key(key), format!("must be '{expected}'")),
            Some(found) if found != expected => {
                report.invalid(&path.key(key), labels.clone(), format!("must be '{expected}'"));
            }
            Some(_) => {}
        }
    }
    let expected: Map<String, Value> =
        generated.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))).collect();
    let selector = &job["spec"]["selector"];
    if label_selector::is_valid(selector) && !label_selector::matches(selector, &expected) {
        let at = Path::root("spec").child("selector");
        report.invalid(&at, selector.clone(), "`selector` not auto-generated");
    }
}

/// Labels of all pods of a job, by their old and new names.
fn generated_labels<'a>(name: &'a str, uid: &'a str) -> [(&'static str, &'a str); 4] {
    [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ]
}

/// Pods of an indexed job are called by their index.
fn check_host_name(job: &Value, report: &mut Report) {
    let completions = job.count("spec.completions");
    if job.text("spec.completionMode") != "Indexed" || completions <= 0 {
        return;
    }
    let name = job.text("metadata.name");
    let longest = format!("{name}-{}", completions - 1);
    if name::is_dns1123_label(&longest).is_err() {
        let message = format!("will not able to create pod with invalid DNS label: {longest}");
        report.invalid(&Path::root("metadata").child("name"), name, message);
    }
}
