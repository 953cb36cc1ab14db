//! From what a user says in a KubeletConfiguration to what the agent is told.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Taint;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::cgroup::name::Driver;
use plimsoll_podlife::cgroup::reserved::Enforced;
use plimsoll_podlife::cgroup::{Reservation, Swap};
use plimsoll_podlife::collection::Policy;
use plimsoll_podlife::configuration::{self, Configuration, cpu_set};
use plimsoll_podlife::eviction::threshold::Settings;
use plimsoll_podlife::image::verification::Verification;
use plimsoll_podlife::placement::{Options, hints, memory};
use plimsoll_podlife::restart::Delays;
use plimsoll_podlife::shutdown::periods;

use crate::config::{Config, CpuManagerPolicy, MemoryManagerPolicy};
use crate::server::{Authentication, Authorization};

/// Why a setting cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {field}: {problem}")]
pub struct Misfit {
    field: &'static str,
    problem: String,
}

fn misfit(field: &'static str, problem: impl ToString) -> Misfit {
    Misfit { field, problem: problem.to_string() }
}

impl Config {
    /// Takes over every setting of a KubeletConfiguration.
    ///
    /// # Errors
    /// The first setting that cannot be followed.
    pub fn apply(&mut self, given: &Configuration) -> Result<(), Misfit> {
        self.apply_server(given)?;
        self.apply_names(given)?;
        self.apply_capacity(given)?;
        self.apply_pressure(given)?;
        self.cri_socket = socket(&given.container_runtime_endpoint)
            .map_err(|problem| misfit("containerRuntimeEndpoint", problem))?;
        self.apply_engine(given)?;
        self.log_dir = PathBuf::from(&given.pod_logs_dir);
        self.apply_groups(given)?;
        self.apply_placement(given)?;
        self.apply_logs(given)?;
        self.apply_node(given);
        self.apply_static_pods(given);
        self.apply_volumes(given);
        self.shutdown_periods = periods(given);
        let most = given.max_parallel_image_pulls.and_then(|most| usize::try_from(most).ok());
        self.parallel_pulls = if given.serialize_image_pulls { Some(1) } else { most };
        self.given = given.document();
        self.taints = given.register_with_taints.iter().map(taint).collect();
        Ok(())
    }

    fn apply_engine(&mut self, given: &Configuration) -> Result<(), Misfit> {
        let images = Some(&given.image_service_endpoint).filter(|endpoint| !endpoint.is_empty());
        self.image_socket = images
            .map(|endpoint| socket(endpoint))
            .transpose()
            .map_err(|problem| misfit("imageServiceEndpoint", problem))?;
        self.runtime_request_timeout = given.runtime_request_timeout.length();
        let count = |field, value: i32| u32::try_from(value).map_err(|error| misfit(field, error));
        let rate = count("registryPullQPS", given.registry_pull_qps)?;
        let burst = count("registryBurst", given.registry_burst)?;
        self.pull_rate = (rate > 0).then_some((rate, burst));
        self.image_verification = Verification::parse(
            &given.image_pull_credentials_verification_policy,
            &given.preloaded_images_verification_allowlist,
        )
        .map_err(|problem| misfit("preloadedImagesVerificationAllowlist", problem))?;
        if let Some(longest) = given.crash_loop_back_off.max_container_restart_period {
            self.crash_delays = Delays::up_to(SignedDuration::from_nanos(longest.nanoseconds()));
        }
        Ok(())
    }

