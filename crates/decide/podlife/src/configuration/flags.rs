//! The flags that set a field of the configuration (kubelet: cmd/kubelet/app/options), and the documents
//! that they stand for.

use serde_json::{Map, Value, json};

use super::reservations::reserved_memory;

/// A flag for a field.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// The field, with dots where it is inside another one.
    pub field: &'static str,
    /// How its value is written.
    pub form: Form,
    /// What it is for.
    pub help: &'static str,
}

/// How a flag's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`; nothing is `true`.
    Truth,
    /// A number.
    Number,
    /// Text, also lengths of time.
    Text,
    /// Texts with commas between them; the flag may be given several times.
    List,
    /// `name=value` with commas between them.
    Map,
    /// `name<value` with commas between them.
    Less,
    /// `name=true` and `name=false` with commas between them.
    Truths,
    /// `name:value` with commas between them; a name may come again.
    Headers,
    /// `key=value:Effect` with commas between them.
    Taints,
    /// `node:name=amount,…` with semicolons between them.
    Reservations,
}

impl Form {
    /// What help shows for the value.
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::Truth => "BOOL",
            Self::Number => "N",
            Self::Text => "TEXT",
            Self::List => "TEXT,…",
            Self::Map => "NAME=VALUE,…",
            Self::Less => "SIGNAL<VALUE,…",
            Self::Truths => "NAME=BOOL,…",
            Self::Headers => "NAME:VALUE,…",
            Self::Taints => "KEY=VALUE:EFFECT,…",
            Self::Reservations => "NODE:NAME=AMOUNT,…;…",
        }
    }
}

const fn flag(name: &'static str, field: &'static str, form: Form, help: &'static str) -> Flag {
    Flag { name, field, form, help }
}

