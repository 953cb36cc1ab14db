//! Operators and watchers that others wrote, through a restart of the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_e2e::{Background, Cluster, Namespace, built};
use serde_json::Value;

use crate::pods::pod;
use crate::{BUSYBOX, PATIENCE, Shared};

/// What the operators look after.
const BOATS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boats.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: boats, singular: boat, kind: Boat, listKind: BoatList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Phase, type: string, jsonPath: .status.phase}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {crew: {type: integer, minimum: 1}}}
          status: {type: object, x-kubernetes-preserve-unknown-fields: true}
";

/// A pod that serves a page by busybox.
const SERVE: &str = "mkdir /www; echo page > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www";

fn boat(name: &str, crew: u32) -> String {
    format!("{{apiVersion: example.com/v1, kind: Boat, metadata: {{name: {name}}}, spec: {{crew: {crew}}}}}")
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where `./test` installs what it takes from the npm registry.
fn node_modules() -> PathBuf {
    std::env::var_os("PLIMSOLL_NODE_MODULES")
        .map_or_else(|| script("../../target/tools/node/node_modules"), PathBuf::from)
}

fn start(space: &Namespace<'_>, command: &mut Command) -> Background {
    Background::start(command.env("KUBECONFIG", space.cluster().kubeconfig()))
}

fn kopf(space: &Namespace<'_>) -> Background {
    let mut command = Command::new("kopf");
    command.args(["run", "--standalone", "--namespace", space.name()]).arg(script("python/boats.py"));
    start(space, &mut command)
}

fn dynamic(space: &Namespace<'_>) -> Background {
    start(space, Command::new("python3").arg(script("python/dynamic.py")).arg(space.name()))
}

fn watcher(space: &Namespace<'_>) -> Background {
    let mut command = Command::new("node");
    start(space, command.arg(script("node/watcher.mjs")).arg(node_modules()).arg(space.name()))
}

/// The operator of `tests/operator`, one process of several.
fn kube_rs(space: &Namespace<'_>, process: &str) -> Background {
    start(space, Command::new(built("plimsoll-operator")).args([space.name(), process]))
}

/// Where boats lie, which the operator in Rust writes on their lists.
fn harbour(pier: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: harbour, labels: {{harbour: here}}}}, data: {{pier: {pier}}}}}"
    )
}

/// Who owns `field` of an object by server-side apply.
fn applied_by<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    let mut entries = object["metadata"]["managedFields"].as_array()?.iter();
    let entry =
        entries.find(|entry| entry["operation"] == "Apply" && entry["fieldsV1"].pointer(field).is_some());
    entry?["manager"].as_str()
}