    fn apply_server(&mut self, given: &Configuration) -> Result<(), Misfit> {
        self.listen = given.address.parse().map_err(|error| misfit("address", error))?;
        self.port = u16::try_from(given.port).map_err(|error| misfit("port", error))?;
        if !given.enable_server {
            self.tls = None;
        }
        let (who, what) = (&given.authentication, &given.authorization);
        self.authentication = Authentication {
            tokens: who.webhook.enabled.then(|| who.webhook.cache_ttl.length()),
            anonymous: who.anonymous.enabled,
        };
        self.authorization = match what.mode.as_str() {
            "AlwaysAllow" => Authorization::AlwaysAllow,
            "Webhook" => Authorization::Webhook {
                allowed: what.webhook.cache_authorized_ttl.length(),
                denied: what.webhook.cache_unauthorized_ttl.length(),
            },
            other => {
                return Err(misfit("authorization.mode", format!("unknown authorization mode {other:?}")));
            }
        };
        let port = u16::try_from(given.healthz_port).map_err(|error| misfit("healthzPort", error))?;
        let address =
            given.healthz_bind_address.parse().map_err(|error| misfit("healthzBindAddress", error))?;
        self.healthz = (port > 0).then(|| SocketAddr::new(address, port));
        let port = u16::try_from(given.read_only_port).map_err(|error| misfit("readOnlyPort", error))?;
        self.read_only = (port > 0).then(|| SocketAddr::new(self.listen, port));
        self.system_logs = given.enable_system_log_handler.then(|| PathBuf::from("/var/log"));
        self.system_log_query = given.enable_system_log_query;
        self.debugging = given.enable_debugging_handlers;
        Ok(())
    }

    fn apply_node(&mut self, given: &Configuration) {
        self.register_node = given.register_node;
        self.provider_id.clone_from(&given.provider_id);
        self.status_update = given.node_status_update_frequency.length();
        self.status_report = given.node_status_report_frequency.length();
        self.status_images = usize::try_from(given.node_status_max_images).ok();
        self.lease_seconds = given.node_lease_duration_seconds;
    }

    fn apply_volumes(&mut self, given: &Configuration) {
        self.sync_frequency = given.sync_frequency.length().max(Duration::from_secs(1));
        self.volume_stats_period = given.volume_stats_agg_period.length();
        self.volume_health = given.feature_gates.get("CSIVolumeHealth") == Some(&true);
    }

    fn apply_logs(&mut self, given: &Configuration) -> Result<(), Misfit> {
        let size: Quantity =
            given.container_log_max_size.parse().map_err(|error| misfit("containerLogMaxSize", error))?;
        // Nothing, or less, is no limit.
        self.container_log_max_size =
            u64::try_from(size.value()).ok().filter(|size| *size > 0).unwrap_or(u64::MAX);
        self.container_log_max_files = usize::try_from(given.container_log_max_files)
            .map_err(|error| misfit("containerLogMaxFiles", error))?;
        Ok(())
    }

    fn apply_static_pods(&mut self, given: &Configuration) {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        self.static_pod_path = some(&given.static_pod_path).map(PathBuf::from);
        self.static_pod_url = some(&given.static_pod_url);
        self.static_pod_url_header.clone_from(&given.static_pod_url_header);
        self.file_check = given.file_check_frequency.length();
        self.http_check = given.http_check_frequency.length();
    }

    fn apply_names(&mut self, given: &Configuration) -> Result<(), Misfit> {
        self.cluster_domain.clone_from(&given.cluster_domain);
        let address = |text: &String| {
            text.parse::<IpAddr>().map_err(|error| misfit("clusterDNS", format!("{text:?}: {error}")))
        };
        self.cluster_dns = given.cluster_dns.iter().map(address).collect::<Result<_, _>>()?;
        self.resolv_conf = PathBuf::from(&given.resolv_conf);
        self.allowed_unsafe_sysctls.clone_from(&given.allowed_unsafe_sysctls);
        self.seccomp_default = given.seccomp_default;
        self.protect_kernel_defaults = given.protect_kernel_defaults;
        Ok(())
    }

