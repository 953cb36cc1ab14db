//! What Jobs and CronJobs are told to do about failures, success, time and number.

use plimsoll_e2e::Namespace;
use serde_json::{Value, json};

use crate::pods::STAY;
use crate::{BUSYBOX, Shared};

/// A Job by parts of its spec in YAML, whose pods run a script.
pub(crate) fn job(name: &str, spec: &str, script: &str) -> String {
    format!("apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{}---\n", body(spec, script))
}

fn body(spec: &str, script: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    let lines: String = spec.split("; ").map(|line| format!("  {line}\n")).collect();
    format!(
        "{lines}  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: {BUSYBOX}, command: [sh, -c, {script}]}}]
"
    )
}

fn condition<'a>(job: &'a Value, kind: &str) -> &'a Value {
    let all = job["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["type"] == kind && one["status"] == "True").unwrap_or(&Value::Null)
}

fn path(name: &str) -> String {
    format!("batch/v1/jobs/{name}")
}

fn pods(space: &Namespace<'_>, job: &str) -> Vec<Value> {
    space.list(&format!("pods?labelSelector=job-name%3D{job}"))
}

/// Waits until so many of a Job's pods run.
fn running(space: &Namespace<'_>, job: &str, count: usize) -> Vec<Value> {
    space.wait(&format!("{count} pods of {job} run"), || {
        let mut pods = pods(space, job);
        pods.retain(|pod| {
            pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
        });
        Some(pods).filter(|pods| pods.len() == count)
    })
}

pub(crate) fn policies_end_jobs(shared: &Shared) {
    let space = shared.cluster().namespace("job-policies");
    let exits = "exit $((JOB_COMPLETION_INDEX == 1 ? 42 : 0))";
    // Those that are ended once it is enough fail: a success would be counted, too.
    let fails = STAY.replace("exit 0", "exit 1");
    let first = format!("[ $JOB_COMPLETION_INDEX = 0 ] || {{ {fails}; }}");
    let rule = |action: &str| {
        format!(
            "podFailurePolicy: {{rules: [{{action: {action}, onExitCodes: {{operator: In, values: [42]}}}}]}}"
        )
    };
    let indexed = "completionMode: Indexed; completions: 3; parallelism: 3";
    let each = format!("{indexed}; backoffLimitPerIndex: 1; {}", rule("FailIndex"));
    let count = format!("backoffLimit: 0; {}", rule("Count"));
    let other = format!("backoffLimit: 0; {}", rule("FailJob"));
    let enough =
        format!("{indexed}; successPolicy: {{rules: [{{succeededIndexes: '0,2', succeededCount: 1}}]}}");
    // the Job's name, parts of its spec, its script, how it ends, why, what that says, and parts of its status
    let table = [
        (
            "indexes",
            indexed,
            "exit 0",
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
            json!({"succeeded": 3, "completedIndexes": "0-2"}),
        ),
        (
            "each",
            &each,
            exits,
            "Failed",
            "FailedIndexes",
            "Job has failed indexes",
            json!({"succeeded": 2, "failed": 1, "completedIndexes": "0,2", "failedIndexes": "1"}),
        ),
        (
            "most",
            &format!("{indexed}; backoffLimitPerIndex: 0; maxFailedIndexes: 0"),
            exits,
            "Failed",
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
            json!({}),
        ),
        (
            "fatal",
            &rule("FailJob"),
            "exit 42",
            "Failed",
            "PodFailurePolicy",
            "failed with exit code 42 matching FailJob rule at index 0",
            json!({"failed": 1}),
        ),
        (
            "counted",
            &count,
            "exit 42",
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
            json!({"failed": 1}),
        ),
        (
            "unmatched",
            &other,
            "exit 41",
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
            json!({"failed": 1}),
        ),
        (
            "enough",
            &enough,
            &first,
            "Complete",
            "SuccessPolicy",
            "Matched rules at index 0",
            json!({"succeeded": 1, "completedIndexes": "0"}),
        ),
        (
            "late",
            "activeDeadlineSeconds: 1",
            STAY,
            "Failed",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
            json!({"failed": 1}),
        ),
    ];
    space.apply(&table.iter().map(|(name, spec, script, ..)| job(name, spec, script)).collect::<String>());
    for (name, _, _, kind, reason, message, status) in &table {
        let job = space.wait_object("ended", &path(name), |job| !condition(job, kind).is_null());
        let end = condition(&job, kind);
        assert_eq!(end["reason"], *reason, "{name}: {job}");
        assert!(end["message"].as_str().is_some_and(|text| text.contains(message)), "{name}: {job}");
        let status = status.as_object().unwrap();
        status.iter().for_each(|(field, value)| assert_eq!(job["status"][field], *value, "{name}: {job}"));
        assert!(job["status"].get("active").is_none(), "{name}: {job}");
    }
    let mut names: Vec<_> = pods(&space, "indexes")
        .iter()
        .map(|pod| {
            let meta = &pod["metadata"];
            let key = "batch.kubernetes.io/job-completion-index";
            assert_eq!(meta["annotations"][key], meta["labels"][key], "{pod}");
            assert!(meta.get("finalizers").is_none(), "{pod}");
            (meta["annotations"][key].to_string(), pod["spec"]["hostname"].to_string())
        })
        .collect();
    names.sort();
    let wanted = ["0", "1", "2"].map(|index| (format!("\"{index}\""), format!("\"indexes-{index}\"")));
    assert_eq!(names, wanted);
    let table = space.kubectl(&["get", "jobs"]).ok();
    assert!(table.contains(" Complete ") && table.contains(" Failed ") && table.contains(" 3/3 "), "{table}");
}

