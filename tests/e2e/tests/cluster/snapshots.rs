//! Yesterday's state comes back.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use plimsoll_e2e::{Background, Cluster, get, program};

use crate::Shared;
use crate::workloads::web;

/// A scheduler in a process of its own, which watches while the server is away.
const OTHER: &str = "
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
profiles: [{schedulerName: other}]
";

pub(crate) fn yesterday_comes_back(_: &Shared) {
    let cluster = Cluster::start();
    let space = cluster.namespace("yesterday");
    let config = cluster.scratch().join("other.yaml");
    fs::write(&config, OTHER).unwrap();
    let mut command = Command::new(program());
    command.arg("scheduler").arg("--kubeconfig").arg(cluster.kubeconfig()).arg("--config").arg(&config);
    let _other = Background::start(command.arg("--secure-port=0"));
    space.apply(&web(2, ""));
    space.rollout("web");
    space.kubectl(&["create", "configmap", "kept"]).ok();
    let mut pods = space.ready_pods("web");
    pods.sort();
    let file = cluster.scratch().join("yesterday").display().to_string();
    cluster.plimsoll("store snapshot save", &[&file]).ok();

    space.kubectl(&["delete", "configmap", "kept"]).ok();
    space.kubectl(&["create", "configmap", "late"]).ok();
    space.kubectl(&["run", "late", "--image=plimsoll.io/demo"]).ok();
    let late = space.wait_ready("late");
    let late: SocketAddr = format!("{}:8080", late["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    get(late, "/", Duration::from_secs(5)).unwrap();
    space.kubectl(&["scale", "deployment/web", "--replicas=1"]).ok();
    space.wait("one of its pods is gone", || {
        (space.list("pods?labelSelector=app%3Dweb").len() == 1).then_some(())
    });
    let maps = "/api/v1/namespaces/yesterday/configmaps";
    let seen = cluster.api(maps).unwrap()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    cluster.stop();
    let store = cluster.data().join("store");
    let refused = cluster.plimsoll("store snapshot restore", &[&file]).refused();
    assert!(refused.contains("is not empty"), "{refused}");
    fs::rename(&store, cluster.data().join("store.old")).unwrap();
    let half = cluster.scratch().join("half");
    let bytes = fs::read(&file).unwrap();
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let refused = cluster.plimsoll("store snapshot restore", &[&half.to_string_lossy()]).refused();
    assert!(refused.contains("is cut off: use another one") && !store.exists(), "{refused}");
    cluster.plimsoll("store snapshot restore", &[&file]).ok();
    cluster.up();

    // Whoever knew today's state is told to list again, and gets yesterday's.
    let watched = cluster.kubectl(&[
        "get",
        "--raw",
        &format!("{maps}?watch=1&timeoutSeconds=5&resourceVersion={seen}"),
    ]);
    let told = watched.stdout + &watched.stderr;
    assert!(told.contains("too old resource version") || told.contains("Expired"), "{told}");
    let names = space.kubectl(&["get", "configmaps", "-o", "name"]).ok();
    assert!(names.contains("configmap/kept") && !names.contains("late"), "{names}");
    let revision = cluster.api(maps).unwrap()["metadata"]["resourceVersion"].as_str().unwrap().parse::<i64>();
    assert!(revision.unwrap() > seen.parse::<i64>().unwrap() + 900_000_000, "revisions skip ahead");
    // Pods are what it says: one is run again, one is not known any more.
    space.wait("the same pods are ready", || {
        let mut ready = space.ready_pods("web");
        ready.sort();
        (ready == pods).then_some(())
    });
    assert!(space.object("pods/late").is_none());
    space.wait("the late pod ends", || get(late, "/", Duration::from_secs(1)).is_err().then_some(()));
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: placed}, spec: {schedulerName: other, \
               containers: [{name: c, image: plimsoll.io/demo}]}}";
    space.apply(pod);
    space.wait_ready("placed");
}
