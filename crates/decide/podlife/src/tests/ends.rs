//! How pods end, and what outlives whom.

use super::*;

#[test]
fn deletion_in_every_phase() {
    for held in ["volumes", "sandbox", "image", "start", "post start"] {
        let hook = json!({"exec": {"command": ["x"]}});
        let mut world = World::new(json!({"restartPolicy": "Always",
            "containers": [{"name": "c", "lifecycle": {"postStart": hook}}]}));
        world.held = vec![held];
        world.send(Input::Tick);
        world.delete(5);
        let waits = matches!(held, "volumes" | "sandbox" | "start");
        assert_eq!(world.life.finished(), !waits, "{held}: {:?}", world.log);
        world.release(held);
        assert!(world.life.finished(), "{held}: {:?}", world.log);
        assert_eq!(world.log.last().unwrap(), "finish", "{held}");
        assert_eq!(world.look().split(' ').next(), Some("Failed"), "{held}");
    }
}

#[test]
fn a_shorter_grace_hurries_an_end() {
    let mut world = World::running(one());
    world.held = vec!["stop"];
    world.delete(30);
    world.now += SignedDuration::from_secs(1);
    world.delete(30);
    assert_eq!(world.log(), ["Killing: Stopping container c", "stop c 30"]);
    world.delete(0);
    assert_eq!(world.log(), ["stop c 0"]);
    world.release("stop");
    assert!(world.life.finished());
}

#[test]
fn only_those_who_end_for_good_wait_for_their_traffic() {
    let probe = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1});
    let mut world = World::running(json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "livenessProbe": probe}]}));
    world.probe("c0", ProbeKind::Liveness, false);
    world.held = vec!["stop"];
    world.delete(30);
    world.delete(1);
    assert_eq!(world.signals, [Signal::Prompt, Signal::AfterTraffic, Signal::Prompt]);
}

#[test]
fn a_pod_gone_from_the_api_ends_without_a_last_call() {
    let mut world = World::running(one());
    world.send(Input::Gone);
    assert!(world.life.finished());
    assert!(!world.log().contains(&"finish".to_owned()));
}

