//! Controllers in processes of their own, of which one works.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::Command;

use plimsoll_e2e::{Background, Cluster, program};
use serde_json::{Value, json};

use crate::jobs::job;
use crate::workloads::web;
use crate::{BUSYBOX, PATIENCE, Shared};

/// The Lease that who runs controllers holds, unless another is named.
const LEASE: &str = "kube-controller-manager";

/// That of the processes whose controllers the instance does not run.
const OTHERS: &str = "other-controllers";

fn lease(cluster: &Cluster, name: &str) -> Option<Value> {
    cluster.api(&format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{name}"))
}

pub(crate) fn a_second_process_takes_over_when_the_first_one_ends(shared: &Shared) {
    let lease = lease(shared.cluster(), LEASE).unwrap();
    assert!(
        lease["spec"]["holderIdentity"].is_string(),
        "an instance leads while its controllers work: {lease}"
    );
    let cluster = Cluster::prepare(&["--no-node", "--controllers=-*"]);
    cluster.up();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let first = controllers(&cluster, &["--bind-address=127.0.0.1", &format!("--secure-port={port}")]);
    let before = holder(&cluster, LEASE, 0);
    let second = controllers(&cluster, &["--secure-port=0"]);

    cluster.kubectl(&["create", "deployment", "web", "--image=plimsoll.io/demo", "--replicas=3"]).ok();
    pods(&cluster, 3);
    assert_eq!(get(&cluster, port, "healthz", false), "ok");
    assert!(get(&cluster, port, "metrics", false).contains("Forbidden"), "metrics are not for everybody");
    let metrics = get(&cluster, port, "metrics", true);
    for line in ["workqueue_adds_total{name=\"deployment\"}", "leader_election_master_status"] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }

    // Told to end, it hands over at once; what was scaled meanwhile is the other's business.
    cluster.kubectl(&["scale", "deployment", "web", "--replicas=5"]).ok();
    terminate(first);
    let after = holder(&cluster, LEASE, 1);
    assert_ne!(before, after);
    pods(&cluster, 5);
    terminate(second);
    let sets = cluster.api("/apis/apps/v1/namespaces/default/replicasets").unwrap();
    assert_eq!(sets["items"].as_array().map(Vec::len), Some(1), "nothing was made twice: {sets}");
    let events = cluster.kubectl(&["get", "events", "-n", "kube-system", "-o", "wide"]).ok();
    assert!(events.contains("became leader") && events.contains("stopped leading"), "{events}");
}

pub(crate) fn what_a_killed_process_began_is_ended_by_the_other(_: &Shared) {
    let cluster =
        Cluster::prepare(&["--controllers=*,-deployment-controller,-replicaset-controller,-job-controller"]);
    cluster.up();
    cluster.busybox(BUSYBOX);
    let options = [
        "--controllers=deployment-controller,replicaset-controller,job-controller",
        "--secure-port=0",
        &format!("--leader-elect-resource-name={OTHERS}"),
        "--leader-elect-lease-duration=3s",
        "--leader-elect-renew-deadline=2s",
        "--leader-elect-retry-period=200ms",
    ];
    let first = controllers(&cluster, &options);
    holder(&cluster, OTHERS, 0);
    let _second = controllers(&cluster, &options);
    let space = cluster.namespace("takeover");
    let mut watch = space.follow(&["get", "pods", "--watch", "--output=name"]);
    space.apply(&web(6, "        env: [{name: VERSION, value: one}]\n"));
    space.rollout("web");
    space.apply(&job("many", "completionMode: Indexed; completions: 20; parallelism: 2", "usleep 200000"));
    space.kubectl(&["set", "env", "deployment/web", "VERSION=two"]).ok();
    space.wait_object("some have ended", "batch/v1/jobs/many", |job| {
        job["status"]["succeeded"].as_u64() >= Some(3)
    });
    // At once, without a word.
    drop(first);
    assert_ne!(space.object("batch/v1/jobs/many").unwrap()["status"]["succeeded"], 20, "it was too late");
    holder(&cluster, OTHERS, 1);
    space.kubectl(&["wait", "--for=condition=complete", "job/many", "--timeout=60s"]).ok();
    space.rollout("web");
    let ended = space.object("batch/v1/jobs/many").unwrap();
    assert_eq!(
        (&ended["status"]["succeeded"], &ended["status"]["failed"]),
        (&json!(20), &Value::Null),
        "{ended}"
    );

    space.kubectl(&["run", "last", "--image=plimsoll.io/demo"]).ok();
    let names = RefCell::new(BTreeSet::new());
    watch.line(PATIENCE, |line| {
        names.borrow_mut().insert(line.to_owned());
        line == "pod/last"
    });
    let made = |of: &str| names.borrow().iter().filter(|name| name.starts_with(of)).count();
    assert_eq!((made("pod/many-"), made("pod/web-")), (20, 12), "each pod was made once: {names:?}");
}

/// Waits until a process leads after so many changes, and tells which.
fn holder(cluster: &Cluster, name: &str, transitions: u64) -> String {
    cluster.wait("a process leads", || {
        let lease = lease(cluster, name)?;
        let holder = lease["spec"]["holderIdentity"].as_str()?.to_owned();
        (lease["spec"]["leaseTransitions"] == transitions && !holder.is_empty()).then_some(holder)
    })
}

pub(crate) fn controllers(cluster: &Cluster, more: &[&str]) -> Background {
    let mut command = Command::new(program());
    command.arg("controllers").arg("--kubeconfig").arg(cluster.kubeconfig());
    command.arg("--cert-dir").arg(cluster.scratch().join("controllers")).args(more);
    Background::start(&mut command)
}

fn terminate(mut process: Background) {
    Command::new("kill").arg(process.id().to_string()).status().unwrap();
    process.rest(PATIENCE);
}

fn pods(cluster: &Cluster, count: usize) {
    cluster.wait("all pods are made", || {
        let pods: Value = cluster.api("/api/v1/namespaces/default/pods")?;
        (pods["items"].as_array()?.len() == count).then_some(())
    });
}

/// Reads from the process' own server, with a token of the cluster or without.
fn get(cluster: &Cluster, port: u16, path: &str, token: bool) -> String {
    let mut command = Command::new("curl");
    command.args(["--silent", "--insecure", &format!("https://127.0.0.1:{port}/{path}")]);
    if token {
        for words in [
            "create serviceaccount reader",
            "create clusterrole reader --verb=get --non-resource-url=/metrics",
            "create clusterrolebinding reader --clusterrole=reader --serviceaccount=default:reader",
        ] {
            cluster.kubectl(&words.split(' ').collect::<Vec<_>>()).ok();
        }
        let token = cluster.kubectl(&["create", "token", "reader"]).ok();
        command.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