pub(crate) fn they_outlive_a_restart_of_the_server(_: &Shared) {
    let cluster = Cluster::start();
    cluster.busybox(BUSYBOX);
    cluster.manifests(&["apply"], BOATS).ok();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/boats.example.com"]).ok();
    let [boats, snake, node, rust] = ["boats", "snake", "node", "rust"].map(|name| cluster.namespace(name));
    for space in [&snake, &node] {
        space.apply(&pod("box", SERVE, "", ""));
    }
    boats.apply(&boat("early", 2));
    rust.apply(&format!("{}\n---\n{}", harbour("east"), boat("early", 2)));
    let mut crab = kube_rs(&rust, "first");
    let mut operator = kopf(&boats);
    let (mut dynamic, mut watcher) = (dynamic(&snake), watcher(&node));
    operator.line(PATIENCE, |line| line == "launched early");
    let launched = boats.wait_object("afloat", "example.com/v1/boats/early", |boat| {
        boat["status"]["phase"] == "Afloat" && boat["status"]["ticks"].as_i64() >= Some(1)
    });
    let uid = &launched["metadata"]["uid"];
    assert_eq!(launched["metadata"]["finalizers"][0], "kopf.zalando.org/KopfFinalizerMarker", "{launched}");
    let list = boats.object("configmaps/early-list").unwrap();
    let owner = &list["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&list["data"]["crew"], &owner["uid"], &owner["controller"]),
        (&"2".into(), uid, &true.into())
    );
    crab.line(PATIENCE, |line| line == "launched early");
    let list = rust.wait_object("written", "configmaps/early-list", |list| list["data"]["pier"] == "east");
    assert_eq!(list["data"]["crew"], "2");
    assert_eq!(applied_by(&list, "/f:data/f:crew"), Some("boats"), "{list}");
    let launched = rust.object("example.com/v1/boats/early").unwrap();
    assert_eq!(applied_by(&launched, "/f:status/f:phase"), Some("boats"), "{launched}");
    assert_eq!(launched["metadata"]["finalizers"][0], "example.com/unload", "{launched}");
    for client in [&mut dynamic, &mut watcher] {
        client.line(PATIENCE, |line| line == "ready");
    }
    for space in [&snake, &node] {
        space.wait_ready("box");
    }

    cluster.kill();
    cluster.up();
    // Their watches go on where they were.
    snake.kubectl(&["create", "configmap", "last"]).ok();
    node.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: last, labels: {by: node}}}");
    boats.apply(&boat("late", 1));
    boats.apply(&boat("early", 3));
    rust.apply(&[harbour("west"), boat("late", 1), boat("early", 3)].join("\n---\n"));
    for client in [&mut dynamic, &mut watcher] {
        client.line(PATIENCE, |line| line == "done");
    }
    // The operator hires after it launched, or before.
    boats.wait_object("hired", "configmaps/early-list", |list| list["data"]["crew"] == "3");
    boats.wait_object("launched", "example.com/v1/boats/late", |boat| boat["status"]["phase"] == "Afloat");

    crab.line(PATIENCE, |line| line == "launched late");
    let list = rust.wait_object("hired and moved", "configmaps/early-list", |list| {
        list["data"]["crew"] == "3" && list["data"]["pier"] == "west"
    });
    // What others change or delete is put right.
    rust.kubectl(&["patch", "configmap", "late-list", "--type=merge", "-p", r#"{"data": {"crew": "9"}}"#])
        .ok();
    let said = crab.line(PATIENCE, |line| line.starts_with("takes back late-list: "));
    assert!(said.contains("conflict with \"kubectl-patch\" using v1: .data.crew"), "{said}");
    rust.wait_object("taken back", "configmaps/late-list", |list| list["data"]["crew"] == "1");
    rust.kubectl(&["delete", "configmap", "early-list"]).ok();
    rust.wait_object("made again", "configmaps/early-list", |again| {
        again["metadata"]["uid"] != list["metadata"]["uid"]
    });
    // Another process waits for the lease until the first is gone.
    let mut second = kube_rs(&rust, "second");
    second.line(PATIENCE, |line| line == "waits for first");
    drop(crab);
    second.line(PATIENCE, |line| line == "second works");
    rust.kubectl(&["delete", "boats", "--all"]).ok();
    second.line(PATIENCE, |line| line == "unloaded late");
    rust.wait_gone("configmaps/late-list");
    rust.wait_event("late", "Unloaded");
    let lease = rust.object("coordination.k8s.io/v1/leases/boats").unwrap();
    let [holder, transitions] = ["holderIdentity", "leaseTransitions"].map(|field| &lease["spec"][field]);
    assert_eq!((holder, transitions), (&"second".into(), &1.into()), "{lease}");

    // Another process of the operator in Python takes over what there is.
    drop(operator);
    let before = boats.object("example.com/v1/boats/late").unwrap()["status"]["ticks"].as_i64();
    let mut operator = kopf(&boats);
    operator.line(PATIENCE, |line| line == "resumed late");
    boats.wait_object("ticking", "example.com/v1/boats/late", |boat| {
        boat["status"]["ticks"].as_i64() > before
    });
    boats.kubectl(&["delete", "boat", "late"]).ok();
    operator.line(PATIENCE, |line| line == "unloaded late");
    boats.wait_gone("configmaps/late-list");
    boats.wait_event("late", "Unloaded");
    // It lets go of the other one, too, before the operator goes.
    boats.kubectl(&["delete", "boats", "--all"]).ok();
}
