//! Pod addresses, Services and policies in the kernel.
//!
//! What enters: sandboxes to connect ([`BridgeNetwork`], asked by the engine)
//! and the cluster's Services with their endpoints ([`run`], told by informers)
//! and NetworkPolicies ([`Policies`], likewise).
//! What leaves: links, addresses, routes and packet rules. What to do is decided
//! in `decide/netplan`; nothing here answers to users.
//!
//! CNI plugins can connect sandboxes instead ([`CniNetwork`]); Services and policies are the same then.
//!
//! Each pod has its own link to the node and the node routes between them: pods
//! share no segment, so a pod can neither answer for another's address nor send
//! from it. The instance's bridge carries no pod; it is where the node's own
//! addresses live (the pods' gateway, the resolver) and where routes to Services
//! point. All rules are in one table for each address family. Pods of other nodes are reached by routes
//! ([`reach_hosts`]), through a tunnel where no link is shared.

mod bridge;
mod cleanup;
mod cni;
mod config;
mod elements;
mod encode;
mod health;
mod hosts;
mod metrics;
mod policies;
mod program;
mod reaper;
mod sandboxes;
mod services;
mod table;

pub use bridge::BridgeNetwork;
pub use cleanup::cleanup;
pub use cni::CniNetwork;
pub use config::{Config, ConnectedBy, instance_name};
pub use hosts::reach_hosts;
pub use metrics::Metrics;
pub use policies::Policies;
pub use services::run;

use plimsoll_kernel::pod_network::NetworkError;

/// Why the network could not be set up or went away.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("network configuration: {0}")]
    Config(String),
    /// The kernel or the disk refused.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The kernel refused, and kept refusing, the packet rules.
    #[error("packet rules: {0}")]
    Rules(#[source] std::io::Error),
}
