//! ServiceAccount admission: the account of a pod, its pull secrets, its token volume and what it
//! may mount (upstream: plugin/pkg/admission/serviceaccount, v1.37).

use serde_json::{Value, json};

/// Where containers find the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Volumes with the token are named like this.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Pods that stand for what a node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Accounts with this annotation let pods use only secrets that they list.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// The account that a pod runs as; none for mirror pods.
pub fn account_name(pod: &Value) -> Option<&str> {
    if is_mirror(pod) {
        return None;
    }
    Some(text(&pod["spec"]["serviceAccountName"])).map(|name| if name.is_empty() { "default" } else { name })
}

/// What is said when the account is not there.
pub fn missing(namespace: &str, name: &str) -> String {
    format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")
}

/// Adds the account `name`, which is `account`; `suffix` ends the name of the token's volume.
pub fn apply(pod: &mut Value, name: &str, account: &Value, suffix: &str) {
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    let automount = pod["spec"]["automountServiceAccountToken"].as_bool();
    if automount.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(pod, suffix);
    }
    let own_secrets = pod["spec"]["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    if let (false, Some(secrets)) = (own_secrets, account["imagePullSecrets"].as_array()) {
        pod["spec"]["imagePullSecrets"] = Value::Array(secrets.clone());
    }
}

