//! Whose credentials images are pulled with, and who may use them then.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::{Rig, phase};

/// An image that only those get who say the right word.
const IMAGE: &str = "eu.r.example/secret:1";

fn pod(name: &str, more: Value) -> Value {
    let mut pod = super::pod(json!({
        "nodeName": "n1", "restartPolicy": "Always", "terminationGracePeriodSeconds": 1, "serviceAccountName": "robot",
        "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}],
    }));
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["uid"] = json!(format!("uid-{name}"));
    for (field, value) in more.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

fn secret(name: &str, user: &str, password: &str) -> Value {
    let config = json!({"auths": {"eu.r.example": {"username": user, "password": password}}}).to_string();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, config);
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "ns", "uid": format!("s-{name}")},
        "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": encoded}})
}

/// Runs a pod until it runs or its image is refused, then ends it: what its container waits for, if it does, and how
/// often the engine was asked to pull.
async fn outcome(rig: &Rig, pod: Value) -> (String, Vec<String>) {
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    let before = rig.engine.calls().len();
    rig.api.put("pods", pod);
    let waits = |pod: &Value| {
        let reason = pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].as_str();
        // It may wait for the next try already.
        let reason = reason.map(|reason| reason.replace("ImagePullBackOff", "ErrImagePull"));
        reason.filter(|reason| reason.contains("Image")).unwrap_or_default()
    };
    rig.api
        .wait("the pod runs or is refused", |api| {
            api.get("pods", &name).is_some_and(|pod| phase(&pod) == "Running" || !waits(&pod).is_empty())
        })
        .await;
    let reason = waits(&rig.api.get("pods", &name).unwrap());
    rig.api.mark_deleted(&name, 0);
    rig.api.wait("the pod is gone", |api| api.get("pods", &name).is_none()).await;
    let calls = rig.engine.calls().into_iter().skip(before);
    (reason, calls.filter(|call| call.starts_with("pull")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_pull_an_image_cannot_use_it() {
    let Some(mut rig) = Rig::new("verification").await else { return };
    for (name, user, password) in
        [("owner", "owner", "good"), ("same", "owner", "good"), ("thief", "thief", "bad")]
    {
        rig.api.put("secrets", secret(name, user, password));
    }
    rig.engine.keep_image("sha256:1", rig.temp.path().join("image"));
    rig.engine.lack_image(IMAGE);
    let with = |name: &str, secret: &str| pod(name, json!({"imagePullSecrets": [{"name": secret}]}));
    let pull = |who: &str| vec![format!("pull {IMAGE} {who}")];
    let ran = String::new();
    assert_eq!(outcome(&rig, with("first", "owner")).await, (ran.clone(), pull("owner")));
    assert_eq!(outcome(&rig, with("again", "owner")).await, (ran.clone(), vec![]));
    // The same content in another Secret is as good.
    assert_eq!(outcome(&rig, with("copy", "same")).await, (ran.clone(), vec![]));
    assert_eq!(outcome(&rig, with("thief", "thief")).await, ("ErrImagePull".into(), pull("thief")));
    assert_eq!(outcome(&rig, pod("nobody", json!({}))).await, ("ErrImagePull".into(), pull("")));
    let never = json!([{"name": "c", "image": IMAGE, "imagePullPolicy": "Never"}]);
    let refused = outcome(&rig, pod("never", json!({"containers": never}))).await;
    assert_eq!(refused, ("ErrImageNeverPull".into(), vec![]));
    // The next agent knows it, too.
    rig.stop().await;
    rig.start().await;
    assert_eq!(outcome(&rig, with("later", "owner")).await, (ran, vec![]));
    assert_eq!(outcome(&rig, pod("nobody", json!({}))).await, ("ErrImagePull".into(), pull("")));
    let temp = rig.end().await;
    let folder = temp.path().join("kubelet/image_manager");
    assert_eq!(fs::read_dir(folder.join("pulling")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(folder.join("pulled")).unwrap().count(), 1);
}

/// A program that lets the account `robot` in, and notes what it was asked.
fn configure(config: &mut crate::Config) {
    let folder = config.data_dir.with_file_name("bin");
    fs::create_dir_all(&folder).unwrap();
    let script = "#!/bin/sh\necho \"$WORD $1\" >>\"$0.asked\"; cat >>\"$0.asked\"\ncat <<END\n\
        {\"apiVersion\": \"credentialprovider.kubelet.k8s.io/v1\", \"kind\": \"CredentialProviderResponse\",\n\
        \"cacheKeyType\": \"Registry\", \"auth\": {\"*.r.example\": {\"username\": \"known\", \"password\": \"good\"}}}\nEND\n";
    let program = folder.join("helper");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.with_file_name("providers.yaml");
    let text = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: helper\n  \
        matchImages: ['*.r.example']\n  defaultCacheDuration: 1h\n  \
        apiVersion: credentialprovider.kubelet.k8s.io/v1\n  args: [now]\n  env: [{name: WORD, value: please}]\n  \
        tokenAttributes:\n    serviceAccountTokenAudience: registry\n    cacheType: ServiceAccount\n    \
        requireServiceAccount: true\n    requiredServiceAccountAnnotationKeys: [r.example/team]\n";
    fs::write(&file, text).unwrap();
    config.credential_providers = Some((file, folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_know_credentials() {
    let Some(rig) = Rig::with("provider", configure).await else { return };
    for (name, annotations) in [("robot", json!({"r.example/team": "t"})), ("plain", json!({}))] {
        rig.api.put("serviceaccounts", json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": "ns", "uid": format!("a-{name}"), "annotations": annotations}}));
    }
    rig.engine.keep_image("sha256:1", rig.temp.path().join("image"));
    rig.engine.lack_image(IMAGE);
    let pull = |who: &str| vec![format!("pull {IMAGE} {who}")];
    assert_eq!(outcome(&rig, pod("first", json!({}))).await, (String::new(), pull("known")));
    assert_eq!(outcome(&rig, pod("again", json!({}))).await, (String::new(), vec![]));
    let plain = pod("plain", json!({"serviceAccountName": "plain"}));
    assert_eq!(outcome(&rig, plain).await, ("ErrImagePull".into(), pull("")));
    let asked = fs::read_to_string(rig.temp.path().join("bin/helper.asked")).unwrap();
    let (call, question) = asked.split_once('\n').unwrap();
    assert_eq!(call, "please now");
    // It was asked once, as its answer holds for a while.
    let question: Value = serde_json::from_str(question).unwrap();
    assert_eq!(
        question,
        json!({"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderRequest",
            "image": "eu.r.example/secret", "serviceAccountToken": "token of robot for registry",
            "serviceAccountAnnotations": {"r.example/team": "t"}})
    );
    rig.end().await;
}

#[test]
fn programs_that_are_not_there() {
    let temp = tempfile::tempdir().unwrap();
    let mut config = crate::Config::new("n", temp.path().join("kubelet"), "/x".into(), [192, 0, 2, 1].into());
    let mut opened = |file: &str, folder: &str| {
        config.credential_providers = Some((temp.path().join(file), temp.path().join(folder)));
        let refused = crate::logins::Logins::open(&config).map(drop).unwrap_err();
        refused.replace(&temp.path().display().to_string(), "")
    };
    let begin = "failed to register CRI auth plugins: ";
    assert_eq!(opened("c", "bin"), format!("{begin}plugin binary directory /bin did not exist"));
    fs::create_dir(temp.path().join("bin")).unwrap();
    assert!(opened("c", "bin").starts_with(&format!("{begin}unable to access path \"/c\": ")));
    fs::create_dir(temp.path().join("c")).unwrap();
    assert_eq!(opened("c", "bin"), format!("{begin}no configuration files found in directory \"/c\""));
    let text = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n- name: p\n  \
        matchImages: [x]\n  defaultCacheDuration: 1h\n  apiVersion: credentialprovider.kubelet.k8s.io/v1\n";
    fs::write(temp.path().join("c/a.yaml"), text).unwrap();
    assert_eq!(opened("c", "bin"), format!("{begin}plugin binary executable /bin/p did not exist"));
}
