//! The containers of a pod in the order of their lives, ephemeral ones included.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// The part a container plays in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that keeps running (`restartPolicy: Always`).
    Sidecar,
    /// An ordinary container.
    Main,
    /// Added to a running pod for debugging.
    Ephemeral,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Its part.
    pub role: Role,
    /// Its specification; ephemeral containers have the same fields.
    pub container: Container,
    /// The container whose processes an ephemeral container sees.
    pub target: Option<String>,
}

impl Spec {
    /// The container's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.container.name
    }

    /// The path by which events point at this container.
    #[must_use]
    pub fn field_path(&self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.container.name)
    }
}

/// Every container of a pod: init containers and sidecars in order, then the rest.
#[must_use]
pub fn specs(pod: &Pod) -> Vec<Spec> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| Spec {
        role: if is_sidecar(container) { Role::Sidecar } else { Role::Init },
        container: container.clone(),
        target: None,
    });
    let main = spec.containers.iter().map(|container| Spec {
        role: Role::Main,
        container: container.clone(),
        target: None,
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| Spec {
        role: Role::Ephemeral,
        container: ordinary(container),
        target: container.target_container_name.clone().filter(|name| !name.is_empty()),
    });
    let mut all: Vec<_> = init.chain(main).chain(ephemeral).collect();
    // They are kept as long as the pod lives.
    all.shrink_to_fit();
    all
}

/// A pod's specification; every pod that the API admits has one.
pub(crate) fn pod_spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().expect("the API admits no pod without a specification")
}

/// Whether the API server knows that a pod has ended.
#[must_use]
pub fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether an init container keeps running beside the others.
#[must_use]
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Whether the pod lives in the node's network.
#[must_use]
pub fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

fn ordinary(container: &EphemeralContainer) -> Container {
    let c = container.clone();
    Container {
        args: c.args,
        command: c.command,
        env: c.env,
        env_from: c.env_from,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        name: c.name,
        resources: c.resources,
        security_context: c.security_context,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        tty: c.tty,
        volume_devices: c.volume_devices,
        volume_mounts: c.volume_mounts,
        working_dir: c.working_dir,
        ..Container::default()
    }
}
