//! Volumes of every common kind.

use std::fs;

use plimsoll_e2e::Cluster;
use serde_json::json;

use crate::pods::{STAY, pod};
use crate::{BUSYBOX, PATIENCE, Shared};

pub(crate) fn mounted_config_is_updated(shared: &Shared) {
    let space = shared.cluster().namespace("config");
    space
        .kubectl(&["create", "configmap", "settings", "--from-literal=color=blue", "--from-literal=extra=x"])
        .ok();
    space.kubectl(&["create", "secret", "generic", "keys", "--from-literal=token=one"]).ok();
    let mounts = "    volumeMounts: [{name: settings, mountPath: /settings}, {name: keys, mountPath: /keys, readOnly: true}, {name: all, mountPath: /all}]";
    let volumes = "  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
  - name: all
    projected:
      sources:
      - configMap: {name: settings, items: [{key: color, path: deep/color}]}
      - secret: {name: keys}
      - serviceAccountToken: {path: jwt, audience: vault, expirationSeconds: 600}
      - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}";
    space.apply(&pod("reader", STAY, mounts, volumes));
    space.wait_ready("reader");
    let text = space.sh("reader", "cat /settings/color; echo; cat /keys/token; echo; stat -L -c %a /keys/token; cat /all/deep/color /all/token /all/name");
    assert_eq!(text, "blue\none\n400\nblueonereader");
    assert_eq!(
        space.sh("reader", "cut -d. -f2 /all/jwt | wc -c").trim().parse::<usize>().map(|size| size > 100),
        Ok(true)
    );
    // All files of a volume change in one step: through the link ..data.
    assert!(space.sh("reader", "ls -la /settings").contains("..data"));

    let blue = r#"{"data":{"color":"green","extra":null,"new":"y"}}"#;
    space.kubectl(&["patch", "configmap", "settings", "--type=merge", "-p", blue]).ok();
    space.kubectl(&["patch", "secret", "keys", "-p", r#"{"stringData":{"token":"two"}}"#]).ok();
    let changed = |text: &str| text == "green/two/green/y";
    let script = "printf '%s/%s/%s/%s' $(cat /settings/color) $(cat /keys/token) $(cat /all/deep/color) $(cat /settings/new 2>/dev/null)";
    space.until(&["exec", "reader", "--", "sh", "-c", script], PATIENCE, changed);
    assert_eq!(space.sh("reader", "ls /settings"), "color\nnew\n");
    let refused = space.kubectl(&["exec", "reader", "--", "sh", "-c", "echo x > /keys/token"]);
    assert!(refused.code != 0 && refused.stderr.contains("Read-only file system"), "{refused:?}");
}

pub(crate) fn containers_share_an_empty_dir(shared: &Shared) {
    let space = shared.cluster().namespace("empty-dir");
    space.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: pair}}
spec:
  restartPolicy: Never
  volumes: [{{name: pipe, emptyDir: {{}}}}, {{name: fast, emptyDir: {{medium: Memory, sizeLimit: 4Mi}}}}]
  containers:
  - {{name: writer, image: {BUSYBOX}, command: [sh, -c, 'mkfifo /pipe/p; echo through the pipe > /pipe/p'],
     volumeMounts: [{{name: pipe, mountPath: /pipe}}]}}
  - {{name: reader, image: {BUSYBOX}, command: [sh, -c, 'until [ -p /pipe/p ]; do usleep 1000; done; cat /pipe/p; grep \" /fast \" /proc/mounts'],
     volumeMounts: [{{name: pipe, mountPath: /pipe}}, {{name: fast, mountPath: /fast}}]}}
"
    ));
    let ended = space.wait_ended("pair");
    assert_eq!(ended["status"]["phase"], "Succeeded", "{ended}");
    let text = space.kubectl(&["logs", "pair", "-c", "reader"]).ok();
    assert!(text.starts_with("through the pipe\ntmpfs /fast tmpfs"), "{text}");
    assert!(text.contains("size=4096k"), "{text}");
}

pub(crate) fn a_host_path_is_the_hosts(shared: &Shared) {
    let space = shared.cluster().namespace("host-path");
    let folder = space.cluster().scratch().join("host-path");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("in"), "from the host\n").unwrap();
    let volumes = format!(
        "  restartPolicy: Never\n  volumes: [{{name: host, hostPath: {{path: {path}, type: Directory}}}}, {{name: new, hostPath: {{path: {path}/made, type: DirectoryOrCreate}}}}]",
        path = folder.display()
    );
    let mounts = "    volumeMounts: [{name: host, mountPath: /host}, {name: new, mountPath: /new}]";
    space.apply(&pod("guest", "cat /host/in; echo from the pod > /new/out", mounts, &volumes));
    space.wait_ended("guest");
    assert_eq!(space.kubectl(&["logs", "guest"]).ok(), "from the host\n");
    assert_eq!(fs::read_to_string(folder.join("made/out")).unwrap(), "from the pod\n");

    let absent = format!(
        "  volumes: [{{name: host, hostPath: {{path: {}/absent, type: Directory}}}}]",
        folder.display()
    );
    space.apply(&pod("stuck", "true", "    volumeMounts: [{name: host, mountPath: /host}]", &absent));
    let message = space.wait_event("stuck", "FailedMount")["message"].clone();
    assert!(message.as_str().unwrap().contains("hostPath type check failed"), "{message}");
}

