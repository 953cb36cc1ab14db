//! Nodes without machines, for any API server.
//!
//! What enters are nodes and pods through shared informers; what leaves are Node objects, their Leases and statuses
//! ([`Simulation::register`], [`heartbeat`]), and the statuses and ends of the pods that are bound to them ([`pods`]).
//! One loop does it for all pods: nothing runs, and nothing here decides what is told
//! (`plimsoll_podlife::simulated` does).

mod api;
mod heartbeat;
mod nodes;
mod pods;

use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Informers;
use plimsoll_podlife::simulated::Manner;
use plimsoll_podlife::simulated::node::Fleet;
use tokio_util::sync::CancellationToken;

use api::Api;
use nodes::Nodes;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The nodes.
    pub fleet: Fleet,
    /// How they and their pods behave.
    pub manner: Manner,
    /// For how long a sign of life counts; there is one four times as often.
    pub lease: Duration,
    /// The version that the nodes say they are.
    pub version: &'static str,
}

/// Nodes that are registered.
pub struct Simulation {
    config: Arc<Config>,
    api: Api,
    informers: Informers,
}

impl Simulation {
    /// Registers all nodes, or takes over those that are there.
    pub async fn register(config: Config, informers: Informers, client: kube::Client) -> Self {
        let simulation = Self { config: Arc::new(config), api: Api::new(client), informers };
        nodes::register(&simulation.config, &simulation.api).await;
        simulation
    }

    /// Keeps the nodes alive and lets their pods live, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let nodes = Arc::new(Nodes::new(self.config.clone(), &self.informers));
        let beats = heartbeat::run(nodes.clone(), self.api.clone());
        let lives = pods::run(nodes, self.informers, self.api);
        tokio::select! {
            () = shutdown.cancelled() => {}
            ((), ()) = async { tokio::join!(beats, lives) } => {}
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
