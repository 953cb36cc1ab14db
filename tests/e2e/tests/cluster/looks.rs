//! The ways of kubectl to look at a cluster.

use std::time::Duration;

use plimsoll_e2e::{Background, get};
use serde_json::Value;

use crate::pods::{STAY, pod};
use crate::{BUSYBOX, PATIENCE, Shared};

pub(crate) fn lists_are_printed_in_every_way(shared: &Shared) {
    let space = shared.cluster().namespace("printed");
    for (name, tier) in [("a", "high"), ("b", "low"), ("c", "high")] {
        space.kubectl(&["create", "secret", "generic", name, &format!("--from-literal=tier={tier}")]).ok();
        space.kubectl(&["label", "secret", name, &format!("tier={tier}")]).ok();
    }
    // arguments after `get secrets`, the whole output
    let table: [(&[&str], &str); 9] = [
        (&["-o", "name"], "secret/a\nsecret/b\nsecret/c\n"),
        (&["-o", "name", "-l", "tier in (high),tier!=low"], "secret/a\nsecret/c\n"),
        (&["-o", "name", "--field-selector=metadata.name!=a,type=Opaque"], "secret/b\nsecret/c\n"),
        (&["-o", "name", "--chunk-size=1"], "secret/a\nsecret/b\nsecret/c\n"),
        (
            &["-o", "jsonpath={range .items[*]}{.metadata.name}={.data.tier}{\" \"}{end}"],
            "a=aGlnaA== b=bG93 c=aGlnaA== ",
        ),
        (&["-o", "go-template={{range .items}}{{.data.tier | base64decode}} {{end}}"], "high low high "),
        (
            &["-o", "custom-columns=N:.metadata.name,T:.type", "--no-headers"],
            "a     Opaque\nb     Opaque\nc     Opaque\n",
        ),
        (&["-L", "tier", "--sort-by=.metadata.labels.tier", "-o", "name"], "secret/a\nsecret/c\nsecret/b\n"),
        (&["a", "b", "-o", "name"], "secret/a\nsecret/b\n"),
    ];
    for (arguments, expected) in table {
        let text = space.kubectl(&[&["get", "secrets"], arguments].concat()).ok();
        assert_eq!(text, expected, "{arguments:?}");
    }
    let text = space.kubectl(&["get", "secrets", "-L", "tier", "--show-labels"]).ok();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(text.lines().next().unwrap()), "NAME TYPE DATA AGE TIER LABELS");
    assert!(words(text.lines().nth(1).unwrap()).ends_with("high tier=high"), "{text}");
    let list: Value =
        serde_json::from_str(&space.kubectl(&["get", "secrets,configmaps", "-o", "json"]).ok()).unwrap();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&"List".into(), 4), "{list}");
    let text = space.kubectl(&["get", "secrets", "--watch-only", "--request-timeout=1s", "-o", "name"]);
    assert_eq!(text.stdout, "", "nothing new");
}

