//! The flags of `plimsoll controllers`, under the names that users of kube-controller-manager know.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use plimsoll_client::Election;
use plimsoll_controllers::{Autoscaling, Selection};
use plimsoll_meta::duration;

use crate::log::Format;

/// `plimsoll controllers`
#[derive(Args, Clone, Debug)]
pub(crate) struct Controllers {
    /// How the API server is reached
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: PathBuf,
    /// Which controllers run: * are all, NAME one more, -NAME one less
    #[arg(long, value_name = "NAME,…", default_value = "*", value_parser = selection, allow_hyphen_values = true)]
    pub(crate) controllers: Selection,
    /// Range of pod addresses that nodes get theirs from; without it they get none
    #[arg(long, value_name = "CIDR")]
    pub(crate) cluster_cidr: Option<String>,
    /// Ranges of Service addresses, which nodes do not get
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub(crate) service_cluster_ip_range: Vec<String>,
    /// Prefix length of each node's part of the pod addresses [default: 24, of IPv6 64]
    #[arg(long, value_name = "BITS")]
    pub(crate) node_cidr_mask_size: Option<u8>,
    /// The same, of IPv4 alone
    #[arg(long, value_name = "BITS")]
    pub(crate) node_cidr_mask_size_ipv4: Option<u8>,
    /// The same, of IPv6 alone
    #[arg(long, value_name = "BITS")]
    pub(crate) node_cidr_mask_size_ipv6: Option<u8>,
    /// Certificate authority of the API server, told to all pods [default: that of the kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub(crate) root_ca_file: Option<PathBuf>,
    /// Certificate of the authority that signs approved requests; without it none is signed
    #[arg(long, value_name = "FILE", requires = "cluster_signing_key_file")]
    pub(crate) cluster_signing_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "cluster_signing_cert_file")]
    pub(crate) cluster_signing_key_file: Option<PathBuf>,
    /// Longest life of such certificates
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = duration::parse)]
    pub(crate) cluster_signing_duration: Duration,
    /// Key that signs the tokens in Secrets; without it none is made
    #[arg(long, value_name = "FILE")]
    pub(crate) service_account_private_key_file: Option<PathBuf>,
    /// How long a node may be silent before it is not ready
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = duration::parse)]
    pub(crate) node_monitor_grace_period: Duration,
    /// Ended pods beyond this many are deleted, the oldest first; 0 keeps all
    #[arg(long, value_name = "COUNT", default_value_t = 12500)]
    pub(crate) terminated_pod_gc_threshold: usize,
    #[command(flatten)]
    pub(crate) autoscaling: AutoscalingArgs,
    #[command(flatten)]
    pub(crate) concurrency: Concurrency,
    #[command(flatten)]
    pub(crate) election: Leadership,
    #[command(flatten)]
    pub(crate) serving: ServingArgs,
}

/// Reads names of controllers.
pub(crate) fn selection(text: &str) -> Result<Selection, String> {
    Selection::parse(text).map_err(|error| error.to_string())
}

/// Declares the flags that say how many objects of a kind are worked on at once.
macro_rules! concurrency {
    ($($field:ident, $flag:literal, $controller:literal, $what:literal;)*) => {
        /// How many objects are worked on at once
        #[derive(Args, Clone, Debug)]
        #[command(next_help_heading = "How many are worked on at once [default: 8 each]")]
        pub(crate) struct Concurrency {
            $(
                #[doc = $what]
                #[arg(long = $flag, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
                $field: Option<u16>,
            )*
        }

        impl Concurrency {
            /// What was said, by the controllers' names.
            pub(crate) fn workers(&self) -> std::collections::BTreeMap<&'static str, usize> {
                let said = [$(($controller, self.$field)),*];
                said.into_iter().filter_map(|(name, count)| Some((name, usize::from(count?)))).collect()
            }
        }
    };
}

