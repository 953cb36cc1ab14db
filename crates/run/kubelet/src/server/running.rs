//! `/runningpods/`: what the engine runs, in the words of pods.

use std::collections::BTreeMap;

use plimsoll_cri::v1;
use serde_json::{Value, json};

/// Every pod with a container that runs.
pub(super) fn list(sandboxes: &[v1::PodSandbox], containers: &[v1::Container]) -> Value {
    let mut pods: BTreeMap<&str, (Value, Vec<Value>)> = BTreeMap::new();
    let running = containers.iter().filter(|it| it.state == v1::ContainerState::ContainerRunning as i32);
    for container in running {
        let Some(sandbox) = sandboxes.iter().find(|it| it.id == container.pod_sandbox_id) else { continue };
        let Some(metadata) = &sandbox.metadata else { continue };
        let name = json!({
            "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid, "creationTimestamp": null,
        });
        let image = container.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        let named = container.metadata.as_ref().map(|it| it.name.clone()).unwrap_or_default();
        let entry = pods.entry(&metadata.uid).or_insert((name, Vec::new()));
        entry.1.push(json!({"name": named, "image": image, "resources": {}}));
    }
    let items = pods.into_values().map(|(metadata, containers)| {
        json!({"metadata": metadata, "spec": {"containers": containers}, "status": {}})
    });
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_by_their_running_containers() {
        let sandbox = v1::PodSandbox {
            id: "s".into(),
            metadata: Some(v1::PodSandboxMetadata {
                name: "p".into(),
                uid: "u".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let container = |name: &str, state: v1::ContainerState| v1::Container {
            pod_sandbox_id: "s".into(),
            metadata: Some(v1::ContainerMetadata { name: name.into(), attempt: 0 }),
            state: state as i32,
            ..Default::default()
        };
        let containers = [
            container("a", v1::ContainerState::ContainerRunning),
            container("b", v1::ContainerState::ContainerExited),
        ];
        let list = list(&[sandbox], &containers);
        assert_eq!(list["items"][0]["metadata"]["name"], "p");
        assert_eq!(list["items"][0]["spec"]["containers"].as_array().map(Vec::len), Some(1));
    }
}
