//! The node agent: it makes the pods bound to its node real.
//!
//! What enters: pods, ConfigMaps, Secrets and Services from the API, what the container engine tells
//! over CRI. What leaves: calls to the engine, folders, mounts and control groups of pods, their
//! statuses, the node's own object. What a pod needs next is decided in `plimsoll-podlife`; a task for
//! each pod ([`pod`]) carries inputs to it and effects from it. Ending the agent ends no container: the
//! next one adopts them.

mod acceptance;
mod admission;
mod agent;
mod certificates;
mod cgroups;
mod claims;
mod config;
mod configured;
mod container;
mod csi;
mod devices;
mod effect;
mod endpoints;
mod engine;
mod env_files;
mod figures;
mod handler;
mod hook;
mod image;
mod listing;
mod logins;
mod logs;
mod machine;
mod metrics;
mod node;
mod oom;
mod peers;
mod placement;
mod plugins;
mod pod;
mod pod_certificate;
mod pods;
mod pressure;
mod prober;
mod pulled;
mod pulls;
mod references;
mod resize;
mod rotation;
mod sandbox;
mod server;
mod shutdown;
mod statics;
mod token;
mod trust;
mod users;
mod volume;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use plimsoll_client::{Backoff, EventRecorder, Informer, Informers};
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::Node;
use plimsoll_podlife::acceptance::Abilities;
use plimsoll_podlife::cgroup::Victims;
use plimsoll_podlife::cgroup::name::Driver;
use plimsoll_podlife::cgroup::tasks::Tasks;
use plimsoll_podlife::eviction::Condition;
use plimsoll_podlife::eviction::threshold::Threshold;
use plimsoll_podlife::kernel_flags;
use plimsoll_podlife::sysctl::Allowed;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use agent::{Agent, Features};
pub use certificates::{Certificate, CertificateError};
use cgroups::Cgroups;
use claims::Claims;
pub use config::{Config, CpuManagerPolicy, MemoryManagerPolicy};
pub use configured::Misfit;
use devices::{Devices, PodResources};
use engine::Engine;
use logins::Logins;
use machine::Machine;
use metrics::Metrics;
pub use peers::PeerIdentity;
use pulled::Records;
use pulls::Pulls;
use server::Server;
pub use server::{Authentication, Authorization, Tls, TlsError};
use statics::Statics;

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its folders cannot be made.
    #[error("data directory {path}: {source}")]
    Data {
        /// The folder.
        path: std::path::PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The control groups of pods cannot be made.
    #[error("{0}")]
    Cgroups(#[from] cgroups::Error),
    /// Processors or memory cannot be given as they are to be.
    #[error("{0}")]
    Placement(String),
    /// Nobody knows what drivers have prepared.
    #[error("{0}")]
    Claims(String),
    /// Programs that know credentials of registries are not as they are said to be.
    #[error("{0}")]
    Credentials(String),
    /// The machine has swap.
    #[error("{0}")]
    Swap(String),
    /// The kernel's settings are others than they are to be.
    #[error("{0}")]
    Kernel(String),
    /// The settings of node pressure make no sense.
    #[error("{0}")]
    Eviction(#[from] plimsoll_podlife::eviction::threshold::Refused),
    /// The settings of image collection make no sense.
    #[error("{0}")]
    Images(#[from] plimsoll_podlife::collection::Refused),
    /// The settings of kernel parameters make no sense.
    #[error("{0}")]
    Sysctls(#[from] plimsoll_podlife::sysctl::NotNamespaced),
    /// Its server cannot listen.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Ends of containers that are remembered for readers of logs.
const EXITS: usize = 1024;

/// Runs the agent until `shutdown`. Containers run on after it.
///
/// # Errors
/// When the machine does not allow it: folders, control groups, the port. An API server or engine that
/// does not answer is waited for.
pub async fn run(
    config: Config,
    client: kube::Client,
    informers: Informers,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let thresholds = config.eviction.thresholds()?;
    config.image_gc.check()?;
    refuse_swap(&config)?;
    if config.protect_kernel_defaults {
        kernel_flags::check(|path| std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok())
            .map_err(Error::Kernel)?;
    }
    adjust_score(&config);
    for path in [config.data_dir.join("pods"), config.log_dir.clone()] {
        std::fs::create_dir_all(&path).map_err(|source| Error::Data { path, source })?;
    }
    let logins = Logins::open(&config).map_err(Error::Credentials)?;
    let records = Records::open(&config)
        .map_err(|source| Error::Data { path: config.data_dir.join("image_manager"), source })?;
    let machine = Machine::detect(&config.data_dir, config.pretended);
    let most = config.pods_per_core.map(|each| i64::from(each) * machine.cpus);
    let most = most.and_then(|most| u32::try_from(most).ok()).unwrap_or(config.max_pods);
    let config = Config { max_pods: config.max_pods.min(most), ..config };
    let allocatable = machine.allocatable(config.max_pods, &config.reserved(), &thresholds);
    let metrics = Arc::new(Metrics::new(&config.node_name));
    let kept = machine.kept(&config.reserved(), &thresholds);
    let placement = placement::Placement::new(&config, machine.memory, &kept).map_err(Error::Placement)?;
    let claims = Claims::open(&config.data_dir, metrics.clone()).map_err(Error::Claims)?;
    let engine = Engine::connect(&config, metrics.clone());
    let runtime = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        version = runtime(&engine) => version,
    };
    if records.is_unsure() {
        records.settle(&engine.list_images().await.unwrap_or_default());
    }
    let driver = engine.cgroup_driver().await.unwrap_or(config.cgroup_driver);
    let cgroups = cgroups(&config, &machine, &allocatable, driver)?;
    let engine_has = features(&engine).await;
    let users = users::Users::load(&config);
    let abilities = Abilities {
        sysctls: Allowed::new(&config.allowed_unsafe_sysctls, &machine.kernel)?,
        apparmor: plimsoll_kernel::apparmor::enabled(),
        strict_groups: engine_has.strict_groups,
    };
    let addresses = config.node_ips.iter().map(ToString::to_string).collect();
    let (conditions, pressure) = watch::channel(Vec::new());
    let (writers, started) = mpsc::unbounded_channel();
    let (found, statics) = watch::channel(Statics::default());
    let agent = Arc::new(Agent {
        recorder: EventRecorder::new(client.clone(), "kubelet", Some(&config.node_name)),
        services: informers.informer::<Service>(),
        endpoints: endpoints::Endpoints::new(&informers, &config),
        node: Arc::new(Node { addresses, runtime: runtime.0.clone(), delays: config.crash_delays }),
        runtime_version: format!("{}://{}", runtime.0, runtime.1),
        exits: broadcast::channel(EXITS).0,
        claims: Arc::new(claims),
        devices: Arc::new(Devices::open(&config.data_dir.join("device-plugins"), metrics.clone())),
        metrics,
        pulls: Pulls::new(&config),
        logins,
        records,
        pressure,
        statics,
        config,
        client,
        informers,
        engine,
        engine_has,
        users,
        abilities,
        cgroups,
        volumes: volume::Volumes::default(),
        drivers: csi::Drivers::default(),
        placement,
        machine,
        started: jiff::Timestamp::now(),
        writers,
        allocatable,
    });
    let outlets = Outlets { conditions, statics: found };
    serve(agent, thresholds, outlets, started, shutdown).await
}

/// Where parts put what others follow.
struct Outlets {
    conditions: watch::Sender<Vec<Condition>>,
    statics: watch::Sender<Statics>,
}

/// Joins the parts and waits for the end.
async fn serve(
    agent: Arc<Agent>,
    thresholds: Vec<Threshold>,
    outlets: Outlets,
    started: mpsc::UnboundedReceiver<rotation::Writer>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let pods = pods::informer(&agent);
    let mut parts = JoinSet::new();
    let port = listen(&agent, &pods, &mut parts, &shutdown)?;
    parts.spawn(agent.devices.clone().run(shutdown.clone()));
    let resources = PodResources { agent: agent.clone(), pods: pods.clone() };
    parts.spawn(resources.run(agent.config.data_dir.join("pod-resources"), shutdown.clone()));
    parts.spawn(plugins::run(agent.clone(), shutdown.clone()));
    parts.spawn(rotation::run(agent.clone(), started, shutdown.clone()));
    parts.spawn(oom::run(agent.clone(), shutdown.clone()));
    parts.spawn(statics::run(agent.clone(), outlets.statics, shutdown.clone()));
    if !agent.config.standalone {
        parts.spawn(node::run(agent.clone(), port, shutdown.clone()));
        parts.spawn(volume::keep_local_folders(agent.clone(), shutdown.clone()));
        parts.spawn(volume::look_after(agent.clone(), shutdown.clone()));
        parts.spawn(statics::show(agent.clone(), pods.clone(), shutdown.clone()));
    }
    let (orders, ordered) = mpsc::unbounded_channel();
    parts.spawn(shutdown::run(agent.clone(), pods.clone(), orders.clone(), shutdown.clone()));
    let outlets = pressure::Outlets { orders, conditions: outlets.conditions };
    parts.spawn(pressure::run(agent.clone(), pods.clone(), thresholds, outlets, shutdown.clone()));
    parts.spawn(pods::run(agent, pods, ordered, shutdown));
    while let Some(ended) = parts.join_next().await {
        ended.expect("the agent's parts do not panic");
    }
    Ok(())
}

/// Opens the agent's ports; that of its API comes back.
fn listen(
    agent: &Arc<Agent>,
    pods: &Informer<Pod>,
    parts: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) -> Result<Option<u16>, Error> {
    let plain = |address| server::bind_plain(address).map_err(|source| Error::Listen { address, source });
    let config = &agent.config;
    let server = Arc::new(Server::new(agent.clone(), pods.clone(), agent.exits.clone()));
    if let Some(address) = config.read_only {
        parts.spawn(server.clone().run_read_only(plain(address)?, shutdown.clone()));
    }
    let Some(tls) = config.tls.clone() else { return Ok(None) };
    if let Some(address) = config.healthz {
        parts.spawn(server::health(plain(address)?, shutdown.clone()));
    }
    let address = std::net::SocketAddr::new(config.listen, config.port);
    let listener = server::bind(agent).map_err(|source| Error::Listen { address, source })?;
    let port = listener.local_addr().ok().map(|address| address.port());
    parts.spawn(server.run(listener, tls, shutdown.clone()));
    Ok(port)
}

/// Name and version of the engine, asked until it answers.
async fn runtime(engine: &Engine) -> (String, String) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    loop {
        match engine.version().await {
            Ok(version) => return (version.runtime_name, version.runtime_version),
            Err(error) => {
                tracing::debug!(%error, "the engine does not answer yet");
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }
}

/// What the engine says that it can do with containers of the usual kind.
async fn features(engine: &Engine) -> Features {
    let status = engine.status().await.unwrap_or_default();
    let usual = status.runtime_handlers.into_iter().find(|handler| handler.name.is_empty());
    let features = usual.and_then(|handler| handler.features).unwrap_or_default();
    Features {
        recursive_read_only: features.recursive_read_only_mounts,
        user_namespaces: features.user_namespaces,
        strict_groups: status.features.is_some_and(|features| features.supplemental_groups_policy),
    }
}

/// Makes the groups of pods as this machine and its settings want them.
fn cgroups(
    config: &Config,
    machine: &Machine,
    allocatable: &BTreeMap<String, Quantity>,
    driver: Driver,
) -> Result<Cgroups, cgroups::Error> {
    let hierarchy = plimsoll_kernel::cgroup::Hierarchy::detect()?;
    let tasks = machine::processes().map(|(_, most)| Tasks::of(most));
    let period = i64::try_from(config.cpu_cfs_quota_period.as_micros()).unwrap_or(i64::MAX);
    let version = cgroups::version(&hierarchy);
    let rules = plimsoll_podlife::cgroup::Machine {
        version,
        memory: machine.memory,
        swap: machine.swap,
        allocatable: allocatable.get("memory").map_or(0, |memory| memory.value()),
        page_sizes: machine.page_sizes.clone(),
        period: config.cpu_cfs_quota.then_some(period),
        pids: config.pod_pids.or(tasks.map(|tasks| tasks.pod)),
        throttling: config.memory_throttling_factor,
        reservation: config.memory_reservation_policy,
        swapping: config.swap_behavior,
        victims: Victims::of(config.single_process_oom_kill, version),
    };
    let plan = cgroups::Plan {
        driver,
        root: config.cgroup_root.clone(),
        reserved: config.reserved(),
        kube_group: config.kube_reserved_cgroup.clone(),
        system_group: config.system_reserved_cgroup.clone(),
    };
    let mut capacity = machine.capacity(config.max_pods);
    if let Some(tasks) = tasks {
        capacity.insert("pid".to_owned(), Quantity::from_units(tasks.pods));
    }
    Cgroups::new(hierarchy, &plan, &capacity, rules)
}

fn refuse_swap(config: &Config) -> Result<(), Error> {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let refused = plimsoll_podlife::cgroup::swap::refusal(&swaps).filter(|_| config.fail_swap_on);
    refused.map_or(Ok(()), |why| Err(Error::Swap(why)))
}

/// Asks the kernel to spare the agent when memory runs out.
fn adjust_score(config: &Config) {
    let Some(wanted) = config.oom_score_adj else { return };
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    match plimsoll_kernel::process::set_oom_score(own, wanted) {
        Ok(set) if set == wanted => {}
        Ok(set) => tracing::info!(wanted, set, "the machine does not allow the agent's OOM score"),
        Err(error) => tracing::warn!(wanted, %error, "the agent's OOM score is not set"),
    }
}
