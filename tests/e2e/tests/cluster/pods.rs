//! What happens to a pod's containers, and what users do with them.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use plimsoll_e2e::{Namespace, get, run};
use serde_json::Value;

use crate::{BUSYBOX, PATIENCE, SIGNALLED, Shared};

/// A pod of one busybox container that runs `script`, with more lines for its container and spec.
pub(crate) fn pod(name: &str, script: &str, container: &str, spec: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
{spec}
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, {script}]
{container}
"
    )
}

/// Goes on until it is told to end.
pub(crate) const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

fn state(pod: &Value) -> &Value {
    &pod["status"]["containerStatuses"][0]
}

pub(crate) fn a_crash_loop_backs_off(shared: &Shared) {
    let space = shared.cluster().namespace("crash-loop");
    space.apply(&pod("crash", "echo going down; exit 3", "", ""));
    let pod = space.wait_object("backs off after the second run", "pods/crash", |pod| {
        state(pod)["restartCount"].as_i64() >= Some(1)
            && state(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    });
    let last = &state(&pod)["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&Value::from(3), &Value::from("Error")), "{pod}");
    let message = state(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.contains("restarting failed container=main pod=crash_crash-loop("), "{message}");
    let event = space.wait_event("crash", "BackOff");
    assert_eq!(event["type"], "Warning", "{event}");
    let table = space.kubectl(&["get", "pod", "crash"]).ok();
    assert!(table.contains("CrashLoopBackOff") || table.contains("Error"), "{table}");
    assert_eq!(space.kubectl(&["logs", "crash", "--previous"]).ok(), "going down\n");
}

pub(crate) fn a_failing_liveness_probe_restarts_the_container(shared: &Shared) {
    let space = shared.cluster().namespace("liveness");
    let probe =
        "    livenessProbe: {exec: {command: [test, -e, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}";
    space.apply(&pod("live", &format!("touch /tmp/alive; {STAY}"), probe, ""));
    space.wait_ready("live");
    // The probe may end the container before anybody is told how this ended: what comes of it counts.
    space.kubectl(&["exec", "live", "--", "rm", "/tmp/alive"]);
    let pod = space.wait_object("restarted", "pods/live", |pod| {
        state(pod)["restartCount"] == 1 && state(pod)["state"]["running"].is_object()
    });
    assert_eq!(pod["status"]["phase"], "Running", "{pod}");
    let message = space.wait_event("live", "Unhealthy")["message"].clone();
    assert!(message.as_str().unwrap().starts_with("Liveness probe failed"), "{message}");
    let message = space.wait_event("live", "Killing")["message"].clone();
    assert_eq!(message, "Container main failed liveness probe, will be restarted");
}

pub(crate) fn too_much_memory_is_oomkilled(shared: &Shared) {
    let space = shared.cluster().namespace("memory");
    space.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: hungry}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: plimsoll.io/demo, imagePullPolicy: IfNotPresent, resources: {limits: {memory: 64Mi}},
     readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
",
    );
    let ready = space.wait_ready("hungry");
    let address: SocketAddr = format!("{}:8080", ready["status"]["podIP"].as_str().unwrap()).parse().unwrap();
    get(address, "/memory?mb=16", PATIENCE).expect("within the limit");
    get(address, "/memory?mb=256", PATIENCE).expect_err("killed before it can answer");
    let pod = space.wait_ended("hungry");
    let end = &state(&pod)["state"]["terminated"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&Value::from("OOMKilled"), &Value::from(137)), "{pod}");
    let text = space.kubectl(&["describe", "pod", "hungry"]).ok();
    assert!(text.contains("OOMKilled") && text.contains("137"), "{text}");
}

