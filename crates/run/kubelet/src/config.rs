//! What a node agent is told at its start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::cgroup::name::Driver;
use plimsoll_podlife::cgroup::reserved::{self, Enforced};
use plimsoll_podlife::cgroup::{Reservation, Swap};
use plimsoll_podlife::collection::Policy;
use plimsoll_podlife::eviction::threshold::{self, Settings};
use plimsoll_podlife::image::verification::Verification;
use plimsoll_podlife::placement::hints::Keeping;
use plimsoll_podlife::placement::{self, CpuSet, memory};
use plimsoll_podlife::restart::Delays;
use plimsoll_podlife::shutdown::Period;
use tokio_util::sync::CancellationToken;

use crate::peers::PeerIdentity;
use crate::server::{Authentication, Authorization};

/// The settings of a node agent.
#[derive(Clone)]
pub struct Config {
    /// The node's name.
    pub node_name: String,
    /// Where pods' folders are; it survives restarts.
    pub data_dir: PathBuf,
    /// Where containers' logs are, `<namespace>_<pod>_<uid>/<container>/<count>.log` below it.
    pub log_dir: PathBuf,
    /// The engine's socket.
    pub cri_socket: PathBuf,
    /// The socket of the image service, if it is another one (`imageServiceEndpoint`).
    pub image_socket: Option<PathBuf>,
    /// Longest wait for an answer of the engine (`runtimeRequestTimeout`).
    pub runtime_request_timeout: Duration,
    /// How many images may be pulled in a second, and how many at once; none for no limit (`registryPullQPS`,
    /// `registryBurst`).
    pub pull_rate: Option<(u32, u32)>,
    /// Programs that know credentials of registries: their configuration, a file or a folder, and the folder they
    /// are in.
    pub credential_providers: Option<(PathBuf, PathBuf)>,
    /// For which images that are there pods have to show credentials (`imagePullCredentialsVerificationPolicy`,
    /// `preloadedImagesVerificationAllowlist`).
    pub image_verification: Verification,
    /// How long containers that fail wait.
    pub crash_delays: Delays,
    /// The cluster's name servers.
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's domain, `cluster.local`.
    pub cluster_domain: String,
    /// The control group under which `kubepods` is made; `/` for the root.
    pub cgroup_root: String,
    /// Who names control groups, unless the engine says (`cgroupDriver`).
    pub cgroup_driver: Driver,
    /// The addresses of the node, the preferred one first.
    pub node_ips: Vec<IpAddr>,
    /// The address that the agent's server listens on.
    pub listen: IpAddr,
    /// Its port; 0 takes a free one.
    pub port: u16,
    /// Its certificate and the authority that its clients' certificates must come from. Without it the
    /// agent serves nothing.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whom the server lets in.
    pub authentication: Authentication,
    /// What they may do.
    pub authorization: Authorization,
    /// Where it is only told whether the agent is well, without asking who wants to know.
    pub healthz: Option<SocketAddr>,
    /// Where figures and pods are told to whoever asks (`readOnlyPort`).
    pub read_only: Option<SocketAddr>,
    /// The folder of the node's own logs, if they are served (`enableSystemLogHandler`).
    pub system_logs: Option<PathBuf>,
    /// Whether they are searched, too (`enableSystemLogQuery`).
    pub system_log_query: bool,
    /// Whether logs are served and commands run.
    pub debugging: bool,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// How many for each processor, if that is less.
    pub pods_per_core: Option<u32>,
    /// How many tasks one pod may have; a part of what the kernel allows if nobody says.
    pub pod_pids: Option<i64>,
    /// Whether the agent makes the node, or waits for it.
    pub register_node: bool,
    /// What an outside provider calls the node.
    pub provider_id: String,
    /// How often the node's status is looked at.
    pub status_update: Duration,
    /// How often it is sent when nothing changed.
    pub status_report: Duration,
    /// How many images it names; none for all.
    pub status_images: Option<usize>,
    /// Seconds for which the node counts as alive without a word.
    pub lease_seconds: i32,
    /// Labels that the node gets when it registers.
    pub labels: BTreeMap<String, String>,
    /// Taints that the node gets when it registers.
    pub taints: Vec<Taint>,
    /// Resources that are kept for the agent and the engine.
    pub kube_reserved: BTreeMap<String, Quantity>,
    /// Resources that are kept for the rest of the system.
    pub system_reserved: BTreeMap<String, Quantity>,
    /// Processors that are kept for the agent and the system (`reservedSystemCPUs`); when there are any, they
    /// count instead of the `cpu` of the two lists.
    pub reserved_system_cpus: CpuSet,
    /// Which of the reservations are enforced.
    pub enforce_node_allocatable: BTreeSet<Enforced>,
    /// The control group of the agent and the engine, for `kube-reserved`.
    pub kube_reserved_cgroup: String,
    /// The control group of the rest of the system, for `system-reserved`.
    pub system_reserved_cgroup: String,
    /// Whether limits of processors are enforced (`cpuCFSQuota`).
    pub cpu_cfs_quota: bool,
    /// The period in which they count (`cpuCFSQuotaPeriod`).
    pub cpu_cfs_quota_period: Duration,
    /// Whether containers get processors for themselves.
    pub cpu_manager_policy: CpuManagerPolicy,
    /// How.
    pub cpu_manager_policy_options: placement::Options,
    /// Whether containers get memory on certain memory nodes.
    pub memory_manager_policy: MemoryManagerPolicy,
    /// What of each memory node is kept from them.
    pub reserved_memory: Vec<memory::Reservation>,
    /// How resources of one pod or container are kept together (`topologyManagerPolicy`, `topologyManagerScope`,
    /// `topologyManagerPolicyOptions`).
    pub topology_manager: Keeping,
    /// Whether a machine with swap is refused.
    pub fail_swap_on: bool,
    /// Which containers may swap (`memorySwap.swapBehavior`).
    pub swap_behavior: Swap,
    /// Where on the way from request to limit memory slows a container down; nowhere without.
    pub memory_throttling_factor: Option<f64>,
    /// What requests of memory protect on cgroup v2.
    pub memory_reservation_policy: Reservation,
    /// Whether the kernel kills one process of a container that has used up its memory, or all; what the
    /// kernel can do, if absent.
    pub single_process_oom_kill: Option<bool>,
    /// How readily the kernel kills the agent when memory runs out; where the machine does not allow as
    /// little, the nearest that it allows. Absent, it is left alone.
    pub oom_score_adj: Option<i32>,
    /// When the node is short of something, in the words of a KubeletConfiguration.
    pub eviction: Settings,
    /// Seconds that pods get when a soft threshold is crossed.
    pub eviction_max_pod_grace: i64,
    /// How often it is looked whether the node is short of something; the kernel's alarm comes in between.
    pub pressure_period: Duration,
    /// How long the node says that it is short of something after it was.
    pub pressure_transition: Duration,
    /// When unused images are removed.
    pub image_gc: Policy,
    /// How many images are pulled at once; none for no limit.
    pub parallel_pulls: Option<usize>,
    /// Processors and bytes of memory that the node claims to have instead of those of the machine. Memory
    /// counts as used by pods only, then.
    pub pretended: Option<(i64, i64)>,
    /// How long a pod's volumes may take before users are told.
    pub volume_mount_timeout: Duration,
    /// How often volumes of drivers are looked after (`syncFrequency`).
    pub sync_frequency: Duration,
    /// How long figures of volumes count (`volumeStatsAggPeriod`).
    pub volume_stats_period: Duration,
    /// Whether it is told what drivers think of the health of volumes (feature `CSIVolumeHealth`).
    pub volume_health: bool,
    /// A container's log is rotated when it has so many bytes.
    pub container_log_max_size: u64,
    /// How many files a container's log has at most.
    pub container_log_max_files: usize,
    /// How long the stop signal of a pod that ends waits at most for the data planes to drop its endpoints, within
    /// its grace period; zero for not at all.
    pub endpoint_drain: Duration,
    /// How other nodes' agents know this one, if they are asked when their data planes have dropped a pod. Their
    /// clients' certificates must come from the same authority.
    pub peers: Option<PeerIdentity>,
    /// A folder of static pods, or a file with one.
    pub static_pod_path: Option<PathBuf>,
    /// Where static pods are fetched from.
    pub static_pod_url: Option<String>,
    /// Headers of the request for them.
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    /// How often the folder is looked at, should the kernel not tell of a change.
    pub file_check: Duration,
    /// How often the address is asked.
    pub http_check: Duration,
    /// Whether there is an API server at all.
    pub standalone: bool,
    /// How long pods have when the node goes down, from low priorities to high ones.
    pub shutdown_periods: Vec<Period>,
    /// Says that the node goes down.
    pub leaving: CancellationToken,
    /// The agent cancels it when the API knows for the first time in this run that the node is ready.
    pub joined: CancellationToken,
    /// The node's own resolver file.
    pub resolv_conf: PathBuf,
    /// The kernel's log, by which the agent knows when the machine has no memory left.
    pub kernel_log: PathBuf,
    /// Kernel parameters that pods may set beyond the safe ones; `kernel.msg*` for all that begin so.
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Whether the agent runs only where the kernel's settings are as upstream's agent wants them
    /// (`protectKernelDefaults`). They are changed in no case.
    pub protect_kernel_defaults: bool,
    /// Whether containers run under the engine's seccomp profile when they ask for none.
    pub seccomp_default: bool,
    /// Below which folder volumes of the built-in provisioner are kept; none if the node keeps none.
    pub local_volumes: Option<PathBuf>,
    /// The whole KubeletConfiguration, for those who ask what the agent was told.
    pub given: serde_json::Value,
    /// What is told on `/metrics` beside the agent's own figures.
    pub registries: Vec<std::sync::Arc<prometheus_client::registry::Registry>>,
}

