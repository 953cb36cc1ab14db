//! Resources that change while a pod runs.

use super::*;

fn sized(cpu: &str, memory: &str, generation: i64) -> Pod {
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let list = json!({"cpu": cpu, "memory": memory});
    let mut pod = pod(json!({"containers": [
        {"name": "c", "resizePolicy": policy, "resources": {"requests": list, "limits": list}},
    ]}));
    pod.metadata.generation = Some(generation);
    pod
}

fn condition(status: &PodStatus, kind: &str) -> Option<(String, String)> {
    let found = status.conditions.iter().flatten().find(|it| it.type_ == kind)?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

fn sizes(status: &PodStatus) -> (String, String) {
    let status = &status.container_statuses.as_ref().unwrap()[0];
    let allocated = status.allocated_resources.as_ref().unwrap()["cpu"].0.clone();
    (allocated, status.resources.as_ref().unwrap().limits.as_ref().unwrap()["cpu"].0.clone())
}

#[test]
fn a_resize_is_in_progress_until_the_groups_have_changed() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    world.log.clear();
    world.held.push("resize");
    world.send(Input::Desired(Arc::new(sized("2", "64Mi", 2))));
    assert_eq!(world.log, ["resize [c]"]);
    let status = world.life.status(world.now);
    assert_eq!(sizes(&status), ("2".into(), "1".into()));
    assert_eq!(condition(&status, "PodResizeInProgress"), Some(Default::default()));
    world.release("resize");
    let status = world.life.status(world.now);
    assert_eq!(sizes(&status), ("2".into(), "2".into()));
    assert_eq!(condition(&status, "PodResizeInProgress"), None);
    assert!(
        world.log[1].starts_with("ResizeCompleted: Pod resize completed: {\"containers\":["),
        "{:?}",
        world.log
    );
    // Nothing is changed twice.
    world.log.clear();
    world.send(Input::Desired(Arc::new(sized("2000m", "64Mi", 3))));
    assert_eq!(world.log, [""; 0]);
}

#[test]
fn a_refused_resize_stays_in_progress_and_is_tried_again() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    world.log.clear();
    world.held.push("resize");
    world.send(Input::Desired(Arc::new(sized("2", "64Mi", 2))));
    let Effect::Resize { after, runs, .. } = world.pending.pop().unwrap() else { panic!("no resize") };
    let message = "cannot decrease memory limits: too low".to_owned();
    world.send(Input::Resized { after, runs, result: Err(message.clone()) });
    let status = world.life.status(world.now);
    assert_eq!(condition(&status, "PodResizeInProgress"), Some(("Error".into(), message)));
    assert_eq!(sizes(&status), ("2".into(), "1".into()));
    assert!(world.log[1].starts_with("ResizeError: Pod resize error: "), "{:?}", world.log);
    world.held.clear();
    assert_eq!(world.wait_for_alarm(), 5);
    let status = world.life.status(world.now);
    assert_eq!((sizes(&status), condition(&status, "PodResizeInProgress")), (("2".into(), "2".into()), None));
}

#[test]
fn a_container_is_restarted_when_its_policy_says_so() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    world.log.clear();
    world.send(Input::Desired(Arc::new(sized("1", "128Mi", 2))));
    let log = world.log.join("\n");
    assert!(log.starts_with("Killing: Container c resize requires restart\nstop c 30\nresize []"), "{log}");
    assert!(log.contains("start c 1"), "{log}");
    assert!(log.ends_with("],\"generation\":2}"), "{log}");
    let status = world.life.status(world.now);
    assert_eq!(condition(&status, "PodResizeInProgress"), None);
    assert_eq!(status.container_statuses.as_ref().unwrap()[0].restart_count, 1);
}

#[test]
fn another_agent_goes_on_with_a_resize() {
    let mut world = World::of(sized("1", "64Mi", 1));
    world.send(Input::Tick);
    let mut pod = sized("2", "64Mi", 2);
    pod.status = Some(world.life.status(world.now));
    let mut next = World::of(pod);
    let (sandboxes, containers) = (world.life.sandboxes.clone(), world.life.containers.clone());
    next.held.push("resize");
    next.send(Input::Listed { sandboxes, containers });
    assert!(next.log.contains(&"resize [c]".to_owned()), "{:?}", next.log);
    assert_eq!(sizes(&next.life.status(next.now)), ("2".into(), "1".into()));
}

#[test]
fn resources_of_a_pod_as_a_whole_are_told_as_granted_and_as_in_effect() {
    let sized = |cpu: &str, generation| {
        let own = json!({"resources": {"requests": {"memory": "32Mi"}}, "name": "c"});
        let mut pod = pod(
            json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}, "containers": [own]}),
        );
        pod.metadata.generation = Some(generation);
        pod
    };
    let mut world = World::of(sized("1", 1));
    world.send(Input::Tick);
    let told = |world: &mut World| {
        let status = world.life.status(world.now);
        let granted = status.allocated_resources.unwrap();
        let limits = status.resources.unwrap().limits.unwrap();
        (granted["cpu"].0.clone(), granted["memory"].0.clone(), limits["cpu"].0.clone())
    };
    assert_eq!(told(&mut world), ("1".into(), "32Mi".into(), "1".into()));
    world.held.push("resize");
    world.send(Input::Desired(Arc::new(sized("2", 2))));
    assert_eq!(told(&mut world), ("2".into(), "32Mi".into(), "1".into()));
    let Effect::Resize { after, runs, .. } = world.pending.pop().unwrap() else { panic!("no resize") };
    world.send(Input::Resized { after, runs, result: Ok(()) });
    assert_eq!(told(&mut world), ("2".into(), "32Mi".into(), "2".into()));
}
