//! Wishes, what becomes of them, and in which order groups change.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde_json::{Value, json};

use super::*;
use crate::cgroup::{Machine, PERIOD, Reservation, Swap, Version};

const GI: i64 = 1 << 30;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
}

fn pod(priority: i32, generation: i64, cpu: &str, limit: &str) -> Arc<Pod> {
    let mut resources = json!({"requests": {"cpu": cpu, "memory": "1Gi"}});
    if !limit.is_empty() {
        resources["limits"] = json!({"cpu": limit, "memory": "1Gi"});
    }
    let value = json!({
        "metadata": {"name": "p", "generation": generation},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": resources}]},
    });
    Arc::new(serde_json::from_value(value).unwrap())
}

fn book(fixed: Vec<Fixed>) -> Book {
    let machine = Machine { period: Some(PERIOD), ..Machine::default() };
    Book::new(Room { cpu: 4000, memory: 8 * GI }, Room { cpu: 4000, memory: 7 * GI }, machine, fixed)
}

fn cpu(pod: &Pod) -> String {
    let resources = pod.spec.as_ref().unwrap().containers[0].resources.clone().unwrap();
    resources.requests.unwrap()["cpu"].0.clone()
}

/// UIDs, what they have, and why they wait.
fn shown(outcomes: &[Outcome]) -> Vec<(String, String, String)> {
    let one = |it: &Outcome| {
        let why = it.pending.as_ref().map(|it| format!("{}: {}", it.reason.as_str(), it.message));
        (it.uid.clone(), cpu(&it.pod), why.unwrap_or_default())
    };
    outcomes.iter().map(one).collect()
}

fn row(uid: &str, cpu: &str, why: &str) -> (String, String, String) {
    (uid.into(), cpu.into(), why.into())
}

#[test]
fn a_wish_is_granted_deferred_or_never_granted() {
    let mut book = book(Vec::new());
    assert_eq!(shown(&book.desired("a", &pod(0, 1, "1", ""), None, at(0))), [row("a", "1", "")]);
    assert_eq!(shown(&book.desired("b", &pod(0, 1, "1", ""), None, at(0))), [row("b", "1", "")]);
    // As upstream tells it.
    let granted = book.desired("a", &pod(0, 2, "2", ""), None, at(1));
    assert_eq!(shown(&granted), [row("a", "2", "")]);
    let event = granted[0].event.clone().unwrap();
    assert_eq!(
        (event.reason.as_ref(), event.message.as_str()),
        (
            "ResizeStarted",
            "Pod resize started: {\"containers\":[{\"name\":\"c\",\"resources\":{\"requests\":{\"cpu\":\"2\",\
             \"memory\":\"1Gi\"}}}],\"generation\":2}"
        )
    );
    assert!(granted[0].granted);
    let short =
        "Deferred: Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000";
    let deferred = book.desired("b", &pod(0, 2, "3", ""), None, at(2));
    assert_eq!(shown(&deferred), [row("b", "1", short)]);
    assert_eq!(deferred[0].event.as_ref().unwrap().reason, "ResizeDeferred");
    // Told once, and waiting since then.
    let again = book.desired("b", &pod(0, 2, "3", ""), None, at(9));
    assert_eq!((again[0].event.clone(), again[0].pending.as_ref().unwrap().since), (None, at(2)));
    let never = "Infeasible: Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000";
    let refused = book.desired("a", &pod(0, 3, "5", ""), None, at(3));
    assert_eq!(shown(&refused), [row("a", "2", never)]);
    assert_eq!(refused[0].event.as_ref().unwrap().reason, "ResizeInfeasible");
    // Room comes: the one who waits has it at once.
    let freed = book.desired("a", &pod(0, 4, "500m", ""), None, at(4));
    assert_eq!(shown(&freed), [row("a", "500m", ""), row("b", "3", "")]);
    // A wish that is taken back is not pending.
    book.desired("a", &pod(0, 5, "5", ""), None, at(5));
    assert_eq!(shown(&book.desired("a", &pod(0, 6, "500m", ""), None, at(5))), [row("a", "500m", "")]);
}

#[test]
fn those_who_wait_go_by_priority_class_and_time() {
    let mut book = book(Vec::new());
    book.desired("full", &pod(0, 1, "3", ""), None, at(0));
    for (uid, priority, limit) in [("late", 0, ""), ("early", 0, ""), ("firm", 0, "200m"), ("high", 9, "")] {
        book.desired(uid, &pod(priority, 1, "200m", limit), None, at(0));
    }
    for (uid, priority, limit, time) in
        [("early", 0, "", 1), ("late", 0, "", 2), ("high", 9, "", 3), ("firm", 0, "600m", 4)]
    {
        let wish = book.desired(uid, &pod(priority, 2, "600m", limit), None, at(time));
        assert_eq!(wish[0].pending.as_ref().unwrap().reason, Reason::Deferred, "{uid}");
    }
    let order: Vec<_> = book.gone("full", at(9)).into_iter().map(|it| it.uid).collect();
    assert_eq!(order, ["high", "firm", "early", "late"]);
}