pub(crate) fn a_pod_is_resized_in_place(shared: &Shared) {
    let space = shared.cluster().namespace("resize");
    let resources = "    resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {memory: 64Mi}}";
    space.apply(&pod("sized", STAY, resources, ""));
    space.wait_ready("sized");
    let resize = |resources: &str| {
        let patch =
            format!("{{\"spec\":{{\"containers\":[{{\"name\":\"main\",\"resources\":{resources}}}]}}}}");
        space.kubectl(&["patch", "pod", "sized", "--subresource", "resize", "--patch", &patch])
    };
    resize("{\"requests\":{\"cpu\":\"100m\"},\"limits\":{\"memory\":\"128Mi\"}}").ok();
    let pod = space.wait_object("it has more", "pods/sized", |pod| {
        state(pod)["resources"]["limits"]["memory"] == "128Mi"
            && state(pod)["allocatedResources"]["cpu"] == "100m"
    });
    assert_eq!(state(&pod)["restartCount"], 0, "{pod}");
    let limit =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    assert_eq!(space.sh("sized", limit).trim(), "134217728");
    let condition = |pod: &Value, name: &str| {
        let mut all = pod["status"]["conditions"].as_array().into_iter().flatten();
        all.find(|it| it["type"] == name).map(|it| it["reason"].clone())
    };
    space.wait_object("it is over", "pods/sized", |pod| condition(pod, "PodResizeInProgress").is_none());
    space.wait_event("sized", "ResizeCompleted");
    resize("{\"requests\":{\"cpu\":\"5000\"}}").ok();
    space.wait_object("it can never be", "pods/sized", |pod| {
        condition(pod, "PodResizePending") == Some(Value::from("Infeasible"))
    });
    let refused = resize("{\"limits\":{\"memory\":null}}").refused();
    assert!(refused.contains("resource limits cannot be removed"), "{refused}");
}

