//! The mirrors of static pods in the API: each is made, replaced and removed with its pod.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use plimsoll_client::{Backoff, Informer};
use plimsoll_podlife::static_pod::{Step, full_name, is_mirror, mirror, plan};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

/// How long a mirror stays that somebody deletes. Clients begin to watch for its end after they have asked for it, and
/// would take the next mirror for the one they wait for.
const FAREWELL: Duration = Duration::from_secs(1);

/// Keeps the mirrors right until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, informer: Informer<Pod>, stop: CancellationToken) {
    let mut statics = agent.statics.clone();
    let mut deltas = informer.subscribe();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
    tokio::select! {
        () = stop.cancelled() => return,
        () = informer.synced() => {}
    }
    loop {
        let done = if statics.borrow().complete { round(&agent, &informer).await } else { Ok(()) };
        let retry = match done {
            Ok(()) => {
                backoff.reset();
                None
            }
            Err(error) => {
                tracing::warn!(%error, "mirrors of static pods are not right yet");
                Some(backoff.delay())
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = statics.changed() => {}
            Some(_) = deltas.recv() => while deltas.try_recv().is_ok() {},
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
        }
    }
}

/// Takes the steps that are due.
async fn round(agent: &Agent, informer: &Informer<Pod>) -> Result<(), kube::Error> {
    let statics = agent.statics.borrow().pods.clone();
    let in_api = informer.list();
    let relevant: Vec<_> =
        in_api.into_iter().filter(|pod| is_mirror(pod) || statics.contains_key(&full_name(pod))).collect();
    let mut node = None;
    for step in plan(&statics, &relevant) {
        match step {
            Step::Delete { name: (namespace, name), uid } => {
                let is_ending = |pod: &Arc<Pod>| {
                    pod.metadata.uid.as_deref() == Some(&uid) && pod.metadata.deletion_timestamp.is_some()
                };
                if relevant.iter().any(is_ending) {
                    tokio::time::sleep(FAREWELL).await;
                }
                let pods = Api::<Pod>::namespaced(agent.client.clone(), &namespace);
                let params = DeleteParams {
                    grace_period_seconds: Some(0),
                    preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                    ..DeleteParams::default()
                };
                fine(pods.delete(&name, &params).await.map(drop))?;
            }
            Step::Create(pod) => {
                let uid = match &node {
                    Some(uid) => uid,
                    None => node.insert(node_uid(agent).await?),
                };
                let shown = mirror(&pod, &agent.config.node_name, uid);
                let namespace = full_name(&pod).0;
                let pods = Api::<Pod>::namespaced(agent.client.clone(), &namespace);
                fine(pods.create(&PostParams::default(), &shown).await.map(drop))?;
            }
        }
    }
    Ok(())
}

async fn node_uid(agent: &Agent) -> Result<String, kube::Error> {
    let node = Api::<Node>::all(agent.client.clone()).get(&agent.config.node_name).await?;
    Ok(node.metadata.uid.unwrap_or_default())
}

/// Somebody else was quicker: the watch will tell.
fn fine(result: Result<(), kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        result => result,
    }
}