/// Every flag.
pub const FLAGS: &[Flag] = &[
    flag("address", "address", Form::Text, "Address that the agent's server listens on"),
    flag(
        "allowed-unsafe-sysctls",
        "allowedUnsafeSysctls",
        Form::List,
        "Kernel settings of pods to allow though they are not safe",
    ),
    flag(
        "anonymous-auth",
        "authentication.anonymous.enabled",
        Form::Truth,
        "Let clients without credentials in as system:anonymous",
    ),
    flag(
        "authentication-token-webhook",
        "authentication.webhook.enabled",
        Form::Truth,
        "Have the API server review clients' tokens",
    ),
    flag(
        "authentication-token-webhook-cache-ttl",
        "authentication.webhook.cacheTTL",
        Form::Text,
        "How long reviews of tokens hold",
    ),
    flag(
        "authorization-mode",
        "authorization.mode",
        Form::Text,
        "Who decides what clients may do: AlwaysAllow or Webhook",
    ),
    flag(
        "authorization-webhook-cache-authorized-ttl",
        "authorization.webhook.cacheAuthorizedTTL",
        Form::Text,
        "How long it holds that a client may",
    ),
    flag(
        "authorization-webhook-cache-unauthorized-ttl",
        "authorization.webhook.cacheUnauthorizedTTL",
        Form::Text,
        "How long it holds that a client may not",
    ),
    flag("cgroup-driver", "cgroupDriver", Form::Text, "Who makes control groups: cgroupfs or systemd"),
    flag("cgroup-root", "cgroupRoot", Form::Text, "Control group that all pods are in"),
    flag("cgroups-per-qos", "cgroupsPerQOS", Form::Truth, "Make control groups for classes and pods"),
    flag(
        "client-ca-file",
        "authentication.x509.clientCAFile",
        Form::Text,
        "File with the authorities of clients' certificates",
    ),
    flag("cluster-dns", "clusterDNS", Form::List, "Addresses of the cluster's name servers"),
    flag("cluster-domain", "clusterDomain", Form::Text, "Domain of the cluster"),
    flag(
        "container-log-max-files",
        "containerLogMaxFiles",
        Form::Number,
        "How many log files are kept of a container",
    ),
    flag(
        "container-log-max-size",
        "containerLogMaxSize",
        Form::Text,
        "How large a log file grows before it is rotated",
    ),
    flag(
        "container-runtime-endpoint",
        "containerRuntimeEndpoint",
        Form::Text,
        "Socket of the container engine, unix:///…",
    ),
    flag("contention-profiling", "enableContentionProfiling", Form::Truth, "Has no effect"),
    flag("cpu-cfs-quota", "cpuCFSQuota", Form::Truth, "Enforce limits of processors"),
    flag("cpu-cfs-quota-period", "cpuCFSQuotaPeriod", Form::Text, "Period in which they are measured"),
    flag(
        "cpu-manager-policy",
        "cpuManagerPolicy",
        Form::Text,
        "How whole processors are given to containers: none or static",
    ),
    flag("cpu-manager-policy-options", "cpuManagerPolicyOptions", Form::Map, "Options of the policy"),
    flag("cpu-manager-reconcile-period", "cpuManagerReconcilePeriod", Form::Text, "Has no effect"),
    flag(
        "enable-controller-attach-detach",
        "enableControllerAttachDetach",
        Form::Truth,
        "Volumes are attached by a controller",
    ),
    flag("enable-debugging-handlers", "enableDebuggingHandlers", Form::Truth, "Serve logs and run commands"),
    flag("enable-server", "enableServer", Form::Truth, "Run the agent's server"),
    flag(
        "enforce-node-allocatable",
        "enforceNodeAllocatable",
        Form::List,
        "What the kernel enforces: none, pods, system-reserved, kube-reserved, …",
    ),
    flag("event-burst", "eventBurst", Form::Number, "Has no effect"),
    flag("event-qps", "eventRecordQPS", Form::Number, "Has no effect"),
    flag("eviction-hard", "evictionHard", Form::Less, "Evict pods at once when there is less of something"),
    flag(
        "eviction-max-pod-grace-period",
        "evictionMaxPodGracePeriod",
        Form::Number,
        "Seconds that pods get at a soft threshold",
    ),
    flag("eviction-minimum-reclaim", "evictionMinimumReclaim", Form::Map, "How much more is freed"),
    flag(
        "eviction-pressure-transition-period",
        "evictionPressureTransitionPeriod",
        Form::Text,
        "How long the node says that it is short of something after it was",
    ),
    flag(
        "eviction-soft",
        "evictionSoft",
        Form::Less,
        "Evict pods when there is less of something for a while",
    ),
    flag("eviction-soft-grace-period", "evictionSoftGracePeriod", Form::Map, "For what while"),
    flag("fail-swap-on", "failSwapOn", Form::Truth, "Refuse a machine with swap"),
    flag("feature-gates", "featureGates", Form::Truths, "Features that are on or off unlike by default"),
    flag(
        "file-check-frequency",
        "fileCheckFrequency",
        Form::Text,
        "How often the folder of static pods is looked at",
    ),
    flag("hairpin-mode", "hairpinMode", Form::Text, "Has no effect"),
    flag("healthz-bind-address", "healthzBindAddress", Form::Text, "Address of the health port"),
    flag(
        "healthz-port",
        "healthzPort",
        Form::Number,
        "Port that only says whether the agent is well; 0 for none",
    ),
    flag("http-check-frequency", "httpCheckFrequency", Form::Text, "How often static pods are fetched"),
    flag(
        "image-gc-high-threshold",
        "imageGCHighThresholdPercent",
        Form::Number,
        "Percent of the disk from which unused images are removed",
    ),
    flag(
        "image-gc-low-threshold",
        "imageGCLowThresholdPercent",
        Form::Number,
        "Percent of the disk down to which they are",
    ),
    flag(
        "image-service-endpoint",
        "imageServiceEndpoint",
        Form::Text,
        "Socket of the image service, if it is another one",
    ),
    flag("iptables-drop-bit", "iptablesDropBit", Form::Number, "Has no effect"),
    flag("iptables-masquerade-bit", "iptablesMasqueradeBit", Form::Number, "Has no effect"),
    flag(
        "kernel-memcg-notification",
        "kernelMemcgNotification",
        Form::Truth,
        "Has no effect: the kernel always tells",
    ),
    flag("kube-api-burst", "kubeAPIBurst", Form::Number, "Has no effect"),
    flag("kube-api-content-type", "contentType", Form::Text, "Has no effect"),
    flag("kube-api-qps", "kubeAPIQPS", Form::Number, "Has no effect"),
    flag("kube-reserved", "kubeReserved", Form::Map, "Resources kept for the agent and the engine"),
    flag("kube-reserved-cgroup", "kubeReservedCgroup", Form::Text, "Their control group"),
    flag("kubelet-cgroups", "kubeletCgroups", Form::Text, "Control group of the agent"),
    flag(
        "local-storage-capacity-isolation",
        "localStorageCapacityIsolation",
        Form::Truth,
        "Enforce limits of local storage",
    ),
    flag("log-flush-frequency", "logging.flushFrequency", Form::Text, "Has no effect"),
    flag("logging-format", "logging.format", Form::Text, "Format of the agent's own log: text or json"),
    flag("make-iptables-util-chains", "makeIPTablesUtilChains", Form::Truth, "Has no effect"),
    flag("manifest-url", "staticPodURL", Form::Text, "Where static pods are fetched from"),
    flag("manifest-url-header", "staticPodURLHeader", Form::Headers, "Headers of the request for them"),
    flag("max-open-files", "maxOpenFiles", Form::Number, "How many files the agent may have open"),
    flag("max-pods", "maxPods", Form::Number, "How many pods the node takes"),
    flag(
        "memory-manager-policy",
        "memoryManagerPolicy",
        Form::Text,
        "How memory is given to containers: None or Static",
    ),
    flag(
        "minimum-image-ttl-duration",
        "imageMinimumGCAge",
        Form::Text,
        "How long an unused image is kept in any case",
    ),
    flag(
        "node-status-max-images",
        "nodeStatusMaxImages",
        Form::Number,
        "How many images the node names; -1 for all",
    ),
    flag(
        "node-status-update-frequency",
        "nodeStatusUpdateFrequency",
        Form::Text,
        "How often the node's status is looked at",
    ),
    flag("oom-score-adj", "oomScoreAdj", Form::Number, "The agent's own score when memory is short"),
    flag("pod-cidr", "podCIDR", Form::Text, "Range of pod addresses without an API server"),
    flag("pod-manifest-path", "staticPodPath", Form::Text, "Folder of static pods, or a file with one"),
    flag(
        "pod-max-pids",
        "podPidsLimit",
        Form::Number,
        "How many tasks a pod may have; -1 for no limit of its own",
    ),
    flag("pods-per-core", "podsPerCore", Form::Number, "How many pods for each processor; 0 for no limit"),
    flag("port", "port", Form::Number, "Port of the agent's server"),
    flag(
        "protect-kernel-defaults",
        "protectKernelDefaults",
        Form::Truth,
        "Refuse kernel settings that are not as they should be",
    ),
    flag("provider-id", "providerID", Form::Text, "What an outside provider calls the node"),
    flag("qos-reserved", "qosReserved", Form::Map, "Parts of resources for guaranteed pods alone"),
    flag(
        "read-only-port",
        "readOnlyPort",
        Form::Number,
        "Port of a server without authentication; 0 for none",
    ),
    flag(
        "reserved-memory",
        "reservedMemory",
        Form::Reservations,
        "What of each memory node is kept from containers",
    ),
    flag("register-node", "registerNode", Form::Truth, "Make the node in the API"),
    flag(
        "register-with-taints",
        "registerWithTaints",
        Form::Taints,
        "Taints that the node gets when it registers",
    ),
    flag("registry-burst", "registryBurst", Form::Number, "Pulls of images at once"),
    flag("registry-qps", "registryPullQPS", Form::Number, "Pulls of images in a second"),
    flag("reserved-cpus", "reservedSystemCPUs", Form::Text, "Processors that pods do not get, 0-1,4"),
    flag("resolv-conf", "resolvConf", Form::Text, "The node's own resolver file"),
    flag("rotate-certificates", "rotateCertificates", Form::Truth, "Renew the client certificate"),
    flag(
        "rotate-server-certificates",
        "serverTLSBootstrap",
        Form::Truth,
        "Ask the API for the server's certificate, and renew it",
    ),
    flag("runonce", "runOnce", Form::Truth, "Not offered any more"),
    flag(
        "runtime-request-timeout",
        "runtimeRequestTimeout",
        Form::Text,
        "How long the engine may take to answer",
    ),
    flag(
        "seccomp-default",
        "seccompDefault",
        Form::Truth,
        "Use the engine's seccomp profile where a pod names none",
    ),
    flag("serialize-image-pulls", "serializeImagePulls", Form::Truth, "Pull one image after the other"),
    flag("streaming-connection-idle-timeout", "streamingConnectionIdleTimeout", Form::Text, "Has no effect"),
    flag("sync-frequency", "syncFrequency", Form::Text, "How often volumes of drivers are looked after"),
    flag("system-cgroups", "systemCgroups", Form::Text, "Control group of all other programs"),
    flag("system-reserved", "systemReserved", Form::Map, "Resources kept for the system"),
    flag("system-reserved-cgroup", "systemReservedCgroup", Form::Text, "Its control group"),
    flag("tls-cert-file", "tlsCertFile", Form::Text, "Certificate of the agent's server"),
    flag("tls-cipher-suites", "tlsCipherSuites", Form::List, "Ciphers that it offers"),
    flag(
        "tls-min-version",
        "tlsMinVersion",
        Form::Text,
        "Least version of TLS: VersionTLS12 or VersionTLS13",
    ),
    flag("tls-private-key-file", "tlsPrivateKeyFile", Form::Text, "Key of the certificate"),
    flag(
        "topology-manager-policy",
        "topologyManagerPolicy",
        Form::Text,
        "How resources of one NUMA node are kept together",
    ),
    flag(
        "topology-manager-policy-options",
        "topologyManagerPolicyOptions",
        Form::Map,
        "Options of the policy",
    ),
    flag("topology-manager-scope", "topologyManagerScope", Form::Text, "For whom they are: container or pod"),
    flag("v", "logging.verbosity", Form::Number, "Has no effect: PLIMSOLL_LOG says how much is told"),
    flag(
        "volume-stats-agg-period",
        "volumeStatsAggPeriod",
        Form::Text,
        "How often the use of volumes is measured",
    ),
];