#[test]
fn a_dead_sandbox_is_replaced() {
    let dead = |world: &World| {
        let mut sandbox = world.life.sandboxes[0].clone();
        sandbox.ready = false;
        Input::Seen { sandboxes: vec![sandbox], containers: Vec::new() }
    };
    let mut world = World::running(one());
    let input = dead(&world);
    world.send(input);
    assert_eq!(
        world.log(),
        [
            "SandboxChanged: Pod sandbox changed, it will be killed and re-created.",
            "stop sandbox s0",
            "image c",
            "sandbox 1",
            "start c 1"
        ]
    );
    assert_eq!(world.look(), "Running Running+*1");
    assert_eq!(world.status().pod_ip.as_deref(), Some("10.0.0.1"));

    let mut world = World::running(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    let input = dead(&world);
    world.send(input);
    assert_eq!(world.look(), "Failed Error(137)");
}

#[test]
fn initialization_starts_over_in_a_new_sandbox() {
    let mut world = World::running(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    world.exit("i", 0);
    world.log();
    world.wait(100);
    let mut sandbox = world.life.sandboxes[0].clone();
    sandbox.ready = false;
    world.send(Input::Seen { sandboxes: vec![sandbox], containers: Vec::new() });
    let starts: Vec<_> = world.log().into_iter().filter(|line| line.starts_with("start")).collect();
    assert_eq!(starts, ["start i 1"]);
    world.exit("i", 0);
    assert_eq!(world.log(), ["image c", "start c 1"]);
}

#[test]
fn a_restarted_agent_adopts_what_runs() {
    let probe = json!({"tcpSocket": {"port": 1}});
    let spec = json!({"restartPolicy": "Always",
        "containers": [{"name": "c", "startupProbe": probe, "readinessProbe": probe}]});
    let mut world = World::running(spec.clone());
    world.exit("c", 1);
    world.probe("c1", ProbeKind::Startup, true);
    world.probe("c1", ProbeKind::Readiness, true);
    let before = world.status();
    let mut pod = pod(spec);
    pod.status = Some(before.clone());
    let mut next = World::of(pod);
    next.now = world.now + SignedDuration::from_secs(77);
    let (sandboxes, containers) = (world.life.sandboxes.clone(), world.life.containers.clone());
    next.send(Input::Listed { sandboxes, containers });
    assert_eq!(next.log(), ["volumes"]);
    assert_eq!(next.status(), before, "nothing changes for users");
    assert_eq!(next.probes(), "c1:Readiness");
}

#[test]
fn a_changed_image_replaces_a_container() {
    let mut world = World::running(one());
    let mut pod = (**world.life.pod()).clone();
    pod.spec.as_mut().unwrap().containers[0].image = Some("new".into());
    world.send(Input::Desired(Arc::new(pod)));
    assert_eq!(
        world.log(),
        ["Killing: Container c definition changed, will be restarted", "stop c 30", "image c", "start c 1"]
    );
}

#[test]
fn ephemeral_containers_join_once() {
    let mut world = World::running(one());
    let mut new = one();
    new["ephemeralContainers"] = json!([{"name": "e", "targetContainerName": "c"}]);
    world.send(Input::Desired(Arc::new(pod(new))));
    assert_eq!(world.log(), ["image e", "start e 0"]);
    world.exit("e", 0);
    assert_eq!(world.look(), "Running Running+ Completed(0)");
    assert!(world.log().is_empty());
}

#[test]
fn a_deadline_fails_a_pod() {
    let mut world = World::running(json!({"restartPolicy": "Always", "activeDeadlineSeconds": 60,
        "containers": [{"name": "c"}]}));
    world.wait(30);
    world.held = vec!["stop"];
    assert_eq!(world.wait_for_alarm(), 30);
    assert_eq!(world.look(), "Running Running+", "nothing seems ended while it runs");
    world.release("stop");
    assert_eq!(world.look(), "Failed Error(143)");
    assert_eq!(world.status().reason.as_deref(), Some("DeadlineExceeded"));
}

#[test]
fn an_evicted_pod_ends_fast_and_says_why() {
    let mut spec = one();
    spec["terminationGracePeriodSeconds"] = json!(30);
    let mut world = World::running(spec);
    let (reason, message) = ("Evicted".to_owned(), "The node was low on resource: memory. ".to_owned());
    world.send(Input::Evict(Verdict { reason, message, grace: Some(1), disrupts: true }));
    assert!(world.log.contains(&"stop c 1".to_owned()), "{:?}", world.log);
    let status = world.life.status(world.now);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
    let conditions = status.conditions.unwrap();
    let target = conditions.iter().find(|it| it.type_ == "DisruptionTarget").unwrap();
    assert_eq!((target.status.as_str(), target.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    assert_eq!(target.message, status.message);
}

#[test]
fn of_a_pod_that_is_not_taken_nothing_is_begun_or_told() {
    let mut world = World::new(one());
    let (reason, message) = ("OutOfcpu".to_owned(), "Pod was rejected: x".to_owned());
    world.send(Input::Refuse(Verdict { reason, message, ..Verdict::default() }));
    world.send(Input::Listed { sandboxes: Vec::new(), containers: Vec::new() });
    let status = world.life.status(world.now);
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("OutOfcpu")));
    assert_eq!((status.container_statuses, status.init_container_statuses), (None, None));
    let begun = ["volumes", "sandbox", "image", "start"];
    assert!(!world.log.iter().any(|line| begun.iter().any(|word| line.starts_with(word))), "{:?}", world.log);
}

#[test]
fn readiness_gates_are_others_conditions() {
    let spec = json!({"restartPolicy": "Always", "readinessGates": [{"conditionType": "x/y"}],
        "containers": [{"name": "c"}]});
    let mut world = World::running(spec);
    assert_eq!(
        world.condition("Ready").2,
        "corresponding condition of pod readiness gate \"x/y\" does not exist."
    );
    let mut pod = (**world.life.pod()).clone();
    pod.status = serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).unwrap();
    world.send(Input::Desired(Arc::new(pod)));
    assert_eq!(world.condition("Ready").0, "True");
    assert_eq!(world.condition("x/y").0, "True", "and stay");
}

#[test]
fn times_of_conditions_change_only_with_them() {
    let mut world = World::running(one());
    let before = world.status();
    world.wait(1000);
    assert_eq!(world.status(), before);
}

#[test]
fn failures_of_the_engine_are_tried_again() {
    let mut world = World::new(one());
    world.held = vec!["sandbox", "volumes"];
    world.send(Input::Tick);
    world.pending.clear();
    world.log();
    world.send(Input::SandboxStarted(Err("no network".into())));
    world.send(Input::Volumes(Err("gone".into())));
    assert_eq!(
        world.log(),
        ["FailedCreatePodSandBox: Failed to create pod sandbox: no network", "FailedMount: gone"]
    );
    world.held.clear();
    assert_eq!(world.wait_for_alarm(), 1);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "start c 0"]);
}
