//! The program ends; the containers do not.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use plimsoll_e2e::{Cluster, Namespace};
use serde_json::{Value, json};

use crate::jobs::job;
use crate::pods::{STAY, identity, pod};
use crate::workloads::web;
use crate::{BUSYBOX, PATIENCE, Shared};

pub(crate) fn nothing_is_lost_when_killed_under_load(_: &Shared) {
    let cluster = Cluster::start();
    cluster.busybox(BUSYBOX);
    let space = cluster.namespace("load");
    let count = "i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done";
    // Its pods come and go all the while.
    let many = job("many", "completionMode: Indexed; completions: 40; parallelism: 3", "usleep 300000");
    space.apply(
        &(pod("stays", STAY, "", "") + "---\n" + &pod("counts", count, "", "") + "---\n" + &web(2, "")),
    );
    space.rollout("web");
    let before = [identity(&space, "stays"), identity(&space, "counts")];
    let pods: BTreeSet<String> = space.ready_pods("web").into_iter().collect();

    space.apply(&many);
    for round in 0..3 {
        let acknowledged = killed_under_load(&cluster, &space, round);
        let names: BTreeSet<String> = space
            .list("configmaps")
            .iter()
            .filter_map(|map| Some(map["metadata"]["name"].as_str()?.to_owned()))
            .collect();
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !names.contains(*name)).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged, but lost: {lost:?}");
        assert!(acknowledged.len() >= 3, "round {round}: there was no load");
    }

    assert_eq!(
        [identity(&space, "stays"), identity(&space, "counts")],
        before,
        "containers are adopted, not replaced"
    );
    assert_eq!(space.ready_pods("web").into_iter().collect::<BTreeSet<_>>(), pods);
    space.kubectl(&["wait", "--for=condition=complete", "job/many", "--timeout=90s"]).ok();
    let ended = space.object("batch/v1/jobs/many").unwrap();
    assert_eq!(
        (&ended["status"]["succeeded"], &ended["status"]["failed"]),
        (&json!(40), &Value::Null),
        "{ended}"
    );
    assert_eq!(space.list("pods?labelSelector=job-name%3Dmany").len(), 40, "each index ran once");
    // A container that was made and not started when the program was killed is made again, and counts, as upstream's.
    let is_of_job = |pod: &Value| pod["metadata"]["labels"]["job-name"].is_string();
    for pod in space.list("pods").iter().filter(|pod| !is_of_job(pod)) {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{pod}");
    }
    // No line of a log was lost while nobody looked.
    let log = space.kubectl(&["logs", "counts"]).ok();
    let expected: String = (1..=log.lines().count()).map(|i| format!("{i}\n")).collect();
    assert!(log == expected, "lines are missing or doubled");
    // It works on: what is deleted goes, what is made comes.
    space.kubectl(&["scale", "deployment/web", "--replicas=3"]).ok();
    space.rollout("web");
    space.kubectl(&["delete", "pod", "stays"]).ok();
    space.wait_gone("pods/stays");
}

/// Kills the program while clients write, starts it again, and returns what had been acknowledged.
fn killed_under_load(cluster: &Cluster, space: &Namespace<'_>, round: u32) -> Vec<String> {
    let acknowledged = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..3 {
            let (acknowledged, stop) = (&acknowledged, &stop);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("r{round}-{client}-{number}");
                    if space.kubectl(&["create", "configmap", &name]).code == 0 {
                        acknowledged.lock().unwrap().push(name);
                    }
                }
            });
        }
        cluster.wait("some writes are done", || (acknowledged.lock().unwrap().len() >= 6).then_some(()));
        cluster.kill();
        stop.store(true, Ordering::Relaxed);
    });
    cluster.up();
    acknowledged.into_inner().unwrap()
}

pub(crate) fn logs_and_exit_codes_outlive_a_stop(_: &Shared) {
    let cluster = Cluster::start();
    cluster.busybox(BUSYBOX);
    let space = cluster.namespace("stop");
    let folder = cluster.scratch().join("signal");
    std::fs::create_dir_all(&folder).unwrap();
    let script =
        "echo waiting; until [ -e /signal/go ]; do usleep 10000; done; echo went; touch /signal/gone; exit 5";
    let volume = format!(
        "  restartPolicy: Never\n  volumes: [{{name: signal, hostPath: {{path: {}}}}}]",
        folder.display()
    );
    space.apply(&pod("ends", script, "    volumeMounts: [{name: signal, mountPath: /signal}]", &volume));
    space.apply(&pod("stays", STAY, "", ""));
    space.wait_ready("ends");
    let before = identity(&space, "stays");

    cluster.stop();
    std::fs::write(folder.join("go"), "").unwrap();
    cluster.wait_for("the container ends while nobody looks", PATIENCE, || {
        folder.join("gone").exists().then_some(())
    });
    let time = cluster.up();
    assert!(time < 30_000, "{time} ms");

    let ended = space.wait_ended("ends");
    let end = &ended["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(end["exitCode"], 5, "{ended}");
    assert_eq!(space.kubectl(&["logs", "ends"]).ok(), "waiting\nwent\n");
    assert_eq!(identity(&space, "stays"), before);
}
