//! The mirrors of static pods in the API: each is made, replaced and removed with its pod.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use plimsoll_client::{Backoff, Informer};
use plimsoll_podlife::static_pod::{FullName, Step, full_name, is_mirror, mirror, plan};
use tokio::time::Instant;
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
    let mut mirrors = Mirrors { agent, leaving: HashMap::new() };
    tokio::select! {
        () = stop.cancelled() => return,
        () = informer.synced() => {}
    }
    loop {
        let done = if statics.borrow().complete { mirrors.round(&informer).await } else { Ok(()) };
        let retry = match done {
            Ok(()) => {
                backoff.reset();
                None
            }
            Err(error) => {
                tracing::warn!(%error, "mirrors of static pods are not right yet");
                Some(Instant::now() + backoff.delay())
            }
        };
        let next = retry.into_iter().chain(mirrors.leaving.values().copied()).min();
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = statics.changed() => {}
            Some(_) = deltas.recv() => while deltas.try_recv().is_ok() {},
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

/// The mirrors of the node's static pods.
struct Mirrors {
    agent: Arc<Agent>,
    /// Mirrors that somebody deletes, by UID, and when they go.
    leaving: HashMap<String, Instant>,
}

impl Mirrors {
    /// Takes the steps that are due. One that fails keeps no other from being taken.
    async fn round(&mut self, informer: &Informer<Pod>) -> Result<(), kube::Error> {
        let statics = self.agent.statics.borrow().pods.clone();
        let in_api = informer.list();
        let relevant: Vec<_> = in_api
            .into_iter()
            .filter(|pod| is_mirror(pod) || statics.contains_key(&full_name(pod)))
            .collect();
        let uids: HashSet<_> = relevant.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.leaving.retain(|uid, _| uids.contains(uid.as_str()));
        let mut outcome = Ok(());
        let mut node = None;
        for step in plan(&statics, &relevant) {
            let done = match step {
                Step::Delete { uid, .. } if self.stays(&relevant, &uid) => Ok(()),
                Step::Delete { name, uid } => self.delete(name, uid).await,
                Step::Create(pod) => self.create(&pod, &mut node).await,
            };
            outcome = outcome.and(done);
        }
        outcome
    }

    /// Whether a mirror that somebody deletes stays a moment longer.
    fn stays(&mut self, mirrors: &[Arc<Pod>], uid: &str) -> bool {
        let is_ending = |pod: &Arc<Pod>| {
            pod.metadata.uid.as_deref() == Some(uid) && pod.metadata.deletion_timestamp.is_some()
        };
        if !mirrors.iter().any(is_ending) {
            return false;
        }
        let now = Instant::now();
        *self.leaving.entry(uid.to_owned()).or_insert(now + FAREWELL) > now
    }

    async fn delete(&mut self, (namespace, name): FullName, uid: String) -> Result<(), kube::Error> {
        let pods = Api::<Pod>::namespaced(self.agent.client.clone(), &namespace);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        fine(pods.delete(&name, &params).await.map(drop))?;
        // The watch will tell that it is gone.
        self.leaving.remove(&uid);
        Ok(())
    }

    async fn create(&self, pod: &Pod, node: &mut Option<String>) -> Result<(), kube::Error> {
        if node.is_none() {
            *node = Some(node_uid(&self.agent).await?);
        }
        let uid = node.as_deref().unwrap_or_default();
        let shown = mirror(pod, &self.agent.config.node_name, uid);
        let pods = Api::<Pod>::namespaced(self.agent.client.clone(), &full_name(pod).0);
        fine(pods.create(&PostParams::default(), &shown).await.map(drop))
    }
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
