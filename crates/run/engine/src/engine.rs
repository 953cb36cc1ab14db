//! The engine itself: start, adoption of what runs, and the end.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_cri::v1::security_profile::ProfileType;
use plimsoll_cri::v1::{ContainerEventResponse, LinuxContainerSecurityContext, SecurityProfile};
use plimsoll_kernel::cgroup::{Cgroup, Hierarchy};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::pods::Pods;
use crate::profiles::{self, Profiles};
use crate::spec::{Host, seccomp};
use crate::stream::Tickets;

/// How many events a slow listener may be behind before it has to list anew.
const EVENT_BACKLOG: usize = 4096;

/// A container engine. Clones share one.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// Compiled filters, each instruction packed into one number.
type Filters = Vec<Vec<u64>>;

/// What all parts of an engine share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) cgroups: Hierarchy,
    pub(crate) host: Host,
    pub(crate) boot: String,
    pub(crate) pods: Pods,
    /// The engine's own system call filters by capabilities: compiling one takes milliseconds.
    pub(crate) filters: Mutex<HashMap<Vec<String>, Filters>>,
    pub(crate) profiles: Profiles,
    pub(crate) tickets: Tickets,
    pub(crate) events: broadcast::Sender<ContainerEventResponse>,
}

impl Engine {
    /// Starts an engine: adopts what runs in the data directory, then serves the container runtime
    /// interface until `shutdown`. Shims and containers live on after that.
    ///
    /// # Errors
    /// When the machine lacks something, or the socket cannot be made.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Self> {
        let engine = Self::open(config).await?;
        engine.serve_streams(shutdown.clone()).await?;
        let served = engine.clone();
        let socket = served.shared.config.socket.clone();
        if let Some(folder) = socket.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        tokio::spawn(async move {
            let service = Arc::new(served);
            if let Err(error) = plimsoll_cri::serve(&socket, service, shutdown.cancelled_owned()).await {
                tracing::error!(%error, "container engine");
            }
        });
        Ok(engine)
    }

    /// An engine without a socket, for callers in the same process.
    ///
    /// # Errors
    /// When the machine lacks something.
    pub async fn open(config: Config) -> Result<Self> {
        let layout = Layout::new(&config.data_dir);
        for folder in [layout.sandboxes(), layout.empty(), layout.namespaces()] {
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        let cgroups = Hierarchy::detect()?;
        let host = host(cgroups.version());
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let boot = boot_id();
        let shared = Shared {
            config,
            layout,
            cgroups,
            host,
            boot,
            pods: Pods::default(),
            filters: Mutex::default(),
            profiles: Profiles::default(),
            tickets: Tickets::default(),
            events,
        };
        let engine = Self { shared: Arc::new(shared) };
        engine.adopt().await;
        Ok(engine)
    }

    /// The system call filters of a container.
    pub(crate) fn filters(
        &self,
        security: &LinuxContainerSecurityContext,
        capabilities: &[String],
    ) -> Result<Filters> {
        let compile = || seccomp::filters(security.seccomp.as_ref(), security.privileged, capabilities);
        let profile = security.seccomp.as_ref().map(SecurityProfile::profile_type);
        if profile != Some(ProfileType::RuntimeDefault) || security.privileged {
            return Ok(compile()?);
        }
        let known = || self.shared.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filters) = known().get(capabilities) {
            return Ok(filters.clone());
        }
        let filters = compile()?;
        known().insert(capabilities.to_vec(), filters.clone());
        Ok(filters)
    }

    pub(crate) fn cgroup(&self, path: &str) -> Cgroup {
        self.shared.cgroups.group(path)
    }
}

/// The boot that is going on.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn host(cgroups: plimsoll_kernel::cgroup::Version) -> Host {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let bits = permitted.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    let all = crate::spec::ALL_CAPABILITIES;
    let capabilities: BTreeSet<String> = all
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let open_files = limit.map_or(1024, |(_, hard)| hard);
    Host { cgroups, capabilities, open_files, apparmor: profiles::ability() }
}

/// Runs work that may wait for the disk or the kernel on a thread made for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::State(format!("work was interrupted: {error}"))))
}
