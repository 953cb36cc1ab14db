//! kubectl prints what its users know.

use serde_json::Value;

use crate::pods::{STAY, pod};
use crate::workloads::web;
use crate::{PATIENCE, Shared};

pub(crate) fn fields_are_explained(shared: &Shared) {
    let cluster = shared.cluster();
    // arguments, lines that must be there
    let table: [(&[&str], &[&str]); 4] = [
        (
            &["explain", "pod"],
            &[
                "KIND:       Pod",
                "VERSION:    v1",
                "Pod is a collection of containers that can run on a host.",
            ],
        ),
        (
            &["explain", "deployment.spec.strategy.rollingUpdate.maxSurge"],
            &[
                "FIELD: maxSurge <IntOrString>",
                "The maximum number of pods that can be scheduled above the desired number",
            ],
        ),
        (
            &["explain", "pod.spec.containers", "--recursive"],
            &["livenessProbe\t<Probe>", "tcpSocket\t<TCPSocketAction>", "name\t<string> -required-"],
        ),
        (
            &["explain", "hpa", "--api-version=autoscaling/v2"],
            &["GROUP:      autoscaling", "KIND:       HorizontalPodAutoscaler"],
        ),
    ];
    for (arguments, lines) in table {
        let text = cluster.kubectl(arguments).ok();
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for line in lines {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(plain.contains(&line), "{arguments:?}: no {line} in\n{text}");
        }
    }
    let text = cluster.kubectl(&["explain", "pod.spec.nonsense"]).refused();
    assert!(text.contains("field \"nonsense\" does not exist"), "{text}");
}

pub(crate) fn objects_are_described(shared: &Shared) {
    let space = shared.cluster().namespace("described");
    space.apply(&web(1, ""));
    space.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=http"]).ok();
    space.rollout("web");
    let pod = space.ready_pods("web").remove(0);
    let text = space.kubectl(&["describe", "pod", &pod]).ok();
    for part in [
        "Status:           Running",
        "Controlled By:  ReplicaSet/web-",
        "Image:          plimsoll.io/demo",
        "QoS Class:                   BestEffort",
        "Readiness:      http-get http://:http/healthz delay=0s timeout=1s period=1s #success=1 #failure=3",
        "Scheduled",
        "Pulled",
        "Created",
        "Started",
        "Successfully assigned described/",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let text = space.kubectl(&["describe", "service", "web"]).ok();
    assert!(text.contains("Endpoints:") && text.contains(":8080"), "{text}");
    let text = space.cluster().kubectl(&["describe", "node", space.cluster().node()]).ok();
    for part in [
        "MemoryPressure",
        "Allocatable:",
        "Container Runtime Version:",
        "Non-terminated Pods:",
        "KubeletReady",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let text = space
        .kubectl(&["get", "events", "--field-selector", &format!("involvedObject.name={pod},reason=Started")])
        .ok();
    assert_eq!(text.lines().count(), 2, "{text}");
}

pub(crate) fn tables_have_the_usual_columns(shared: &Shared) {
    let space = shared.cluster().namespace("tables");
    space.apply(&web(1, ""));
    space.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=http"]).ok();
    space.rollout("web");
    // what, the head of the table
    let table = [
        ("pods", "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"),
        ("deployments", "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR"),
        ("replicasets", "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR"),
        ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR"),
        ("endpointslices", "NAME ADDRESSTYPE PORTS ENDPOINTS AGE"),
        ("configmaps", "NAME DATA AGE"),
        ("serviceaccounts", "NAME AGE"),
        ("namespaces", "NAME STATUS AGE"),
        (
            "nodes",
            "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
        ),
        ("clusterroles", "NAME CREATED AT"),
        ("storageclasses", "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE ALLOWVOLUMEEXPANSION AGE"),
    ];
    for (kind, expected) in table {
        let text = space.kubectl(&["get", kind, "-o", "wide"]).ok();
        let head = text.lines().next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        // Serviceaccounts had a column of secrets once.
        assert_eq!(head.replace(" SECRETS", ""), expected, "{kind}");
    }
    let text = space.kubectl(&["get", "all"]).ok();
    for part in ["pod/web-", "service/web", "deployment.apps/web", "replicaset.apps/web-"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let text = space
        .kubectl(&["get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase", "--no-headers"])
        .ok();
    assert!(text.trim().ends_with("Running"), "{text}");
    let kinds = space.cluster().kubectl(&["api-resources", "-o", "name"]).ok();
    for kind in [
        "pods",
        "deployments.apps",
        "jobs.batch",
        "ingresses.networking.k8s.io",
        "endpointslices.discovery.k8s.io",
    ] {
        assert!(kinds.lines().any(|line| line == kind), "no {kind} in\n{kinds}");
    }
}

pub(crate) fn objects_are_changed_in_every_way(shared: &Shared) {
    let space = shared.cluster().namespace("changes");
    space.kubectl(&["create", "configmap", "c", "--from-literal=a=1"]).ok();
    space.kubectl(&["label", "configmap", "c", "tier=low"]).ok();
    space.kubectl(&["annotate", "configmap", "c", "note=x"]).ok();
    let text = space.kubectl(&["label", "configmap", "c", "tier=high"]).refused();
    assert!(text.contains("already has a value (low), and --overwrite is false"), "{text}");
    space
        .kubectl(&[
            "patch",
            "configmap",
            "c",
            "--type=json",
            "-p",
            r#"[{"op":"add","path":"/data/b","value":"2"}]"#,
        ])
        .ok();
    space.kubectl(&["patch", "configmap", "c", "--type=merge", "-p", r#"{"data":{"a":null}}"#]).ok();
    let map = space.object("configmaps/c").unwrap();
    assert_eq!(
        (&map["data"], &map["metadata"]["labels"]["tier"]),
        (&serde_json::json!({"b": "2"}), &Value::from("low")),
        "{map}"
    );
    let text = space
        .manifests(
            &["replace"],
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: c, resourceVersion: '1'}}",
        )
        .refused();
    assert!(
        text.contains(
            "the object has been modified; please apply your changes to the latest version and try again"
        ),
        "{text}"
    );
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {z: '26'}}";
    let diff = space.manifests(&["diff"], map);
    assert!(diff.code == 1 && diff.stdout.contains("+  z: \"26\""), "{diff:?}");
    let text = space.manifests(&["apply", "--dry-run=server"], map).ok();
    assert!(text.contains("(server dry run)"), "{text}");
    assert_eq!(
        space.object("configmaps/c").unwrap()["data"],
        serde_json::json!({"b": "2"}),
        "dry runs change nothing"
    );
    // A strategic merge patch merges lists by their keys.
    space.apply(&web(1, ""));
    let patch =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"b"}]}]}}}}"#;
    space.kubectl(&["patch", "deployment", "web", "-p", patch]).ok();
    let deployment = space.object("apps/v1/deployments/web").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["env"][0]["value"]),
        (&Value::from("plimsoll.io/demo"), &Value::from("b")),
        "{deployment}"
    );
}