pub(crate) fn init_containers_run_in_order(shared: &Shared) {
    let space = shared.cluster().namespace("init");
    let init = format!(
        "  volumes: [{{name: work, emptyDir: {{}}}}]
  restartPolicy: Never
  initContainers:
  - {{name: first, image: {BUSYBOX}, command: [sh, -c, 'echo first >> /work/order'], volumeMounts: [{{name: work, mountPath: /work}}]}}
  - {{name: side, image: {BUSYBOX}, restartPolicy: Always, command: [sh, -c, \"echo side >> /work/order; {STAY}\"],
     startupProbe: {{exec: {{command: [grep, side, /work/order]}}, periodSeconds: 1}}, volumeMounts: [{{name: work, mountPath: /work}}]}}
  - {{name: second, image: {BUSYBOX}, command: [sh, -c, 'echo second >> /work/order'], volumeMounts: [{{name: work, mountPath: /work}}]}}"
    );
    space.apply(&pod(
        "ordered",
        "cat /work/order",
        "    volumeMounts: [{name: work, mountPath: /work}]",
        &init,
    ));
    let ended = space.wait_ended("ordered");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    assert_eq!(space.kubectl(&["logs", "ordered", "-c", "main"]).ok(), "first\nside\nsecond\n");

    let failing = format!(
        "  restartPolicy: Never\n  initContainers: [{{name: bad, image: {BUSYBOX}, command: [sh, -c, 'exit 4']}}]"
    );
    space.apply(&pod("stopped", "echo never", "", &failing));
    let ended = space.wait_ended("stopped");
    assert_eq!(ended["status"]["phase"], "Failed", "{ended}");
    assert_eq!(ended["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 4, "{ended}");
    assert_eq!(state(&ended)["state"]["waiting"]["reason"], "PodInitializing", "{ended}");
    let table = space.kubectl(&["get", "pod", "stopped"]).ok();
    assert!(table.contains("Init:Error"), "{table}");
}

pub(crate) fn a_startup_probe_holds_the_others_back(shared: &Shared) {
    let space = shared.cluster().namespace("startup");
    let probes = "    startupProbe: {exec: {command: [test, -e, /tmp/started]}, periodSeconds: 1, failureThreshold: 100}
    livenessProbe: {exec: {command: [test, -e, /tmp/started]}, periodSeconds: 1, failureThreshold: 1}
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}";
    space.apply(&pod("slow", "httpd -p 8080 -h /; while :; do sleep 3600; done", probes, ""));
    space.wait_event("slow", "Unhealthy");
    let before = space.object("pods/slow").unwrap();
    assert_eq!(
        (&state(&before)["started"], &state(&before)["ready"]),
        (&Value::Bool(false), &Value::Bool(false)),
        "{before}"
    );
    assert_eq!(state(&before)["restartCount"], 0, "the liveness probe must wait: {before}");
    space.sh("slow", "touch /tmp/started");
    let after = space.wait_ready("slow");
    assert_eq!(
        (&state(&after)["started"], &state(&after)["restartCount"]),
        (&Value::Bool(true), &Value::from(0)),
        "{after}"
    );
}

pub(crate) fn logs_follow_to_the_end(shared: &Shared) {
    let space = shared.cluster().namespace("logs");
    let script = "for i in $(seq 1 100); do echo line $i; usleep 10000; done; echo oops >&2";
    space.apply(&pod("talk", script, "", "  restartPolicy: Never"));
    space.wait_object("started", "pods/talk", |pod| pod["status"]["phase"] != "Pending");
    let lines = space.follow(&["logs", "-f", "talk"]).rest(PATIENCE);
    let expected: Vec<String> = (1..=100).map(|i| format!("line {i}")).chain(["oops".to_owned()]).collect();
    assert_eq!(lines, expected);
    space.wait_ended("talk");
    assert_eq!(space.kubectl(&["logs", "talk", "--tail=2"]).ok(), "line 100\noops\n");
    let stamped = space.kubectl(&["logs", "talk", "--timestamps", "--tail=1"]).ok();
    assert!(stamped.starts_with("20") && stamped.ends_with("Z oops\n"), "{stamped}");
    assert_eq!(space.kubectl(&["logs", "talk", "--limit-bytes=6"]).ok(), "line 1");
    assert_eq!(space.kubectl(&["logs", "--selector", "app=talk", "--tail=1"]).ok(), "oops\n");
}

pub(crate) fn logs_of_the_previous_container_are_kept(shared: &Shared) {
    let space = shared.cluster().namespace("previous");
    space.apply(&pod(
        "twice",
        &format!(
            "if [ -e /work/again ]; then echo second; {STAY}; fi; touch /work/again; echo first; exit 1"
        ),
        "    volumeMounts: [{name: work, mountPath: /work}]",
        "  volumes: [{name: work, emptyDir: {}}]",
    ));
    space.wait_object("restarted", "pods/twice", |pod| {
        state(pod)["restartCount"] == 1 && state(pod)["state"]["running"].is_object()
    });
    assert_eq!(space.until(&["logs", "twice"], PATIENCE, |text| !text.is_empty()), "second\n");
    assert_eq!(space.kubectl(&["logs", "-p", "twice"]).ok(), "first\n");
    let text = space.kubectl(&["logs", "twice", "-c", "other"]).refused();
    assert!(text.contains("container other is not valid for pod twice"), "{text}");
}

pub(crate) fn commands_run_in_containers(shared: &Shared) {
    let space = shared.cluster().namespace("exec");
    space.apply(&pod("box", STAY, "", ""));
    space.wait_ready("box");
    assert_eq!(space.kubectl(&["exec", "box", "--", "echo", "hello there"]).ok(), "hello there\n");
    let failed = space.kubectl(&["exec", "box", "--", "sh", "-c", "echo no >&2; exit 7"]);
    assert_eq!(
        (failed.code, failed.stderr.contains("command terminated with exit code 7")),
        (7, true),
        "{failed:?}"
    );
    assert!(failed.stderr.contains("no\n"), "{failed:?}");
    let absent = space.kubectl(&["exec", "box", "--", "no-such-program"]);
    assert!(absent.code != 0 && absent.stderr.contains("no-such-program"), "{absent:?}");
    let large: String = (0..200_000).map(|i| format!("{i}\n")).collect();
    let echoed = space.kubectl_with(&["exec", "-i", "box", "--", "cat"], large.as_bytes()).ok();
    assert!(echoed == large, "{} bytes came back of {}", echoed.len(), large.len());
}

pub(crate) fn a_terminal_can_be_attached(shared: &Shared) {
    let space = shared.cluster().namespace("terminal");
    space.apply(&pod(
        "reader",
        "while read line; do echo got $line; done; echo closed",
        "    stdin: true\n    stdinOnce: true",
        "  restartPolicy: Never",
    ));
    space.wait_object("running", "pods/reader", |pod| state(pod)["state"]["running"].is_object());
    let said = space.kubectl_with(&["attach", "-i", "reader"], b"one\ntwo\n").ok();
    assert!(said.contains("got one\ngot two\n"), "{said}");
    space.wait_ended("reader");
    // A real terminal: `script` of util-linux gives kubectl one.
    space.apply(&pod("box", STAY, "", ""));
    space.wait_ready("box");
    let words: Vec<String> = {
        let command = space.kubectl_command(&[
            "exec",
            "-it",
            "box",
            "--",
            "sh",
            "-c",
            "'test -t 0 && until stty size | grep 99; do usleep 10000; done && echo is a terminal'",
        ]);
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect()
    };
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 99; {}", words.join(" ")), "/dev/null"]);
    script.env("KUBECONFIG", space.cluster().kubeconfig());
    let text = run(&mut script, b"", PATIENCE).ok();
    assert!(text.contains("33 99") && text.contains("is a terminal"), "{text}");
}

pub(crate) fn files_are_copied_both_ways(shared: &Shared) {
    let space = shared.cluster().namespace("cp");
    space.apply(&pod("box", STAY, "", ""));
    space.wait_ready("box");
    let (there, back) = (space.cluster().scratch().join("there"), space.cluster().scratch().join("back"));
    fs::create_dir_all(there.join("deep")).unwrap();
    fs::write(there.join("deep/file"), "contents\n").unwrap();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    fs::write(there.join("large"), &bytes).unwrap();
    space.kubectl(&["cp", &there.to_string_lossy(), &format!("{}/box:/tmp/there", space.name())]).ok();
    assert_eq!(space.sh("box", "cat /tmp/there/deep/file; wc -c < /tmp/there/large"), "contents\n3000000\n");
    space.kubectl(&["cp", &format!("{}/box:/tmp/there", space.name()), &back.to_string_lossy()]).ok();
    assert!(fs::read(back.join("large")).unwrap() == bytes, "the file changed on the way");
    assert_eq!(fs::read_to_string(back.join("deep/file")).unwrap(), "contents\n");
}

pub(crate) fn ports_are_forwarded(shared: &Shared) {
    let space = shared.cluster().namespace("forward");
    space.apply(&crate::workloads::web(1, ""));
    space.kubectl(&["expose", "deployment", "web", "--port=80", "--target-port=http"]).ok();
    space.rollout("web");
    let pod = space.ready_pods("web").remove(0);
    for target in [format!("pod/{pod}"), "service/web".to_owned()] {
        let port = if target.starts_with("pod") { ":8080" } else { ":80" };
        let mut forward = space.follow(&["port-forward", &target, port]);
        let line = forward.line(PATIENCE, |line| line.starts_with("Forwarding from 127.0.0.1:"));
        let address: SocketAddr = line.split_whitespace().nth(2).unwrap().parse().unwrap();
        for _ in 0..3 {
            let answer = get(address, "/", PATIENCE).unwrap();
            assert!(answer.body.contains(&format!("pod: {pod}\n")), "{answer:?}");
        }
    }
}

pub(crate) fn a_pod_ends_gracefully(shared: &Shared) {
    let space = shared.cluster().namespace("grace");
    let hook = "    lifecycle: {preStop: {exec: {command: [sh, -c, 'echo hook > /proc/1/fd/1']}}}";
    let script = "trap 'echo term; exit 0' TERM; echo up; while :; do sleep 3600 & wait $!; done";
    space.apply(
        &pod("kind", script, hook, "")
            .replace("terminationGracePeriodSeconds: 1", "terminationGracePeriodSeconds: 60"),
    );
    space.wait_ready("kind");
    let mut log = space.follow(&["logs", "-f", "kind"]);
    log.line(PATIENCE, |line| line == "up");
    space.kubectl(&["delete", "pod", "kind", "--wait=false"]).ok();
    assert_eq!(log.rest(PATIENCE), ["up", "hook", "term"]);
    space.wait_gone("pods/kind");
}

pub(crate) fn a_pod_that_does_not_listen_is_killed(shared: &Shared) {
    let space = shared.cluster().namespace("deaf");
    space.apply(&pod("deaf", "trap '' TERM; echo up; while :; do sleep 1; done", "", ""));
    space.wait_ready("deaf");
    // Kept until the test looked, as a controller's finalizer would.
    space
        .kubectl(&["patch", "pod", "deaf", "-p", r#"{"metadata":{"finalizers":["plimsoll.test/hold"]}}"#])
        .ok();
    space.kubectl(&["delete", "pod", "deaf", "--wait=false"]).ok();
    let pod = space.wait_ended("deaf");
    assert_eq!(state(&pod)["state"]["terminated"]["exitCode"], 137, "{pod}");
    space.kubectl(&["patch", "pod", "deaf", "-p", r#"{"metadata":{"finalizers":null}}"#]).ok();
    space.wait_gone("pods/deaf");
}

pub(crate) fn stop_signals_are_chosen(shared: &Shared) {
    let space = shared.cluster().namespace("signals");
    let script = "trap 'echo by USR1; exit' USR1; trap 'echo by TERM; exit' TERM; echo ready; while :; do usleep 10000; done";
    let chosen = "    lifecycle: {stopSignal: SIGUSR1}";
    let named = pod("named", script, chosen, "  os: {name: linux}");
    let of_image = pod("of-image", script, "", "").replace(BUSYBOX, SIGNALLED);
    let usual = pod("usual", script, "", "");
    let mut cases = vec![("of-image", of_image, "by USR1"), ("usual", usual, "by TERM")];
    let node = shared.cluster().api(&format!("/api/v1/nodes/{}", shared.cluster().node())).unwrap();
    let engine = node["status"]["nodeInfo"]["containerRuntimeVersion"].as_str().unwrap().to_owned();
    if engine.starts_with("plimsoll://") {
        // Debian's containerd does not know this part of the interface yet.
        cases.push(("named", named, "by USR1"));
    }
    for (name, manifest, expected) in cases {
        space.apply(&manifest);
        space.wait_ready(name);
        let mut log = space.follow(&["logs", "-f", name]);
        log.line(PATIENCE, |line| line == "ready");
        space.kubectl(&["delete", "pod", name, "--wait=false"]).ok();
        assert_eq!(log.rest(PATIENCE), ["ready", expected], "{name}");
    }
}

pub(crate) fn what_cannot_start_says_why(shared: &Shared) {
    let space = shared.cluster().namespace("no-start");
    let never = "  restartPolicy: Never";
    let missing = pod("missing", "", "    args: []", never).replace("[sh, -c, \"\"]", "[/nope]");
    let folder = pod("folder", "pwd", "    workingDir: /not/there", never);
    space.apply(&[missing, folder].join("---\n"));
    let ended = space.wait_ended("missing");
    let end = &state(&ended)["state"]["terminated"];
    assert_eq!((&end["reason"], &end["exitCode"]), (&"StartError".into(), &128.into()), "{ended}");
    let message = end["message"].as_str().unwrap();
    assert!(message.contains("exec: \"/nope\": stat /nope: no such file or directory"), "{message}");
    assert!(!message.contains("cleanup"), "{message}");
    space.wait_event("missing", "Failed");
    assert_eq!(ended["status"]["phase"], "Failed");
    assert_eq!(space.wait_ended("folder")["status"]["phase"], "Succeeded", "a folder to start in is made");
    assert_eq!(space.kubectl(&["logs", "folder"]).ok(), "/not/there\n");
}

pub(crate) fn hooks_run(shared: &Shared) {
    let space = shared.cluster().namespace("hooks");
    let hook = "    lifecycle: {postStart: {exec: {command: [sh, -c, 'echo started > /tmp/hook']}}}";
    space.apply(&pod("good", STAY, hook, ""));
    space.wait_ready("good");
    assert_eq!(space.sh("good", "cat /tmp/hook"), "started\n");
    let hook = "    lifecycle: {postStart: {exec: {command: [sh, -c, 'exit 9']}}}";
    space.apply(&pod("bad", STAY, hook, ""));
    space.wait_event("bad", "FailedPostStartHook");
}

pub(crate) fn the_environment_tells_about_the_pod(shared: &Shared) {
    let space = shared.cluster().namespace("environment");
    space
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=color=blue",
            "--from-literal=SIZE=large",
        ])
        .ok();
    space.kubectl(&["create", "secret", "generic", "keys", "--from-literal=token=s3cret"]).ok();
    let env = "    resources: {limits: {cpu: 250m, memory: 32Mi}}
    envFrom: [{configMapRef: {name: settings}, prefix: IN_}]
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: SPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: settings, key: color}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: MAYBE, valueFrom: {secretKeyRef: {name: keys, key: absent, optional: true}}}
    - {name: BOTH, value: $(COLOR)-$(NAME)-$$(X)}";
    space.apply(&pod("env", "env", env, "  restartPolicy: Never"));
    let ended = space.wait_ended("env");
    let text = space.kubectl(&["logs", "env"]).ok();
    let ip = ended["status"]["podIP"].as_str().unwrap_or_default();
    for line in [
        "NAME=env",
        "SPACE=environment",
        "APP=env",
        "MEMORY=33554432",
        "COLOR=blue",
        "TOKEN=s3cret",
        "BOTH=blue-env-$(X)",
        "IN_color=blue",
        "IN_SIZE=large",
        "HOSTNAME=env",
        "KUBERNETES_SERVICE_PORT=443",
        &format!("NODE={}", shared.cluster().node()),
        &format!("IP={ip}"),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert!(!text.contains("MAYBE"), "{text}");
}

pub(crate) fn security_contexts_hold(shared: &Shared) {
    let space = shared.cluster().namespace("security");
    let context = "    securityContext: {runAsUser: 1234, runAsGroup: 2345, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false,
      capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
    volumeMounts: [{name: work, mountPath: /work}]";
    let spec = "  restartPolicy: Never
  securityContext: {fsGroup: 3456, supplementalGroups: [4567]}
  volumes: [{name: work, emptyDir: {}}]";
    let script = "id -u; id -g; id -G; touch /no 2>&1; touch /work/yes && stat -c %g /work/yes; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status";
    space.apply(&pod("guarded", script, context, spec));
    space.wait_ended("guarded");
    let text = space.kubectl(&["logs", "guarded"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["1234", "2345"], "{text}");
    assert!(lines[2].contains("3456") && lines[2].contains("4567"), "{text}");
    assert!(lines[3].contains("Read-only file system"), "{text}");
    assert_eq!(lines[4..], ["3456", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"], "{text}");

    let root = pod("root", "id", "    securityContext: {runAsNonRoot: true}", "");
    space.apply(&root);
    let pod = space.wait_object("refused", "pods/root", |pod| {
        state(pod)["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    });
    let message = state(&pod)["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.contains("container has runAsNonRoot and image will run as root"), "{message}");
}

pub(crate) fn a_missing_image_is_reported(shared: &Shared) {
    let space = shared.cluster().namespace("no-image");
    for (name, policy, reason) in
        [("never", "Never", "ErrImageNeverPull"), ("pull", "IfNotPresent", "ErrImagePull")]
    {
        // Nobody listens at this port of this machine.
        space.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: a, image: '127.0.0.1:9/none:1', imagePullPolicy: {policy}}}]}}}}"
        ));
        space.wait_object(reason, &format!("pods/{name}"), |pod| {
            let seen = &state(pod)["state"]["waiting"]["reason"];
            seen == reason || (seen == "ImagePullBackOff" && reason == "ErrImagePull")
        });
    }
    let message = space.wait_event("pull", "Failed")["message"].clone();
    assert!(message.as_str().unwrap().contains("127.0.0.1:9/none:1"), "{message}");
}

pub(crate) fn host_aliases_and_host_names(shared: &Shared) {
    let space = shared.cluster().namespace("hostnames");
    let spec = "  restartPolicy: Never
  hostname: custom
  subdomain: sub
  hostAliases: [{ip: 10.1.2.3, hostnames: [db.local, db]}]
  dnsConfig: {options: [{name: ndots, value: '2'}], searches: [extra.example]}";
    space.apply(&pod("named", "hostname; cat /etc/hosts; cat /etc/resolv.conf", "", spec));
    let ended = space.wait_ended("named");
    let text = space.kubectl(&["logs", "named"]).ok();
    let ip = ended["status"]["podIP"].as_str().unwrap_or_default();
    for line in [
        "custom".to_owned(),
        "10.1.2.3\tdb.local\tdb".to_owned(),
        format!("{ip}\tcustom.sub.hostnames.svc.cluster.local\tcustom"),
        "options ndots:2".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert!(text.contains("search hostnames.svc.cluster.local svc.cluster.local cluster.local"), "{text}");
    assert!(text.contains("extra.example"), "{text}");
}

/// The container id and process id of the only container of a pod, which a restart of Plimsoll must not change.
pub(crate) fn identity(space: &Namespace<'_>, name: &str) -> (String, String) {
    let pod = space.wait_ready(name);
    let id = state(&pod)["containerID"].as_str().unwrap().to_owned();
    let inside = space.kubectl(&["exec", name, "--", "sh", "-c", "cut -d' ' -f22 /proc/1/stat"]);
    (id, inside.ok())
}
