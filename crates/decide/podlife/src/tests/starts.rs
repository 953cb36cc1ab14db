//! How pods come up, and what keeps them from it.

use super::*;

#[test]
fn a_pod_comes_up_and_goes() {
    let mut world = World::new(one());
    assert_eq!(world.look(), "Pending ContainerCreating");
    assert_eq!(world.condition("PodReadyToStartContainers").0, "False");
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image c", "start c 0"]);
    assert_eq!(world.look(), "Running Running+");
    let status = world.status();
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.0"));
    assert_eq!(status.host_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = &status.container_statuses.unwrap()[0];
    assert_eq!(container.container_id.as_deref(), Some("plimsoll://c0"));
    assert_eq!(world.condition("Ready").0, "True");
    world.delete(10);
    assert_eq!(
        world.log(),
        [
            "Killing: Stopping container c",
            "stop c 10",
            "stop sandbox s0",
            "release",
            "remove sandbox s0",
            "finish"
        ]
    );
    assert_eq!(world.condition("Ready"), ("False".into(), "PodFailed".into(), String::new()));
    assert!(world.life.finished());
}

#[test]
fn nothing_waits_for_what_it_does_not_need() {
    let mut world = World::new(one());
    world.held = vec!["volumes", "sandbox", "image"];
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image c"]);
    world.release("image");
    world.release("sandbox");
    assert_eq!(world.log(), Vec::<String>::new());
    world.release("volumes");
    assert_eq!(world.log(), ["start c 0"]);
}

#[test]
fn a_crash_loop_backs_off() {
    let mut world = World::running(one());
    world.exit("c", 1);
    assert_eq!(world.log(), ["image c", "start c 1"]);
    assert_eq!(world.look(), "Running Running+*1");
    let mut waits = Vec::new();
    for _ in 0..7 {
        world.exit("c", 1);
        assert!(world.look().starts_with("Running CrashLoopBackOff"), "{}", world.look());
        waits.push(world.wait_for_alarm());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    let log = world.log();
    let back_off = "BackOff: Back-off restarting failed container c in pod p_ns(u)";
    assert_eq!(log[..5], [back_off, "image c", "start c 2", "remove", back_off]);
    world.exit("c", 1);
    let state = world.status().container_statuses.unwrap()[0].clone();
    let waiting = state.state.unwrap().waiting.unwrap();
    assert_eq!(waiting.message.unwrap(), "back-off 5m0s restarting failed container=c pod=p_ns(u)");
    assert_eq!(state.last_state.unwrap().terminated.unwrap().exit_code, 1);
    assert_eq!(state.restart_count, 8);
    world.wait(300);
    // Ten quiet minutes make it a new beginning.
    world.wait(601);
    world.exit("c", 1);
    assert_eq!(world.look(), "Running Running+*10");
}

#[test]
fn want_of_memory_is_told_once() {
    let mut world = World::running(one());
    let mut run = world.life.newest("c").unwrap().clone();
    let reason = "OOMKilled".to_owned();
    let message = String::new();
    run.state = State::Exited(Exit { started: None, finished: world.now, code: 137, reason, message });
    for told in [1, 0] {
        world.send(Input::Seen { sandboxes: Vec::new(), containers: vec![run.clone()] });
        let events =
            world.log().into_iter().filter(|line| line.starts_with("OOMKilled: Container c was killed"));
        assert_eq!(events.count(), told);
    }
}

#[test]
fn policies_decide_how_a_pod_ends() {
    let cases = [
        ("Never", 0, "Succeeded Completed(0)"),
        ("Never", 3, "Failed Error(3)"),
        ("OnFailure", 0, "Succeeded Completed(0)"),
        ("OnFailure", 3, "Running Running+*1"),
        ("Always", 0, "Running Running+*1"),
    ];
    for (policy, code, expected) in cases {
        let mut world = World::running(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        world.exit("c", code);
        assert_eq!(world.look(), expected, "{policy} {code}");
        if !expected.starts_with("Running") {
            assert_eq!(world.log(), ["stop sandbox s0", "release"]);
            assert_eq!(world.condition("PodReadyToStartContainers").0, "False");
            assert_eq!(world.status().pod_ip.as_deref(), Some("10.0.0.0"), "the address stays");
            world.delete(30);
            assert_eq!(world.log(), ["remove sandbox s0", "finish"]);
        }
    }
}

#[test]
fn two_containers_end_together_only() {
    let mut world =
        World::running(json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]}));
    world.exit("a", 0);
    assert_eq!(world.look(), "Running Completed(0) Running+");
    let ready = world.condition("Ready");
    assert_eq!(ready.2, "containers with unready status: [a]");
    world.exit("b", 1);
    assert_eq!(world.look(), "Failed Completed(0) Error(1)");
}