pub(crate) fn server_side_apply_has_owners(shared: &Shared) {
    let space = shared.cluster().namespace("owners");
    let apply = |manager: &str, text: &str, more: &[&str]| {
        let manager = format!("--field-manager={manager}");
        space.manifests(&[&["apply", "--server-side", manager.as_str()], more].concat(), text)
    };
    let map =
        |data: &str| format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, data: {{{data}}}}}");
    apply("one", &map("a: '1', b: '2'"), &[]).ok();
    apply("two", &map("c: '3'"), &[]).ok();
    let text = apply("two", &map("a: '9', c: '3'"), &[]).refused();
    assert!(text.contains("Apply failed with 1 conflict: conflict with \"one\": .data.a"), "{text}");
    apply("two", &map("a: '9', c: '3'"), &["--force-conflicts"]).ok();
    apply("one", &map("b: '2'"), &[]).ok();
    apply("two", &map("a: '9'"), &[]).ok();
    assert_eq!(space.object("configmaps/c").unwrap()["data"], serde_json::json!({"a": "9", "b": "2"}));
    let text = space.kubectl(&["get", "configmap", "c", "-o", "yaml", "--show-managed-fields"]).ok();
    assert!(
        text.contains("manager: one") && text.contains("operation: Apply") && text.contains("f:data"),
        "{text}"
    );
}

pub(crate) fn objects_are_watched_and_waited_for(shared: &Shared) {
    let space = shared.cluster().namespace("watched");
    let mut watch = space.follow(&["get", "configmaps", "--watch", "--output-watch-events", "--no-headers"]);
    watch.line(PATIENCE, |line| line.starts_with("ADDED") && line.contains("kube-root-ca.crt"));
    space.kubectl(&["create", "configmap", "c"]).ok();
    watch.line(PATIENCE, |line| line.starts_with("ADDED") && line.contains(" c "));
    space.kubectl(&["label", "configmap", "c", "a=b"]).ok();
    watch.line(PATIENCE, |line| line.starts_with("MODIFIED") && line.contains(" c "));
    space.kubectl(&["delete", "configmap", "c"]).ok();
    watch.line(PATIENCE, |line| line.starts_with("DELETED") && line.contains(" c "));

    space.apply(&pod("box", STAY, "", ""));
    space.kubectl(&["wait", "pod/box", "--for=condition=Ready", "--timeout=60s"]).ok();
    space.kubectl(&["wait", "pod/box", "--for=jsonpath={.status.phase}=Running", "--timeout=60s"]).ok();
    space.kubectl(&["delete", "pod", "box", "--wait=false"]).ok();
    space.kubectl(&["wait", "pod/box", "--for=delete", "--timeout=60s"]).ok();
    // A namespace goes with everything in it.
    let other = space.cluster().namespace("short-lived");
    other.apply(&web(1, ""));
    other.rollout("web");
    space.cluster().kubectl(&["delete", "namespace", "short-lived", "--timeout=90s"]).ok();
    assert!(other.list("pods").is_empty());
}

pub(crate) fn the_short_ways_work(shared: &Shared) {
    let space = shared.cluster().namespace("short");
    space.kubectl(&["run", "one", "--image=plimsoll.io/demo", "--port=8080", "--labels=app=one"]).ok();
    space.kubectl(&["expose", "pod", "one"]).ok();
    space.kubectl(&["create", "deployment", "many", "--image=plimsoll.io/demo", "--replicas=2"]).ok();
    space.kubectl(&["wait", "pod/one", "--for=condition=Ready", "--timeout=60s"]).ok();
    space.rollout("many");
    space.kubectl(&["create", "job", "once", &format!("--image={}", crate::BUSYBOX), "--", "true"]).ok();
    space.kubectl(&["wait", "job/once", "--for=condition=complete", "--timeout=60s"]).ok();
    let output = space.kubectl(&[
        "run",
        "quick",
        &format!("--image={}", crate::BUSYBOX),
        "--restart=Never",
        "--rm",
        "-i",
        "--quiet",
        "--",
        "echo",
        "hi",
    ]);
    assert!(output.clone().ok().contains("hi"), "{output:?}");
    let info = space.cluster().kubectl(&["cluster-info"]).ok();
    assert!(info.contains("Kubernetes control plane"), "{info}");
    assert_eq!(space.cluster().kubectl(&["get", "--raw", "/readyz"]).ok(), "ok");
    space.kubectl(&["delete", "all", "--all", "--wait=false"]).ok();
}