/// Whether a new pod may use what it names; `account` is looked up by name.
///
/// # Errors
/// Why not.
pub fn check(pod: &Value, account: impl FnOnce(&str) -> Option<Value>) -> Result<(), String> {
    if is_mirror(pod) {
        return check_mirror(pod);
    }
    let Some(account) = known_account(pod, account)? else { return Ok(()) };
    let name = text(&account["metadata"]["name"]);
    for volume in items(&pod["spec"]["volumes"]) {
        let secret = text(&volume["secret"]["secretName"]);
        if volume["secret"].is_object() && !lists(&account["secrets"], secret) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    check_environment(pod, &account, &[("initContainers", "init container"), ("containers", "container")])?;
    for (at, secret) in items(&pod["spec"]["imagePullSecrets"]).enumerate() {
        let secret = text(&secret["name"]);
        if !lists(&account["imagePullSecrets"], secret) {
            return Err(format!(
                "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

/// Whether the ephemeral containers of a pod may use what they name.
///
/// # Errors
/// Why not.
pub fn check_ephemeral(pod: &Value, account: impl FnOnce(&str) -> Option<Value>) -> Result<(), String> {
    match known_account(pod, account)? {
        Some(account) => check_environment(pod, &account, &[("ephemeralContainers", "ephemeral container")]),
        None => Ok(()),
    }
}

/// The pod's account if it limits what pods use.
fn known_account(pod: &Value, account: impl FnOnce(&str) -> Option<Value>) -> Result<Option<Value>, String> {
    let name = text(&pod["spec"]["serviceAccountName"]);
    let namespace = text(&pod["metadata"]["namespace"]);
    if name.is_empty() {
        let pod = text(&pod["metadata"]["name"]);
        return Err(format!("no service account specified for pod {namespace}/{pod}"));
    }
    let account = account(name).ok_or_else(|| missing(namespace, name))?;
    // What Go's ParseBool reads as true.
    let enforced =
        ["1", "t", "T", "TRUE", "true", "True"].contains(&text(&account["metadata"]["annotations"][ENFORCE]));
    Ok(enforced.then_some(account))
}

fn check_environment(pod: &Value, account: &Value, lists_of: &[(&str, &str)]) -> Result<(), String> {
    for (list, what) in lists_of {
        for container in items(&pod["spec"][*list]) {
            for variable in items(&container["env"]) {
                let source = &variable["valueFrom"]["secretKeyRef"];
                let secret = text(&source["name"]);
                if source.is_object() && !lists(&account["secrets"], secret) {
                    return Err(format!(
                        "{what} {} with envVar {} referencing secret.secretName=\"{secret}\" is not allowed because service account {} does not reference that secret",
                        text(&container["name"]),
                        text(&variable["name"]),
                        text(&account["metadata"]["name"]),
                    ));
                }
            }
        }
    }
    Ok(())
}

fn check_mirror(pod: &Value) -> Result<(), String> {
    if !text(&pod["spec"]["serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts".to_owned());
    }
    if names_secrets(&pod["spec"]) {
        return Err("a mirror pod may not reference secrets".to_owned());
    }
    let sources = items(&pod["spec"]["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    if sources.into_iter().any(|source| source["serviceAccountToken"].is_object()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections".to_owned());
    }
    Ok(())
}

/// Does any part of the specification take something from a secret?
fn names_secrets(spec: &Value) -> bool {
    const OF_VOLUMES: [&str; 9] =
        ["azureFile", "cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos", "csi"];
    let by_volume = |volume: &Value| {
        let source = |kind: &str| {
            let volume = &volume[kind];
            let reference = if kind == "csi" { "nodePublishSecretRef" } else { "secretRef" };
            volume[reference].is_object() || !text(&volume["secretName"]).is_empty()
        };
        volume["secret"].is_object()
            || items(&volume["projected"]["sources"]).any(|source| source["secret"].is_object())
            || OF_VOLUMES.iter().any(|kind| source(kind))
    };
    let by_container = |container: &Value| {
        items(&container["env"]).any(|variable| variable["valueFrom"]["secretKeyRef"].is_object())
            || items(&container["envFrom"]).any(|source| source["secretRef"].is_object())
    };
    items(&spec["imagePullSecrets"]).next().is_some()
        || items(&spec["volumes"]).any(by_volume)
        || ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .any(|list| items(&spec[*list]).any(by_container))
}

fn mount_token(pod: &mut Value, suffix: &str) {
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let known = volumes
        .iter()
        .filter_map(|volume| volume["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let name = known.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{suffix}"));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mut mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            container["volumeMounts"] = Value::Array(mounts);
            needed = true;
        }
    }
    if needed && known.is_none() {
        let mut volumes = volumes;
        volumes.push(token_volume(&name));
        pod["spec"]["volumes"] = Value::Array(volumes);
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"][MIRROR].is_string()
}

/// Does a list of references name it?
fn lists(references: &Value, name: &str) -> bool {
    items(references).any(|reference| reference["name"] == name)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {
            "containers": [{"name": "x"}, {"name": "y", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]}})
    }

    #[test]
    fn containers_get_the_token_once() {
        let mut pod = pod();
        apply(&mut pod, "default", &json!({"imagePullSecrets": [{"name": "pull"}]}), "abcde");
        apply(&mut pod, "default", &json!({}), "fghij");
        assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["spec"]["volumes"][0]["name"], "kube-api-access-abcde");
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"][0]["name"], "own");
        assert_eq!(pod["spec"]["imagePullSecrets"], json!([{"name": "pull"}]));
    }

    #[test]
    fn the_token_can_be_declined() {
        for (own, accounts, mounted) in [
            (json!(false), json!(null), false),
            (json!(null), json!(false), false),
            (json!(true), json!(false), true),
            (json!(null), json!(null), true),
        ] {
            let mut pod = pod();
            pod["spec"]["automountServiceAccountToken"] = own;
            apply(&mut pod, "default", &json!({"automountServiceAccountToken": accounts}), "abcde");
            assert_eq!(pod["spec"]["volumes"].is_array(), mounted);
        }
    }

    #[test]
    fn a_missing_account_is_named() {
        let text = r#"error looking up service account a/ghost: serviceaccount "ghost" not found"#;
        assert_eq!(missing("a", "ghost"), text);
        let mut asks = pod();
        asks["spec"]["serviceAccountName"] = json!("ghost");
        assert_eq!(check(&asks, |_| None), Err(text.to_owned()));
        assert_eq!(account_name(&pod()), Some("default"));
    }

    #[test]
    fn mirror_pods_have_neither_account_nor_secrets() {
        let mirror = |spec: Value| json!({"metadata": {"annotations": {MIRROR: "x"}}, "spec": spec});
        assert_eq!(account_name(&mirror(json!({}))), None);
        for (spec, refused) in [
            (json!({"containers": [{"name": "a"}]}), None),
            (json!({"serviceAccountName": "a"}), Some("a mirror pod may not reference service accounts")),
            (json!({"imagePullSecrets": [{"name": "a"}]}), Some("a mirror pod may not reference secrets")),
            (
                json!({"volumes": [{"secret": {"secretName": "a"}}]}),
                Some("a mirror pod may not reference secrets"),
            ),
            (
                json!({"volumes": [{"rbd": {"secretRef": {"name": "a"}}}]}),
                Some("a mirror pod may not reference secrets"),
            ),
            (
                json!({"initContainers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]}),
                Some("a mirror pod may not reference secrets"),
            ),
            (
                json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {"path": "a"}}]}}]}),
                Some("a mirror pod may not use ServiceAccountToken volume projections"),
            ),
        ] {
            let outcome = check(&mirror(spec.clone()), |_| None);
            assert_eq!(outcome.err().as_deref(), refused, "{spec}");
        }
    }

    #[test]
    fn accounts_can_limit_what_pods_mount() {
        let account = |enforce: &str| json!({"metadata": {"name": "sa", "annotations": {ENFORCE: enforce}}, "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}]});
        let using = |more: Value| {
            let mut pod = pod();
            pod["spec"]["serviceAccountName"] = json!("sa");
            for (key, value) in more.as_object().into_iter().flatten() {
                pod["spec"][key] = value.clone();
            }
            pod
        };
        let variable = |secret: &str| json!([{"name": "c", "env": [{"name": "V", "valueFrom": {"secretKeyRef": {"name": secret}}}]}]);
        for (more, refused) in [
            (
                json!({"volumes": [{"secret": {"secretName": "mine"}}], "imagePullSecrets": [{"name": "pull"}]}),
                "",
            ),
            (
                json!({"volumes": [{"secret": {"secretName": "other"}}]}),
                r#"volume with secret.secretName="other" is not allowed because service account sa does not reference that secret"#,
            ),
            (
                json!({"containers": variable("other")}),
                r#"container c with envVar V referencing secret.secretName="other" is not allowed because service account sa does not reference that secret"#,
            ),
            (
                json!({"initContainers": variable("other")}),
                r#"init container c with envVar V referencing secret.secretName="other" is not allowed because service account sa does not reference that secret"#,
            ),
            (
                json!({"imagePullSecrets": [{"name": "other"}]}),
                r#"imagePullSecrets[0].name="other" is not allowed because service account sa does not reference that imagePullSecret"#,
            ),
        ] {
            let outcome = check(&using(more.clone()), |_| Some(account("true")));
            assert_eq!(outcome.err().unwrap_or_default(), refused, "{more}");
            assert_eq!(check(&using(more), |_| Some(account("no"))), Ok(()));
        }
        let ephemeral = using(json!({"ephemeralContainers": variable("other")}));
        assert_eq!(check(&ephemeral, |_| Some(account("1"))), Ok(()));
        let refused = check_ephemeral(&ephemeral, |_| Some(account("1"))).expect_err("refused");
        assert!(refused.starts_with("ephemeral container c with envVar V"), "{refused}");
    }
}
