//! The fields of a KubeSchedulerConfiguration and their defaults.

use std::time::Duration;

use plimsoll_meta::duration;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A KubeSchedulerConfiguration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub parallelism: i32,
    pub leader_election: LeaderElection,
    pub client_connection: ClientConnection,
    pub enable_profiling: Option<bool>,
    pub enable_contention_profiling: Option<bool>,
    pub percentage_of_nodes_to_score: Option<i32>,
    pub pod_initial_backoff_seconds: i64,
    pub pod_max_backoff_seconds: i64,
    pub profiles: Vec<ProfileFields>,
    pub extenders: Vec<ExtenderFields>,
    pub delay_cache_until_active: bool,
}

impl Default for Configuration {
    fn default() -> Self {
        Configuration {
            api_version: super::VERSION.to_owned(),
            kind: super::KIND.to_owned(),
            parallelism: 16,
            leader_election: LeaderElection::default(),
            client_connection: ClientConnection::default(),
            enable_profiling: None,
            enable_contention_profiling: None,
            percentage_of_nodes_to_score: None,
            pod_initial_backoff_seconds: 1,
            pod_max_backoff_seconds: 10,
            profiles: Vec::new(),
            extenders: Vec::new(),
            delay_cache_until_active: false,
        }
    }
}

/// The Lease that one of several schedulers holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct LeaderElection {
    pub leader_elect: bool,
    pub lease_duration: Span,
    pub renew_deadline: Span,
    pub retry_period: Span,
    pub resource_lock: String,
    pub resource_name: String,
    pub resource_namespace: String,
}

impl Default for LeaderElection {
    fn default() -> Self {
        LeaderElection {
            leader_elect: true,
            lease_duration: Span::seconds(15),
            renew_deadline: Span::seconds(10),
            retry_period: Span::seconds(2),
            resource_lock: "leases".to_owned(),
            resource_name: "kube-scheduler".to_owned(),
            resource_namespace: "kube-system".to_owned(),
        }
    }
}

/// How the API server is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: f64,
    pub burst: i32,
}

/// What one `schedulerName` stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct ProfileFields {
    pub scheduler_name: Option<String>,
    pub percentage_of_nodes_to_score: Option<i32>,
    pub plugins: Option<PluginsFields>,
    pub plugin_config: Vec<PluginConfig>,
}

/// Which plugins have a say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct PluginsFields {
    pub pre_enqueue: PluginSet,
    pub queue_sort: PluginSet,
    pub pre_filter: PluginSet,
    pub filter: PluginSet,
    pub post_filter: PluginSet,
    pub pre_score: PluginSet,
    pub score: PluginSet,
    pub reserve: PluginSet,
    pub permit: PluginSet,
    pub pre_bind: PluginSet,
    pub bind: PluginSet,
    pub post_bind: PluginSet,
    pub multi_point: PluginSet,
}

/// Plugins that are on and off at one point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct PluginSet {
    pub enabled: Vec<PluginEntry>,
    pub disabled: Vec<PluginEntry>,
}

/// A plugin, and how much its scores count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct PluginEntry {
    pub name: String,
    pub weight: Option<i32>,
}

/// Arguments of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct PluginConfig {
    pub name: String,
    pub args: Map<String, Value>,
}

/// A program that is asked over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct ExtenderFields {
    pub url_prefix: String,
    pub filter_verb: String,
    pub preempt_verb: String,
    pub prioritize_verb: String,
    pub weight: i64,
    pub bind_verb: String,
    #[serde(rename = "enableHTTPS")]
    pub enable_https: bool,
    pub tls_config: Option<ExtenderTls>,
    pub http_timeout: Span,
    pub node_cache_capable: bool,
    pub managed_resources: Vec<ManagedResource>,
    pub ignorable: bool,
}

/// How an extender is known, and how it knows the scheduler. The last three are base64.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct ExtenderTls {
    pub insecure: bool,
    pub server_name: String,
    pub cert_file: String,
    pub key_file: String,
    pub ca_file: String,
    pub cert_data: String,
    pub key_data: String,
    pub ca_data: String,
}

/// A resource that an extender manages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "upstream's names")]
pub struct ManagedResource {
    pub name: String,
    pub ignored_by_scheduler: bool,
}

/// A time span, which a user may give below zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Span {
    /// As it was given.
    pub text: String,
    #[serde(skip)]
    length: Duration,
    #[serde(skip)]
    negative: bool,
}

impl Span {
    pub(crate) fn seconds(seconds: u64) -> Self {
        Span { text: format!("{seconds}s"), length: Duration::from_secs(seconds), negative: false }
    }

    /// Its length; zero for one below zero.
    pub fn length(&self) -> Duration {
        if self.negative { Duration::ZERO } else { self.length }
    }

    pub(crate) fn is_positive(&self) -> bool {
        !self.length().is_zero()
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.negative && !self.length.is_zero()
    }

    /// What stands for a span that was not given.
    pub(crate) fn or(&mut self, usual: &Span) {
        if self.length.is_zero() {
            self.clone_from(usual);
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        let length = duration::parse(rest).map_err(serde::de::Error::custom)?;
        Ok(Span { length, negative, text })
    }
}
