//! The fields of a KubeletConfiguration (kubelet: staging/src/k8s.io/kubelet/config/v1beta1, v1.37), their
//! defaults, and which of them the agent acts upon.

use std::collections::BTreeMap;

use super::parts::{
    Authentication, Authorization, CrashLoopBackOff, Logging, MemoryReservation, MemorySwap,
    ShutdownGracePeriod, Taint, Tracing, UserNamespaces,
};
use super::setting::settings;
use super::span::Span;
use crate::collection::Policy;
use crate::eviction::threshold::Statements;

settings! {
    /// What a node agent is told by files and flags. Fields have upstream's meaning and names.
    Configuration {
        /// `kubelet.config.k8s.io/v1beta1`.
        api_version: String = "apiVersion", none, Used;
        /// `KubeletConfiguration`.
        kind: String = "kind", none, Used;

        // Pods that come from elsewhere than the API.
        /// A folder of pods, or a file with one.
        static_pod_path: String = "staticPodPath", none, Used;
        /// Where pods are fetched from.
        static_pod_url: String = "staticPodURL", none, Used;
        /// Headers of the request for them.
        static_pod_url_header: BTreeMap<String, Vec<String>> = "staticPodURLHeader", none, Used;
        /// How often the folder is looked at.
        file_check_frequency: Span = "fileCheckFrequency", empty Span::seconds(20), Used;
        /// How often the address is asked.
        http_check_frequency: Span = "httpCheckFrequency", empty Span::seconds(20), Used;
        /// How often volumes of drivers are looked after. Pods are synchronized when something happens.
        sync_frequency: Span = "syncFrequency", empty Span::seconds(60), Used;

        // The agent's server.
        /// Whether there is one.
        enable_server: bool = "enableServer", absent true, Used;
        /// The address that it listens on.
        address: String = "address", empty "0.0.0.0".to_owned(), Used;
        /// Its port.
        port: i32 = "port", empty 10250, Used;
        /// The port of a server without authentication; 0 for none.
        read_only_port: i32 = "readOnlyPort", none, Used;
        /// The file of its certificate.
        tls_cert_file: String = "tlsCertFile", none, Used;
        /// The file of its key.
        tls_private_key_file: String = "tlsPrivateKeyFile", none, Used;
        /// Ciphers that it offers.
        tls_cipher_suites: Vec<String> = "tlsCipherSuites", none, Used;
        /// Key exchanges that it offers, by Go's numbers.
        tls_curve_preferences: Vec<i32> = "tlsCurvePreferences", none, Used;
        /// The least version of TLS.
        tls_min_version: String = "tlsMinVersion", none, Used;
        /// Whether its certificate is asked from the API.
        server_tls_bootstrap: bool = "serverTLSBootstrap", none, Used;
        /// Who may talk to it.
        authentication: Authentication = "authentication", none, Used;
        /// What they may do.
        authorization: Authorization = "authorization", none, Used;
        /// Whether it serves logs and runs commands.
        enable_debugging_handlers: bool = "enableDebuggingHandlers", absent true, Used;
        /// There is no profile of locks.
        enable_contention_profiling: bool = "enableContentionProfiling", none, Moot;
        /// There is no profile of Go.
        enable_profiling_handler: bool = "enableProfilingHandler", absent true, Moot;
        /// There is no log level to change.
        enable_debug_flags_handler: bool = "enableDebugFlagsHandler", absent true, Moot;
        /// Whether it serves the node's log files.
        enable_system_log_handler: bool = "enableSystemLogHandler", absent true, Used;
        /// Whether they can be searched.
        enable_system_log_query: bool = "enableSystemLogQuery", none, Used;
        /// Has no effect upstream either.
        streaming_connection_idle_timeout: Span = "streamingConnectionIdleTimeout", empty Span::seconds(4 * 3600), Moot;
        /// The port that only says whether the agent is well; 0 for none.
        healthz_port: i32 = "healthzPort", absent 10248, Used;
        /// Its address.
        healthz_bind_address: String = "healthzBindAddress", empty "127.0.0.1".to_owned(), Used;

        // The API server as the agent's peer.
        /// Whether the client certificate is renewed.
        rotate_certificates: bool = "rotateCertificates", none, Used;
        /// The encoding of requests, which nobody sees.
        content_type: String = "contentType", empty "application/vnd.kubernetes.protobuf".to_owned(), Moot;
        /// The API server's flow control rules here.
        kube_api_qps: i32 = "kubeAPIQPS", absent 50, Moot;
        /// As above.
        kube_api_burst: i32 = "kubeAPIBurst", empty 100, Moot;
        /// As above, for events.
        event_record_qps: i32 = "eventRecordQPS", absent 50, Moot;
        /// As above.
        event_burst: i32 = "eventBurst", empty 100, Moot;
        /// How the agent learns of ConfigMaps and Secrets that change.
        config_map_and_secret_change_detection_strategy: String =
            "configMapAndSecretChangeDetectionStrategy", empty "Watch".to_owned(), Fixed;

        // The node.
        /// Whether the agent makes the node.
        register_node: bool = "registerNode", absent true, Used;
        /// Taints that the node gets when it registers.
        register_with_taints: Vec<Taint> = "registerWithTaints", none, Used;
        /// What an outside provider calls it.
        provider_id: String = "providerID", none, Used;
        /// How often its status is looked at.
        node_status_update_frequency: Span = "nodeStatusUpdateFrequency", empty Span::seconds(10), Used;
        /// How often it is sent when nothing changed.
        node_status_report_frequency: Span = "nodeStatusReportFrequency", empty Span::seconds(300), Used;
        /// How many images it names; all for -1.
        node_status_max_images: i32 = "nodeStatusMaxImages", absent 50, Used;
        /// How long the node counts as alive without a word.
        node_lease_duration_seconds: i32 = "nodeLeaseDurationSeconds", empty 40, Used;
        /// How long all pods have to end when the node goes down.
        shutdown_grace_period: Span = "shutdownGracePeriod", none, Used;
        /// How much of it is for critical pods.
        shutdown_grace_period_critical_pods: Span = "shutdownGracePeriodCriticalPods", none, Used;
        /// How long pods have by priority.
        shutdown_grace_period_by_pod_priority: Vec<ShutdownGracePeriod> =
            "shutdownGracePeriodByPodPriority", none, Used;

        // Names.
        /// The cluster's domain.
        cluster_domain: String = "clusterDomain", none, Used;
        /// The cluster's name servers.
        cluster_dns: Vec<String> = "clusterDNS", none, Used;
        /// The node's own resolver file.
        resolv_conf: String = "resolvConf", absent "/etc/resolv.conf".to_owned(), Used;

        // The engine.
        /// The socket of the container engine.
        container_runtime_endpoint: String =
            "containerRuntimeEndpoint", empty "unix:///run/containerd/containerd.sock".to_owned(), Used;
        /// The socket of the image service, if it is another one.
        image_service_endpoint: String = "imageServiceEndpoint", none, Used;
        /// How long its answers may take.
        runtime_request_timeout: Span = "runtimeRequestTimeout", empty Span::seconds(120), Used;
        /// Networks are not the agent's.
        hairpin_mode: String = "hairpinMode", empty "promiscuous-bridge".to_owned(), Moot;
        /// The range of pod addresses without an API server.
        pod_cidr: String = "podCIDR", none, Fixed;

        // Images.
        /// Pulls in a second.
        registry_pull_qps: i32 = "registryPullQPS", absent 5, Used;
        /// Pulls at once.
        registry_burst: i32 = "registryBurst", empty 10, Used;
        /// Whether one image is pulled after the other.
        serialize_image_pulls: bool = "serializeImagePulls", absent true, Used;
        /// How many images are pulled at once.
        max_parallel_image_pulls: Option<i32> = "maxParallelImagePulls", none, Used;
        /// Whose credentials are checked for images that are there.
        image_pull_credentials_verification_policy: String =
            "imagePullCredentialsVerificationPolicy", empty "NeverVerifyPreloadedImages".to_owned(), Used;
        /// Images for which they are not.
        preloaded_images_verification_allowlist: Vec<String> =
            "preloadedImagesVerificationAllowlist", none, Used;
        /// How long an image is kept in any case.
        image_minimum_gc_age: Span = "imageMinimumGCAge", empty Span::seconds(120), Used;
        /// How long an unused image is kept; for ever for 0.
        image_maximum_gc_age: Span = "imageMaximumGCAge", none, Used;
        /// Percent of the disk from which images are removed.
        image_gc_high_threshold_percent: i32 =
            "imageGCHighThresholdPercent", absent i32::from(Policy::default().high), Used;
        /// Percent of the disk down to which they are. Upstream's default is 80, which gives little room.
        image_gc_low_threshold_percent: i32 =
            "imageGCLowThresholdPercent", absent i32::from(Policy::default().low), Used;

        // Control groups.
        /// Whether machines with control groups of version 1 are refused. Upstream does by default; here
        /// they are served as well as any.
        fail_cgroup_v1: bool = "failCgroupV1", absent false, Used;
        /// The control group of all pods.
        cgroup_root: String = "cgroupRoot", none, Used;
        /// Whether there are groups for classes and pods.
        cgroups_per_qos: bool = "cgroupsPerQOS", absent true, Fixed;
        /// `cgroupfs` or `systemd`.
        cgroup_driver: String = "cgroupDriver", empty "cgroupfs".to_owned(), Used;
        /// The group of the agent.
        kubelet_cgroups: String = "kubeletCgroups", none, Fixed;
        /// The group of all other programs.
        system_cgroups: String = "systemCgroups", none, Fixed;
        /// Shares of resources that are for guaranteed pods alone.
        qos_reserved: BTreeMap<String, String> = "qosReserved", none, Fixed;
        /// Whether limits of processors count.
        cpu_cfs_quota: bool = "cpuCFSQuota", absent true, Used;
        /// The period in which they are measured.
        cpu_cfs_quota_period: Span = "cpuCFSQuotaPeriod", absent Span::parse("100ms").unwrap_or_default(), Used;
        /// Whether one process of a container may be killed alone.
        single_process_oom_kill: Option<bool> = "singleProcessOOMKill", none, Used;
        /// Part of the memory limit from which memory is reclaimed.
        memory_throttling_factor: f64 = "memoryThrottlingFactor", absent 0.9, Used;
        /// Whether requested memory is protected.
        memory_reservation_policy: String = "memoryReservationPolicy", empty "None".to_owned(), Used;
        /// The agent's own score when memory is short.
        oom_score_adj: i32 = "oomScoreAdj", absent -999, Used;
        /// How many files the agent may have open, if it is a process of its own.
        max_open_files: i64 = "maxOpenFiles", empty 1_000_000, Used;
        /// How many tasks a pod may have; -1 for no limit of its own.
        pod_pids_limit: i64 = "podPidsLimit", absent -1, Used;
        /// Whether a node with swap is refused.
        fail_swap_on: bool = "failSwapOn", absent true, Used;
        /// What containers may do with swap.
        memory_swap: MemorySwap = "memorySwap", none, Used;
        /// Whether the kernel's settings must be right already.
        protect_kernel_defaults: bool = "protectKernelDefaults", none, Used;
        /// Kernel settings of pods that are allowed though they are not safe.
        allowed_unsafe_sysctls: Vec<String> = "allowedUnsafeSysctls", none, Used;
        /// Whether containers have the engine's seccomp profile when they ask for none.
        seccomp_default: bool = "seccompDefault", absent false, Used;
        /// User namespaces of pods.
        user_namespaces: UserNamespaces = "userNamespaces", none, Used;

        // Whole processors, memory and devices.
        /// `none` or `static`.
        cpu_manager_policy: String = "cpuManagerPolicy", empty "none".to_owned(), Used;
        /// Options of the policy.
        cpu_manager_policy_options: BTreeMap<String, String> = "cpuManagerPolicyOptions", none, Used;
        /// How often processors are assigned again.
        cpu_manager_reconcile_period: Span = "cpuManagerReconcilePeriod", empty Span::seconds(10), Moot;
        /// `None` or `Static`.
        memory_manager_policy: String = "memoryManagerPolicy", empty "None".to_owned(), Used;
        /// Memory of NUMA nodes that is not given away.
        reserved_memory: Vec<MemoryReservation> = "reservedMemory", none, Used;
        /// How resources of one NUMA node are kept together.
        topology_manager_policy: String = "topologyManagerPolicy", empty "none".to_owned(), Used;
        /// `container` or `pod`.
        topology_manager_scope: String = "topologyManagerScope", empty "container".to_owned(), Used;
        /// Options of the policy.
        topology_manager_policy_options: BTreeMap<String, String> = "topologyManagerPolicyOptions", none, Used;
        /// How often claims of devices are looked at.
        dra_manager_reconcile_period: Span = "draManagerReconcilePeriod", empty Span::seconds(60), Moot;

        // How much the node takes.
        /// How many pods.
        max_pods: i32 = "maxPods", empty 110, Used;
        /// How many pods for each processor; 0 for no limit.
        pods_per_core: i32 = "podsPerCore", none, Used;
        /// What is kept for the system.
        system_reserved: BTreeMap<String, String> = "systemReserved", none, Used;
        /// What is kept for the agent and the engine.
        kube_reserved: BTreeMap<String, String> = "kubeReserved", none, Used;
        /// Processors that pods do not get.
        reserved_system_cpus: String = "reservedSystemCPUs", none, Used;
        /// The group of the system.
        system_reserved_cgroup: String = "systemReservedCgroup", none, Used;
        /// The group of the agent and the engine.
        kube_reserved_cgroup: String = "kubeReservedCgroup", none, Used;
        /// Which of the reservations the kernel enforces.
        enforce_node_allocatable: Vec<String> = "enforceNodeAllocatable", absent vec!["pods".to_owned()], Used;

        // Pressure.
        /// Thresholds below which pods are evicted at once.
        eviction_hard: Option<Statements> = "evictionHard", none, Used;
        /// Thresholds below which they are evicted after a while.
        eviction_soft: Statements = "evictionSoft", none, Used;
        /// After what while.
        eviction_soft_grace_period: Statements = "evictionSoftGracePeriod", none, Used;
        /// How much more is freed.
        eviction_minimum_reclaim: Statements = "evictionMinimumReclaim", none, Used;
        /// How long a node says that it is short of something after it was.
        eviction_pressure_transition_period: Span =
            "evictionPressureTransitionPeriod", empty Span::seconds(300), Used;
        /// Seconds that pods get when a soft threshold was crossed.
        eviction_max_pod_grace_period: i32 = "evictionMaxPodGracePeriod", none, Used;
        /// Whether thresholds that are not named keep their defaults.
        merge_default_eviction_settings: bool = "mergeDefaultEvictionSettings", absent false, Used;
        /// The kernel always tells.
        kernel_memcg_notification: bool = "kernelMemcgNotification", none, Moot;
        /// Whether limits of local storage count.
        local_storage_capacity_isolation: bool = "localStorageCapacityIsolation", absent true, Fixed;

        // Containers.
        /// Where their logs are.
        pod_logs_dir: String = "podLogsDir", empty "/var/log/pods".to_owned(), Used;
        /// How large a log grows before it is rotated.
        container_log_max_size: String = "containerLogMaxSize", empty "10Mi".to_owned(), Used;
        /// How many logs of a container are kept.
        container_log_max_files: i32 = "containerLogMaxFiles", absent 5, Used;
        /// How many logs are rotated at once.
        container_log_max_workers: i32 = "containerLogMaxWorkers", absent 1, Moot;
        /// The kernel tells that a log has grown.
        container_log_monitor_interval: Span = "containerLogMonitorInterval", absent Span::seconds(10), Moot;
        /// How long containers that fail wait.
        crash_loop_back_off: CrashLoopBackOff = "crashLoopBackOff", none, Used;

        // Volumes.
        /// How often the use of volumes is measured.
        volume_stats_agg_period: Span = "volumeStatsAggPeriod", empty Span::seconds(60), Used;
        /// There are no such plugins any more.
        volume_plugin_dir: String =
            "volumePluginDir", empty "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/".to_owned(), Moot;
        /// Whether volumes are attached by a controller.
        enable_controller_attach_detach: bool = "enableControllerAttachDetach", absent true, Fixed;

        // The rest.
        /// Features that are on or off unlike by default.
        feature_gates: BTreeMap<String, bool> = "featureGates", none, Used;
        /// The agent's own log.
        logging: Logging = "logging", none, Used;
        /// Traces of requests.
        tracing: Option<Tracing> = "tracing", none, Fixed;
        /// No metrics are hidden.
        show_hidden_metrics_for_version: String = "showHiddenMetricsForVersion", none, Moot;
        /// Not offered any more.
        run_once: bool = "runOnce", none, Used;
        /// The rules of Services are not the agent's.
        make_iptables_util_chains: bool = "makeIPTablesUtilChains", absent true, Moot;
        /// Has no effect upstream either.
        iptables_masquerade_bit: i32 = "iptablesMasqueradeBit", absent 14, Moot;
        /// Has no effect upstream either.
        iptables_drop_bit: i32 = "iptablesDropBit", absent 15, Moot;
    }
}
