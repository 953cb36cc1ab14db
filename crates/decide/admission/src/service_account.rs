//! ServiceAccount admission: the account of a pod, its pull secrets and its token volume.

use serde_json::{Value, json};

/// Where containers find the token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Volumes with the token are named like this.
const VOLUME_PREFIX: &str = "kube-api-access-";

/// Adds the account `name`; `account` is that object, if it exists. `suffix` ends the name of the token's
/// volume and is random, so that no template relies on it.
pub fn apply(pod: &mut Value, name: &str, account: Option<&Value>, suffix: &str) -> Result<(), String> {
    if pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_string() {
        return Ok(());
    }
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
    let Some(account) = account else {
        return Err(format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ));
    };
    pod["spec"]["serviceAccountName"] = json!(name);
    pod["spec"]["serviceAccount"] = json!(name);
    let own_secrets = pod["spec"]["imagePullSecrets"].as_array().is_some_and(|list| !list.is_empty());
    if let (false, Some(secrets)) = (own_secrets, account["imagePullSecrets"].as_array()) {
        pod["spec"]["imagePullSecrets"] = Value::Array(secrets.clone());
    }
    let automount = pod["spec"]["automountServiceAccountToken"].as_bool();
    if automount.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
        mount_token(pod, suffix);
    }
    Ok(())
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
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mut mounts = mounts;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {
            "containers": [{"name": "x"}, {"name": "y", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]}})
    }

    #[test]
    fn containers_get_the_token_once() {
        let mut pod = pod();
        apply(&mut pod, "default", Some(&json!({})), "12345").expect("account exists");
        apply(&mut pod, "default", Some(&json!({})), "12345").expect("twice does no harm");
        assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"][0]["name"], "own");
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
            apply(&mut pod, "default", Some(&json!({"automountServiceAccountToken": accounts})), "12345")
                .expect("account exists");
            assert_eq!(pod["spec"]["volumes"].is_array(), mounted);
        }
    }

    #[test]
    fn a_missing_account_is_named() {
        let error = apply(&mut pod(), "ghost", None, "12345").expect_err("no account");
        assert_eq!(error, r#"error looking up service account a/ghost: serviceaccount "ghost" not found"#);
    }
}
