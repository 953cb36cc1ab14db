//! The state in a real cluster of etcd, whose members fail.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plimsoll_e2e::{Background, Cluster, Host, Hosts, found, get, run, skip};

use crate::{PATIENCE, Shared};

/// Drops whatever comes and goes, without a word.
const CUT: &str = "add table inet cut { \
    chain in { type filter hook input priority 0; policy drop; }; \
    chain out { type filter hook output priority 0; policy drop; }; }";

/// A member on a machine of its own.
struct Member<'a> {
    host: &'a Host,
    command: Command,
    process: Child,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<'a> Member<'a> {
    fn start(cluster: &Cluster, hosts: &'a Hosts, number: usize) -> Self {
        let url = |host: &Host, port: u16| format!("http://{}", SocketAddr::new(host.address(), port));
        let host = hosts.host(number);
        let (serve, peers) = (url(host, 2379), url(host, 2380));
        let all: Vec<_> =
            (0..3).map(|number| format!("m{number}={}", url(hosts.host(number), 2380))).collect();
        let mut command = host.command("etcd");
        command
            .arg(format!("--name=m{number}"))
            .arg(format!("--data-dir={}", cluster.scratch().join(format!("etcd-{number}")).display()))
            .args([format!("--listen-client-urls={serve}"), format!("--advertise-client-urls={serve}")])
            .args([format!("--listen-peer-urls={peers}"), format!("--initial-advertise-peer-urls={peers}")])
            .arg(format!("--initial-cluster={}", all.join(",")))
            .args(["--heartbeat-interval=50", "--election-timeout=500"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().unwrap();
        Self { host, command, process }
    }

    fn again(&mut self) {
        self.process = self.command.spawn().unwrap();
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn etcd_keeps_the_state_while_its_members_fail(_: &Shared) {
    if found("etcd").is_none() {
        skip("no etcd in PATH");
    }
    let hosts = Hosts::start(&[1, 1, 1]);
    let endpoints: Vec<_> =
        (0..3).map(|number| format!("http://{}:2379", hosts.host(number).address())).collect();
    let cluster = Cluster::prepare(&["--datastore-endpoint", &endpoints.join(",")]);
    let mut members: Vec<_> = (0..3).map(|number| Member::start(&cluster, &hosts, number)).collect();
    cluster.up();
    assert!(!cluster.data().join("store").exists(), "the state is in etcd alone");
    cluster.kubectl(&["run", "web", "--image=plimsoll.io/demo"]).ok();
    cluster.kubectl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=60s"]).ok();

    let watch = ["get", "configmaps", "--watch", "--no-headers", "-o", "name", "-l", "in=order"];
    let mut watch = Background::start(&mut cluster.kubectl_command(&watch));
    let mut expected = Vec::new();
    let mut write = |count: usize| {
        for _ in 0..count {
            let name = format!("order-{:03}", expected.len());
            let text = format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{in: order}}}}}}"
            );
            // A refusal says that it may be tried again; what happened nevertheless is found.
            cluster.wait("a ConfigMap", || {
                let outcome = cluster.manifests(&["create"], &text);
                (outcome.code == 0 || outcome.stderr.contains("AlreadyExists")).then_some(())
            });
            expected.push(format!("configmap/{name}"));
        }
    };
    write(2);
    // One of them leads when its turn comes.
    for member in &mut members {
        member.end();
        write(3);
        member.again();
        serves(&cluster, member.host);
    }
    for member in &members {
        member.host.run("nft", &[CUT]);
        write(3);
        member.host.run("nft", &["delete table inet cut"]);
        serves(&cluster, member.host);
    }
    let last = expected.last().unwrap().clone();
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.push(watch.line(PATIENCE, |line| line.starts_with("configmap/")));
    }
    assert_eq!(seen, expected, "each change comes once and in order");

    // Pages of one list show one revision, though the server that began it is gone.
    let page = |token: &str| {
        let path = format!(
            "/api/v1/namespaces/default/configmaps?labelSelector=in%3Dorder&limit=5&continue={token}"
        );
        let page = cluster.api(&path).unwrap();
        let names: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|map| map["metadata"]["name"].clone()).collect();
        (page["metadata"].clone(), names)
    };
    let (first, names) = page("");
    assert_eq!(names.len(), 5, "{first}");
    cluster.kubectl(&["delete", "configmap", "order-006"]).ok();
    cluster.stop();
    cluster.up();
    let (second, names) = page(first["continue"].as_str().unwrap());
    assert_eq!((&names[1], &second["resourceVersion"]), (&"order-006".into(), &first["resourceVersion"]));
    cluster.kubectl(&["delete", "pod", "web"]).ok();
}

/// Waits until a member answers again.
fn serves(cluster: &Cluster, host: &Host) {
    cluster.wait("a member's health", || {
        let health = get(SocketAddr::new(host.address(), 2379), "/health", Duration::from_secs(1)).ok()?;
        health.body.contains("true").then_some(())
    });
}

pub(crate) fn what_cannot_keep_the_state_is_refused(_: &Shared) {
    for (options, says) in [
        (&["--datastore-endpoint=http://127.0.0.1:1"][..], "does not serve: Connection refused"),
        (&["--datastore-endpoint=http://127.0.0.1"], "it is not SCHEME://HOST:PORT"),
        (&["--datastore-endpoint=https://127.0.0.1:1"], "--datastore-cafile"),
        (&["--datastore-cafile=/dev/null"], "--datastore-endpoint"),
    ] {
        let cluster = Cluster::prepare(options);
        let refused = run(&mut cluster.up_command(), b"", PATIENCE).refused();
        assert!(refused.contains(says), "{options:?}: {refused}");
    }
}