#[test]
fn what_was_given_before_counts_after_a_restart() {
    let mut book = book(vec![Fixed::Cpu]);
    let known = Allocation::of(&pod(0, 1, "1", ""));
    let text = serde_json::to_string(&known).unwrap();
    let known: Allocation = serde_json::from_str(&text).unwrap();
    book.desired("other", &pod(0, 1, "3", ""), None, at(0));
    let found = book.desired("a", &pod(0, 2, "2", ""), Some(known), at(0));
    assert_eq!(cpu(&found[0].pod), "1");
    assert_eq!(found[0].pending.as_ref().unwrap().reason, Reason::Deferred);
    // Equal amounts in other words are no wish.
    let found = book.desired("a", &pod(0, 3, "1000m", ""), None, at(0));
    assert_eq!((found[0].pending.clone(), found[0].granted), (None, false));
    book.desired("firm", &pod(0, 1, "1", "1"), None, at(0));
    let found = book.desired("firm", &pod(0, 2, "500m", "500m"), None, at(0));
    assert_eq!(
        found[0].pending.as_ref().unwrap().message,
        "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\""
    );
    let mut fixed = Pod::clone(&pod(0, 1, "1", ""));
    fixed.metadata.annotations = Some([("kubernetes.io/config.source".into(), "file".into())].into());
    book.desired("static", &Arc::new(fixed.clone()), None, at(0));
    fixed.spec = pod(0, 1, "500m", "").spec.clone();
    let found = book.desired("static", &Arc::new(fixed), None, at(0));
    assert_eq!(found[0].pending.as_ref().unwrap().message, "In-place resize of static-pods is not supported");
}

#[test]
fn containers_that_swap_keep_their_request() {
    let machine = Machine {
        version: Version::V2,
        swap: GI,
        memory: 8 * GI,
        swapping: Swap::Limited,
        ..Machine::default()
    };
    let mut book =
        Book::new(Room { cpu: 4000, memory: 8 * GI }, Room { cpu: 4000, memory: 8 * GI }, machine, vec![]);
    book.desired("a", &pod(0, 1, "1", ""), None, at(0));
    let mut wish = Pod::clone(&pod(0, 2, "1", ""));
    let resources = wish.spec.as_mut().unwrap().containers[0].resources.as_mut().unwrap();
    resources.requests.as_mut().unwrap().get_mut("memory").unwrap().0 = "2Gi".into();
    let found = book.desired("a", &Arc::new(wish), None, at(0));
    assert_eq!(
        found[0].pending.as_ref().unwrap().message,
        "In-place resize of containers with swap is not supported."
    );
}

fn spec(containers: [(&str, &str); 2]) -> PodSpec {
    let container = |name: &str, (cpu, memory): (&str, &str)| -> Value {
        let list = json!({"cpu": cpu, "memory": memory});
        json!({"name": name, "resources": {"requests": list, "limits": list}})
    };
    let [a, b] = containers;
    serde_json::from_value(json!({"containers": [container("a", a), container("b", b)]})).unwrap()
}

#[test]
fn a_pods_group_grows_first_and_shrinks_last() {
    let machine = Machine { period: Some(PERIOD), ..Machine::default() };
    let runs = [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
    let of = |before, after, machine: &Machine| -> Vec<String> {
        let target = |target: &Target| match target {
            Target::Pod => "pod".to_owned(),
            Target::Run { name, id } => format!("{name}-{id}"),
        };
        let amounts = |step: &Step| match step.values.memory {
            Some(memory) => {
                let sign = if step.lowers_memory { "lower " } else { "" };
                format!("{sign}memory {}", memory >> 20)
            }
            None => format!("quota {}", step.values.quota.unwrap_or_default()),
        };
        let steps = steps(&spec(before), &spec(after), &runs, machine);
        steps.iter().map(|step| format!("{} {}", target(&step.target), amounts(step))).collect()
    };
    assert_eq!(
        of([("1", "64Mi"), ("1", "64Mi")], [("2", "128Mi"), ("1", "64Mi")], &machine),
        ["pod memory 192", "a-1 memory 128", "pod quota 300000", "a-1 quota 200000"]
    );
    assert_eq!(
        of([("2", "128Mi"), ("1", "64Mi")], [("1", "64Mi"), ("1", "64Mi")], &machine),
        ["a-1 lower memory 64", "pod lower memory 128", "a-1 quota 100000", "pod quota 200000"]
    );
    // Who shrinks makes room for who grows.
    assert_eq!(
        of([("1", "64Mi"), ("2", "64Mi")], [("3", "64Mi"), ("1", "64Mi")], &machine),
        ["pod quota 400000", "b-2 quota 100000", "a-1 quota 300000"]
    );
    assert_eq!(of([("1", "64Mi"), ("1", "64Mi")], [("1000m", "64Mi"), ("1", "65536Ki")], &machine), [""; 0]);
    let tiered = Machine { version: Version::V2, reservation: Reservation::Tiered, ..machine };
    let steps =
        steps(&spec([("1", "64Mi"), ("1", "64Mi")]), &spec([("1", "96Mi"), ("1", "64Mi")]), &runs, &tiered);
    assert_eq!(steps[0].values.unified["memory.min"], "167772160");
    assert_eq!(steps[1].values.unified["memory.min"], "100663296");
}
