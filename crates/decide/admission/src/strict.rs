//! Plugins that are off unless they are asked for: stricter rules for pods and Services.

use serde_json::{Value, json};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// AlwaysPullImages: nobody uses an image that somebody else with credentials has pulled.
pub fn pull_images(pod: &mut Value) {
    for list in LISTS {
        for container in each_mut(pod, list) {
            container["imagePullPolicy"] = json!("Always");
        }
    }
    for volume in each_mut(pod, "volumes") {
        if let Some(image) = volume.get_mut("image") {
            image["pullPolicy"] = json!("Always");
        }
    }
}

/// The items of a list of the specification; a list that is not there stays so.
fn each_mut<'p>(pod: &'p mut Value, list: &str) -> impl Iterator<Item = &'p mut Value> {
    pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

/// ExtendedResourceToleration: who asks for a device tolerates the taint of nodes with that device.
pub fn tolerate_extended_resources(pod: &mut Value) {
    let mut wanted: Vec<String> = Vec::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let requests = container["resources"]["requests"].as_object().into_iter().flatten();
            wanted.extend(requests.map(|(name, _)| name.clone()).filter(|name| is_extended(name)));
        }
    }
    wanted.sort();
    wanted.dedup();
    let mut tolerations = pod["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    for name in wanted {
        let toleration = json!({"key": name, "operator": "Exists"});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    if !tolerations.is_empty() {
        pod["spec"]["tolerations"] = Value::Array(tolerations);
    }
}

/// A resource of another domain than Kubernetes' own.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.")
}

/// DenyServiceExternalIPs: new external addresses are refused; those that were there may stay.
///
/// # Errors
/// When there are new ones.
pub fn check_external_ips(service: &Value, old: Option<&Value>) -> Result<(), &'static str> {
    let list = |service: &Value| service["spec"]["externalIPs"].as_array().cloned().unwrap_or_default();
    let before = old.map(list).unwrap_or_default();
    match list(service).iter().all(|address| before.contains(address)) {
        true => Ok(()),
        false => Err("Use of external IPs is denied by admission control."),
    }
}

/// LimitPodHardAntiAffinityTopology: required anti-affinity goes by node and nothing larger.
///
/// # Errors
/// When it goes by something else.
pub fn check_anti_affinity(pod: &Value) -> Result<(), String> {
    const NODE: &str = "kubernetes.io/hostname";
    let terms = &pod["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let mut keys = terms.as_array().into_iter().flatten().filter_map(|term| term["topologyKey"].as_str());
    match keys.find(|key| *key != NODE) {
        None => Ok(()),
        Some(key) => Err(format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {NODE} is allowed"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_always_pulled() {
        let mut pod = json!({"spec": {"containers": [{"imagePullPolicy": "Never"}], "initContainers": [{}], "volumes": [{"image": {}}, {"emptyDir": {}}]}});
        pull_images(&mut pod);
        assert_eq!(
            pod["spec"],
            json!({"containers": [{"imagePullPolicy": "Always"}], "initContainers": [{"imagePullPolicy": "Always"}],
                "volumes": [{"image": {"pullPolicy": "Always"}}, {"emptyDir": {}}]})
        );
    }

    #[test]
    fn devices_are_tolerated_once() {
        let container =
            json!({"resources": {"requests": {"cpu": "1", "example.com/gpu": "1", "kubernetes.io/x": "1"}}});
        let mut pod = json!({"spec": {"containers": [container, container]}});
        tolerate_extended_resources(&mut pod);
        tolerate_extended_resources(&mut pod);
        assert_eq!(pod["spec"]["tolerations"], json!([{"key": "example.com/gpu", "operator": "Exists"}]));
    }

    #[test]
    fn new_external_addresses_are_refused() {
        let service = |addresses: &[&str]| json!({"spec": {"externalIPs": addresses}});
        assert!(check_external_ips(&service(&["1.1.1.1"]), None).is_err());
        assert!(check_external_ips(&service(&[]), None).is_ok());
        assert!(check_external_ips(&service(&["1.1.1.1"]), Some(&service(&["1.1.1.1", "2.2.2.2"]))).is_ok());
        assert!(check_external_ips(&service(&["3.3.3.3"]), Some(&service(&["1.1.1.1"]))).is_err());
    }

    #[test]
    fn anti_affinity_goes_by_node() {
        let pod = |key: &str| json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": key}]}}}});
        assert!(check_anti_affinity(&pod("kubernetes.io/hostname")).is_ok());
        assert!(
            check_anti_affinity(&pod("zone")).expect_err("refused").contains("TopologyKey zone but only key")
        );
        assert!(check_anti_affinity(&json!({"spec": {}})).is_ok());
    }
}
