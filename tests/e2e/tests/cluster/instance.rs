//! A cluster's own life: start, refusal, side by side, and an end that leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use plimsoll_e2e::{Cluster, Machine, get, run};

use crate::workloads::web;
use crate::{PATIENCE, Shared};

pub(crate) fn down_leaves_nothing(_: &Shared) {
    let before = Machine::look();
    let cluster = Cluster::start();
    let space = cluster.namespace("busy");
    space.apply(&web(2, ""));
    space.rollout("web");
    space
        .kubectl(&["expose", "deployment", "web", "--type=NodePort", "--port=80", "--target-port=http"])
        .ok();
    // A process in a container that does not care for signals.
    cluster.busybox(crate::BUSYBOX);
    space.apply(&crate::pods::pod("deaf", "trap '' TERM INT; while :; do sleep 1; done", "", ""));
    space.wait_ready("deaf");
    let id = instance_id(cluster.data());
    let there = Machine::look();
    let made = there.since(&before);
    assert!(made.len() > 10, "a cluster with pods should be seen: {made:#?}");
    drop(space);

    cluster.down(&[]).ok();
    let left = Machine::look();
    // Other clusters come and go meanwhile: what counts is what came while this one ran, and carries its mark.
    let path = cluster.data().to_string_lossy().into_owned();
    let ours = |thing: &&&str| thing.contains(&path) || id.iter().any(|id| thing.contains(id.as_str()));
    let left = left.since(&before);
    let left: Vec<&&str> = left.iter().filter(ours).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    assert!(!cluster.data().join("admin.kubeconfig").exists(), "the data is to go as well");
    // Once more is no error.
    cluster.down(&[]).ok();
}

/// What the names of this instance's things on the machine contain.
fn instance_id(data: &Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("instance.json")).expect("a started instance is remembered");
    let instance: serde_json::Value = serde_json::from_str(&text).unwrap();
    let id = instance["id"].as_str().unwrap();
    let pods = instance["podCidr"].as_str().unwrap();
    // 10.42.0.0/16: its addresses begin with 10.42.
    let prefix: Vec<&str> = pods.split('.').take(2).collect();
    vec![id.to_owned(), format!("address {}.", prefix.join("."))]
}

pub(crate) fn two_instances_run_side_by_side(shared: &Shared) {
    let (one, other) = (shared.cluster(), Cluster::start());
    let spaces = [one.namespace("twin"), other.namespace("twin")];
    let answers = spaces.each_ref().map(|space| {
        space.apply(&web(1, ""));
        space.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=http"]).ok();
        space.rollout("web");
        let service = space.object("services/web").unwrap();
        let address: SocketAddr =
            format!("{}:80", service["spec"]["clusterIP"].as_str().unwrap()).parse().unwrap();
        space.wait("the service answers", || get(address, "/", Duration::from_secs(5)).ok()).body
    });
    assert_ne!(answers[0], answers[1]);
    let addresses = |cluster: &Cluster| -> BTreeSet<String> {
        let pods = cluster.api("/api/v1/pods").unwrap();
        pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|pod| Some(pod["status"]["podIP"].as_str()?.to_owned()))
            .collect()
    };
    assert!(addresses(one).is_disjoint(&addresses(&other)));
    // The end of one does not touch the other.
    other.down(&[]).ok();
    let space = one.kubectl(&["get", "pods", "-n", "twin"]).ok();
    assert!(space.contains("Running"), "{space}");
}

pub(crate) fn down_can_keep_the_data(_: &Shared) {
    let cluster = Cluster::start();
    let before = Machine::look();
    let space = cluster.namespace("kept");
    space.apply(&web(1, ""));
    space.rollout("web");
    let pods = space.ready_pods("web");
    let first = space.object(&format!("pods/{}", pods[0])).unwrap();
    cluster.down(&["--keep-data"]).ok();
    let id = instance_id(cluster.data());
    let left = Machine::look();
    let left: Vec<&str> = left
        .since(&before)
        .into_iter()
        .filter(|thing| id.iter().any(|id| thing.contains(id.as_str())))
        .collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    cluster.up();
    // The same pod, its container started anew.
    let again = space.wait_object("ready again", &format!("pods/{}", pods[0]), |pod| {
        pod["status"]["containerStatuses"][0]["containerID"]
            != first["status"]["containerStatuses"][0]["containerID"]
            && pod["status"]["containerStatuses"][0]["ready"] == true
    });
    assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"]);
    space.rollout("web");
}

