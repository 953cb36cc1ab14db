//! The state as an etcd: the real etcdctl works on it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use plimsoll_e2e::{Background, Cluster, Outcome, found, program, run, skip};

use crate::{PATIENCE, Shared};

/// etcdctl of an endpoint, with these flags for its certificates.
struct Ctl {
    flags: Vec<String>,
}

impl Ctl {
    fn at(endpoint: &str, more: &[String]) -> Self {
        if found("etcdctl").is_none() {
            skip("no etcdctl");
        }
        Self { flags: [&[format!("--endpoints={endpoint}")][..], more].concat() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(&self.flags).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        run(&mut self.command(arguments), b"", PATIENCE)
    }

    /// What it says.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).ok()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], reason: &str) {
        let said = self.run(arguments).refused();
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }
}

/// A store of its own, as an etcd; ended when dropped.
struct Serving {
    _process: Background,
}

impl Serving {
    fn start(data: &Path, endpoint: &str, socket: &str) -> Self {
        let mut command = Command::new(program());
        command.args(["store", "serve", "--listen", endpoint, "--listen", socket, "--data-dir"]).arg(data);
        let process = Background::start(&mut command);
        let deadline = std::time::Instant::now() + PATIENCE;
        while std::net::TcpStream::connect(endpoint.trim_start_matches("http://")).is_err() {
            assert!(std::time::Instant::now() < deadline, "nobody listens on {endpoint}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { _process: process }
    }
}

pub(crate) fn etcdctl_works_on_a_store_of_its_own(_: &Shared) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let socket = format!("unix://{}", folder.path().join("etcd.sock").display());
    let (ctl, local) = (Ctl::at(&endpoint, &[]), Ctl::at(&socket, &[]));
    let serving = Serving::start(&data, &endpoint, &socket);

    assert_eq!(ctl.ok(&["put", "/a/1", "one"]), "OK\n");
    let mut watch =
        Background::start(&mut ctl.command(&["watch", "/a/", "--prefix", "--rev=2", "--prev-kv"]));
    watch.line(PATIENCE, |line| line == "one");
    ctl.ok(&["put", "/a/2", "two"]);
    watch.line(PATIENCE, |line| line == "two");
    let compare = "mod(\"/a/1\") = \"2\"\n\nput /a/1 uno\ndel /a/2\nget /a/ --prefix\n\nput /never 1\n\n";
    let told = run(&mut ctl.command(&["txn"]), compare.as_bytes(), PATIENCE).ok();
    assert_eq!(told, "SUCCESS\n\nOK\n\n1\n\n/a/1\nuno\n");
    watch.line(PATIENCE, |line| line == "DELETE");
    assert_eq!(ctl.ok(&["get", "/a/", "--prefix", "--rev=3", "--order=DESCEND"]), "/a/2\ntwo\n/a/1\none\n");
    assert_eq!(ctl.ok(&["get", "", "--from-key", "--limit=1", "--keys-only"]), "/a/1\n\n");
    ctl.refused(&["put", "x", "y", "--lease=7"], "etcdserver: requested lease not found");
    ctl.refused(&["get", "/a/1", "--rev=99"], "required revision is a future revision");
    ctl.refused(&["user", "add", "x:y"], "authentication is not enabled");

    let granted = ctl.ok(&["lease", "grant", "2"]);
    let short = granted.split(' ').nth(1).unwrap();
    let granted = ctl.ok(&["lease", "grant", "600"]);
    let long = granted.split(' ').nth(1).unwrap();
    ctl.ok(&["put", "/short", "1", &format!("--lease={short}")]);
    ctl.ok(&["put", "/long", "1", &format!("--lease={long}")]);
    assert!(ctl.ok(&["lease", "keep-alive", "--once", long]).contains("keepalived with TTL(600)"));
    assert!(ctl.ok(&["lease", "timetolive", long, "--keys"]).contains("attached keys([/long])"));
    let mut short_watch = Background::start(&mut ctl.command(&["watch", "/short", "--rev=5"]));
    short_watch.line(PATIENCE, |line| line == "DELETE");

    for way in [&ctl, &local, &Ctl::at(endpoint.trim_start_matches("http://"), &[])] {
        assert_eq!(way.ok(&["get", "/a/1", "--print-value-only"]), "uno\n");
        way.ok(&["endpoint", "health"]);
        way.ok(&["endpoint", "status"]);
        way.ok(&["defrag"]);
    }
    assert!(ctl.ok(&["endpoint", "status", "-w", "json"]).contains("\"version\":\"3.5."));
    assert!(ctl.ok(&["member", "list"]).contains("started"));
    ctl.ok(&["endpoint", "hashkv"]);
    ctl.ok(&["alarm", "list"]);
    ctl.ok(&["alarm", "disarm"]);
    let copy = folder.path().join("copy.db").display().to_string();
    ctl.ok(&["snapshot", "save", &copy]);
    assert!(ctl.ok(&["snapshot", "status", &copy, "-w", "json"]).contains("\"revision\":"));
    assert!(ctl.ok(&["compaction", "4"]).contains("compacted revision 4"));
    ctl.refused(&["get", "/a/1", "--rev=3"], "required revision has been compacted");
    ctl.refused(&["compaction", "4"], "required revision has been compacted");
    // A lease outlives the process, and what hangs on it; this program's own words do the same.
    drop(serving);
    let _serving = Serving::start(&data, &endpoint, &socket);

    let store = |words: &[&str]| {
        let mut command = Command::new(program());
        run(command.arg("store").args(words).arg("--data-dir").arg(&data), b"", PATIENCE)
    };
    let status = store(&["status"]).ok();
    assert!(status.contains("2, 1 leases"), "{status}");
    assert!(ctl.ok(&["lease", "revoke", long]).contains("revoked"));
    assert_eq!(ctl.ok(&["get", "", "--from-key"]), "/a/1\nuno\n");
    assert!(store(&["compact"]).ok().contains("compacted to revision"));
    store(&["reclaim"]).ok();
    assert_eq!(store(&["alarm", "list"]).ok(), "no alarm\n");
    let own = folder.path().join("own").display().to_string();
    store(&["snapshot", "save", &own]).ok();
    assert!(store(&["snapshot", "status", &own]).ok().contains("revision"));
    // What is in the way of the file is said, and not that the store is in use.
    let nowhere = store(&["snapshot", "save", "/nowhere/copy"]).refused();
    assert!(nowhere.contains("write /nowhere/copy: No such file or directory"), "{nowhere}");
    // A member of an etcd is made of it, and a store of its own of what etcdctl saved.
    let member = folder.path().join("etcd").display().to_string();
    let restore = ["snapshot", "restore", &own, "--etcd-data-dir", &member, "--name=m0"];
    assert!(store(&restore).refused().contains("\"m0\" is none of the members default"));
    store(&[&restore[..], &["--initial-cluster=m0=http://127.0.0.1:1"]].concat()).ok();
    assert!(folder.path().join("etcd/member/snap/db").exists());
    assert!(store(&["snapshot", "restore", &copy]).refused().contains("is not empty"));
    assert!(store(&["compact", "1"]).refused().contains("required revision has been compacted"));
    assert!(store(&["serve"]).refused().contains("in use by another process"));
}

pub(crate) fn the_state_of_a_cluster_is_served_to_who_shows_a_certificate(_: &Shared) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let cluster = Cluster::prepare(&["--no-node", &format!("--etcd-listen={address}")]);
    cluster.up();
    let file =
        |flag: &str, name: &str| format!("--{flag}={}", cluster.data().join("pki/etcd").join(name).display());
    let shown = [file("cacert", "ca.crt"), file("cert", "client.crt"), file("key", "client.key")];
    let endpoint = format!("https://{address}");
    let ctl = Ctl::at(&endpoint, &shown);
    let keys = ctl.ok(&["get", "/registry/namespaces/", "--prefix", "--keys-only"]);
    assert!(keys.contains("/registry/namespaces/default\n"), "{keys}");
    let mut anybody = Ctl::at(&endpoint, &shown[..1]).command(&["get", "x", "--command-timeout=3s"]);
    run(&mut anybody, b"", Duration::from_secs(30)).refused();
}
