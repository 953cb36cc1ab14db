//! Which settings make sense together (kubelet: pkg/kubelet/apis/config/validation, v1.37), in upstream's words.

use super::Configuration;
use super::gates::Gates;
use super::span::Span;

/// Everything that is wrong.
pub(super) fn problems(it: &Configuration) -> Vec<String> {
    let mut found = Vec::new();
    let gates = Gates::read(&it.feature_gates, &mut found);
    let mut all = Problems { found };
    ranges(it, &mut all);
    images(it, &mut all);
    taints(it, &mut all);
    choices(it, &mut all);
    shutdown(it, &gates, &mut all);
    gated(it, &gates, &mut all);
    enforcement(it, &mut all);
    reservations(it, &mut all);
    logs(it, &mut all);
    all.found
}

struct Problems {
    found: Vec<String>,
}

impl Problems {
    /// Tells what is wrong unless it is right.
    fn unless(&mut self, right: bool, problem: impl FnOnce() -> String) {
        if !right {
            self.found.push(format!("invalid configuration: {}", problem()));
        }
    }
}

fn ranges(it: &Configuration, all: &mut Problems) {
    let port = 1..=65535;
    all.unless(it.node_lease_duration_seconds > 0, || {
        "nodeLeaseDurationSeconds must be greater than 0".into()
    });
    all.unless(it.system_cgroups.is_empty() || !it.cgroup_root.is_empty(), || {
        "systemCgroups (--system-cgroups) was specified and cgroupRoot (--cgroup-root) was not specified"
            .into()
    });
    all.unless(it.healthz_port == 0 || port.contains(&it.healthz_port), || {
        format!("healthzPort (--healthz-port) {} must be between 1 and 65535, inclusive", it.healthz_port)
    });
    all.unless(port.contains(&it.port), || {
        format!("port (--port) {} must be between 1 and 65535, inclusive", it.port)
    });
    all.unless(it.read_only_port == 0 || port.contains(&it.read_only_port), || {
        format!(
            "readOnlyPort (--read-only-port) {} must be between 0 and 65535, inclusive",
            it.read_only_port
        )
    });
    all.unless((-1000..=1000).contains(&it.oom_score_adj), || {
        format!(
            "oomScoreAdj (--oom-score-adj) {} must be between -1000 and 1000, inclusive",
            it.oom_score_adj
        )
    });
    all.unless(it.node_status_max_images >= -1, || {
        format!(
            "nodeStatusMaxImages (--node-status-max-images) {} must be -1 or greater",
            it.node_status_max_images
        )
    });
    for (name, flag, value) in [
        ("eventBurst", "event-burst", i64::from(it.event_burst)),
        ("eventRecordQPS", "event-qps", i64::from(it.event_record_qps)),
        ("kubeAPIBurst", "kube-api-burst", i64::from(it.kube_api_burst)),
        ("kubeAPIQPS", "kube-api-qps", i64::from(it.kube_api_qps)),
        ("maxOpenFiles", "max-open-files", it.max_open_files),
        ("maxPods", "max-pods", i64::from(it.max_pods)),
        ("podsPerCore", "pods-per-core", i64::from(it.pods_per_core)),
        ("registryBurst", "registry-burst", i64::from(it.registry_burst)),
        ("registryPullQPS", "registry-qps", i64::from(it.registry_pull_qps)),
    ] {
        all.unless(value >= 0, || format!("{name} (--{flag}) {value} must not be a negative number"));
    }
    for (name, flag, value) in [
        ("iptablesDropBit", "iptables-drop-bit", it.iptables_drop_bit),
        ("iptablesMasqueradeBit", "iptables-masquerade-bit", it.iptables_masquerade_bit),
    ] {
        all.unless((0..=31).contains(&value), || {
            format!("{name} (--{flag}) {value} must be between 0 and 31, inclusive")
        });
    }
    all.unless(!it.dra_manager_reconcile_period.length().is_zero(), || {
        format!("draManagerReconcilePeriod {} must be greater than zero", it.dra_manager_reconcile_period)
    });
    all.unless(!it.run_once, || {
        "runOnce (--runOnce) true, Runonce mode has been deprecated and should not be set".into()
    });
}

