//! Where the engine keeps things below its data directory.
//!
//! ```text
//! run/engine.sock              the container runtime interface
//! run/netns/<sandbox>          network namespaces
//! engine/empty/                the root of every pause process
//! engine/sandboxes/<sandbox>/  one pod
//!   config.pb record.json      what was asked for, and what became of it
//!   shim.json shim.sock shim.log
//!   resolv.conf hostname hosts shm/
//!   runtime/<container>/       libcontainer's own state
//!   containers/<container>/    one container: an OCI bundle
//!     config.pb record.json config.json launch.json
//!     rootfs/ upper/ work/
//!     layers/ mounts/          what is shown as owned by the pod's own users
//!   ns/                        the namespaces of a pod with users of its own
//! ```

use std::path::{Path, PathBuf};

/// The folders of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    data: PathBuf,
}

impl Layout {
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// The empty folder that pause processes have as their root.
    pub(crate) fn empty(&self) -> PathBuf {
        self.data.join("engine/empty")
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.data.join("engine/sandboxes")
    }

    pub(crate) fn sandbox(&self, id: &str) -> SandboxDir {
        SandboxDir(self.sandboxes().join(id))
    }

    pub(crate) fn namespaces(&self) -> PathBuf {
        self.data.join("run/netns")
    }

    /// The kept network namespace of a sandbox.
    pub(crate) fn network_namespace(&self, sandbox: &str) -> PathBuf {
        self.namespaces().join(sandbox)
    }
}

/// The name of the socket in a sandbox's folder.
pub(crate) const SHIM_SOCKET: &str = "shim.sock";

/// The folder of one sandbox.
#[derive(Clone, Debug)]
pub(crate) struct SandboxDir(pub(crate) PathBuf);

impl SandboxDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.pb")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    /// What the shim is to do first.
    pub(crate) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// What the shim knows, kept for the case that it dies.
    pub(crate) fn shim_state(&self) -> PathBuf {
        self.0.join("shim.json")
    }

    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    pub(crate) fn shared_memory(&self) -> PathBuf {
        self.0.join("shm")
    }

    pub(crate) fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }

    pub(crate) fn hostname(&self) -> PathBuf {
        self.0.join("hostname")
    }

    pub(crate) fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// A kept namespace of the pod.
    pub(crate) fn namespace(&self, kind: &str) -> PathBuf {
        self.0.join("ns").join(kind)
    }

    /// The state folder that libcontainer is given.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.0.join("runtime")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    pub(crate) fn container(&self, id: &str) -> ContainerDir {
        ContainerDir(self.containers().join(id))
    }
}

/// The folder of one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir(pub(crate) PathBuf);

impl ContainerDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.pb")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("record.json")
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("config.json")
    }

    pub(crate) fn launch(&self) -> PathBuf {
        self.0.join("launch.json")
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.0.join("rootfs")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// A layer of the image, shown as owned by the pod's users.
    pub(crate) fn layer(&self, index: usize) -> PathBuf {
        self.0.join("layers").join(index.to_string())
    }

    /// A volume, shown as owned by the pod's users.
    pub(crate) fn mount(&self, index: usize) -> PathBuf {
        self.0.join("mounts").join(index.to_string())
    }

    /// The document of one more process.
    pub(crate) fn exec(&self, exec: &str) -> PathBuf {
        self.0.join(format!("exec-{exec}.json"))
    }
}
