//! Waiting until nobody sends a pod new connections any more.

use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::{Informer, Informers};
use plimsoll_podlife::traffic::{patience, receivers};
use tokio::time::Instant;

const RECEIVERS: &str = "receiving-pod";
/// What is under way then gets so much time to be served, and other nodes so much to drop the pod, too: they tell nobody
/// when they have, and a busy one takes some tenths of a second.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// Who is sent connections, as the cluster's slices have it.
pub(crate) struct Endpoints {
    /// None when stop signals wait for nothing.
    slices: Option<Informer<EndpointSlice>>,
    most: Duration,
}

impl Endpoints {
    /// `most` is the longest wait; with none nothing is watched.
    pub(crate) fn new(informers: &Informers, most: Duration) -> Self {
        let slices = (!most.is_zero()).then(|| informers.informer::<EndpointSlice>());
        if let Some(slices) = &slices {
            slices.add_index(RECEIVERS, receivers);
        }
        Self { slices, most }
    }

    /// Returns when the data planes have dropped the pod, or its patience is over. Costs nothing where no
    /// Service sends to the pod.
    pub(crate) async fn dropped(&self, uid: &str, grace: i64) {
        let Some(slices) = &self.slices else { return };
        let receives = || !slices.indexed(RECEIVERS, uid).is_empty();
        let patience = patience(grace, self.most);
        if patience.is_zero() || !receives() {
            return;
        }
        let end = Instant::now() + patience;
        let mut changes = slices.subscribe();
        while receives() {
            match tokio::time::timeout_at(end, changes.recv()).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!(pod = uid, "stopped although Services still send to it");
                    return;
                }
            }
        }
        if tokio::time::timeout_at(end, slices.carried_out()).await.is_err() {
            tracing::warn!(pod = uid, "stopped although data planes may still send to it");
        }
        tokio::time::sleep_until((Instant::now() + UNDER_WAY).min(end)).await;
    }
}