fn images(it: &Configuration, all: &mut Problems) {
    let (high, low) = (it.image_gc_high_threshold_percent, it.image_gc_low_threshold_percent);
    for (name, flag, value) in [
        ("imageGCHighThresholdPercent", "image-gc-high-threshold", high),
        ("imageGCLowThresholdPercent", "image-gc-low-threshold", low),
    ] {
        all.unless((0..=100).contains(&value), || {
            format!("{name} (--{flag}) {value} must be between 0 and 100, inclusive")
        });
    }
    all.unless(low < high, || {
        format!(
            "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than \
             imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
        )
    });
    let (least, most) = (it.image_minimum_gc_age, it.image_maximum_gc_age);
    all.unless(least >= Span::default(), || format!("imageMinimumGCAge {least} must not be negative"));
    all.unless(most >= Span::default(), || format!("imageMaximumGCAge {most} must not be negative"));
    all.unless(most <= Span::default() || most > least, || {
        format!("imageMaximumGCAge {most} must be greater than imageMinimumGCAge {least}")
    });
    let parallel = it.max_parallel_image_pulls;
    all.unless(parallel.is_none_or(|count| count >= 1), || {
        format!("maxParallelImagePulls {} must be a positive number", parallel.unwrap_or_default())
    });
    all.unless(!it.serialize_image_pulls || parallel.is_none_or(|count| count <= 1), || {
        "maxParallelImagePulls cannot be larger than 1 unless SerializeImagePulls (--serialize-image-pulls) is set to \
         false"
            .into()
    });
}

fn taints(it: &Configuration, all: &mut Problems) {
    for taint in &it.register_with_taints {
        if !taint.is_valid() {
            all.found.push(format!("invalid taint: {taint}"));
        }
        all.unless(taint.time_added.is_none(), || "taint.TimeAdded is not nil".into());
    }
}

fn choices(it: &Configuration, all: &mut Problems) {
    let policies = ["none", "best-effort", "restricted", "single-numa-node"];
    let policy = it.topology_manager_policy.as_str();
    all.unless(policies.contains(&policy), || {
        let listed = policies.map(|one| format!("{one:?}")).join(" ");
        format!("topologyManagerPolicy (--topology-manager-policy) {policy:?} must be one of: [{listed}]")
    });
    let scope = it.topology_manager_scope.as_str();
    all.unless(["container", "pod"].contains(&scope), || {
        format!("topologyManagerScope (--topology-manager-scope) {scope:?} must be one of: \"container\", or \"pod\"")
    });
    let hairpin = it.hairpin_mode.as_str();
    all.unless(["none", "hairpin-veth", "promiscuous-bridge"].contains(&hairpin), || {
        format!(
            "option {hairpin:?} specified for hairpinMode (--hairpin-mode). Valid options are \"none\", \
             \"hairpin-veth\" or \"promiscuous-bridge\""
        )
    });
    let policy = it.image_pull_credentials_verification_policy.as_str();
    let policies =
        ["NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages", "AlwaysVerify"];
    all.unless(policies.contains(&policy), || {
        format!(
            "option {policy:?} specified for imagePullCredentialsVerificationPolicy. Valid options are \
             \"NeverVerify\", \"NeverVerifyPreloadedImages\", \"NeverVerifyAllowlistedImages\" or \"AlwaysVerify\""
        )
    });
    all.unless(
        it.preloaded_images_verification_allowlist.is_empty() || policy == "NeverVerifyAllowlistedImages",
        || {
            "can't set `preloadedImagesVerificationAllowlist` if `imagePullCredentialsVertificationPolicy` is not \
             \"NeverVerifyAllowlistedImages\""
                .into()
        },
    );
    let behavior = it.memory_swap.swap_behavior.as_str();
    all.unless(["", "LimitedSwap", "NoSwap"].contains(&behavior), || {
        format!("memorySwap.swapBehavior {behavior:?} must be one of: \"\", \"LimitedSwap\" or \"NoSwap\"")
    });
    let policy = it.memory_reservation_policy.as_str();
    all.unless(["None", "TieredReservation"].contains(&policy), || {
        format!(
            "option {policy:?} specified for memoryReservationPolicy. Valid options are \"None\" or \"TieredReservation\""
        )
    });
    all.unless(it.memory_throttling_factor > 0.0 && it.memory_throttling_factor <= 1.0, || {
        format!(
            "memoryThrottlingFactor {} must be greater than 0 and less than or equal to 1.0",
            it.memory_throttling_factor
        )
    });
    all.unless(!it.container_runtime_endpoint.is_empty(), || {
        "the containerRuntimeEndpoint was not specified or empty".into()
    });
}

