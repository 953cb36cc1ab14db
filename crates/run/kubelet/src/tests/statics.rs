//! Static pods from a folder: they run, are shown, replaced and ended.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::Rig;
use super::api::FakeApi;

/// The folder of static pods of a rig.
fn configure(config: &mut crate::Config) {
    let folder = config.data_dir.with_file_name("manifests");
    fs::create_dir_all(&folder).unwrap();
    config.static_pod_path = Some(folder);
}

fn manifest(rig: &Rig) -> PathBuf {
    rig.temp.path().join("manifests/web.yaml")
}

fn write(rig: &Rig, image: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  terminationGracePeriodSeconds: 7\n  \
         containers:\n  - {{name: c, image: '{image}'}}\n"
    );
    fs::write(manifest(rig), text).unwrap();
}

fn mirror(api: &FakeApi) -> Option<Value> {
    api.object("pods", "web-n1")
}

fn runs(api: &FakeApi) -> bool {
    mirror(api).is_some_and(|pod| pod["status"]["phase"] == "Running")
}

#[tokio::test(flavor = "multi_thread")]
async fn static_pods_run_are_shown_replaced_adopted_and_ended() {
    let Some(mut rig) = Rig::with("statics", configure).await else { return };
    write(&rig, "demo:1");
    rig.api.wait("the static pod runs", runs).await;
    let shown = mirror(&rig.api).unwrap();
    let annotations = &shown["metadata"]["annotations"];
    let hash = annotations["kubernetes.io/config.hash"].as_str().unwrap().to_owned();
    assert_eq!(annotations["kubernetes.io/config.mirror"], hash);
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert!(annotations["kubernetes.io/config.seen"].is_string());
    assert_eq!(shown["metadata"]["ownerReferences"][0]["kind"], "Node");
    assert_eq!(shown["metadata"]["namespace"], "default");
    assert_eq!(rig.engine.container("c-0").labels["io.kubernetes.pod.uid"], hash);

    // The mirror is no pod: who deletes it gets another one.
    rig.api.remove("pods", "web-n1");
    rig.api.wait("it is shown again", runs).await;
    rig.stop().await;
    // The next agent goes on with what is shown.
    let mut earlier = mirror(&rig.api).unwrap();
    earlier["status"]["startTime"] = "2026-01-01T00:00:00Z".into();
    earlier["status"]["phase"] = "Pending".into();
    rig.api.put("pods", earlier);
    rig.start().await;
    rig.api.wait("the next agent shows that it runs", runs).await;
    rig.api.remove("pods", "web-n1");
    rig.api.wait("the next agent shows it again", runs).await;
    assert_eq!(mirror(&rig.api).unwrap()["status"]["startTime"], "2026-01-01T00:00:00Z");
    assert_eq!(rig.engine.calls(), ["sandbox 0", "create c 0", "start c-0"], "adopted, not restarted");

    write(&rig, "demo:2");
    rig.api
        .wait("another one is shown", |api| {
            runs(api) && mirror(api).unwrap()["spec"]["containers"][0]["image"] == "demo:2"
        })
        .await;
    assert_eq!(
        rig.engine.calls()[3..],
        ["stop c-0 7", "stop sandbox", "remove sandbox", "sandbox 0", "create c 0", "start c-0"]
    );
    fs::remove_file(manifest(&rig)).unwrap();
    rig.api.wait("nothing is shown", |api| mirror(api).is_none()).await;
    rig.api.wait("the pod is gone", |_| rig.engine.calls().len() == 12).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_leaves_keeps_no_other_waiting() {
    let Some(rig) = Rig::with("farewell", configure).await else { return };
    write(&rig, "demo:1");
    rig.api.wait("the static pod is shown", |api| mirror(api).is_some()).await;
    let first = mirror(&rig.api).unwrap()["metadata"]["uid"].clone();
    rig.api.mark_deleted("web-n1", 30);
    let other = fs::read_to_string(manifest(&rig)).unwrap().replace("web", "other");
    fs::write(manifest(&rig).with_file_name("other.yaml"), other).unwrap();
    let is_new = |pod: &Value| pod["metadata"]["uid"] != first;
    rig.api.wait("it is shown anew", |api| mirror(api).as_ref().is_some_and(is_new)).await;
    let version = |name: &str| {
        let made = rig.api.object("pods", name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        made.trim_start_matches("made-").parse::<u64>().unwrap()
    };
    assert!(version("other-n1") < version("web-n1"), "the other one was shown first");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_that_tell_nothing_are_looked_at() {
    let Some(mut rig) = Rig::with("mute", configure).await else { return };
    write(&rig, "demo:1");
    rig.api.wait("the static pod runs", runs).await;
    rig.stop().await;
    rig.engine.mute();
    rig.start().await;
    rig.engine.exit_silently("c-0", 3);
    rig.api
        .wait("it runs again", |api| {
            runs(api) && mirror(api).unwrap()["status"]["containerStatuses"][0]["restartCount"] == 1
        })
        .await;
    rig.end().await;
}
