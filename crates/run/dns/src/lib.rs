//! The cluster's resolver on every node.
//!
//! What enters: DNS queries of pods, and by informers the cluster's Services, its
//! Corefile and this node's pods. What leaves: answers. Those to the cluster's own
//! names are made in `decide/netplan` from records in memory; any other name is
//! asked of the servers that the Corefile names, and remembered for a while. A
//! pod's search through its domains is answered with its first question. There is
//! no pod that can be missing or overloaded: each node answers its own pods.

mod cache;
mod clients;
mod configuration;
mod datagrams;
mod encrypted;
mod excerpts;
mod exchange;
mod follow;
mod health;
mod metrics;
mod rename;
mod resolver;
mod server;
mod upstream;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use plimsoll_client::Informers;
pub use plimsoll_netplan::dns::corefile::DEFAULT as DEFAULT_COREFILE;
use plimsoll_netplan::dns::corefile::Rules;
use plimsoll_netplan::dns::{Query, Records, Searching};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::resolver::Resolver;
use crate::upstream::Upstream;

/// How often the sizes of memories are counted for the metrics.
const COUNTING: Duration = Duration::from_secs(15);

/// What the resolver of a node is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to answer, by UDP and TCP: usually port 53 of the cluster's resolver address.
    pub listen: Vec<SocketAddr>,
    /// Where to answer too, unless somebody else does: usually the link-local address that every node has.
    pub listen_if_free: Vec<SocketAddr>,
    /// Where metrics, `/health` and `/ready` are told by HTTP: usually port 9153 of the same address. One
    /// that is taken is done without.
    pub metrics: Vec<SocketAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub zone: String,
    /// The addresses that pods know this resolver by.
    pub addresses: Vec<IpAddr>,
    /// The node, whose pods' searches are answered at once.
    pub node_name: String,
    /// Whose `nameserver` lines tell who knows other names, and whose `search` line pods inherit: usually
    /// `/etc/resolv.conf`. Changes of the file count at once.
    pub resolv_conf: PathBuf,
    /// Whose copies of Services and EndpointSlices answers are made from.
    pub copies: Copies,
}

/// Whose copies of the cluster's objects answers are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Those that other loops of the process hold anyway: one watch for all.
    Shared,
    /// The resolver's own, which are no more than answers need, in a process that has no others.
    Own,
}

/// Why the resolver cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("listen for DNS on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// There can be no more threads.
    #[error("threads that answer DNS: {0}")]
    Threads(#[source] std::io::Error),
}

/// What all parts share.
pub(crate) struct Shared {
    pub(crate) records: RwLock<Records>,
    /// Whether the records are those of the cluster. Until then nothing can be denied.
    pub(crate) synced: AtomicBool,
    /// How this node's pods search, by address.
    pub(crate) clients: RwLock<HashMap<IpAddr, Arc<Searching>>>,
    pub(crate) live: ArcSwap<Live>,
    pub(crate) metrics: Arc<Metrics>,
    resolv_conf: PathBuf,
    own: Vec<SocketAddr>,
}

/// A configuration with what was learned under it.
pub(crate) struct Live {
    pub(crate) rules: Rules,
    pub(crate) upstream: Upstream,
}

impl Shared {
    fn new(config: &Config) -> Self {
        let metrics = Arc::new(Metrics::new());
        let resolv_conf = config.resolv_conf.clone();
        let own = [&*config.listen, &*config.listen_if_free].concat();
        let upstream = Upstream::new(resolv_conf.clone(), &own, metrics.clone());
        Self {
            records: RwLock::new(Records::new(&config.zone, config.addresses.clone())),
            synced: AtomicBool::new(false),
            clients: RwLock::default(),
            live: ArcSwap::from_pointee(Live { rules: configuration::default_rules(), upstream }),
            metrics,
            resolv_conf,
            own,
        }
    }

    pub(crate) fn new_upstream(&self) -> Upstream {
        Upstream::new(self.resolv_conf.clone(), &self.own, self.metrics.clone())
    }

    /// Whether the configuration wants queries such as this logged.
    pub(crate) fn logs(&self, query: &Query<'_>) -> bool {
        let name = query.name.text().unwrap_or_default();
        self.live.load().rules.block(name).is_some_and(|block| block.log)
    }
}

/// Answers queries until `shutdown`.
///
/// # Errors
/// When an address to answer on cannot be had.
pub async fn run(config: Config, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
    let shared = Arc::new(Shared::new(&config));
    let servers = server::bind(&config, Arc::new(Resolver::new(shared.clone()))).await?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow::follow(informers.clone(), config.copies, &shared) => {}
        () = configuration::follow(informers.clone(), &shared) => {}
        () = clients::follow(informers, &config, &shared) => {}
        () = tell(&config.metrics, &shared) => {}
        served = servers.serve() => served?,
    }
    Ok(())
}

/// Tells metrics for ever.
async fn tell(addresses: &[SocketAddr], shared: &Arc<Shared>) {
    let serve = async |address: SocketAddr| {
        let shared = shared.clone();
        let pages = move |path: &str, accept: &str| {
            metrics::page(&shared.metrics, shared.synced.load(Ordering::Acquire), path, accept)
        };
        match TcpListener::bind(address).await {
            Ok(listener) => plimsoll_metrics::serve(listener, pages).await,
            Err(error) => tracing::warn!(%address, %error, "metrics of the resolver are not told"),
        }
    };
    let count = async {
        loop {
            let (success, denial) = shared.live.load().upstream.cached();
            shared.metrics.entries(success, denial);
            tokio::time::sleep(COUNTING).await;
        }
    };
    futures::join!(futures::future::join_all(addresses.iter().map(|address| serve(*address))), count);
}
