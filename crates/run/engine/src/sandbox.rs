//! Sandboxes: run, stop, remove.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_cri::v1::{
    ContainerEventType, DnsConfig, NamespaceMode, PodSandboxConfig, PortMapping as CriPortMapping,
    Protocol as CriProtocol,
};
use plimsoll_kernel::cgroup::Cgroup;
use plimsoll_kernel::pause::Users;
use plimsoll_kernel::pod_network::{Attach, PortMapping, Protocol};
use plimsoll_kernel::{cgroup, mount, namespace};
use prost::Message as _;
use tokio::sync::mpsc;

use crate::clock;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::files;
use crate::group;
use crate::layout::SandboxDir;
use crate::pods::{Sandbox, SandboxState};
use crate::protocol::{Answer, Call, Plan, State};
use crate::shim_client::{self, Shim};
use crate::users;

/// Pause processes are killed last of all in a pod (kubelet: pkg/kubelet/qos, `PodInfraOOMAdj`).
const PAUSE_OOM_SCORE: i32 = -998;

/// What containers may share by memory unless they say otherwise, as all engines have it.
const SHARED_MEMORY: &str = "mode=1777,size=65536k";

impl Engine {
    /// Makes a sandbox: a shim, a pause process with the pod's namespaces, its network. Returns its id.
    ///
    /// # Errors
    /// When any of it fails; nothing is left then.
    pub async fn run_sandbox(&self, config: PodSandboxConfig, handler: &str) -> Result<String> {
        check(&config, handler)?;
        let id = new_id();
        let dir = self.shared.layout.sandbox(&id);
        let sandbox = Arc::new(Sandbox {
            id: id.clone(),
            config,
            handler: handler.to_owned(),
            created_at: clock::now(),
            dir,
            state: std::sync::Mutex::new(SandboxState::default()),
            execs: std::sync::Mutex::new(HashMap::new()),
        });
        // Known at once, so that a caller who gave up waiting finds and removes it.
        self.shared.pods.insert_sandbox(sandbox.clone());
        match self.bring_up(&sandbox).await {
            Ok(()) => {
                self.publish(&sandbox, &id, ContainerEventType::ContainerCreatedEvent);
                self.publish(&sandbox, &id, ContainerEventType::ContainerStartedEvent);
                Ok(id)
            }
            Err(error) => {
                if let Err(left) = self.remove_sandbox(&id).await {
                    tracing::warn!(sandbox = id, error = %left, "cleaning up after a failed start");
                }
                Err(error)
            }
        }
    }

    async fn bring_up(&self, sandbox: &Arc<Sandbox>) -> Result<()> {
        let plan = plan(sandbox, self, sandbox.users()?);
        let prepared = sandbox.clone();
        let group = self.sandbox_cgroup(sandbox);
        let created = group.clone();
        let program = self.shared.config.program.clone();
        let boot = self.shared.boot.clone();
        blocking(move || {
            prepare(&prepared, &plan, &boot)?;
            Ok(created.create()?)
        })
        .await?;
        shim_client::spawn(&program, &sandbox.dir, &sandbox.title())
            .map_err(Error::io(sandbox.dir.path()))?;
        let state = self.connect(sandbox).await?;
        let pause = state.pause.ok_or_else(|| Error::Shim("the pause process died at once".to_owned()))?;
        sandbox.state().pause = Some(pause);
        if sandbox.users()?.is_some() {
            let dir = sandbox.dir.clone();
            blocking(move || users::keep(&dir, pause.pid)).await?;
        }
        // Entering a control group waits for the kernel; the network is made meanwhile.
        let enter = blocking(move || Ok(group.add(pause.pid)?));
        let (entered, attached) = tokio::join!(enter, self.connect_network(sandbox, pause.pid));
        entered?;
        attached?;
        sandbox.state().ready = true;
        self.keep_sandbox(sandbox)
    }

