//! The sandboxes and containers that the engine knows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_cri::v1::{
    ContainerConfig, LinuxContainerResources, NamespaceMode, NamespaceOption, PodSandboxConfig,
};
use plimsoll_kernel::pause::Users;
use plimsoll_kernel::process::Identity;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use crate::error::{Error, Result};
use crate::layout::{ContainerDir, SandboxDir};
use crate::protocol::Exit;
use crate::shim_client::Shim;
use crate::users;

/// A pod's sandbox.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) config: PodSandboxConfig,
    pub(crate) handler: String,
    pub(crate) created_at: i64,
    pub(crate) dir: SandboxDir,
    pub(crate) state: Mutex<SandboxState>,
    /// Who waits for the end of which process.
    pub(crate) execs: Mutex<HashMap<String, oneshot::Sender<i32>>>,
}

/// What changes about a sandbox.
#[derive(Debug, Default)]
pub(crate) struct SandboxState {
    pub(crate) ready: bool,
    pub(crate) pause: Option<Identity>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) shim: Option<Arc<Shim>>,
    /// Whether the engine itself ends the shim.
    pub(crate) stopping: bool,
}

/// What is kept of a sandbox beside its configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) handler: String,
    pub(crate) created_at: i64,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ready: bool,
    /// The boot that it was made in: nothing lives on in another one.
    pub(crate) boot: String,
}

/// A container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) config: ContainerConfig,
    pub(crate) dir: ContainerDir,
    pub(crate) cgroup: String,
    pub(crate) record: Mutex<ContainerRecord>,
    /// What happens to it; waiting for its end is waiting for a change.
    pub(crate) status: watch::Sender<Status>,
}

/// What is kept of a container beside its configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) created_at: i64,
    /// Digest of the image's configuration.
    pub(crate) image_id: String,
    /// The image with its digest, as users may refer to it.
    pub(crate) image_ref: String,
    /// By name, so that unknown names of newer versions are no error.
    pub(crate) stop_signal: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// What was asked for last, encoded.
    pub(crate) resources: Vec<u8>,
    pub(crate) status: Status,
}

/// The life of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) enum Status {
    #[default]
    Created,
    Running {
        pid: i32,
        started_at: i64,
    },
    Exited {
        started_at: i64,
        exit: Exit,
        /// Why, in one word; empty when the exit says it.
        reason: String,
        message: String,
    },
}

impl Sandbox {
    pub(crate) fn state(&self) -> MutexGuard<'_, SandboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn namespaces(&self) -> NamespaceOption {
        let security = self.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        security.and_then(|security| security.namespace_options.clone()).unwrap_or_default()
    }

    pub(crate) fn owns_network(&self) -> bool {
        self.namespaces().network() != NamespaceMode::Node
    }

    pub(crate) fn owns_ipc(&self) -> bool {
        self.namespaces().ipc() != NamespaceMode::Node
    }

    /// The range of the pod's own users; none when it has the machine's.
    pub(crate) fn users(&self) -> Result<Option<Users>> {
        users::range(&self.namespaces())
    }

    /// `namespace/name`, as process lists show it.
    pub(crate) fn title(&self) -> String {
        let metadata = self.config.metadata.clone().unwrap_or_default();
        format!("{}/{}", metadata.namespace, metadata.name)
    }

    /// The shim, as long as it lives.
    pub(crate) fn shim(&self) -> Result<Arc<Shim>> {
        let gone = || Error::State(format!("pod sandbox {} is not running", self.id));
        self.state().shim.clone().ok_or_else(gone)
    }

    pub(crate) fn record(&self, boot: &str) -> SandboxRecord {
        let state = self.state();
        SandboxRecord {
            handler: self.handler.clone(),
            created_at: self.created_at,
            addresses: state.addresses.clone(),
            ready: state.ready,
            boot: boot.to_owned(),
        }
    }
}

impl Container {
    pub(crate) fn record(&self) -> MutexGuard<'_, ContainerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn running(&self) -> bool {
        matches!(*self.status.borrow(), Status::Running { .. })
    }

    /// The resources that were asked for last.
    pub(crate) fn resources(&self) -> LinuxContainerResources {
        prost::Message::decode(self.record().resources.as_slice()).unwrap_or_default()
    }

    /// The absolute path of the log file, if there is to be one.
    pub(crate) fn log_path(&self) -> Option<PathBuf> {
        let folder = &self.sandbox.config.log_directory;
        if folder.is_empty() || self.config.log_path.is_empty() {
            return None;
        }
        Some(PathBuf::from(folder).join(&self.config.log_path))
    }
}

/// Everything by id.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    sandboxes: Mutex<HashMap<String, Arc<Sandbox>>>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
}

impl Pods {
    /// The sandbox of that id or of a unique beginning of it.
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>> {
        find(&lock(&self.sandboxes), id).ok_or_else(|| Error::NoSandbox(id.to_owned()))
    }

    /// The container of that id or of a unique beginning of it.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        find(&lock(&self.containers), id).ok_or_else(|| Error::NoContainer(id.to_owned()))
    }

    pub(crate) fn sandboxes(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.sandboxes).values().cloned().collect()
    }

    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        lock(&self.containers).values().cloned().collect()
    }

    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let containers = lock(&self.containers);
        containers.values().filter(|container| container.sandbox.id == sandbox).cloned().collect()
    }

    pub(crate) fn insert_sandbox(&self, sandbox: Arc<Sandbox>) {
        lock(&self.sandboxes).insert(sandbox.id.clone(), sandbox);
    }

    pub(crate) fn insert_container(&self, container: Arc<Container>) {
        lock(&self.containers).insert(container.id.clone(), container);
    }

    pub(crate) fn remove_sandbox(&self, id: &str) {
        lock(&self.sandboxes).remove(id);
    }

    pub(crate) fn remove_container(&self, id: &str) {
        lock(&self.containers).remove(id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find<T>(map: &HashMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = map.get(id) {
        return Some(found.clone());
    }
    let mut matches = map.iter().filter(|(known, _)| !id.is_empty() && known.starts_with(id));
    let (_, found) = matches.next()?;
    matches.next().is_none().then(|| found.clone())
}