concurrency! {
    deployments, "concurrent-deployment-syncs", "deployment-controller", "Deployments";
    sets, "concurrent-replicaset-syncs", "replicaset-controller", "ReplicaSets";
    replication, "concurrent-rc-syncs", "replicationcontroller-controller", "ReplicationControllers";
    stateful, "concurrent-statefulset-syncs", "statefulset-controller", "StatefulSets";
    daemons, "concurrent-daemonset-syncs", "daemonset-controller", "DaemonSets";
    jobs, "concurrent-job-syncs", "job-controller", "Jobs";
    cron_jobs, "concurrent-cron-job-syncs", "cronjob-controller", "CronJobs";
    ended, "concurrent-ttl-after-finished-syncs", "ttl-after-finished-controller", "Ended Jobs";
    endpoints, "concurrent-endpoint-syncs", "endpoints-controller", "Endpoints";
    slices, "concurrent-service-endpoint-syncs", "endpointslice-controller", "Services' EndpointSlices";
    mirrored, "mirroring-concurrent-service-endpoint-syncs", "endpointslice-mirroring-controller", "EndpointSlices of Endpoints";
    ephemeral, "concurrent-ephemeralvolume-syncs", "ephemeral-volume-controller", "Ephemeral volumes";
    accounts, "concurrent-serviceaccount-token-syncs", "serviceaccount-token-controller", "Tokens of accounts";
    namespaces, "concurrent-namespace-syncs", "namespace-controller", "Namespaces";
    garbage, "concurrent-gc-syncs", "garbage-collector-controller", "Objects that may be garbage";
    autoscalers, "concurrent-horizontal-pod-autoscaler-syncs", "horizontal-pod-autoscaler-controller", "Autoscalers";
    disruptions, "concurrent-disruption-syncs", "disruption-controller", "PodDisruptionBudgets";
}

/// How HorizontalPodAutoscalers work
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Horizontal autoscaling")]
pub(crate) struct AutoscalingArgs {
    /// How often each autoscaler is looked at
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    horizontal_pod_autoscaler_sync_period: Duration,
    /// By how much what is used may differ from what is aimed at without anything being done
    #[arg(long, value_name = "RATIO", default_value_t = 0.1)]
    horizontal_pod_autoscaler_tolerance: f64,
    /// For how long the highest recommendation counts before there are fewer replicas
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    horizontal_pod_autoscaler_downscale_stabilization: Duration,
    /// For how long after a pod's start its processor time may be that of its start
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    horizontal_pod_autoscaler_cpu_initialization_period: Duration,
    /// For how long after a pod's start changes of readiness are the first ones
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    horizontal_pod_autoscaler_initial_readiness_delay: Duration,
}

impl AutoscalingArgs {
    /// What they say.
    pub(crate) fn settings(&self) -> Autoscaling {
        let span = |duration: Duration| duration.try_into().unwrap_or_default();
        Autoscaling {
            period: self.horizontal_pod_autoscaler_sync_period,
            tolerance: self.horizontal_pod_autoscaler_tolerance,
            downscale_stabilization: span(self.horizontal_pod_autoscaler_downscale_stabilization),
            cpu_initialization: span(self.horizontal_pod_autoscaler_cpu_initialization_period),
            initial_readiness: span(self.horizontal_pod_autoscaler_initial_readiness_delay),
        }
    }
}

/// Which of several processes works
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
pub(crate) struct Leadership {
    /// Whether only the holder of a Lease works; others wait until it is free
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
        require_equals = true, default_missing_value = "true")]
    pub(crate) leader_elect: bool,
    /// Others take the Lease when it was not renewed for so long
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration::parse)]
    leader_elect_lease_duration: Duration,
    /// The holder ends when it could not renew the Lease for so long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    leader_elect_renew_deadline: Duration,
    /// How often the Lease is renewed, or looked at
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    leader_elect_retry_period: Duration,
    /// Kind of the lock
    #[arg(long, value_name = "KIND", default_value = "leases", value_parser = ["leases"])]
    leader_elect_resource_lock: String,
    /// Namespace of the Lease
    #[arg(long, value_name = "NAME", default_value = "kube-system")]
    leader_elect_resource_namespace: String,
    /// Name of the Lease
    #[arg(long, value_name = "NAME", default_value = "kube-controller-manager")]
    leader_elect_resource_name: String,
}