#[test]
fn init_containers_run_in_order() {
    let mut world = World::new(json!({"restartPolicy": "Always",
        "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]}));
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image i", "start i 0"]);
    assert_eq!(world.look(), "Pending Running PodInitializing PodInitializing");
    assert_eq!(world.condition("Initialized").2, "containers with incomplete status: [i j]");
    world.exit("i", 1);
    assert_eq!(world.log(), ["image i", "start i 1"]);
    world.exit("i", 1);
    assert_eq!(world.look(), "Pending CrashLoopBackOff*1 PodInitializing PodInitializing");
    world.wait(10);
    world.exit("i", 0);
    world.log();
    assert_eq!(world.look(), "Pending Completed(0)+*2 Running PodInitializing");
    world.exit("j", 0);
    assert_eq!(world.log(), ["image c", "start c 0"]);
    assert_eq!(world.look(), "Running Completed(0)+*2 Completed(0)+ Running+");
    assert_eq!(world.condition("Initialized").0, "True");
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut world = World::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    world.send(Input::Tick);
    world.exit("i", 7);
    assert_eq!(world.look(), "Failed Error(7) PodInitializing");
}

#[test]
fn sidecars_start_before_and_end_after_the_others() {
    let probe = json!({"exec": {"command": ["x"]}, "failureThreshold": 2});
    let mut world = World::new(json!({"restartPolicy": "Never",
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "startupProbe": probe},
            {"name": "t", "restartPolicy": "Always"},
            {"name": "i"},
        ],
        "containers": [{"name": "c"}]}));
    world.send(Input::Tick);
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image s", "start s 0"]);
    assert_eq!(world.probes(), "s0:Startup");
    world.probe("s0", ProbeKind::Startup, true);
    assert_eq!(world.log(), ["image t", "start t 0", "image i", "start i 0"]);
    world.exit("i", 0);
    assert_eq!(world.log(), ["image c", "start c 0"]);
    assert_eq!(world.look(), "Running Running+ Running+ Completed(0)+ Running+");
    world.exit("t", 0);
    assert_eq!(world.log(), ["image t", "start t 1"], "a sidecar always runs again");
    world.held = vec!["stop"];
    world.exit("c", 0);
    assert_eq!(world.log(), ["Killing: Stopping container t", "stop t 30"]);
    assert_eq!(world.look(), "Running Running+ Running+*1 Completed(0)+ Completed(0)");
    world.now += SignedDuration::from_secs(12);
    world.release("stop");
    assert_eq!(world.log(), ["Killing: Stopping container s", "stop s 18", "stop sandbox s0", "release"]);
    assert!(world.look().starts_with("Succeeded"));
}

#[test]
fn images_that_cannot_be_had() {
    let mut world = World::new(one());
    world.bad_images.insert("c".into(), ImageError::Pull("not found".into()));
    world.send(Input::Tick);
    assert_eq!(world.look(), "Pending ErrImagePull");
    assert_eq!(world.wait_for_alarm(), 2);
    assert_eq!(world.look(), "Pending ImagePullBackOff");
    let waiting = world.status().container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.message.unwrap(), "Back-off pulling image \"c\": ErrImagePull: not found");
    world.log();
    assert_eq!(world.wait_for_alarm(), 8);
    assert_eq!(world.log(), ["image c"]);
    world.wait(2);
    assert_eq!(world.wait_for_alarm(), 18, "the delay doubles");
    world.bad_images.clear();
    world.wait(40);
    assert_eq!(world.look(), "Running Running+");
    let mut world = World::new(one());
    world.bad_images.insert("c".into(), ImageError::NeverPull("no".into()));
    world.send(Input::Tick);
    world.wait(5);
    assert_eq!(world.look(), "Pending ErrImageNeverPull");
}