    /// Connects to a sandbox's shim and follows what it tells.
    pub(crate) async fn connect(&self, sandbox: &Arc<Sandbox>) -> Result<State> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shim = Shim::connect(&sandbox.dir, sender).map_err(Error::io(sandbox.dir.path()))?;
        sandbox.state().shim = Some(shim.clone());
        let (answer, _) = shim.call(Call::Hello, &[]).await?;
        tokio::spawn(self.clone().follow(sandbox.clone(), receiver));
        match answer {
            Answer::State(state) => Ok(state),
            Answer::Done | Answer::Started(_) => {
                Err(Error::Shim("the shim did not tell its state".to_owned()))
            }
        }
    }

    async fn connect_network(&self, sandbox: &Arc<Sandbox>, pause: i32) -> Result<()> {
        if !sandbox.owns_network() {
            return Ok(());
        }
        let netns = self.shared.layout.network_namespace(&sandbox.id);
        let kept = netns.clone();
        blocking(move || Ok(namespace::keep_network(pause, &kept)?)).await?;
        let Some(network) = &self.shared.config.network else { return Ok(()) };
        let metadata = sandbox.config.metadata.clone().unwrap_or_default();
        let request = Attach {
            sandbox_id: sandbox.id.clone(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            netns,
            port_mappings: ports(&sandbox.config.port_mappings)?,
            annotations: sandbox.config.annotations.clone(),
        };
        let attached = network.attach(request).await?;
        sandbox.state().addresses = attached.addresses;
        Ok(())
    }

    /// Stops what runs in a sandbox and takes its network away. May be repeated.
    ///
    /// # Errors
    /// When something cannot be undone; what can be is undone all the same.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let sandbox = match self.shared.pods.sandbox(id) {
            Ok(sandbox) => sandbox,
            // Stopping what is gone is done.
            Err(_) => return Ok(()),
        };
        for container in self.shared.pods.containers_of(&sandbox.id) {
            self.stop_container(&container.id, Duration::ZERO).await?;
        }
        let was_ready = std::mem::replace(&mut sandbox.state().ready, false);
        self.end_shim(&sandbox).await;
        let mut detached = Ok(());
        if let Some(network) = self.shared.config.network.as_ref().filter(|_| sandbox.owns_network()) {
            detached = network.detach(&sandbox.id).await;
        }
        let (netns, dir) = (self.shared.layout.network_namespace(&sandbox.id), sandbox.dir.clone());
        let group = self.sandbox_cgroup(&sandbox);
        blocking(move || {
            namespace::release(&netns)?;
            users::release(&dir)?;
            mount::unmount(&dir.shared_memory())?;
            clear(&group)
        })
        .await?;
        detached?;
        self.keep_sandbox(&sandbox)?;
        if was_ready {
            self.publish(&sandbox, &sandbox.id, ContainerEventType::ContainerStoppedEvent);
        }
        Ok(())
    }

    async fn end_shim(&self, sandbox: &Arc<Sandbox>) {
        let shim = {
            let mut state = sandbox.state();
            state.stopping = true;
            state.shim.take()
        };
        if let Some(shim) = shim {
            // It may be dead already, which is as good.
            let _ = shim.call(Call::Shutdown, &[]).await;
        }
        let pause = sandbox.state().pause.take();
        if let Some(pause) = pause {
            let _ = pause.signal(nix::libc::SIGKILL);
            wait_for_end(pause).await;
        }
    }

    /// Removes a sandbox and its containers; one that is not there is no error.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let Ok(sandbox) = self.shared.pods.sandbox(id) else { return Ok(()) };
        self.stop_sandbox(&sandbox.id).await?;
        for container in self.shared.pods.containers_of(&sandbox.id) {
            self.remove_container(&container.id).await?;
        }
        let dir = sandbox.dir.clone();
        blocking(move || remove_folder(&dir)).await?;
        self.shared.pods.remove_sandbox(&sandbox.id);
        self.publish(&sandbox, &sandbox.id, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// The control group under which the containers of a sandbox live.
    pub(crate) fn pod_cgroup(&self, sandbox: &Sandbox) -> String {
        let parent = sandbox.config.linux.as_ref().map(|linux| linux.cgroup_parent.trim_end_matches('/'));
        match parent.filter(|parent| !parent.is_empty()) {
            Some(parent) => group::parent(parent),
            None => self.shared.config.cgroup_root.trim_end_matches('/').to_owned(),
        }
    }

    pub(crate) fn sandbox_cgroup(&self, sandbox: &Sandbox) -> Cgroup {
        self.cgroup(&group::path(&self.pod_cgroup(sandbox), &sandbox.id))
    }

    pub(crate) fn keep_sandbox(&self, sandbox: &Sandbox) -> Result<()> {
        let path = sandbox.dir.record();
        files::replace_json(&path, &sandbox.record(&self.shared.boot)).map_err(Error::io(path))
    }
}