    fn apply_capacity(&mut self, given: &Configuration) -> Result<(), Misfit> {
        let count = |field, value: i32| u32::try_from(value).map_err(|error| misfit(field, error));
        self.max_pods = count("maxPods", given.max_pods)?;
        self.pods_per_core = Some(count("podsPerCore", given.pods_per_core)?).filter(|count| *count > 0);
        let reserved = given.reservations().map_err(|problem| misfit("kubeReserved", problem))?;
        (self.kube_reserved, self.system_reserved) = (reserved.kube, reserved.system);
        self.reserved_system_cpus = cpu_set(&given.reserved_system_cpus)
            .map_err(|problem| misfit("reservedSystemCPUs", problem))?
            .into_iter()
            .collect();
        self.enforce_node_allocatable =
            given.enforce_node_allocatable.iter().filter_map(|word| Enforced::parse(word)).collect();
        self.kube_reserved_cgroup.clone_from(&given.kube_reserved_cgroup);
        self.system_reserved_cgroup.clone_from(&given.system_reserved_cgroup);
        Ok(())
    }

    fn apply_groups(&mut self, given: &Configuration) -> Result<(), Misfit> {
        self.cgroup_root = if given.cgroup_root.is_empty() { "/".into() } else { given.cgroup_root.clone() };
        self.cgroup_driver = match given.cgroup_driver.as_str() {
            "cgroupfs" => Driver::Cgroupfs,
            "systemd" => Driver::Systemd,
            other => {
                return Err(misfit("cgroupDriver", format!("{other:?} is neither cgroupfs nor systemd")));
            }
        };
        self.cpu_cfs_quota = given.cpu_cfs_quota;
        self.cpu_cfs_quota_period = given.cpu_cfs_quota_period.length();
        self.fail_swap_on = given.fail_swap_on;
        self.swap_behavior =
            if given.memory_swap.swap_behavior == "LimitedSwap" { Swap::Limited } else { Swap::No };
        // Without the feature memory is neither slowed down nor protected.
        let quality = given.feature_gates.get("MemoryQoS") == Some(&true);
        self.memory_throttling_factor = quality.then_some(given.memory_throttling_factor);
        self.memory_reservation_policy = match given.memory_reservation_policy.as_str() {
            "TieredReservation" => Reservation::Tiered,
            _ => Reservation::None,
        };
        self.single_process_oom_kill = given.single_process_oom_kill;
        self.oom_score_adj = Some(given.oom_score_adj);
        self.pod_pids = Some(given.pod_pids_limit).filter(|limit| *limit > 0);
        Ok(())
    }

    fn apply_placement(&mut self, given: &Configuration) -> Result<(), Misfit> {
        self.cpu_manager_policy = match given.cpu_manager_policy.as_str() {
            "none" => CpuManagerPolicy::None,
            "static" => CpuManagerPolicy::Static,
            other => return Err(misfit("cpuManagerPolicy", format!("unknown policy: {other:?}"))),
        };
        let alpha = given.feature_gates.get("CPUManagerPolicyAlphaOptions") == Some(&true);
        self.cpu_manager_policy_options = Options::parse(&given.cpu_manager_policy_options, alpha)
            .map_err(|problem| misfit("cpuManagerPolicyOptions", problem))?;
        self.memory_manager_policy = match given.memory_manager_policy.as_str() {
            "None" => MemoryManagerPolicy::None,
            "Static" => MemoryManagerPolicy::Static,
            other => return Err(misfit("memoryManagerPolicy", format!("unknown policy: \"{other}\""))),
        };
        let reservation = |it: &configuration::MemoryReservation| {
            let node = u32::try_from(it.numa_node).map_err(|error| misfit("reservedMemory", error))?;
            Ok(memory::Reservation { node, limits: it.limits.clone() })
        };
        self.reserved_memory = given.reserved_memory.iter().map(reservation).collect::<Result<_, _>>()?;
        // Other words were refused before.
        let keeping = hints::Keeping {
            policy: hints::Policy::parse(&given.topology_manager_policy).unwrap_or_default(),
            scope: match given.topology_manager_scope.as_str() {
                "pod" => hints::Scope::Pod,
                _ => hints::Scope::Container,
            },
            ..hints::Keeping::default()
        };
        self.topology_manager = keeping
            .with_options(&given.topology_manager_policy_options)
            .map_err(|problem| misfit("topologyManagerPolicyOptions", problem))?;
        Ok(())
    }

