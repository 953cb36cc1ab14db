//! The ingress of a node: requests from outside to pods.
//!
//! What enters: connections to the node's ports for HTTP and HTTPS, and the cluster's Ingresses, Services,
//! EndpointSlices and TLS Secrets and the kinds of the Gateway API by informers. What leaves: the same requests to pods,
//! their answers, and the status of Ingresses, Gateways and routes. Who goes where is decided in `decide/route`.
//!
//! A change of rules puts another table in the place of the old one, a change of endpoints another list into the
//! backend, a renewed certificate another key into the store: connections and requests under way see nothing of it.
//! Each worker is a thread with a runtime, listeners and connections to pods of its own, so that requests never wait
//! for another thread. Nothing listens before the first Ingress or Gateway is there.

mod alarms;
mod body;
mod certificates;
mod connection;
mod definitions;
mod follow;
mod forward;
mod gateways;
mod headers;
mod limiter;
mod links;
mod listen;
mod metrics;
mod mirror;
mod names;
mod page;
mod pool;
mod serve;
mod status;
mod streams;
#[cfg(test)]
mod tests;
mod told;
mod tunnel;
mod upstream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use plimsoll_client::Informers;
pub use plimsoll_route::gateway::DEFINITIONS;
use plimsoll_route::{Route, Table};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::links::Linker;
use crate::listen::{States, Wanted};
use crate::metrics::{Meter, Metrics, Place};

/// What the ingress of a node is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where plain requests arrive.
    pub http: SocketAddr,
    /// Where encrypted requests arrive.
    pub https: SocketAddr,
    /// This node's name: its addresses are those in the Ingresses' status.
    pub node_name: String,
    /// Proxies whose `X-Forwarded-For` headers and PROXY protocol are believed.
    pub trusted: Vec<IpNet>,
    /// Who knows the names that ExternalName Services stand for, if anybody.
    pub resolver: Option<SocketAddr>,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// What clients are answered that ask for too much: 503 is usual, 429 more exact.
    pub limit_status: u16,
    /// Where metrics are told by HTTP, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// How many threads serve.
    pub workers: usize,
    /// How long requests under way may take at the end.
    pub farewell: Duration,
}

/// Why the ingress cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no certificate for hosts without one.
    #[error("default certificate of the ingress: {0}")]
    Certificate(String),
    /// A worker does not start.
    #[error("start a worker of the ingress: {0}")]
    Worker(std::io::Error),
}

/// The table with everything linked.
pub(crate) type Routes = Table<Linker>;

/// A route with everything linked.
pub(crate) type Linked = Route<Linker>;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) routes: Arc<ArcSwap<Routes>>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) metrics: Arc<Metrics>,
    /// Counts what no rule fits.
    pub(crate) nobody: Meter,
    /// When time began for those who count.
    pub(crate) epoch: Instant,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let routes = Arc::new(ArcSwap::from_pointee(Routes::default()));
        let certificates = Arc::new(Certificates::new(routes.clone())?);
        let metrics = Arc::new(Metrics::new(&config.node_name));
        let nobody = Meter::new(metrics.clone(), Place::default());
        Ok(Self { config, routes, certificates, metrics, nobody, epoch: Instant::now() })
    }

    /// Whether Ingresses are served at a port, and not only listeners of Gateways.
    pub(crate) fn serves_ingresses(&self, port: u16) -> bool {
        [self.config.http.port(), self.config.https.port()].contains(&port)
    }

    /// Milliseconds since time began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Serves until `shutdown`.
pub async fn run(
    config: Config,
    client: kube::Client,
    informers: Informers,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let node = config.node_name.clone();
    let shared = Arc::new(Shared::new(config)?);
    let (ports, wanted) = watch::channel(Wanted::new());
    let (states, opened) = watch::channel(States::new());
    let (tell_of, told) = watch::channel(Vec::new());
    let (names, names_wanted) = watch::channel(names::Wanted::new());
    let (addresses, known) = watch::channel(names::Known::new());
    let resolver = shared.config.resolver;
    let follower = follow::Follower::new(shared.clone(), &informers, client.clone());
    tokio::select! {
        () = follower.follow(follow::Ends { ports, opened, told: tell_of, names, known }) => Ok(()),
        () = names::follow(resolver, names_wanted, addresses) => Ok(()),
        () = told::write(client.clone(), told) => Ok(()),
        () = status::follow(informers, client, &node) => Ok(()),
        () = tell(&shared) => Ok(()),
        ended = listen::serve(shared.clone(), wanted, states, shutdown) => ended,
    }
}

/// Tells metrics for ever.
async fn tell(shared: &Arc<Shared>) {
    if let Some(address) = shared.config.metrics {
        let metrics = shared.metrics.clone();
        let pages = move |path: &str, accept: &str| match path {
            "/metrics" => {
                let (media, text) = metrics.text(accept);
                Some((http::StatusCode::OK, media, text))
            }
            "/healthz" => Some((http::StatusCode::OK, plimsoll_metrics::TEXT, "ok".to_owned())),
            _ => None,
        };
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => plimsoll_metrics::serve(listener, pages).await,
            Err(error) => tracing::warn!(%address, %error, "metrics of the ingress are not told"),
        }
    }
    std::future::pending().await
}
