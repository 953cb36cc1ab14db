//! What the engine tells of sandboxes and containers, and what happens to them.

use std::sync::Arc;

use plimsoll_cri::v1::{
    self, ContainerEventResponse, ContainerEventType, ContainerResources, ContainerState, ContainerUser,
    LinuxContainerUser, LinuxPodSandboxStatus, PodIp, PodSandboxNetworkStatus, PodSandboxState,
    PodSandboxStatus,
};

use crate::clock;
use crate::engine::Engine;
use crate::pods::{Container, Sandbox, Status};

impl Sandbox {
    pub(crate) fn cri_state(&self) -> PodSandboxState {
        if self.state().ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
    }

    /// The answer to a question for this sandbox.
    pub(crate) fn describe(&self) -> PodSandboxStatus {
        let addresses: Vec<String> = self.state().addresses.iter().map(ToString::to_string).collect();
        let (ip, additional) =
            addresses.split_first().map_or((String::new(), &[][..]), |(ip, rest)| (ip.clone(), rest));
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.cri_state().into(),
            created_at: self.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip,
                additional_ips: additional.iter().map(|ip| PodIp { ip: ip.clone() }).collect(),
            }),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(v1::Namespace { options: Some(self.namespaces()) }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: self.handler.clone(),
        }
    }
}

impl Container {
    pub(crate) fn cri_state(&self) -> ContainerState {
        match self.status() {
            Status::Created => ContainerState::ContainerCreated,
            Status::Running { .. } => ContainerState::ContainerRunning,
            Status::Exited { .. } => ContainerState::ContainerExited,
        }
    }

    /// The answer to a question for this container.
    pub(crate) fn describe(&self) -> v1::ContainerStatus {
        let record = self.record().clone();
        let user = LinuxContainerUser {
            uid: record.uid.into(),
            gid: record.gid.into(),
            supplemental_groups: record.groups.iter().map(|group| i64::from(*group)).collect(),
        };
        let mut found = v1::ContainerStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.cri_state().into(),
            created_at: record.created_at,
            image: self.config.image.clone(),
            image_ref: record.image_ref,
            image_id: record.image_id,
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            mounts: self.config.mounts.clone(),
            log_path: self.log_path().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
            resources: Some(ContainerResources { linux: Some(self.resources()) }),
            user: Some(ContainerUser { linux: Some(user) }),
            stop_signal: v1::Signal::from_str_name(&record.stop_signal).unwrap_or_default().into(),
            ..v1::ContainerStatus::default()
        };
        match self.status() {
            Status::Created => {}
            Status::Running { started_at, .. } => found.started_at = started_at,
            Status::Exited { started_at, exit, reason, message } => {
                found.started_at = started_at;
                found.finished_at = exit.at;
                found.exit_code = exit.code;
                found.reason = match (reason.is_empty(), exit.oom, exit.code) {
                    (false, ..) => reason,
                    (true, true, _) => "OOMKilled".to_owned(),
                    (true, false, 0) => "Completed".to_owned(),
                    (true, false, _) => "Error".to_owned(),
                };
                found.message = message;
            }
        }
        found
    }
}

impl Engine {
    /// Tells everybody who listens what happened to a sandbox or container.
    pub(crate) fn publish(&self, sandbox: &Arc<Sandbox>, id: &str, kind: ContainerEventType) {
        if self.shared.events.receiver_count() == 0 {
            return;
        }
        let containers = self.shared.pods.containers_of(&sandbox.id);
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: clock::now(),
            pod_sandbox_status: Some(sandbox.describe()),
            containers_statuses: containers.iter().map(|container| container.describe()).collect(),
        };
        // The last listener may leave at any moment.
        let _ = self.shared.events.send(event);
    }
}
