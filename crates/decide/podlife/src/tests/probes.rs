//! What probes and hooks do to a life.

use super::*;

#[test]
fn probes_gate_readiness_and_restart() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 2});
    let mut world = World::running(json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 9,
        "containers": [{"name": "c", "startupProbe": probe, "livenessProbe": probe, "readinessProbe": probe}]}));
    assert_eq!(world.probes(), "c0:Startup");
    assert_eq!(world.look(), "Running Running");
    world.probe("c0", ProbeKind::Readiness, true);
    assert_eq!(world.look(), "Running Running", "what is not due is not heard");
    world.probe("c0", ProbeKind::Startup, true);
    assert_eq!(world.probes(), "c0:Liveness c0:Readiness");
    world.probe("c0", ProbeKind::Readiness, true);
    assert_eq!(world.look(), "Running Running+");
    world.probe("c0", ProbeKind::Readiness, false);
    assert_eq!(world.look(), "Running Running+", "one failure is not enough");
    world.probe("c0", ProbeKind::Readiness, false);
    assert_eq!(world.look(), "Running Running");
    assert_eq!(world.condition("Ready").1, "ContainersNotReady");
    world.log();
    world.probe("c0", ProbeKind::Liveness, false);
    assert_eq!(world.log(), ["Unhealthy: Liveness probe failed: bad"]);
    world.probe("c0", ProbeKind::Liveness, false);
    assert_eq!(
        world.log(),
        [
            "Unhealthy: Liveness probe failed: bad",
            "Killing: Container c failed liveness probe, will be restarted",
            "stop c 9",
            "image c",
            "start c 1"
        ]
    );
    assert_eq!(world.probes(), "c1:Startup", "a new run begins anew");
    world.probe("c1", ProbeKind::Startup, false);
    world.probe("c1", ProbeKind::Startup, false);
    assert!(world.log().contains(&"Killing: Container c failed startup probe, will be restarted".to_owned()));
    assert_eq!(world.look(), "Running CrashLoopBackOff*1");
}

#[test]
fn only_results_that_may_change_something_are_news() {
    let probe = json!({"tcpSocket": {"port": 1}, "successThreshold": 2});
    let mut world = World::running(json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "readinessProbe": probe}]}));
    let result = |outcome| Input::Probed { id: "c0".into(), kind: ProbeKind::Readiness, outcome };
    for (outcome, news) in [
        (Outcome::Success, true),
        (Outcome::Success, true),
        (Outcome::Success, false),
        (Outcome::Warning("elsewhere".into()), true),
        (Outcome::Failure("bad".into()), true),
        (Outcome::Success, true),
        (Outcome::Success, false),
    ] {
        assert_eq!(world.life.is_news(&result(outcome.clone())), news, "{outcome:?}");
        world.send(result(outcome));
        assert!(world.life.is_news(&Input::Tick));
    }
    let told = ["ProbeWarning: Readiness probe warning: elsewhere", "Unhealthy: Readiness probe failed: bad"];
    assert_eq!(world.log(), told);
}

#[test]
fn a_container_that_failed_a_probe_is_asked_no_more() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1, "terminationGracePeriodSeconds": 3});
    for (policy, own, message) in [
        ("Always", None, "Container c failed startup probe, will be restarted"),
        ("Never", None, "Container c failed startup probe"),
        ("Never", Some("OnFailure"), "Container c failed startup probe, will be restarted"),
    ] {
        let mut world = World::running(json!({"restartPolicy": policy, "containers": [
            {"name": "c", "startupProbe": probe, "restartPolicy": own}]}));
        world.held = vec!["stop"];
        world.probe("c0", ProbeKind::Startup, false);
        let log =
            ["Unhealthy: Startup probe failed: bad".into(), format!("Killing: {message}"), "stop c 3".into()];
        assert_eq!(world.log(), log);
        assert_eq!(world.probes(), "");
    }
}

#[test]
fn a_pod_that_ends_is_asked_for_its_readiness_only() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1});
    let mut world = World::running(json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "livenessProbe": probe, "readinessProbe": probe}]}));
    world.probe("c0", ProbeKind::Readiness, true);
    world.held = vec!["stop"];
    world.delete(30);
    assert_eq!(world.probes(), "c0:Readiness");
    assert_eq!(world.look(), "Running Running+");
    world.probe("c0", ProbeKind::Readiness, false);
    assert_eq!(world.look(), "Running Running");
}

#[test]
fn hooks_hold_a_start_back_and_precede_an_end() {
    let hook = json!({"exec": {"command": ["x"]}});
    let spec = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
        "containers": [{"name": "c", "lifecycle": {"postStart": hook, "preStop": hook}}]});
    let mut world = World::new(spec.clone());
    world.held = vec!["post start"];
    world.send(Input::Tick);
    assert_eq!(world.look(), "Pending ContainerCreating");
    world.release("post start");
    assert_eq!(world.look(), "Running Running+");
    world.log();
    world.delete(30);
    assert_eq!(world.log()[1], "stop c 30 hook");

    let mut world = World::new(spec);
    world.held = vec!["post start"];
    world.send(Input::Tick);
    world.log();
    world.send(Input::PostStarted { id: "c0".into(), result: Err("exit 1".into()) });
    assert_eq!(
        world.log(),
        [
            "FailedPostStartHook: PostStartHook failed",
            "Killing: FailedPostStartHook",
            "stop c 30 hook",
            "image c",
            "start c 1",
            "post start"
        ]
    );
    assert_eq!(world.look(), "Running PostStartHookError*1");
}