    fn apply_pressure(&mut self, given: &Configuration) -> Result<(), Misfit> {
        self.eviction = Settings {
            hard: given.eviction_hard.clone().unwrap_or_default(),
            soft: given.eviction_soft.clone(),
            grace: given.eviction_soft_grace_period.clone(),
            reclaim: given.eviction_minimum_reclaim.clone(),
            enforce_allocatable: given.enforce_node_allocatable.iter().any(|it| it == "pods"),
        };
        self.eviction.thresholds().map_err(|problem| misfit("evictionHard", problem))?;
        self.eviction_max_pod_grace = i64::from(given.eviction_max_pod_grace_period);
        self.pressure_transition = given.eviction_pressure_transition_period.length();
        let percent = |field, value: i32| u8::try_from(value).map_err(|error| misfit(field, error));
        self.image_gc = Policy {
            high: percent("imageGCHighThresholdPercent", given.image_gc_high_threshold_percent)?,
            low: percent("imageGCLowThresholdPercent", given.image_gc_low_threshold_percent)?,
            minimum_age: given.image_minimum_gc_age.length(),
            maximum_age: Some(given.image_maximum_gc_age.length()).filter(|age| !age.is_zero()),
        };
        Ok(())
    }
}

/// The path of a Unix socket: `unix:///run/x.sock`, or the path alone.
fn socket(endpoint: &str) -> Result<PathBuf, String> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if endpoint.contains("://") && !endpoint.starts_with("unix://") {
        return Err(format!("protocol of {endpoint:?} is not supported, unix:// is"));
    }
    if !path.starts_with('/') {
        return Err(format!("{endpoint:?} is not the absolute path of a socket"));
    }
    Ok(Path::new(path).to_owned())
}