pub(crate) fn it_can_run_detached(_: &Shared) {
    let cluster = Cluster::prepare(&["--detach"]);
    let outcome = run(&mut cluster.up_command(), b"", PATIENCE);
    assert!(outcome.clone().ok().lines().last().unwrap().starts_with("ready in "), "{outcome:?}");
    let pid = fs::read_to_string(cluster.data().join("plimsoll.pid")).unwrap();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim())).expect("it goes on");
    assert!(line.starts_with("plimsoll\0up\0"), "{line:?}");
    assert!(cluster.kubectl(&["get", "nodes"]).ok().contains("Ready"));
    assert!(fs::read_dir(cluster.data().join("log")).unwrap().count() > 0);
    let again = run(&mut cluster.up_command(), b"", PATIENCE).refused();
    assert!(again.contains("runs already") && again.contains(pid.trim()), "{again}");
    cluster.down(&[]).ok();
    // Whoever inherited the process may take a moment to bury it.
    let status = format!("/proc/{}/status", pid.trim());
    let alive = || fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ"));
    assert!(!alive(), "it is still there");
}

pub(crate) fn a_control_plane_runs_alone(_: &Shared) {
    let cluster = Cluster::prepare(&["--no-node"]);
    cluster.up();
    let version = cluster.kubectl(&["version", "-o", "json"]).ok();
    assert!(version.contains("v1.37"), "{version}");
    assert_eq!(cluster.kubectl(&["get", "nodes", "-o", "name"]).ok(), "");
    cluster.kubectl(&["create", "deployment", "web", "--image=plimsoll.io/demo"]).ok();
    cluster.wait("a pod waits for a node", || {
        let pods = cluster.api("/api/v1/namespaces/default/pods")?;
        (pods["items"][0]["status"]["conditions"].to_string().contains("no nodes available to schedule pods"))
            .then_some(())
    });
}

pub(crate) fn what_is_missing_is_refused(_: &Shared) {
    // Each is refused before anything is changed, and says what to do.
    let taken = Cluster::prepare(&[]);
    let listener = TcpListener::bind(taken.listen()).unwrap();
    let text = run(&mut taken.up_command(), b"", PATIENCE).refused();
    assert!(text.contains(&taken.listen().to_string()) && text.contains("--listen"), "{text}");
    assert!(!taken.data().exists(), "nothing is to be changed");
    drop(listener);

    let user = Cluster::prepare(&[]);
    let copy = user.scratch().join("plimsoll");
    // Copied by a process of its own: a file that this one writes cannot be run while another thread starts programs.
    let mut cp = std::process::Command::new("cp");
    run(cp.arg(plimsoll_e2e::program()).arg(&copy), b"", PATIENCE).ok();
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .arg("up")
        .arg("--data-dir")
        .arg("/tmp/plimsoll-e2e-nobody");
    // Somebody else cannot look into the directory of a test.
    std::os::unix::fs::chown(user.scratch(), Some(65534), Some(65534)).unwrap();
    let text = run(command.process_group(0), b"", PATIENCE).refused();
    assert!(text.contains("root"), "{text}");
    assert!(!Path::new("/tmp/plimsoll-e2e-nobody").exists());

    // options, what the refusal says
    let table: [(&[&str], &str); 5] = [
        // Addresses of the machine itself, whatever they are.
        (&["--pod-cidr", "127.0.0.0/8", "--service-cidr", "10.9.128.0/17"], "of this machine's lo"),
        (&["--pod-cidr", "10.9.0.0/16", "--service-cidr", "10.9.128.0/17"], "overlap"),
        (&["--pod-cidr", "10.9.0.0/28"], "--pod-cidr"),
        (&["--cgroup-root", "relative"], "--cgroup-root"),
        (&["--node-name", "Not_A_Name"], "node"),
    ];
    for (options, expected) in table {
        let cluster = Cluster::prepare(options);
        let text = run(&mut cluster.up_command(), b"", PATIENCE).refused();
        assert!(text.contains(expected), "{options:?}: {text}");
        assert!(!cluster.data().exists(), "{options:?}: nothing is to be changed");
    }
}
