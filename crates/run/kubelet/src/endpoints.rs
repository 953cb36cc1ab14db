//! Waiting until nobody sends a pod new connections any more.
//!
//! The data planes of this node say how far they are. Those of other nodes are asked through their agents, which
//! answer once theirs have dropped the pod.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::{Informer, Informers};
use plimsoll_podlife::traffic::{patience, receivers};
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::peers::Peers;

const RECEIVERS: &str = "receiving-pod";
/// What is under way when everybody has dropped a pod gets so much time to be served.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// Nodes that do not say so, since they cannot be asked, get so much time to drop it: a busy one takes some tenths of
/// a second.
const UNHEARD: Duration = Duration::from_millis(500);

/// Who is sent connections, as the cluster's slices have it.
pub(crate) struct Endpoints {
    /// None when stop signals wait for nothing.
    slices: Option<Informer<EndpointSlice>>,
    /// None where other nodes are not asked.
    peers: Option<Peers>,
    most: Duration,
}

/// It takes too long.
pub(crate) enum Late {
    /// Slices have the pod still.
    Known,
    /// Data planes may send to it still.
    Used,
}

impl Endpoints {
    pub(crate) fn new(informers: &Informers, config: &Config) -> Self {
        let most = config.endpoint_drain;
        let slices = (!most.is_zero()).then(|| informers.informer::<EndpointSlice>());
        if let Some(slices) = &slices {
            slices.add_index(RECEIVERS, receivers);
        }
        let identity = config.peers.clone().filter(|_| slices.is_some());
        let peers = identity.map(|identity| Peers::new(informers, &config.node_name, identity));
        Self { slices, peers, most }
    }

    /// Returns when the data planes have dropped the pod, or its patience is over. Costs nothing where no
    /// Service sends to the pod.
    pub(crate) async fn dropped(&self, uid: &str, grace: i64) {
        let Some(slices) = &self.slices else { return };
        let patience = patience(grace, self.most);
        if patience.is_zero() || slices.indexed(RECEIVERS, uid).is_empty() {
            return;
        }
        let end = Instant::now() + patience;
        let asked = self.peers.as_ref().map(|peers| peers.ask(uid, end)).unwrap_or_default();
        let (own, others) = tokio::join!(left(slices, uid, end), join_all(asked));
        match own {
            Ok(()) => {}
            Err(Late::Known) => {
                tracing::warn!(pod = uid, "stopped although Services still send to it");
                return;
            }
            Err(Late::Used) => tracing::warn!(pod = uid, "stopped although data planes may still send to it"),
        }
        let heard = others.iter().all(Result::is_ok);
        for error in others.into_iter().filter_map(Result::err) {
            tracing::debug!(pod = uid, error, "a node does not say that it has dropped a pod");
        }
        let rest = if heard { UNDER_WAY } else { UNHEARD };
        tokio::time::sleep_until((Instant::now() + rest).min(end)).await;
    }

    /// For another node's agent: the same of this node's data planes alone; none where nobody follows.
    pub(crate) async fn left(&self, uid: &str) -> Option<Result<(), Late>> {
        let slices = self.slices.as_ref()?;
        Some(left(slices, uid, Instant::now() + self.most).await)
    }
}

/// Returns when no slice sends to the pod, and this node's data planes have carried that out.
async fn left(slices: &Informer<EndpointSlice>, uid: &str, end: Instant) -> Result<(), Late> {
    let mut changes = slices.subscribe();
    while !slices.indexed(RECEIVERS, uid).is_empty() {
        match timeout_at(end, changes.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return Err(Late::Known),
        }
    }
    timeout_at(end, slices.carried_out()).await.map_err(|_| Late::Used)
}