impl Leadership {
    /// The election that they describe, for `identity`.
    ///
    /// # Errors
    /// The durations make no sense together; upstream's sentences.
    pub(crate) fn election(&self, identity: String) -> Result<Election, &'static str> {
        let (lease, deadline) = (self.leader_elect_lease_duration, self.leader_elect_renew_deadline);
        let retry = self.leader_elect_retry_period;
        if lease <= deadline {
            return Err("leaseDuration must be greater than renewDeadline");
        }
        if deadline <= retry.mul_f64(1.2) {
            return Err("renewDeadline must be greater than retryPeriod*JitterFactor");
        }
        if lease < Duration::from_secs(1) || retry.is_zero() {
            return Err("leaseDuration must be at least a second, retryPeriod greater than zero");
        }
        Ok(Election {
            namespace: self.leader_elect_resource_namespace.clone(),
            name: self.leader_elect_resource_name.clone(),
            identity,
            lease_duration: lease,
            renew_deadline: deadline,
            retry_period: retry,
        })
    }
}

/// The server for health and metrics
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServingArgs {
    /// Format of the program's own log
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) logging_format: Format,
    /// Address of the server
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0")]
    bind_address: IpAddr,
    /// Its port: /healthz, /livez, /readyz, /metrics; 0 for none [default: 10257, of a scheduler 10259]
    #[arg(long, value_name = "PORT")]
    secure_port: Option<u16>,
    /// Its certificate [default: made, and kept in --cert-dir]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// The key of its certificate
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub(crate) tls_private_key_file: Option<PathBuf>,
    /// Where a certificate is kept that was made
    #[arg(long, value_name = "DIR", default_value = "/var/run/kubernetes")]
    pub(crate) cert_dir: PathBuf,
    /// Authority of clients' certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca_file: Option<PathBuf>,
    /// Paths that everybody may read
    #[arg(long, value_name = "PATH,…", value_delimiter = ',', default_value = "/healthz,/readyz,/livez")]
    pub(crate) authorization_always_allow_paths: Vec<String>,
}

impl ServingArgs {
    /// Where it listens, if at all.
    pub(crate) fn address(&self, usual: u16) -> Option<SocketAddr> {
        let port = self.secure_port.unwrap_or(usual);
        (port != 0).then(|| SocketAddr::new(self.bind_address, port))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Controllers,
    }

    fn parse(flag: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(["controllers", "--kubeconfig=file", flag])
    }

    #[test]
    fn flags_of_concurrency_reach_controllers_that_exist() {
        let command = Line::command();
        let flags = command.get_arguments().filter_map(|argument| argument.get_long());
        let flags: Vec<_> = flags.filter(|flag| flag.contains("concurrent")).collect();
        assert_eq!(flags.len(), 17);
        for flag in flags {
            let workers = parse(&format!("--{flag}=3")).unwrap().options.concurrency.workers();
            let [(name, count)] = workers.into_iter().collect::<Vec<_>>()[..] else { panic!("{flag}") };
            assert!(plimsoll_controllers::names().any(|known| known == name), "{flag}: {name}");
            assert_eq!(count, 3);
        }
        let refused = [
            ("--concurrent-job-syncs=0", "invalid value '0'"),
            (
                "--concurrent-resource-quota-syncs=5",
                "unexpected argument '--concurrent-resource-quota-syncs'",
            ),
        ];
        for (flag, why) in refused {
            let error = parse(flag).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
