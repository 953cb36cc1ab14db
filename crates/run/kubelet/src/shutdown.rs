//! The node goes down: pods end in the order of their priorities, then the agent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_podlife::shutdown::{Group, groups, verdict};
use plimsoll_podlife::spec::is_over;
use plimsoll_podlife::static_pod::{full_name, is_mirror};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::pressure::Order;

/// Waits for the word that the node goes down, ends its pods and then the agent.
pub(crate) async fn run(
    agent: Arc<Agent>,
    informer: Informer<Pod>,
    orders: mpsc::UnboundedSender<Order>,
    stop: CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = agent.config.leaving.cancelled() => {}
    }
    let mut pods = informer.list();
    pods.retain(|pod| !is_mirror(pod) && !is_over(pod));
    pods.extend(agent.statics.borrow().pods.values().cloned());
    for group in groups(&agent.config.shutdown_periods, &pods) {
        tracing::info!(
            pods = group.pods.len(),
            seconds = group.seconds,
            "pods end because the node goes down"
        );
        for pod in &group.pods {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            // Nobody takes orders when the agent ends meanwhile.
            let _ = orders.send(Order { uid, verdict: verdict(pod, group.seconds) });
        }
        let limit = Duration::from_secs(group.seconds.unsigned_abs());
        if tokio::time::timeout(limit, over(&informer, &group)).await.is_err() {
            tracing::warn!(seconds = group.seconds, "some pods did not end in time");
        }
    }
    stop.cancel();
}

/// Ends when the API knows that the pods of a group have ended.
async fn over(informer: &Informer<Pod>, group: &Group) {
    let mut deltas = informer.subscribe();
    let names: HashSet<_> = group.pods.iter().map(|pod| full_name(pod)).collect();
    loop {
        let lives =
            |name: &(String, String)| informer.get(&name.0, &name.1).is_some_and(|pod| !is_over(&pod));
        if !names.iter().any(lives) {
            return;
        }
        if deltas.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}
