//! The ways of kubectl to change what is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use plimsoll_e2e::{Namespace, Outcome, run};
use serde_json::json;

use crate::workloads::web;
use crate::{PATIENCE, Shared};

/// A config map as a manifest in block style.
fn map(name: &str, label: &str, data: &str) -> String {
    // An empty map would be a difference to what is stored, where it is none at all.
    let data = if data.is_empty() { String::new() } else { format!("data: {{{data}}}\n") };
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: {label}}}}}\n{data}"
    )
}

pub(crate) fn server_side_apply_takes_over(shared: &Shared) {
    let space = shared.cluster().namespace("takes-over");
    space.apply(&map("c", "x", "a: '1', b: '2'"));
    // What client-side apply owned is the applier's now: what it stops sending goes.
    space.manifests(&["apply", "--server-side"], &map("c", "x", "a: '1', b: '2'")).ok();
    space.manifests(&["apply", "--server-side"], &map("c", "x", "a: '1'")).ok();
    assert_eq!(space.object("configmaps/c").unwrap()["data"], json!({"a": "1"}));
    space.kubectl(&["patch", "configmap", "c", "--field-manager=hand", "-p", r#"{"data":{"a":"9"}}"#]).ok();
    let text = space.manifests(&["apply", "--server-side"], &map("c", "x", "a: '1'")).refused();
    let lines = [
        "error: Apply failed with 1 conflict: conflict with \"hand\" using v1: .data.a",
        "please re-run the apply",
        "command with the `--force-conflicts` flag",
    ];
    for line in lines {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
    let text =
        space.manifests(&["apply", "--server-side", "--force-conflicts"], &map("c", "x", "a: '1'")).ok();
    assert_eq!(text.trim(), "configmap/c serverside-applied");
    // And back: the next client-side apply is the old way again.
    let text = space.manifests(&["apply"], &map("c", "x", "a: '1', z: '26'")).ok();
    assert_eq!(text.trim(), "configmap/c configured");
    assert_eq!(space.object("configmaps/c").unwrap()["data"], json!({"a": "1", "z": "26"}));
}

pub(crate) fn what_is_no_longer_applied_is_pruned(shared: &Shared) {
    let space = shared.cluster().namespace("pruned");
    let both = map("one", "x", "") + &map("two", "x", "");
    let names = || {
        let maps = space.list("configmaps?labelSelector=set");
        maps.iter().map(|map| map["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let prune = ["apply", "--prune", "-l", "set=x", "--prune-allowlist=core/v1/ConfigMap"];
    space.apply(&map("other", "w", ""));
    space.manifests(&prune, &both).ok();
    let text = space.manifests(&prune, &map("one", "x", "")).ok();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["configmap/one unchanged", "configmap/two pruned"]);
    assert_eq!(names(), ["one", "other"]);
    // The newer way keeps a list with the set.
    let set = |text: &str| {
        let mut command =
            space.kubectl_command(&["apply", "--prune", "--applyset=configmap/parts", "-f", "-"]);
        run(command.env("KUBECTL_APPLYSET", "true"), text.as_bytes(), PATIENCE).ok()
    };
    set(&(map("three", "z", "") + &map("four", "z", "")));
    assert!(set(&map("three", "z", "")).contains("configmap/four pruned"));
    assert_eq!(names(), ["one", "other", "three"]);
}

pub(crate) fn objects_are_edited(shared: &Shared) {
    let space = shared.cluster().namespace("edited");
    space.apply(&map("c", "x", "a: one"));
    let edit = |script: &str| edit(&space, script, "configmap/c");
    assert_eq!(edit("s/a: one/a: two/").ok().trim(), "configmap/c edited");
    assert_eq!(space.object("configmaps/c").unwrap()["data"]["a"], "two");
    assert!(edit("s/a: two/a: two/").stderr.contains("Edit cancelled, no changes made."));
    let text = edit("s/set: x/set: not ok/").refused();
    assert!(text.contains("configmaps \"c\" is invalid"), "{text}");
    let text = edit("s/^kind: ConfigMap/kind: ConfigMap\\nnonsense: x/").refused();
    assert!(text.contains("configmaps \"c\" is invalid"), "{text}");
    space.apply(&web(0, ""));
    let status = ["--subresource=status"];
    let text =
        edit_with(&space, "s/^  conditions:/  collisionCount: 3\\n  conditions:/", "deployment/web", &status);
    assert_eq!(text.ok().trim(), "deployment.apps/web edited");
}

/// `kubectl edit` by an editor that runs sed, once: the second time it leaves the file as it is.
fn edit(space: &Namespace<'_>, script: &str, object: &str) -> Outcome {
    edit_with(space, script, object, &[])
}

fn edit_with(space: &Namespace<'_>, script: &str, object: &str, options: &[&str]) -> Outcome {
    let folder = tempfile::tempdir_in(space.cluster().scratch()).unwrap();
    let editor = folder.path().join("editor");
    let once = folder.path().join("once");
    let text =
        format!("#!/bin/sh\nmkdir {} 2>/dev/null || exit 0\nexec sed -i '{script}' \"$1\"\n", once.display());
    // Written by a process of its own: a file that this one has open for writing cannot be run by another thread's child.
    run(std::process::Command::new("tee").arg(&editor), text.as_bytes(), PATIENCE).ok();
    fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = space.kubectl_command(&[&["edit", object], options].concat());
    command.env("KUBE_EDITOR", &editor).env("TMPDIR", folder.path());
    run(&mut command, b"", PATIENCE)
}

pub(crate) fn objects_are_replaced_and_deleted(shared: &Shared) {
    let space = shared.cluster().namespace("replaced");
    let several = map("a", "x", "k: v")
        + &map("Bad", "x", "")
        + "---\n{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}]}\n";
    let outcome = space.manifests(&["create"], &several);
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), ["configmap/a created", "secret/s created"]);
    assert!(outcome.code == 1 && outcome.stderr.contains("The ConfigMap \"Bad\" is invalid"), "{outcome:?}");
    assert_eq!(space.object("secrets/s").unwrap()["data"]["a"], "Yg==");
    let uid = || space.object("configmaps/a").unwrap()["metadata"]["uid"].clone();
    let before = uid();
    assert_eq!(space.manifests(&["replace"], &map("a", "x", "k: w")).ok().trim(), "configmap/a replaced");
    assert_eq!(uid(), before);
    space.manifests(&["replace", "--force"], &map("a", "x", "k: z")).ok();
    assert_ne!(uid(), before);
    let text = space.manifests(&["delete", "--dry-run=server"], &map("a", "x", "")).ok();
    assert_eq!(text.trim(), "configmap \"a\" deleted (server dry run)");
    assert_eq!(space.kubectl(&["delete", "configmap", "nope", "--ignore-not-found"]).ok(), "");
    space.kubectl(&["delete", "configmap", "-l", "set=x"]).ok();
    assert!(space.object("configmaps/a").is_none());

    // --cascade=orphan is a case of the workloads.
    for cascade in ["foreground", "background"] {
        space.apply(&web(1, ""));
        space.rollout("web");
        space
            .kubectl(&["delete", "deployment", "web", &format!("--cascade={cascade}"), "--timeout=60s"])
            .ok();
        if cascade == "foreground" {
            assert!(space.list("apps/v1/replicasets").is_empty(), "dependents go first");
        }
        space.wait("the dependents go", || space.list("pods").is_empty().then_some(()));
    }
}

pub(crate) fn folders_of_kustomize_are_applied(shared: &Shared) {
    let space = shared.cluster().namespace("kustomized");
    let folder = tempfile::tempdir_in(space.cluster().scratch()).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("map.yaml", &map("c", "x", "a: b"));
    let text = "resources: [map.yaml]\nnamePrefix: my-\nconfigMapGenerator:\n- name: made\n  literals: [color=red]\n";
    write("kustomization.yaml", text);
    let path = folder.path().to_str().unwrap();
    let made = space.kubectl(&["kustomize", path]).ok();
    assert!(made.contains("name: my-made-") && made.contains("name: my-c"), "{made}");
    assert_eq!(space.kubectl(&["diff", "-k", path]).code, 1);
    let text = space.kubectl(&["apply", "-k", path]).ok();
    assert!(text.contains("configmap/my-c created") && text.contains("configmap/my-made-"), "{text}");
    assert_eq!(space.kubectl(&["diff", "-k", path]).code, 0);
    space.kubectl(&["delete", "-k", path]).ok();
    assert!(space.object("configmaps/my-c").is_none());
}

pub(crate) fn the_ways_to_set_parts_work(shared: &Shared) {
    let space = shared.cluster().namespace("parts");
    space.apply(&web(2, ""));
    // arguments, what kubectl says
    let table: [(&[&str], &str); 9] = [
        (&["set", "image", "deployment/web", "web=plimsoll.io/demo:1"], "deployment.apps/web image updated"),
        (&["set", "env", "deployment/web", "A=b"], "deployment.apps/web env updated"),
        (
            &["set", "resources", "deployment/web", "--limits=cpu=1"],
            "deployment.apps/web resource requirements updated",
        ),
        (&["rollout", "pause", "deployment/web"], "deployment.apps/web paused"),
        (&["rollout", "resume", "deployment/web"], "deployment.apps/web resumed"),
        (&["rollout", "restart", "deployment/web"], "deployment.apps/web restarted"),
        (
            &["autoscale", "deployment", "web", "--min=1", "--max=3"],
            "horizontalpodautoscaler.autoscaling/web autoscaled",
        ),
        (
            &["scale", "deployment", "web", "--replicas=1", "--current-replicas=2"],
            "deployment.apps/web scaled",
        ),
        (
            &[
                "patch",
                "deployment",
                "web",
                "--subresource=scale",
                "--type=merge",
                "-p",
                r#"{"spec":{"replicas":0}}"#,
            ],
            "scale.autoscaling/web patched",
        ),
    ];
    for (arguments, words) in table {
        assert_eq!(space.kubectl(arguments).ok().trim(), words);
    }
    let text =
        space.kubectl(&["scale", "deployment", "web", "--replicas=1", "--current-replicas=5"]).refused();
    assert_eq!(text.trim(), "error: Expected replicas to be 5, was 0");
    let web = space.object("apps/v1/deployments/web").unwrap();
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["env"][0]["value"], &container["resources"]["limits"]["cpu"]),
        (&json!("plimsoll.io/demo:1"), &json!("b"), &json!("1"))
    );
    assert_eq!(web["spec"]["replicas"], 0);
}
