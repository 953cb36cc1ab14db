//! The cluster's resolver on every node.
//!
//! What enters: DNS queries of pods, and the cluster's Services by informers.
//! What leaves: answers. Those to the cluster's own names are made in
//! `decide/netplan` from records in memory; any other name is asked of the
//! host's resolvers, and remembered for a while. There is no pod that can be
//! missing or overloaded: each node answers its own pods.

mod cache;
mod follow;
mod resolver;
mod server;
mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use plimsoll_client::Informers;
use plimsoll_netplan::dns::Records;
use tokio_util::sync::CancellationToken;

use crate::resolver::Resolver;
use crate::upstream::Upstream;

/// What the resolver of a node is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to answer, by UDP and TCP: usually port 53 of the cluster's resolver address.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub zone: String,
    /// The addresses that pods know this resolver by.
    pub addresses: Vec<IpAddr>,
    /// Whose `nameserver` lines tell who knows other names: usually `/etc/resolv.conf`. Changes of the
    /// file count at once.
    pub resolv_conf: PathBuf,
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
}

/// What all parts share.
pub(crate) struct Shared {
    pub(crate) records: RwLock<Records>,
    /// Whether the records are those of the cluster. Until then nothing can be denied.
    pub(crate) synced: AtomicBool,
}

/// Answers queries until `shutdown`.
pub async fn run(config: Config, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
    let shared = Arc::new(Shared {
        records: RwLock::new(Records::new(&config.zone, config.addresses.clone())),
        synced: AtomicBool::new(false),
    });
    let upstream = Upstream::new(config.resolv_conf, &config.listen);
    let resolver = Arc::new(Resolver::new(shared.clone(), upstream));
    let servers = server::bind(&config.listen, resolver).await?;
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow::follow(informers, &shared) => {}
        () = servers.serve() => {}
    }
    Ok(())
}