/// The document that a flag stands for, given these values in this order.
///
/// # Errors
/// What is wrong with a value, in upstream's words.
pub fn document(flag: &Flag, values: &[&str]) -> Result<Value, String> {
    let value = value(flag.form, values)?;
    let field = flag.field.rsplit('.');
    Ok(field.fold(value, |inner, name| Value::Object(Map::from_iter([(name.to_owned(), inner)]))))
}

fn value(form: Form, values: &[&str]) -> Result<Value, String> {
    let last = values.last().copied().unwrap_or_default();
    let items = || values.iter().flat_map(|one| one.split(',')).filter(|one| !one.is_empty());
    Ok(match form {
        Form::Truth if last.is_empty() => json!(true),
        Form::Truth => json!(truth(last)?),
        Form::Number => {
            let number: i64 =
                last.parse().map_err(|_| format!("strconv.ParseInt: parsing {last:?}: invalid syntax"))?;
            json!(number)
        }
        Form::Text => json!(last),
        Form::List => json!(items().map(str::trim).collect::<Vec<_>>()),
        Form::Map => pairs(items(), '=', "malformed pair, expect string=string", |text| Ok(json!(text)))?,
        Form::Less => pairs(items(), '<', "malformed pair, expect string<string", |text| Ok(json!(text)))?,
        Form::Truths => {
            pairs(items(), '=', "malformed pair, expect string=bool", |text| Ok(json!(truth(text)?)))?
        }
        Form::Headers => headers(items())?,
        Form::Taints => json!(items().map(taint).collect::<Result<Vec<_>, _>>()?),
        Form::Reservations => {
            let nodes = values.iter().flat_map(|one| one.split(';')).filter(|one| !one.is_empty());
            json!(nodes.map(reserved_memory).collect::<Result<Vec<_>, _>>()?)
        }
    })
}

fn pairs<'a>(
    items: impl Iterator<Item = &'a str>,
    between: char,
    malformed: &str,
    read: fn(&str) -> Result<Value, String>,
) -> Result<Value, String> {
    let mut map = Map::new();
    for item in items {
        let (name, value) = item.split_once(between).ok_or(malformed)?;
        map.insert(name.trim().to_owned(), read(value.trim())?);
    }
    Ok(Value::Object(map))
}

fn headers<'a>(items: impl Iterator<Item = &'a str>) -> Result<Value, String> {
    let mut map = Map::new();
    for item in items {
        let (name, value) = item.split_once(':').ok_or("malformed pair, expect string:string")?;
        let list = map.entry(name.trim().to_owned()).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(value.trim()));
        }
    }
    Ok(Value::Object(map))
}

/// Reads a truth value as Go does.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// `key=value:Effect` or `key:Effect`.
fn taint(text: &str) -> Result<Value, String> {
    let invalid = || format!("invalid taint spec: {text}");
    let (left, effect) = text.split_once(':').ok_or_else(invalid)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = left.split_once('=').unwrap_or((left, ""));
    if value.contains('=') {
        return Err(invalid());
    }
    Ok(json!({"key": key, "value": value, "effect": effect}))
}