pub(crate) fn disruptions_count_as_the_policy_says(shared: &Shared) {
    let space = shared.cluster().namespace("job-disruptions");
    let rule = |action: &str| {
        format!(
            "backoffLimit: 0; podFailurePolicy: {{rules: [{{action: {action}, onPodConditions: [{{type: DisruptionTarget}}]}}]}}"
        )
    };
    let all = ["Ignore", "FailJob", "Count"];
    let fails = STAY.replace("exit 0", "exit 1");
    space.apply(&all.map(|action| job(&action.to_lowercase(), &rule(action), &fails)).concat());
    let evict = |name: &str| {
        let pod = running(&space, name, 1)[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", space.name());
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
        space.kubectl_with(&["create", "--raw", &path, "-f", "-"], eviction.to_string().as_bytes()).ok();
        pod
    };
    let [ignored, fatal, _] = all.map(|action| evict(&action.to_lowercase()));
    let end = |name: &str| {
        let job = space.wait_object("failed", &path(name), |job| !condition(job, "Failed").is_null());
        condition(&job, "Failed").clone()
    };
    let fatal = format!(
        "Pod {}/{fatal} has condition DisruptionTarget matching FailJob rule at index 0",
        space.name()
    );
    assert_eq!(end("failjob")["message"], fatal);
    assert_eq!(end("count")["reason"], "BackoffLimitExceeded");
    space.wait_gone(&format!("pods/{ignored}"));
    running(&space, "ignore", 1);
    let job = space.object(&path("ignore")).unwrap();
    assert!(job["status"].get("failed").is_none() && condition(&job, "Failed").is_null(), "{job}");
}

pub(crate) fn jobs_are_held_and_resized(shared: &Shared) {
    let space = shared.cluster().namespace("job-life");
    space.apply(&job("held", "suspend: true; completions: 4; parallelism: 1", STAY));
    let held = space.wait_object("suspended", &path("held"), |job| !condition(job, "Suspended").is_null());
    assert!(held["status"].get("startTime").is_none() && pods(&space, "held").is_empty(), "{held}");
    assert!(space.kubectl(&["get", "job", "held"]).ok().contains("Suspended"));
    let patch = |body: &str| space.kubectl(&["patch", "job", "held", "-p", body]).ok();
    patch(r#"{"spec":{"suspend":false}}"#);
    running(&space, "held", 1);
    patch(r#"{"spec":{"parallelism":3}}"#);
    running(&space, "held", 3);
    patch(r#"{"spec":{"parallelism":2}}"#);
    running(&space, "held", 2);
    patch(r#"{"spec":{"suspend":true}}"#);
    let held = space.wait_object("stopped", &path("held"), |job| {
        !condition(job, "Suspended").is_null() && job["status"].get("active").is_none()
    });
    assert!(held["status"].get("startTime").is_none() && held["status"].get("failed").is_none(), "{held}");
    space.wait("its pods go", || pods(&space, "held").is_empty().then_some(()));
    for reason in ["Suspended", "Resumed", "SuccessfulCreate", "SuccessfulDelete"] {
        space.wait_event("held", reason);
    }
    let text = space.kubectl(&["patch", "job", "held", "-p", r#"{"spec":{"completions":5}}"#]).refused();
    assert!(text.contains("field is immutable"), "{text}");

    // What has ended goes, with its pods, when its time has come.
    space.apply(&job("brief", "ttlSecondsAfterFinished: 0", "exit 0"));
    space.wait_event("brief", "Completed");
    space.wait_gone(&path("brief"));
    space.wait("its pods go", || pods(&space, "brief").is_empty().then_some(()));
}

fn cron(name: &str, spec: &str) -> String {
    let job: String = body("backoffLimit: 0", "exit 0").lines().map(|line| format!("    {line}\n")).collect();
    let lines: String = spec.split("; ").map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: {name}}}\nspec:\n{lines}  jobTemplate:\n    spec:\n{job}"
    )
}

pub(crate) fn jobs_are_started_by_the_clock_and_by_hand(shared: &Shared) {
    let space = shared.cluster().namespace("cron");
    let none = "schedule: '0 0 1 1 *'; suspend: true; successfulJobsHistoryLimit: 1";
    space.apply(&cron("yearly", &format!("{none}; timeZone: Europe/Paris")));
    let complete = |job: &str| {
        space.kubectl(&["wait", "--for=condition=complete", &format!("job/{job}"), "--timeout=60s"]).ok()
    };
    for hand in ["first", "second"] {
        space.kubectl(&["create", "job", hand, "--from=cronjob/yearly"]).ok();
        complete(hand);
    }
    let second = space.object(&path("second")).unwrap();
    let meta = &second["metadata"];
    assert_eq!(meta["annotations"]["cronjob.kubernetes.io/instantiate"], "manual", "{second}");
    assert_eq!(meta["ownerReferences"][0]["name"], "yearly", "{second}");
    // One that has ended is kept, the newer.
    space.wait_gone(&path("first"));
    space.wait("its pod goes", || pods(&space, "first").is_empty().then_some(()));
    assert!(space.object(&path("second")).is_some());

    // Starts that were missed are made up for, by the last one.
    space.apply(&cron("missed", "schedule: '* * * * *'; suspend: true; concurrencyPolicy: Forbid"));
    let ago = json!({"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}).to_string();
    let patch = |more: &[&str]| space.kubectl(&[&["patch", "cronjob", "missed"], more].concat()).ok();
    patch(&["--subresource=status", "--type=merge", "-p", &ago]);
    patch(&["-p", r#"{"spec":{"suspend":false}}"#]);
    let event = space.wait_event("missed", "SuccessfulCreate");
    patch(&["-p", r#"{"spec":{"suspend":true}}"#]);
    let name = event["message"].as_str().unwrap().trim_start_matches("Created job ").to_owned();
    complete(&name);
    space.wait_event("missed", "TooManyMissedTimes");
    let told = space.wait_object("told", "batch/v1/cronjobs/missed", |cron| {
        cron["status"]["lastSuccessfulTime"].is_string() && cron["status"].get("active").is_none()
    });
    let job = space.object(&path(&name)).unwrap();
    let at = &job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"];
    assert_eq!(told["status"]["lastScheduleTime"], *at, "{job}");

    // manifest, what is said of it
    let table = [
        (
            "schedule: '0 0 1 1 *'; timeZone: Nowhere/Such",
            "spec.timeZone: Invalid value: \"Nowhere/Such\": unknown time zone Nowhere/Such",
        ),
        (
            "schedule: 'TZ=UTC 0 0 1 1 *'",
            "spec.schedule: Invalid value: \"TZ=UTC 0 0 1 1 *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ),
        (
            "schedule: '61 * * * *'",
            "spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61",
        ),
    ];
    for (spec, message) in table {
        let text = space.manifests(&["apply"], &cron("bad", spec)).refused();
        assert!(text.contains(message), "{text}");
    }
    space.kubectl(&["delete", "cronjob", "yearly"]).ok();
    space.wait_gone(&path("second"));
}