/// A random id, as other engines have them.
pub(crate) fn new_id() -> String {
    rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Empties and removes a group. Processes that were killed may need a moment to be gone.
pub(crate) fn clear(group: &Cgroup) -> Result<()> {
    const TRIES: u32 = 50;
    for attempt in 0..TRIES {
        match group.remove() {
            Err(cgroup::Error::Busy(_)) if attempt + 1 < TRIES => {
                group.kill_all()?;
                std::thread::sleep(Duration::from_millis(10));
            }
            other => return Ok(other?),
        }
    }
    Ok(())
}

/// Waits until the kernel says that a process is gone.
pub(crate) async fn wait_for_end(process: plimsoll_kernel::process::Identity) {
    let Ok(fd) = process.open() else { return };
    if let Ok(fd) = plimsoll_kernel::readiness::register(fd, tokio::io::Interest::READABLE) {
        let _ = tokio::time::timeout(Duration::from_secs(10), fd.readable()).await;
    }
}

/// Takes away what is mounted below and deletes the rest.
pub(crate) fn remove_folder(dir: &SandboxDir) -> Result<()> {
    match fs::remove_dir_all(dir.path()) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    mount::unmount_below(dir.path())?;
    fs::remove_dir_all(dir.path()).map_err(Error::io(dir.path()))
}

fn check(config: &PodSandboxConfig, handler: &str) -> Result<()> {
    if config.metadata.is_none() {
        return Err(Error::Invalid("the sandbox has no metadata".to_owned()));
    }
    if !handler.is_empty() {
        return Err(Error::Invalid(format!("no runtime for {handler:?} is configured")));
    }
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = security.and_then(|security| security.namespace_options.as_ref());
    options.map_or(Ok(None), users::range).map(drop)
}

fn plan(sandbox: &Sandbox, engine: &Engine, users: Option<Users>) -> Plan {
    let options = sandbox.namespaces();
    let linux = sandbox.config.linux.clone().unwrap_or_default();
    let mut sysctls: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    if sandbox.owns_network() {
        // What needs privileges on a machine does not in a network that is the pod's own.
        sysctls.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        let last = users.map_or(0x7fff_ffff, |users| users.length - 1);
        sysctls.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
    }
    sysctls.extend(linux.sysctls);
    Plan {
        hostname: sandbox.config.hostname.clone(),
        sysctls: sysctls.into_iter().collect(),
        network: sandbox.owns_network(),
        ipc: sandbox.owns_ipc(),
        pid: options.pid() == NamespaceMode::Pod,
        empty: engine.shared.layout.empty(),
        oom_score: PAUSE_OOM_SCORE,
        users,
        cgroups: engine.shared.cgroups.clone(),
    }
}

/// Writes the sandbox's folder.
fn prepare(sandbox: &Sandbox, plan: &Plan, boot: &str) -> Result<()> {
    let dir = &sandbox.dir;
    // Users of containers reach their files by mounts, others have no business here.
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o711);
    for folder in [dir.path().to_owned(), dir.containers(), dir.runtime(), dir.shared_memory()] {
        builder.create(&folder).map_err(Error::io(&folder))?;
    }
    let put = |path: std::path::PathBuf, bytes: &[u8]| fs::write(&path, bytes).map_err(Error::io(path));
    put(dir.config(), &sandbox.config.encode_to_vec())?;
    files::replace_json(&dir.record(), &sandbox.record(boot)).map_err(Error::io(dir.record()))?;
    files::replace_json(&dir.plan(), plan).map_err(Error::io(dir.plan()))?;
    put(dir.resolv_conf(), resolv_conf(sandbox.config.dns_config.as_ref()).as_bytes())?;
    put(dir.hostname(), format!("{}\n", sandbox.config.hostname).as_bytes())?;
    put(dir.hosts(), &fs::read("/etc/hosts").unwrap_or_default())?;
    if sandbox.owns_ipc() {
        let owner = plan.users.map(|users| format!(",uid={0},gid={0}", users.first)).unwrap_or_default();
        mount::tmpfs(&dir.shared_memory(), &format!("{SHARED_MEMORY}{owner}"))?;
    }
    if let Some(range) = plan.users {
        for file in [dir.resolv_conf(), dir.hostname(), dir.hosts()] {
            users::give(&file, range)?;
        }
    }
    Ok(())
}

/// The resolver's file: what was asked for, or the machine's.
fn resolv_conf(dns: Option<&DnsConfig>) -> String {
    let Some(dns) =
        dns.filter(|dns| !(dns.servers.is_empty() && dns.searches.is_empty() && dns.options.is_empty()))
    else {
        return fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    };
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

fn ports(mappings: &[CriPortMapping]) -> Result<Vec<PortMapping>> {
    let number =
        |port: i32| u16::try_from(port).map_err(|_| Error::Invalid(format!("port {port} is out of range")));
    let mut found = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.host_port > 0) {
        let host_ip = match mapping.host_ip.as_str() {
            "" | "0.0.0.0" | "::" => None,
            text => {
                Some(text.parse().map_err(|_| Error::Invalid(format!("host address {text} is no address")))?)
            }
        };
        found.push(PortMapping {
            protocol: match mapping.protocol() {
                CriProtocol::Tcp => Protocol::Tcp,
                CriProtocol::Udp => Protocol::Udp,
                CriProtocol::Sctp => Protocol::Sctp,
            },
            container_port: number(mapping.container_port)?,
            host_port: number(mapping.host_port)?,
            host_ip,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_file() {
        let dns = DnsConfig {
            servers: vec!["10.0.0.10".to_owned()],
            searches: vec!["a.svc".to_owned(), "svc".to_owned()],
            options: vec!["ndots:5".to_owned()],
        };
        assert_eq!(resolv_conf(Some(&dns)), "search a.svc svc\nnameserver 10.0.0.10\noptions ndots:5\n");
    }
}