pub(crate) fn the_pod_can_be_read_as_files(shared: &Shared) {
    let space = shared.cluster().namespace("downward");
    let volume = "  volumes:
  - name: about
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: note, fieldRef: {fieldPath: \"metadata.annotations['note']\"}}
      - {path: cpu, resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}}";
    let container =
        "    resources: {limits: {cpu: 250m}}\n    volumeMounts: [{name: about, mountPath: /about}]";
    space.apply(&pod("self", STAY, container, volume));
    space.wait_ready("self");
    assert_eq!(space.sh("self", "cat /about/labels; echo; cat /about/cpu"), "app=\"self\"\n250");
    space.kubectl(&["annotate", "pod", "self", "note=changed"]).ok();
    space.until(&["exec", "self", "--", "cat", "/about/note"], PATIENCE, |text| text == "changed");
}

pub(crate) fn parts_of_volumes_are_mounted(shared: &Shared) {
    let space = shared.cluster().namespace("sub-path");
    space.kubectl(&["create", "configmap", "settings", "--from-literal=a=1", "--from-literal=b=2"]).ok();
    let volumes = "  restartPolicy: Never\n  volumes: [{name: settings, configMap: {name: settings}}, {name: work, emptyDir: {}}]";
    let mounts = "    env: [{name: WHO, value: me}]
    volumeMounts: [{name: settings, mountPath: /etc/a.conf, subPath: a}, {name: work, mountPath: /mine, subPathExpr: $(WHO)/deep}, {name: work, mountPath: /work}]";
    space.apply(&pod("part", "cat /etc/a.conf; echo; touch /mine/x; ls /work/me/deep", mounts, volumes));
    space.wait_ended("part");
    assert_eq!(space.kubectl(&["logs", "part"]).ok(), "1\nx\n");
}

pub(crate) fn a_missing_config_map_holds_the_pod(shared: &Shared) {
    let space = shared.cluster().namespace("late-config");
    let mounts = "    volumeMounts: [{name: late, mountPath: /late}]";
    space.apply(&pod(
        "waits",
        "cat /late/key",
        mounts,
        "  restartPolicy: Never\n  volumes: [{name: late, configMap: {name: late}}]",
    ));
    let message = space.wait_event("waits", "FailedMount")["message"].clone();
    assert!(message.as_str().unwrap().contains("configmap \"late\" not found"), "{message}");
    let pod = space.object("pods/waits").unwrap();
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating",
        "{pod}"
    );
    space.kubectl(&["create", "configmap", "late", "--from-literal=key=better late"]).ok();
    space.wait_ended("waits");
    assert_eq!(space.kubectl(&["logs", "waits"]).ok(), "better late");
}

/// A StatefulSet of one pod that keeps its data in a claim of the default class.
fn keeper(replicas: u32) -> String {
    let script = serde_json::to_string(&format!("date +%s%N >> /data/starts; {STAY}")).unwrap();
    format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: keeper}}
spec:
  replicas: {replicas}
  serviceName: keeper
  selector: {{matchLabels: {{app: keeper}}}}
  template:
    metadata: {{labels: {{app: keeper}}}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsUser: 1000}}
      containers:
      - {{name: main, image: {BUSYBOX}, command: [sh, -c, {script}], volumeMounts: [{{name: data, mountPath: /data}}]}}
  volumeClaimTemplates:
  - metadata: {{name: data}}
    spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}}}
"
    )
}

pub(crate) fn data_outlives_pods_and_the_program(_: &Shared) {
    let cluster = Cluster::start();
    cluster.busybox(BUSYBOX);
    let space = cluster.namespace("claims");
    let classes = space.kubectl(&["get", "storageclasses"]).ok();
    assert!(
        classes.contains("local (default)   plimsoll.io/local   Delete          WaitForFirstConsumer   true"),
        "{classes}"
    );
    space.apply(&keeper(1));
    space.wait_ready("keeper-0");
    let claim = space.object("persistentvolumeclaims/data-keeper-0").unwrap();
    assert_eq!(
        (&claim["status"]["phase"], &claim["spec"]["storageClassName"]),
        (&json!("Bound"), &json!("local"))
    );
    let name = claim["spec"]["volumeName"].as_str().unwrap().to_owned();
    let folder = cluster.data().join("volumes").join(&name);
    let starts = || space.sh("keeper-0", "wc -l < /data/starts").trim().to_owned();
    assert_eq!(starts(), "1");

    // The program ends and comes back, then the pod is replaced: the data stays.
    cluster.kill();
    cluster.up();
    assert_eq!(starts(), "1");
    let uid = space.object("pods/keeper-0").unwrap()["metadata"]["uid"].clone();
    space.kubectl(&["delete", "pod", "keeper-0"]).ok();
    space.wait_object("another pod", "pods/keeper-0", |pod| pod["metadata"]["uid"] != uid);
    space.wait_ready("keeper-0");
    assert_eq!(starts(), "2");

    let more = r#"{"spec":{"resources":{"requests":{"storage":"128Mi"}}}}"#;
    space.kubectl(&["patch", "pvc", "data-keeper-0", "-p", more]).ok();
    space.wait_object("a larger claim", "persistentvolumeclaims/data-keeper-0", |claim| {
        claim["status"]["capacity"]["storage"] == "128Mi"
    });

    // A claim in use stays until its pod is gone; volume and folder go with it.
    space.kubectl(&["delete", "pvc", "data-keeper-0", "--wait=false"]).ok();
    let held = space.object("persistentvolumeclaims/data-keeper-0").unwrap();
    assert_eq!(held["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert!(folder.join("starts").exists());
    space.kubectl(&["scale", "statefulset/keeper", "--replicas=0"]).ok();
    space.wait_gone("persistentvolumeclaims/data-keeper-0");
    space.wait("the volume to go", || {
        cluster.api(&format!("/api/v1/persistentvolumes/{name}")).is_none().then_some(())
    });
    assert!(!folder.exists(), "the folder goes before its volume");
}