fn shutdown(it: &Configuration, gates: &Gates, all: &mut Problems) {
    let (total, critical) = (it.shutdown_grace_period, it.shutdown_grace_period_critical_pods);
    let is_used = total > Span::default() || critical > Span::default();
    if !gates.is_on("GracefulNodeShutdown") {
        all.unless(!is_used, || {
            "specifying shutdownGracePeriod or shutdownGracePeriodCriticalPods requires feature gate \
             GracefulNodeShutdown"
                .into()
        });
    } else {
        all.unless(critical <= total, || {
            format!("shutdownGracePeriodCriticalPods {critical} must be <= shutdownGracePeriod {total}")
        });
        for (name, span) in [("shutdownGracePeriod", total), ("shutdownGracePeriodCriticalPods", critical)] {
            all.unless(span.is_zero() || span >= Span::seconds(1), || {
                format!("{name} {span} must be either zero or otherwise >= 1 sec")
            });
        }
    }
    let by_priority = !it.shutdown_grace_period_by_pod_priority.is_empty();
    if gates.is_on("GracefulNodeShutdownBasedOnPodPriority") {
        all.unless(!by_priority || !is_used, || {
            "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time"
                .into()
        });
    } else {
        all.unless(!by_priority, || {
            "Specifying shutdownGracePeriodByPodPriority requires feature gate GracefulNodeShutdownBasedOnPodPriority"
                .into()
        });
    }
}

fn gated(it: &Configuration, gates: &Gates, all: &mut Problems) {
    let period = it.cpu_cfs_quota_period;
    if gates.is_on("CustomCPUCFSQuotaPeriod") {
        all.unless((1_000_000..=1_000_000_000).contains(&period.nanoseconds()), || {
            format!(
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {period} must be between 1ms and 1sec, inclusive"
            )
        });
    } else {
        all.unless(period.nanoseconds() == 100_000_000, || {
            format!(
                "cpuCFSQuotaPeriod (--cpu-cfs-quota-period) {period} requires feature gate CustomCPUCFSQuotaPeriod"
            )
        });
    }
    let longest = it.crash_loop_back_off.max_container_restart_period;
    if gates.is_on("KubeletCrashLoopBackOffMax") {
        let milliseconds = longest.map(|span| span.nanoseconds() / 1_000_000);
        all.unless(longest.is_some(), || {
            "FeatureGate KubeletCrashLoopBackOffMax is enabled, CrashLoopBackOff.MaxContainerRestartPeriod must be set"
                .into()
        });
        all.unless(milliseconds.is_none_or(|it| (1000..=300_000).contains(&it)), || {
            let seconds = longest.unwrap_or_default().nanoseconds() as f64 / 1e9;
            format!(
                "CrashLoopBackOff.MaxContainerRestartPeriod (got: {seconds} seconds) must be set between 1s and 300s"
            )
        });
    } else {
        all.unless(longest.is_none(), || {
            "FeatureGate KubeletCrashLoopBackOffMax not enabled, CrashLoopBackOff.MaxContainerRestartPeriod must not \
             be set"
                .into()
        });
    }
    all.unless(gates.is_on("MemoryQoS") || it.memory_reservation_policy != "TieredReservation", || {
        "memoryReservationPolicy \"TieredReservation\" requires MemoryQoS feature gate to be enabled".into()
    });
    all.unless(!it.enable_system_log_query || it.enable_system_log_handler, || {
        "enableSystemLogHandler is required for enableSystemLogQuery".into()
    });
}

