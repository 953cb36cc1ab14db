//! What the server is started with.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use plimsoll_access::authentication_config::Anonymous;
use plimsoll_access::authorization_config::AuthorizationConfig;
use plimsoll_access::front_proxy::FrontProxy;
use plimsoll_access::issuer::Issuer;

use crate::features::Features;
use crate::limits::Limits;
use crate::safeguards::Safeguards;

/// Everything the server needs to know; nothing is read from the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the store keeps its files.
    pub store: PathBuf,
    /// The cluster of etcd that is the store instead; none: the embedded one.
    pub datastore: Option<Datastore>,
    /// How often history is compacted; none: never by the clock.
    pub compaction_interval: Option<Duration>,
    /// What the store may take, in bytes.
    pub quota: u64,
    /// Copies of the store that are made by the clock, if any.
    pub snapshots: Option<Snapshots>,
    /// Addresses to serve on.
    pub listen: Vec<SocketAddr>,
    /// The address that pods reach the server at, published as Service `default/kubernetes`.
    pub advertise: SocketAddr,
    /// Ranges of Service addresses, at most one of each family; Services are of the first one's family unless
    /// they say otherwise.
    pub service_cidrs: Vec<IpNet>,
    /// Range of node ports.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// Addresses of the cluster's resolver, kept free for the Service `kube-system/kube-dns`: one of each family
    /// of Services.
    pub cluster_dns: Vec<IpAddr>,
    /// Keys and certificates.
    pub credentials: Credentials,
    /// Admission plugins, encryption at rest and the audit log.
    pub safeguards: Safeguards,
    /// Feature gates.
    pub features: Features,
    /// Bounds of requests.
    pub limits: Limits,
    /// Who is believed to be who.
    pub authentication: Authentication,
    /// Who decides what somebody may do.
    pub authorization: AuthorizationConfig,
    /// The file that says so; its changes count at once.
    pub authorization_file: Option<PathBuf>,
    /// Objects that a new cluster begins with. Who deletes them does not get them back.
    pub first_objects: Vec<serde_json::Value>,
    /// Objects that every cluster has: made where they are missing, brought up to date at each start.
    pub own_objects: Vec<serde_json::Value>,
}

/// A cluster of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datastore {
    /// `SCHEME://HOST:PORT` of its members.
    pub endpoints: Vec<String>,
    /// Whose certificates its members show.
    pub authority: Option<PathBuf>,
    /// Our certificate and key for them.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What proves who somebody is, beside certificates of the authority of clients.
#[derive(Clone, Debug)]
pub struct Authentication {
    /// The file with static tokens.
    pub token_file: Option<PathBuf>,
    /// A server that knows tokens.
    pub webhook: Option<TokenWebhook>,
    /// Issuers of identity tokens.
    pub issuers: Vec<Issuer>,
    /// The file that tells of the issuers; its changes count at once.
    pub file: Option<PathBuf>,
    /// Who may ask without credentials.
    pub anonymous: Anonymous,
    /// Proxies that tell who asks.
    pub front_proxy: Option<Proxies>,
    /// Tokens of service accounts.
    pub accounts: ServiceAccounts,
}

impl Default for Authentication {
    fn default() -> Self {
        Self {
            token_file: None,
            webhook: None,
            issuers: Vec::new(),
            file: None,
            anonymous: Anonymous::Allowed,
            front_proxy: None,
            accounts: ServiceAccounts::default(),
        }
    }
}

/// A server that is asked by `TokenReview`.
#[derive(Clone, Debug)]
pub struct TokenWebhook {
    /// The file, in the format of kubeconfig, that tells where it is.
    pub config_file: PathBuf,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long an accepted token is remembered.
    pub cache_ttl: Duration,
}

/// Proxies in front of the server.
#[derive(Clone, Debug)]
pub struct Proxies {
    /// PEM of the authority of their certificates.
    pub authority: PathBuf,
    /// Whom of them to believe, and where.
    pub rules: FrontProxy,
}

/// How tokens of service accounts are made and accepted.
#[derive(Clone, Debug)]
pub struct ServiceAccounts {
    /// Issuers: the first one is named in new tokens, all are accepted.
    pub issuers: Vec<String>,
    /// Audiences that mean this API; the issuers if there are none.
    pub api_audiences: Vec<String>,
    /// More keys whose tokens are accepted.
    pub verification_keys: Vec<PathBuf>,
    /// Most seconds that a token lasts.
    pub longest: Option<i64>,
    /// Whether tokens of pods last longer than they were asked for.
    pub extend: bool,
    /// Address of the key set in the discovery document; this server's if not said.
    pub key_set_url: Option<String>,
}

impl Default for ServiceAccounts {
    fn default() -> Self {
        Self {
            issuers: vec!["https://kubernetes.default.svc.cluster.local".to_owned()],
            api_audiences: Vec::new(),
            verification_keys: Vec::new(),
            longest: None,
            extend: true,
            key_set_url: None,
        }
    }
}

impl ServiceAccounts {
    /// The audiences that mean this API.
    pub fn audiences(&self) -> Vec<String> {
        if self.api_audiences.is_empty() { self.issuers.clone() } else { self.api_audiences.clone() }
    }
}

/// Files of keys and certificates, all PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Authority of client certificates.
    pub client_ca: PathBuf,
    /// The server's own certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Client certificate for node agents.
    pub kubelet_certificate: PathBuf,
    /// Its key.
    pub kubelet_key: PathBuf,
    /// Client certificate for extension servers, whose authority is not that of other clients.
    pub front_proxy_certificate: PathBuf,
    /// Its key.
    pub front_proxy_key: PathBuf,
    /// Key that signs service account tokens.
    pub service_account_key: PathBuf,
}

/// Copies of the store that are made by the clock.
#[derive(Clone, Debug)]
pub struct Snapshots {
    /// Where they are.
    pub folder: PathBuf,
    /// How often one is made.
    pub every: Duration,
    /// How old one gets; the newest stays.
    pub keep: Duration,
}