pub(crate) fn the_api_is_read_as_it_is(shared: &Shared) {
    let space = shared.cluster().namespace("raw");
    let cluster = space.cluster();
    let versions = cluster.kubectl(&["api-versions"]).ok();
    for version in ["v1", "apps/v1", "apiextensions.k8s.io/v1", "rbac.authorization.k8s.io/v1"] {
        assert!(versions.lines().any(|line| line == version), "no {version} in\n{versions}");
    }
    let all = cluster.kubectl(&["api-resources", "--categories=all", "-o", "name"]).ok();
    let expected = [
        "cronjobs.batch",
        "daemonsets.apps",
        "deployments.apps",
        "horizontalpodautoscalers.autoscaling",
        "jobs.batch",
        "pods",
        "replicasets.apps",
        "replicationcontrollers",
        "services",
        "statefulsets.apps",
    ];
    let mut lines: Vec<&str> = all.lines().filter(|line| !line.contains("example.com")).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    let wide = cluster
        .kubectl(&["api-resources", "--namespaced=false", "--verbs=deletecollection", "-o", "wide"])
        .ok();
    assert!(wide.contains("create,delete,deletecollection,get,list,patch,update,watch"), "{wide}");

    let maps = "/api/v1/namespaces/raw/configmaps";
    let object = |data: &str| {
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"m"}},"data":{{{data}}}}}"#)
    };
    space.kubectl_with(&["create", "--raw", maps, "-f", "-"], object("").as_bytes()).ok();
    let one = format!("{maps}/m");
    space.kubectl_with(&["replace", "--raw", &one, "-f", "-"], object(r#""a":"b""#).as_bytes()).ok();
    let read: Value = serde_json::from_str(&space.kubectl(&["get", "--raw", &one]).ok()).unwrap();
    assert_eq!(read["data"]["a"], "b");
    let gone: Value = serde_json::from_str(&space.kubectl(&["delete", "--raw", &one]).ok()).unwrap();
    assert_eq!((&gone["status"], &gone["details"]["name"]), (&"Success".into(), &"m".into()));
    let text = space.kubectl(&["get", "--raw", "/nope"]).refused();
    assert_eq!(text.trim(), "Error from server (NotFound): the server could not find the requested resource");
    assert!(cluster.kubectl(&["get", "--raw", "/livez?verbose"]).ok().contains("[+]ping ok"));
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).ok();
    for wanted in
        ["apiserver_request_total{", "scheduler_pending_pods{queue=\"active\"}", "workqueue_adds_total{"]
    {
        assert!(metrics.contains(wanted), "{wanted}");
    }

    let mut proxy =
        Background::start(&mut cluster.kubectl_command(&["proxy", "--port=0", "--api-prefix=/k/"]));
    let line = proxy.line(PATIENCE, |line| line.starts_with("Starting to serve on "));
    let address = line.trim_start_matches("Starting to serve on ").parse().unwrap();
    let limit = Duration::from_secs(10);
    assert!(get(address, "/k/api/v1/namespaces/raw", limit).unwrap().body.contains("\"name\":\"raw\""));
    let refused = get(address, "/k/api/v1/namespaces/raw/pods/x/exec", limit).unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
}

pub(crate) fn users_are_told_what_they_may(shared: &Shared) {
    let space = shared.cluster().namespace("may");
    space.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods,deployments.apps"]).ok();
    space
        .kubectl(&["create", "role", "one", "--verb=update", "--resource=configmaps", "--resource-name=it"])
        .ok();
    for role in ["reader", "one"] {
        space.kubectl(&["create", "rolebinding", role, &format!("--role={role}"), "--user=ann"]).ok();
    }
    let text = space.kubectl(&["auth", "can-i", "--list", "--as=ann"]).ok();
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in [
        "Resources Non-Resource URLs Resource Names Verbs",
        "pods [] [] [get list]",
        "deployments.apps [] [] [get list]",
        "configmaps [] [it] [update]",
        "selfsubjectreviews.authentication.k8s.io [] [] [create]",
        "[/healthz] [] [get]",
    ] {
        assert!(lines.iter().any(|one| one == line), "no {line} in\n{text}");
    }
    // arguments after `auth can-i`, answer
    let table: [(&[&str], &str); 6] = [
        (&["get", "pods/web"], "yes"),
        (&["get", "pods", "--subresource=log"], "no"),
        (&["update", "configmaps/it"], "yes"),
        (&["update", "configmaps/other"], "no"),
        (&["get", "/metrics"], "no"),
        (&["list", "deploy", "--all-namespaces"], "no"),
    ];
    for (arguments, answer) in table {
        let outcome = space.kubectl(&[&["auth", "can-i", "--as=ann"], arguments].concat());
        assert_eq!(outcome.stdout.trim(), answer, "{arguments:?}");
        assert_eq!(outcome.code == 0, answer == "yes", "{arguments:?}");
    }
    let who = space.kubectl(&["auth", "whoami", "--as=ann", "--as-group=sailors"]).ok();
    assert!(
        who.contains("Username    ann") && who.contains("Groups      [sailors system:authenticated]"),
        "{who}"
    );
    let short =
        space.kubectl(&["create", "token", "default", "--duration=10m", "--audience=me", "-o", "json"]).ok();
    let token: Value = serde_json::from_str(&short).unwrap();
    assert_eq!(token["spec"]["audiences"], serde_json::json!(["me"]), "{token}");
    let text = space.kubectl(&["create", "token", "nobody"]).refused();
    assert_eq!(text.trim(), "error: failed to create token: serviceaccounts \"nobody\" not found");
    let text = space.kubectl(&["create", "token", "default", "--duration=1m"]).refused();
    assert!(text.contains("may not specify a duration less than 10 minutes"), "{text}");
    // Nothing runs here to be measured, and kubectl says so.
    let found = space.kubectl(&["top", "pods"]);
    assert_eq!(found.stderr.trim(), "No resources found in may namespace.");
}