fn enforcement(it: &Configuration, all: &mut Problems) {
    let given = &it.enforce_node_allocatable;
    let has = |name: &str| given.iter().any(|one| one == name);
    for (whole, part) in
        [("system-reserved", "system-reserved-compressible"), ("kube-reserved", "kube-reserved-compressible")]
    {
        all.unless(!(has(whole) && has(part)), || {
            format!(
                "both {whole:?} and {part:?} cannot be specified together in enforceNodeAllocatable \
                 (--enforce-node-allocatable)"
            )
        });
    }
    for (at, option) in given.iter().enumerate() {
        if given[..at].contains(option) {
            all.unless(false, || {
                format!(
                    "duplicated enforcements {option:?} in enforceNodeAllocatable (--enforce-node-allocatable)"
                )
            });
            continue;
        }
        let needs_group = |name: &str, flag: &str, group: &str, all: &mut Problems| {
            all.unless(!group.is_empty(), || {
                format!(
                    "{name} (--{flag}-cgroup) must be specified when {flag:?} or \"{flag}-compressible\" included in \
                     enforceNodeAllocatable (--enforce-node-allocatable)"
                )
            });
        };
        match option.as_str() {
            "pods" => {}
            "system-reserved" | "system-reserved-compressible" => {
                needs_group("systemReservedCgroup", "system-reserved", &it.system_reserved_cgroup, all);
            }
            "kube-reserved" | "kube-reserved-compressible" => {
                needs_group("kubeReservedCgroup", "kube-reserved", &it.kube_reserved_cgroup, all);
            }
            "none" => {
                all.unless(given.len() == 1, || {
                    "enforceNodeAllocatable (--enforce-node-allocatable) may not contain additional enforcements when \
                     \"none\" is specified"
                        .into()
                });
                continue;
            }
            _ => {
                all.unless(false, || {
                    format!(
                        "option {option:?} specified for enforceNodeAllocatable (--enforce-node-allocatable). Valid \
                         options are \"pods\", \"system-reserved\", \"system-reserved-compressible\", \
                         \"kube-reserved\", \"kube-reserved-compressible\" or \"none\""
                    )
                });
                continue;
            }
        }
        all.unless(it.cgroups_per_qos, || {
            format!(
                "cgroupsPerQOS (--cgroups-per-qos) must be set to true when {option:?} contained in \
                 enforceNodeAllocatable (--enforce-node-allocatable)"
            )
        });
    }
}

fn reservations(it: &Configuration, all: &mut Problems) {
    let cpus = it.reserved_system_cpus.as_str();
    if !cpus.is_empty() {
        all.unless(it.system_reserved_cgroup.is_empty() && it.kube_reserved_cgroup.is_empty(), || {
            "can't use reservedSystemCPUs (--reserved-cpus) with systemReservedCgroup (--system-reserved-cgroup) or \
             kubeReservedCgroup (--kube-reserved-cgroup)"
                .into()
        });
        if let Err(problem) = super::cpu_set(cpus) {
            all.unless(false, || {
                format!("unable to parse reservedSystemCPUs (--reserved-cpus) {cpus}, error: {problem}")
            });
        }
    }
    for (at, reserved) in it.reserved_memory.iter().enumerate() {
        let node = reserved.numa_node;
        for (name, amount) in &reserved.limits {
            all.unless(name == "memory" || name.starts_with("hugepages-"), || {
                format!(
                    "the limit type {name:?} for NUMA node {node} is not supported, only [memory \
                     hugepages-<HugePageSize>] is accepted"
                )
            });
            all.unless(!amount.is_zero(), || {
                format!("reserved memory may not be zero for NUMA node {node} and resource {name:?}")
            });
            let mut before = it.reserved_memory[..at].iter();
            all.unless(!before.any(|it| it.numa_node == node && it.limits.contains_key(name)), || {
                format!(
                    "the reserved memory has a duplicate value for NUMA node {node} and resource {name:?}"
                )
            });
        }
    }
}

fn logs(it: &Configuration, all: &mut Problems) {
    all.unless(it.container_log_max_workers >= 1, || {
        "containerLogMaxWorkers must be greater than or equal to 1".into()
    });
    all.unless(it.container_log_monitor_interval >= Span::seconds(3), || {
        "containerLogMonitorInterval must be a positive time duration greater than or equal to 3s".into()
    });
    all.unless(it.container_log_max_files > 1, || "containerLogMaxFiles must be greater than 1".into());
    let format = it.logging.format.as_str();
    if !matches!(format, "text" | "json") {
        all.found.push(format!("logging.format: Invalid value: {format:?}: Unsupported log format"));
    }
    if format != "text" && !it.logging.vmodule.is_empty() {
        all.found.push("logging.vmodule: Forbidden: Only supported for text log format".to_owned());
    }
    let folder = it.pod_logs_dir.as_str();
    all.unless(folder.starts_with('/'), || format!("pod logs path {folder:?} must be absolute path"));
    let is_clean = folder == "/" || !folder.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    all.unless(is_clean, || format!("pod logs path {folder:?} must be normalized"));
    all.unless(folder.is_ascii(), || format!("pod logs path {folder:?} mut contains ASCII characters only"));
}