fn taint(given: &plimsoll_podlife::configuration::Taint) -> Taint {
    Taint {
        key: given.key.clone(),
        value: Some(given.value.clone()).filter(|value| !value.is_empty()),
        effect: given.effect.clone(),
        time_added: None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Config {
        Config::new("n", "/data".into(), "/own.sock".into(), [127, 0, 0, 1].into())
    }

    #[test]
    fn settings_arrive() {
        let document = json!({
            "containerRuntimeEndpoint": "unix:///run/x.sock", "clusterDNS": ["10.0.0.10"], "clusterDomain": "a.b",
            "maxPods": 7, "podsPerCore": 2, "podPidsLimit": 100, "kubeReserved": {"cpu": "100m"},
            "evictionHard": {"memory.available": "1Gi"}, "imageMaximumGCAge": "1h", "port": 10_350,
            "registerWithTaints": [{"key": "a", "effect": "NoSchedule"}], "podLogsDir": "/logs",
            "cpuManagerPolicy": "static", "cpuManagerPolicyOptions": {"full-pcpus-only": "true"},
            "topologyManagerPolicy": "restricted", "topologyManagerScope": "pod",
            "topologyManagerPolicyOptions": {"prefer-closest-numa-nodes": "true"},
            "memoryManagerPolicy": "Static", "reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi"}}],
        });
        let mut it = config();
        it.apply(&Configuration::of(&document).unwrap()).unwrap();
        assert_eq!((it.cri_socket.to_str(), it.log_dir.to_str()), (Some("/run/x.sock"), Some("/logs")));
        assert_eq!((it.max_pods, it.pods_per_core, it.pod_pids, it.port), (7, Some(2), Some(100), 10_350));
        assert_eq!((it.cluster_dns.len(), it.cluster_domain.as_str()), (1, "a.b"));
        assert_eq!(it.kube_reserved["cpu"].milli(), 100);
        assert_eq!(it.eviction.hard.len(), 1);
        assert_eq!(it.image_gc.maximum_age.unwrap().as_secs(), 3600);
        assert_eq!(it.cpu_manager_policy, CpuManagerPolicy::Static);
        assert_eq!(it.cpu_manager_policy_options, Options { full_cores: true, ..Options::default() });
        let together = (it.topology_manager.policy, it.topology_manager.scope, it.topology_manager.closest);
        assert_eq!(together, (hints::Policy::Restricted, hints::Scope::Pod, true));
        assert_eq!(it.memory_manager_policy, MemoryManagerPolicy::Static);
        assert_eq!(it.reserved_memory[0].limits["memory"].value(), 1 << 30);
        assert_eq!((it.taints[0].key.as_str(), it.taints[0].value.clone()), ("a", None));
    }

    #[test]
    fn the_engine_is_asked_as_it_is_said() {
        let document = json!({
            "imageServiceEndpoint": "unix:///run/images.sock", "runtimeRequestTimeout": "30s",
            "registryPullQPS": 2, "registryBurst": 3, "readOnlyPort": 10_255, "address": "127.0.0.1",
            "crashLoopBackOff": {"maxContainerRestartPeriod": "4s"},
            "featureGates": {"KubeletCrashLoopBackOffMax": true},
            "enableSystemLogHandler": false,
        });
        let mut it = config();
        it.apply(&Configuration::of(&json!({})).unwrap()).unwrap();
        assert_eq!((it.pull_rate, it.read_only), (Some((5, 10)), None));
        assert_eq!(it.system_logs.as_deref(), Some(Path::new("/var/log")));
        it.apply(&Configuration::of(&document).unwrap()).unwrap();
        assert_eq!(it.image_socket.as_deref(), Some(Path::new("/run/images.sock")));
        assert_eq!(it.runtime_request_timeout, Duration::from_secs(30));
        assert_eq!((it.pull_rate, it.system_logs.clone()), (Some((2, 3)), None));
        assert_eq!(it.read_only.unwrap().to_string(), "127.0.0.1:10255");
        assert_eq!(it.crash_delays.first.as_secs(), 4);
    }

    #[test]
    fn what_cannot_be_followed_is_named() {
        for (document, expected) in [
            (json!({"address": "x"}), "address: invalid IP address syntax"),
            (json!({"clusterDNS": ["x"]}), "clusterDNS: \"x\": invalid IP address syntax"),
            (
                json!({"containerRuntimeEndpoint": "tcp://x"}),
                "containerRuntimeEndpoint: protocol of \"tcp://x\" is not supported, unix:// is",
            ),
            (json!({"cpuManagerPolicy": "some"}), "cpuManagerPolicy: unknown policy: \"some\""),
            (json!({"memoryManagerPolicy": "some"}), "memoryManagerPolicy: unknown policy: \"some\""),
            (
                json!({"topologyManagerPolicyOptions": {"x": "1"}}),
                "topologyManagerPolicyOptions: unknown Topology Manager Policy option: \"x\"",
            ),
            (
                json!({"cpuManagerPolicyOptions": {"fast": "true"}}),
                "cpuManagerPolicyOptions: unknown CPU Manager Policy option: \"fast\"",
            ),
            (
                json!({"cpuManagerPolicyOptions": {"full-pcpus-only": "yes"}}),
                "cpuManagerPolicyOptions: bad value for option \"full-pcpus-only\": strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (json!({"evictionHard": {"mem": "1"}}), "evictionHard: unsupported eviction signal mem"),
        ] {
            let problem = config().apply(&Configuration::of(&document).unwrap()).unwrap_err();
            assert_eq!(problem.to_string(), format!("invalid configuration: {expected}"));
        }
    }
}