#[test]
fn starts_that_fail() {
    let mut world = World::new(one());
    world.bad_starts.insert("c".into(), StartError::Config("configmap \"x\" not found".into()));
    world.send(Input::Tick);
    assert_eq!(world.look(), "Pending CreateContainerConfigError");
    assert!(world.log().contains(&"Failed: Error: configmap \"x\" not found".to_owned()));
    assert_eq!(world.wait_for_alarm(), 1);
    assert_eq!(world.wait_for_alarm(), 2);
    world.bad_starts.clear();
    world.send(Input::Retry);
    assert_eq!(world.look(), "Running Running+", "what appears is used at once");

    let mut world = World::new(one());
    let failed = |attempt| {
        let exit = Exit {
            started: None,
            finished: Timestamp::from_second(1_000_000).unwrap(),
            code: 128,
            reason: "StartError".into(),
            message: "no such file".into(),
        };
        let run = Container {
            id: format!("c{attempt}"),
            name: "c".into(),
            sandbox: "s0".into(),
            attempt,
            created: Timestamp::from_second(1_000_000).unwrap(),
            state: State::Exited(exit),
            image: "c".into(),
            image_ref: String::new(),
            hash: String::new(),
            user: None,
        };
        StartError::Run("no such file".into(), Some(Box::new(run)))
    };
    world.held = vec!["start"];
    world.send(Input::Tick);
    world.bad_starts.insert("c".into(), failed(0));
    world.pending.clear();
    world.send(Input::Started { container: "c".into(), result: Err(failed(0)) });
    assert_eq!(world.look(), "Running RunContainerError");
    world.pending.clear();
    world.send(Input::Started { container: "c".into(), result: Err(failed(1)) });
    assert_eq!(world.look(), "Running CrashLoopBackOff*1");
}

#[test]
fn clocks_that_jump_hold_nothing_up() {
    for hours in [-24, 24] {
        let mut world = World::running(one());
        world.exit("c", 1);
        world.exit("c", 1);
        assert_eq!(world.look(), "Running CrashLoopBackOff*1");
        world.wait(hours * 3600);
        assert_eq!(world.look(), "Running Running+*2", "{hours}");
        world.exit("c", 1);
        let waits = world.wait_for_alarm();
        assert!((10..=20).contains(&waits), "{hours}: {waits}");

        let mut world = World::new(one());
        world.bad_images.insert("c".into(), ImageError::Pull("not found".into()));
        world.bad_starts.insert("c".into(), StartError::Config("no".into()));
        world.send(Input::Tick);
        world.bad_images.clear();
        world.wait(hours * 3600);
        assert_eq!(world.look(), "Pending CreateContainerConfigError", "{hours}");
        world.bad_starts.clear();
        world.wait(hours * 3600);
        assert_eq!(world.look(), "Running Running+", "{hours}");
    }
}

#[test]
fn last_words_are_shared_by_all_containers() {
    let names = ["a", "b", "c"].map(|name| json!({"name": name}));
    let mut world = World::running(json!({"restartPolicy": "Never", "containers": names}));
    let mut run = world.life.newest("a").unwrap().clone();
    let message = "é".repeat(8 * 1024);
    let finished = world.now;
    run.state = State::Exited(Exit { started: None, finished, code: 1, reason: "Error".into(), message });
    world.send(Input::Seen { sandboxes: Vec::new(), containers: vec![run] });
    let ended = world.status().container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!(ended.message.unwrap(), "é".repeat(2 * 1024));
}

#[test]
fn what_the_engine_lost_is_remembered() {
    let lost = || Input::Listed { sandboxes: Vec::new(), containers: Vec::new() };
    let mut adopted = pod(one());
    adopted.status = serde_json::from_value(json!({"phase": "Running", "containerStatuses": [{
        "name": "c", "image": "c", "imageID": "", "containerID": "plimsoll://x", "ready": true, "started": true,
        "restartCount": 4, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}))
    .unwrap();
    let mut world = World::of(adopted.clone());
    world.held = vec!["image"];
    world.send(lost());
    for _ in 0..3 {
        assert_eq!(world.look(), "Running ContainerCreating*5");
        let status = world.status().container_statuses.unwrap().remove(0);
        let last = status.last_state.unwrap().terminated.unwrap();
        assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    }
    world.release("image");
    assert_eq!(world.log(), ["volumes", "sandbox 0", "image c", "start c 5"]);
    assert_eq!(world.look(), "Running Running+*5");
    // Once more, in the same life.
    world.held = vec!["image"];
    world.send(lost());
    assert!(world.look().ends_with("ContainerCreating*6"), "{}", world.look());
    world.release("image");
    assert_eq!(world.look(), "Running Running+*6");

    let mut world = World::of(adopted);
    world.held = vec!["volumes"];
    world.send(lost());
    world.delete(1);
    world.release("volumes");
    assert_eq!(world.look(), "Failed ContainerStatusUnknown(137)*4");
}
