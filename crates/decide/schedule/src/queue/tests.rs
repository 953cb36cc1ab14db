#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::json;

use super::*;

fn pod(uid: &str, priority: i32, cpu: i64) -> Arc<PodInfo> {
    let pod = serde_json::from_value(
        json!({"metadata": {"uid": uid}, "spec": {"priority": priority, "containers": []}}),
    )
    .unwrap();
    let mut needs = Needs::default();
    needs.requests.cpu = cpu;
    Arc::new(PodInfo::of(&pod, Arc::new(needs)))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pop(queue: &mut Queue, at: u64) -> Option<String> {
    queue.pop(seconds(at)).map(|pod| pod.uid.to_string())
}

#[test]
fn priority_then_arrival() {
    let mut queue = Queue::default();
    for (uid, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1)] {
        queue.add(pod(uid, priority, 1));
    }
    queue.remove("c");
    queue.add(pod("a", 0, 1));
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 0)).collect();
    assert_eq!(order, ["b", "a", "d"]);
    assert_eq!(queue.next_time(), None);
}

#[test]
fn back_off_grows_to_ten_seconds() {
    let mut queue = Queue::default();
    queue.add(pod("a", 0, 1));
    let mut now = seconds(100);
    for wait in [1, 2, 4, 8, 10, 10] {
        assert!(queue.pop(now).is_some());
        queue.retry("a", now);
        assert_eq!(queue.next_time(), Some(now + seconds(wait)));
        assert!(queue.pop(now + seconds(wait) - Duration::from_millis(1)).is_none());
        now += seconds(wait);
    }
}

#[test]
fn parked_pods_wake_by_group_and_after_five_minutes() {
    let mut queue = Queue::default();
    queue.add(pod("small", 0, 1));
    queue.add(pod("big", 0, 9));
    while let Some(uid) = pop(&mut queue, 0) {
        queue.park(&uid, Plugins::default(), seconds(0));
    }
    assert_eq!(queue.lengths(), [0, 0, 2]);
    queue.wake(seconds(5), |pod, _| (pod.needs.requests.cpu < 5).then_some("NodeUpdate"));
    assert_eq!(pop(&mut queue, 5).as_deref(), Some("small"));
    queue.park("small", Plugins::default(), seconds(5));

    // Woken during its back-off, it waits for its end.
    queue.wake(seconds(6), |pod, _| (pod.needs.requests.cpu < 5).then_some("NodeUpdate"));
    assert_eq!(pop(&mut queue, 6), None);
    assert_eq!(queue.next_time(), Some(seconds(7)));
    assert_eq!(pop(&mut queue, 7).as_deref(), Some("small"));

    assert_eq!(queue.next_time(), Some(seconds(300)));
    assert_eq!(pop(&mut queue, 300).as_deref(), Some("big"));
    let moves: Vec<_> =
        queue.take_moves().into_iter().map(|((place, event), count)| (place, event, count)).collect();
    let expected = [
        ("active", "BackoffComplete", 1),
        ("active", "NodeUpdate", 1),
        ("active", "PodAdd", 2),
        ("active", "UnschedulableTimeout", 1),
        ("backoff", "NodeUpdate", 1),
        ("unschedulable", "ScheduleAttemptFailure", 3),
    ];
    assert_eq!(moves, expected);
    assert!(queue.take_moves().is_empty());
}

/// Ten thousand pods that nothing helps are asked about once for each kind of them, and nobody waits for them.
#[test]
fn parked_pods_slow_nobody_down() {
    let mut queue = Queue::default();
    for at in 0..10_000 {
        queue.add(pod(&format!("stuck-{at}"), 5, 1 + at % 3));
    }
    while let Some(uid) = pop(&mut queue, 0) {
        queue.park(&uid, Plugins::default(), seconds(0));
    }
    let asked = std::cell::Cell::new(0);
    queue.wake(seconds(20), |_, _| {
        asked.set(asked.get() + 1);
        None
    });
    assert_eq!(asked.get(), 3);
    queue.add(pod("fresh", 0, 1));
    assert_eq!(pop(&mut queue, 20).as_deref(), Some("fresh"));
    assert_eq!(pop(&mut queue, 20), None);
}

#[test]
fn back_off_as_configured() {
    let mut queue = Queue::new(Backoff { first: seconds(3), most: seconds(5) });
    queue.add(pod("a", 0, 1));
    for (at, until) in [(0, 3), (3, 8), (8, 13)] {
        assert!(queue.pop(seconds(at)).is_some());
        queue.retry("a", seconds(at));
        assert_eq!(queue.next_time(), Some(seconds(until)));
    }
}

#[test]
fn changed_pods_are_tried_at_once_but_not_while_being_bound() {
    let mut queue = Queue::default();
    queue.add(pod("a", 0, 9));
    assert!(pop(&mut queue, 0).is_some());
    queue.add(pod("a", 0, 5));
    assert_eq!(pop(&mut queue, 0), None, "it is being bound");
    queue.park("a", Plugins::default(), seconds(0));
    queue.add(pod("a", 0, 1));
    assert_eq!(queue.pop(seconds(0)).unwrap().needs.requests.cpu, 1);
}
