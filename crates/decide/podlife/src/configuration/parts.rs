//! The groups of settings inside a KubeletConfiguration.

use std::collections::BTreeMap;
use std::fmt;

use plimsoll_meta::name;
use plimsoll_meta::quantity::Quantity;

use super::setting::settings;
use super::span::Span;

settings! {
    /// Who may talk to the agent's server.
    Authentication {
        /// By client certificates.
        x509: X509 = "x509", none, Used;
        /// By tokens that the API server knows.
        webhook: TokenWebhook = "webhook", none, Used;
        /// Without saying who they are.
        anonymous: Anonymous = "anonymous", none, Used;
    }
}

settings! {
    /// Client certificates.
    X509 {
        /// The authorities of clients' certificates.
        client_ca_file: String = "clientCAFile", none, Used;
    }
}

settings! {
    /// Tokens, which the API server reviews.
    TokenWebhook {
        /// Whether it is asked.
        enabled: bool = "enabled", absent true, Used;
        /// How long its answers hold.
        cache_ttl: Span = "cacheTTL", empty Span::seconds(120), Used;
    }
}

settings! {
    /// Clients without credentials.
    Anonymous {
        /// Whether they are let in as `system:anonymous`.
        enabled: bool = "enabled", absent false, Used;
    }
}

settings! {
    /// What clients of the agent's server may do.
    Authorization {
        /// `AlwaysAllow` or `Webhook`.
        mode: String = "mode", empty "Webhook".to_owned(), Used;
        /// How the API server is asked.
        webhook: AccessWebhook = "webhook", none, Used;
    }
}

settings! {
    /// Access reviews by the API server.
    AccessWebhook {
        /// How long it holds that somebody may.
        cache_authorized_ttl: Span = "cacheAuthorizedTTL", empty Span::seconds(300), Used;
        /// How long it holds that somebody may not.
        cache_unauthorized_ttl: Span = "cacheUnauthorizedTTL", empty Span::seconds(30), Used;
    }
}

settings! {
    /// What containers may do with swap.
    MemorySwap {
        /// `NoSwap` or `LimitedSwap`.
        swap_behavior: String = "swapBehavior", none, Used;
    }
}

settings! {
    /// How long containers that fail wait.
    CrashLoopBackOff {
        /// The longest wait.
        max_container_restart_period: Option<Span> = "maxContainerRestartPeriod", none, Used;
    }
}

settings! {
    /// Memory of a NUMA node that is not given to containers.
    MemoryReservation {
        /// The node's number.
        numa_node: i32 = "numaNode", none, Used;
        /// How much of what.
        limits: BTreeMap<String, Quantity> = "limits", none, Used;
    }
}

settings! {
    /// How long pods from a priority on get when the node goes down.
    ShutdownGracePeriod {
        /// The lowest priority that it is for.
        priority: i32 = "priority", none, Used;
        /// Seconds.
        shutdown_grace_period_seconds: i64 = "shutdownGracePeriodSeconds", none, Used;
    }
}

settings! {
    /// A taint of the node.
    Taint {
        /// Its name.
        key: String = "key", none, Used;
        /// Its value.
        value: String = "value", none, Used;
        /// What it does to pods that do not tolerate it.
        effect: String = "effect", none, Used;
        /// When it was added; not for configurations.
        time_added: Option<String> = "timeAdded", none, Used;
    }
}

impl Taint {
    /// Whether the API server would take it.
    pub(super) fn is_valid(&self) -> bool {
        name::is_qualified_name(&self.key).is_ok()
            && (self.value.is_empty() || name::is_label_value(&self.value).is_ok())
            && matches!(self.effect.as_str(), "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute")
    }
}

impl fmt::Display for Taint {
    /// As Go shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added = self.time_added.as_deref().unwrap_or("<nil>");
        write!(f, "{{{} {} {} {added}}}", self.key, self.value, self.effect)
    }
}

settings! {
    /// User namespaces of pods.
    UserNamespaces {
        /// How many users each pod has.
        ids_per_pod: i64 = "idsPerPod", absent 65_536, Fixed;
    }
}

settings! {
    /// Traces of requests.
    Tracing {
        /// Where they are sent.
        endpoint: Option<String> = "endpoint", none, Used;
        /// How many of a million requests are traced.
        sampling_rate_per_million: Option<i32> = "samplingRatePerMillion", none, Used;
    }
}

settings! {
    /// The agent's own log.
    Logging {
        /// `text` or `json`.
        format: String = "format", empty "text".to_owned(), Used;
        /// Nothing is held back here.
        flush_frequency: FlushFrequency = "flushFrequency", none, Moot;
        /// How much is told.
        verbosity: i32 = "verbosity", none, Moot;
        /// How much is told by Go's source files, which there are none of.
        vmodule: Vec<VerbosityOfFile> = "vmodule", none, Moot;
        /// Settings of the formats.
        options: FormatOptions = "options", none, Moot;
    }
}

settings! {
    /// How much a source file tells.
    VerbosityOfFile {
        /// The files.
        file_pattern: String = "filePattern", none, Moot;
        /// How much.
        verbosity: i32 = "verbosity", none, Moot;
    }
}

settings! {
    /// Settings of log formats.
    FormatOptions {
        /// Of `text`.
        text: StreamOptions = "text", none, Moot;
        /// Of `json`.
        json: StreamOptions = "json", none, Moot;
    }
}

settings! {
    /// Where a log format writes.
    StreamOptions {
        /// Whether errors go elsewhere.
        split_stream: bool = "splitStream", none, Moot;
        /// How much is held back.
        info_buffer_size: Quantity = "infoBufferSize", none, Moot;
    }
}

/// A length of time as a text, or nanoseconds as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushFrequency(Span);

impl super::setting::Setting for FlushFrequency {
    const NAME: &'static str = "v1.TimeOrMetaDuration";

    fn read(value: &serde_json::Value, at: &str, problems: &mut Vec<String>) -> Self {
        if value.is_i64() {
            return Self::default();
        }
        Self(Span::read(value, at, problems))
    }

    fn show(&self) -> serde_json::Value {
        self.0.show()
    }

    fn zero() -> Self {
        Self::default()
    }
}