/// Whether containers get processors for themselves (`cpuManagerPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuManagerPolicy {
    /// All share all.
    #[default]
    None,
    /// Guaranteed pods that ask for whole processors get them.
    Static,
}

/// Whether containers get memory on certain memory nodes (`memoryManagerPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryManagerPolicy {
    /// All share all.
    #[default]
    None,
    /// Guaranteed pods get theirs on as few nodes as it goes.
    Static,
}

impl Config {
    /// The usual settings of a node with this name, data directory, engine and address.
    #[must_use]
    pub fn new(
        node_name: impl Into<String>,
        data_dir: PathBuf,
        cri_socket: PathBuf,
        node_ip: IpAddr,
    ) -> Self {
        Self {
            node_name: node_name.into(),
            log_dir: data_dir.join("logs"),
            data_dir,
            cri_socket,
            image_socket: None,
            runtime_request_timeout: Duration::from_secs(120),
            pull_rate: None,
            credential_providers: None,
            image_verification: Verification::default(),
            crash_delays: Delays::default(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".into(),
            cgroup_root: "/".into(),
            cgroup_driver: Driver::Cgroupfs,
            node_ips: vec![node_ip],
            listen: node_ip,
            port: 10250,
            tls: None,
            authentication: Authentication::default(),
            authorization: Authorization::default(),
            healthz: None,
            read_only: None,
            system_logs: None,
            system_log_query: false,
            debugging: true,
            max_pods: 110,
            pods_per_core: None,
            register_node: true,
            provider_id: String::new(),
            status_update: Duration::from_secs(10),
            status_report: Duration::from_secs(300),
            status_images: Some(50),
            lease_seconds: 40,
            pod_pids: None,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            kube_reserved: BTreeMap::new(),
            system_reserved: BTreeMap::new(),
            reserved_system_cpus: CpuSet::default(),
            enforce_node_allocatable: [Enforced::Pods].into(),
            kube_reserved_cgroup: String::new(),
            system_reserved_cgroup: String::new(),
            cpu_cfs_quota: true,
            cpu_cfs_quota_period: Duration::from_millis(100),
            cpu_manager_policy: CpuManagerPolicy::None,
            cpu_manager_policy_options: placement::Options::default(),
            memory_manager_policy: MemoryManagerPolicy::None,
            reserved_memory: Vec::new(),
            topology_manager: Keeping::default(),
            fail_swap_on: true,
            swap_behavior: Swap::No,
            memory_throttling_factor: None,
            memory_reservation_policy: Reservation::None,
            single_process_oom_kill: None,
            oom_score_adj: Some(-999),
            eviction: Settings {
                hard: threshold::defaults(),
                enforce_allocatable: true,
                ..Settings::default()
            },
            eviction_max_pod_grace: 0,
            pressure_period: Duration::from_secs(10),
            pressure_transition: Duration::from_secs(300),
            image_gc: Policy::default(),
            parallel_pulls: None,
            pretended: None,
            volume_mount_timeout: Duration::from_secs(123),
            sync_frequency: Duration::from_secs(60),
            volume_stats_period: Duration::from_secs(60),
            local_volumes: None,
            volume_health: false,
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            endpoint_drain: Duration::from_secs(5),
            peers: None,
            static_pod_path: None,
            static_pod_url: None,
            static_pod_url_header: BTreeMap::new(),
            file_check: Duration::from_secs(20),
            http_check: Duration::from_secs(20),
            standalone: false,
            shutdown_periods: Vec::new(),
            leaving: CancellationToken::new(),
            joined: CancellationToken::new(),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            kernel_log: PathBuf::from("/dev/kmsg"),
            allowed_unsafe_sysctls: Vec::new(),
            protect_kernel_defaults: false,
            seccomp_default: false,
            given: serde_json::Value::Null,
            registries: Vec::new(),
        }
    }

    /// What is kept from pods.
    pub(crate) fn reserved(&self) -> reserved::Settings {
        reserved::Settings {
            kube: self.kube_reserved.clone(),
            system: self.system_reserved.clone(),
            cpus: i64::try_from(self.reserved_system_cpus.len()).ok().filter(|count| *count > 0),
            enforced: self.enforce_node_allocatable.clone(),
        }
    }

    /// The folder of a pod.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(uid)
    }
}
