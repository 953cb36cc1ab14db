//! Operators and watchers that others wrote, through a restart of the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use plimsoll_e2e::{Background, Cluster, Namespace};

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

pub(crate) fn they_outlive_a_restart_of_the_server(_: &Shared) {
    let cluster = Cluster::start();
    cluster.busybox(BUSYBOX);
    cluster.manifests(&["apply"], BOATS).ok();
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/boats.example.com"]).ok();
    let [boats, snake, node] = ["boats", "snake", "node"].map(|name| cluster.namespace(name));
    for space in [&snake, &node] {
        space.apply(&pod("box", SERVE, "", ""));
    }
    boats.apply(&boat("early", 2));
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
    for client in [&mut dynamic, &mut watcher] {
        client.line(PATIENCE, |line| line == "done");
    }
    // The operator hires after it launched, or before.
    boats.wait_object("hired", "configmaps/early-list", |list| list["data"]["crew"] == "3");
    boats.wait_object("launched", "example.com/v1/boats/late", |boat| boat["status"]["phase"] == "Afloat");

    // Another process of the operator takes over what there is.
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