pub(crate) fn requests_for_certificates_are_denied(shared: &Shared) {
    let cluster = shared.cluster();
    let folder = tempfile::tempdir_in(cluster.scratch()).unwrap();
    let (key, wanted) = (folder.path().join("key"), folder.path().join("csr"));
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=eve", "-keyout"]).arg(key);
    plimsoll_e2e::run(openssl.arg("-out").arg(&wanted), b"", PATIENCE).ok();
    let mut base64 = std::process::Command::new("base64");
    let request = plimsoll_e2e::run(base64.arg("-w0").arg(&wanted), b"", PATIENCE).ok();
    let text = format!(
        "{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: eve}}, \
         spec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}}}"
    );
    cluster.manifests(&["create"], &text).ok();
    let text = cluster.kubectl(&["certificate", "deny", "eve"]).ok();
    assert_eq!(text.trim(), "certificatesigningrequest.certificates.k8s.io/eve denied");
    let table = cluster.kubectl(&["get", "csr", "eve"]).ok();
    assert!(table.contains("kubernetes.io/kube-apiserver-client") && table.contains("Denied"), "{table}");
    let text = cluster.kubectl(&["certificate", "approve", "eve"]).refused();
    assert!(text.contains("approved") || text.contains("Denied"), "{text}");
    cluster.kubectl(&["delete", "csr", "eve"]).ok();
}

pub(crate) fn pods_are_debugged(shared: &Shared) {
    let space = shared.cluster().namespace("debugged");
    space.apply(&pod("box", STAY, "", "  shareProcessNamespace: true"));
    space.wait_ready("box");
    let image = format!("--image={BUSYBOX}");
    let text = space
        .kubectl(&[
            "debug",
            "box",
            &image,
            "--profile=general",
            "-c",
            "look",
            "--",
            "sh",
            "-c",
            "echo seen; sleep 3600",
        ])
        .ok();
    assert!(!text.contains("error"), "{text}");
    let running =
        |pod: &Value| pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object();
    let seen = space.wait_object("its ephemeral container runs", "pods/box", running);
    assert_eq!(seen["status"]["containerStatuses"][0]["restartCount"], 0, "{seen}");
    space.wait("it writes", || {
        (space.kubectl(&["logs", "box", "-c", "look"]).stdout == "seen\n").then_some(())
    });
    let list = space.kubectl(&["exec", "box", "-c", "look", "--", "ps"]).ok();
    assert!(list.contains("trap 'exit 0' TERM"), "the others' processes are seen\n{list}");
    assert!(space.kubectl(&["describe", "pod", "box"]).ok().contains("Ephemeral Containers:\n  look:"));
    let patch = r#"{"spec":{"ephemeralContainers":[]}}"#;
    let text = space.kubectl(&[
        "patch",
        "pod",
        "box",
        "--subresource=ephemeralcontainers",
        "--type=merge",
        "-p",
        patch,
    ]);
    assert!(text.refused().contains("existing ephemeral containers \"look\" may not be removed"));

    space
        .kubectl(&[
            "debug",
            "box",
            "--copy-to=copy",
            &image,
            "--profile=general",
            "-c",
            "more",
            "--",
            "sleep",
            "3600",
        ])
        .ok();
    let copy = space.wait_ready("copy");
    assert_eq!(copy["spec"]["containers"][1]["name"], "more", "{copy}");
    assert_eq!(copy["metadata"]["labels"], Value::Null, "the copy gets no requests for the pod");
    let node = format!("node/{}", space.cluster().node());
    space.kubectl(&["debug", &node, &image, "--profile=sysadmin", "--", "ls", "/host"]).ok();
    let debugger = space.wait("the debugger of the node", || {
        space.list("pods").into_iter().find(|pod| pod["spec"]["hostPID"] == true)
    });
    let name = debugger["metadata"]["name"].as_str().unwrap();
    assert_eq!(space.wait_ended(name)["status"]["phase"], "Succeeded");
    assert!(space.kubectl(&["logs", name]).ok().lines().any(|line| line == "etc"));
}
