//! The running server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};
use plimsoll_pki::PkiError;
use plimsoll_remote::Identity;
use plimsoll_store::{Cluster, Options, Store, StoreError, Transform};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::util::BoxCloneService;

use crate::address::Addresses;
use crate::admit::Admission;
use crate::admit::hooks::Hooks;
use crate::admit::policies::Policies;
use crate::admit::type_checking;
use crate::aggregate::{self, Aggregator, availability};
use crate::audit::Auditor;
use crate::authenticators::Authenticators;
use crate::authorize::Rbac;
use crate::authorizers::Authorizers;
use crate::body::{RequestBody, ResponseBody};
use crate::config::{Config, Datastore};
use crate::custom::{Customs, lifecycle};
use crate::discovery::Discovered;
use crate::encryption::Encryption;
use crate::features::Features;
use crate::flow::{self, Flow};
use crate::impersonate::Impersonation;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::openapi::Documents;
use crate::pages::Start;
use crate::peer::{Peer, Verifiers};
use crate::rest::Rests;
use crate::tunnel::Wires;
use crate::usage::Sampler;
use crate::user::User;
use crate::{bootstrap, claims, encode, listen, quota, reload, room, snapshots, stages, usage};

/// What all requests share.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) customs: Customs,
    pub(crate) authenticators: Authenticators,
    pub(crate) authorizers: Authorizers,
    pub(crate) verifiers: Arc<Verifiers>,
    /// Where pods reach this server.
    pub(crate) advertise: std::net::SocketAddr,
    pub(crate) rbac: Rbac,
    pub(crate) impersonation: Impersonation,
    pub(crate) encryption: Option<Arc<Encryption>>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) addresses: Addresses,
    pub(crate) rests: Rests,
    pub(crate) agents: Wires,
    /// To what runs in pods, which shows certificates that nobody here knows.
    pub(crate) pods: Wires,
    pub(crate) admission: Admission,
    pub(crate) features: Features,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) usage: Sampler,
    pub(crate) overdue: quota::Overdue,
    /// None: nothing is recorded.
    pub(crate) audit: Option<Arc<Auditor>>,
    pub(crate) documents: Arc<Documents>,
    pub(crate) discovered: Discovered,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) flow: Arc<Flow>,
    /// The end begins: nobody should come any more.
    pub(crate) leaving: CancellationToken,
    /// What runs long ends now, and nobody can come any more.
    pub(crate) shutdown: CancellationToken,
    pub(crate) start: Start,
    pub(crate) connections: TaskTracker,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A key or certificate is unusable.
    #[error("{0}")]
    Pki(#[from] PkiError),
    /// A PEM file cannot be read.
    #[error("{path}: {cause}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A file of the configuration is unusable.
    #[error("{path}: {cause}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A choice of admission plugins means nothing.
    #[error("{0}")]
    Plugins(#[from] plimsoll_admission::plugins::PluginError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The objects that every cluster has could not be made.
    #[error("first objects: {0}")]
    Bootstrap(#[from] plimsoll_meta::status::Status),
}

impl StartError {
    pub(crate) fn configuration(path: &Path, cause: impl fmt::Display) -> Self {
        Self::Configuration { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// A started server. Dropping it does not stop it: cancel the token it was started with.
#[derive(Clone, Debug)]
pub struct Server {
    api: Arc<Api>,
}

impl Server {
    /// Opens the store, makes what every cluster has and serves until `shutdown`.
    pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Self, StartError> {
        let leaving = shutdown;
        let shutdown = later(&leaving, config.limits.shutdown_delay);
        let encryption = config.safeguards.encryption.as_ref().map(Encryption::load).transpose()?;
        let transform = encryption.clone().map(|encryption| encryption as Arc<dyn Transform>);
        let options = Options {
            compaction_interval: config.compaction_interval,
            quota: config.quota,
            transform,
            ..Options::default()
        };
        let store = match &config.datastore {
            None => Store::open(&config.store, options)?,
            Some(Datastore { endpoints, authority, identity }) => {
                let (endpoints, authority, identity) =
                    (endpoints.clone(), authority.clone(), identity.clone());
                let cluster = Cluster { endpoints, authority, identity, place: encode::place };
                Store::connect(&cluster, options).await?
            }
        };
        if let Some(encryption) = encryption.clone() {
            encryption.follow(shutdown.clone())?;
        }
        let credentials = &config.credentials;
        if let Some(snapshots) = config.snapshots.clone() {
            let pem = |cause: std::io::Error| StartError::Pem {
                path: credentials.client_ca.clone(),
                cause: cause.to_string(),
            };
            let cluster = plimsoll_store::cluster_of(&std::fs::read(&credentials.client_ca).map_err(pem)?);
            tokio::spawn(snapshots::run(store.clone(), snapshots, cluster, shutdown.clone()));
        }
        let proxies = config.authentication.front_proxy.as_ref().map(|proxies| proxies.authority.as_path());
        let verifiers = Arc::new(Verifiers::read(&credentials.client_ca, proxies)?);
        let server_tls =
            listen::tls(&credentials.certificate, &credentials.key, Arc::clone(&verifiers) as Arc<_>)?;
        let rbac = Rbac::follow(&store);
        let admission = Admission::load(&config.safeguards.admission)?;
        let metrics = Arc::new(Metrics::new());
        let api = Api {
            authenticators: Authenticators::read(&config.authentication, credentials).await?,
            authorizers: Authorizers::read(&config.authorization, &store, &rbac, &metrics).await?,
            verifiers,
            advertise: config.advertise,
            rbac,
            impersonation: Impersonation::default(),
            hooks: Hooks::follow(&store, &admission.plugins),
            policies: Policies::follow(&store, &admission.plugins),
            addresses: Addresses::read(&store, &config.service_cidrs, config.node_ports.clone()),
            rests: Rests::default(),
            agents: Wires(Arc::new(agent_tls(credentials)?)),
            pods: Wires::to_anybody(),
            admission,
            features: config.features,
            encryption,
            audit: Auditor::start(&config.safeguards.audit, &metrics.audit, &shutdown)?,
            customs: Customs::follow(&store),
            usage: Sampler::default(),
            overdue: quota::Overdue::default(),
            documents: Arc::default(),
            discovered: Discovered::default(),
            limits: config.limits,
            flow: Flow::follow(&store, config.limits, &metrics.flow),
            metrics,
            leaving,
            shutdown: shutdown.clone(),
            start: Start::now(),
            connections: TaskTracker::new(),
            aggregator: Aggregator::follow(&store, identity(credentials)?),
            store,
        };
        let server = Self { api: Arc::new(api) };
        bootstrap::ensure(&server.api, &config).await?;
        reload::follow(&server.api, &config, &shutdown)?;
        lifecycle::start(&server.api, shutdown.clone());
        type_checking::start(&server.api, shutdown.clone());
        tokio::spawn(availability::run(Arc::clone(&server.api), shutdown.clone()));
        tokio::spawn(aggregate::openapi::run(Arc::clone(&server.api), shutdown.clone()));
        tokio::spawn(flow::keep::run(Arc::clone(&server.api), shutdown.clone()));
        tokio::spawn(usage::sampler::run(Arc::clone(&server.api), shutdown.clone()));
        tokio::spawn(room::run(Arc::clone(&server.api), shutdown.clone()));
        tokio::spawn(quota::run(Arc::clone(&server.api), config.datastore.is_some(), shutdown.clone()));
        let range = claims::default_range(&config);
        tokio::spawn(claims::run(Arc::clone(&server.api), range, shutdown.clone()));
        for address in &config.listen {
            listen::serve(Arc::clone(&server.api), *address, Arc::clone(&server_tls), shutdown.clone())
                .await?;
        }
        Ok(server)
    }

    /// Tells the names and values of the program's flags, for `/flagz`.
    pub fn describe(&self, flags: Vec<(String, String)>) {
        self.api.start.with(flags);
    }

    /// The store, for those who serve it to clients of etcd.
    #[must_use]
    pub fn store(&self) -> Store {
        self.api.store.clone()
    }

    /// Tells the metrics of other parts of this process, too.
    pub fn tell(&self, others: Vec<Arc<dyn plimsoll_metrics::Tells>>) {
        self.api.metrics.with(others);
    }

    /// Returns when, after shutdown, everything that was asked is answered.
    pub async fn drained(&self) {
        self.api.shutdown.cancelled().await;
        self.api.connections.close();
        self.api.connections.wait().await;
    }

    /// The server as a service for a part of this process, which asks as `user` and is known as
    /// `agent` where a client tells its program (field managers).
    pub fn service(
        &self,
        user: User,
        agent: &'static str,
    ) -> BoxCloneService<Request<kube::client::Body>, Response<ResponseBody>, std::convert::Infallible> {
        let api = Arc::clone(&self.api);
        let peer = Peer::Inside(user);
        BoxCloneService::new(tower::service_fn(move |request: Request<kube::client::Body>| {
            let (api, peer) = (Arc::clone(&api), peer.clone());
            async move {
                let mut request: Request<RequestBody> = request.map(|body| {
                    use http_body_util::BodyExt;
                    body.map_err(|error| crate::body::Error::new(&error)).boxed_unsync()
                });
                request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(agent));
                Ok(stages::serve(&api, &peer, request).await)
            }
        }))
    }
}

/// A token that is cancelled some time after another one.
fn later(first: &CancellationToken, delay: Duration) -> CancellationToken {
    if delay.is_zero() {
        return first.clone();
    }
    let (first, second) = (first.clone(), CancellationToken::new());
    let cancelled = second.clone();
    tokio::spawn(async move {
        first.cancelled().await;
        tokio::time::sleep(delay).await;
        cancelled.cancel();
    });
    second
}

/// What proves to extension servers that requests come from here.
fn identity(credentials: &crate::config::Credentials) -> Result<Identity, StartError> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map_err(|error| StartError::Pem { path: path.to_owned(), cause: error.to_string() })
    };
    Ok(Identity {
        certificate: read(&credentials.front_proxy_certificate)?,
        key: read(&credentials.front_proxy_key)?,
    })
}

/// Reads a certificate chain.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let failed =
        |error: &dyn fmt::Display| StartError::Pem { path: path.to_owned(), cause: error.to_string() };
    CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| failed(&error))
}

/// Reads a private key.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, StartError> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|error| StartError::Pem { path: path.to_owned(), cause: error.to_string() })
}

/// The authority's certificates as roots of trust.
pub(crate) fn roots(path: &Path) -> Result<rustls::RootCertStore, StartError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| StartError::Pem { path: path.to_owned(), cause: error.to_string() })?;
    }
    Ok(roots)
}

fn agent_tls(credentials: &crate::config::Credentials) -> Result<rustls::ClientConfig, StartError> {
    let failed = |error: rustls::Error| StartError::Pem {
        path: credentials.kubelet_certificate.clone(),
        cause: error.to_string(),
    };
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(roots(&credentials.client_ca)?)
        .with_client_auth_cert(
            certificates(&credentials.kubelet_certificate)?,
            private_key(&credentials.kubelet_key)?,
        )
        .map_err(failed)
}
