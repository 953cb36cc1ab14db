//! What a container engine has, and what it tells of changes.
//!
//! What enters are the engine's events, or its lists where it has none; what leaves is news for the pods' tasks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Backoff;
use plimsoll_cri::v1;
use tokio::sync::mpsc;

use crate::agent::Agent;

/// How often an engine is looked at that does not tell what happens.
const LOOK: Duration = Duration::from_secs(1);

/// What the engine has of all pods, by pod UID.
#[derive(Default)]
pub(crate) struct Listing {
    pub(crate) pods: HashMap<String, Listed>,
}

/// What the engine has of one pod.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) sandboxes: HashMap<String, bool>,
    pub(crate) containers: HashMap<String, bool>,
}

/// News from the engine.
pub(crate) enum Event {
    Told(Box<v1::ContainerEventResponse>),
    /// Everything that an engine has which tells nothing.
    Found(Arc<Listing>),
    /// A container ended, by what was found.
    Ended(String),
    /// The stream was broken: something may have been missed.
    Resumed,
}

/// Follows the engine's events for ever.
pub(crate) async fn listen(agent: Arc<Agent>, sender: mpsc::UnboundedSender<Event>) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    loop {
        match agent.engine.runtime().get_container_events(v1::GetEventsRequest {}).await {
            Ok(stream) => {
                backoff.reset();
                let mut stream = stream.into_inner();
                if sender.send(Event::Resumed).is_err() {
                    return;
                }
                while let Ok(Some(event)) = stream.message().await {
                    if sender.send(Event::Told(Box::new(event))).is_err() {
                        return;
                    }
                }
            }
            Err(error) if error.code() == tonic::Code::Unimplemented => return look(&agent, &sender).await,
            Err(error) => tracing::debug!(%error, "the engine does not tell what happens"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Looks at an engine that does not tell what happens (containerd before 1.7) once in a while.
async fn look(agent: &Agent, sender: &mpsc::UnboundedSender<Event>) {
    let mut ends = Ends::default();
    loop {
        if let Ok(listing) = try_list(agent).await {
            let ended = ends.take(&listing);
            let mut news = ended.into_iter().map(Event::Ended).chain([Event::Found(Arc::new(listing))]);
            if news.any(|event| sender.send(event).is_err()) {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Which containers have ended, by what an engine had at several looks.
#[derive(Default)]
struct Ends {
    running: HashSet<String>,
    idle: HashSet<String>,
    told: HashSet<String>,
}

impl Ends {
    /// What ran at the last look and does not now. What never was seen running and rests for two looks has run in
    /// between: what is only made is started sooner.
    fn take(&mut self, listing: &Listing) -> Vec<String> {
        let containers = listing.pods.values().flat_map(|listed| &listed.containers);
        let (running, idle): (Vec<_>, Vec<_>) = containers.partition(|(_, runs)| **runs);
        let ids = |list: Vec<(&String, &bool)>| list.into_iter().map(|(id, _)| id.clone()).collect();
        let (running, idle): (HashSet<String>, HashSet<String>) = (ids(running), ids(idle));
        let rests = idle.intersection(&self.idle).cloned();
        let mut ended: Vec<String> = self.running.difference(&running).cloned().chain(rests).collect();
        ended.retain(|id| !self.told.contains(id));
        self.told.retain(|id| idle.contains(id));
        self.told.extend(ended.iter().cloned());
        (self.running, self.idle) = (running, idle);
        ended
    }
}

/// Everything the engine has, asked until it answers.
pub(crate) async fn list(agent: &Agent) -> Listing {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    loop {
        match try_list(agent).await {
            Ok(listing) => return listing,
            Err(error) => {
                tracing::debug!(%error, "the engine does not tell what it has");
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }
}

/// Everything the engine has.
///
/// # Errors
/// When it does not tell.
pub(crate) async fn try_list(agent: &Agent) -> Result<Listing, tonic::Status> {
    let mut listing = Listing::default();
    let uid = |labels: &HashMap<String, String>| labels.get(plimsoll_cri::POD_UID).cloned();
    for sandbox in agent.engine.sandboxes(None).await? {
        let Some(uid) = uid(&sandbox.labels) else { continue };
        let ready = sandbox.state == v1::PodSandboxState::SandboxReady as i32;
        listing.pods.entry(uid).or_default().sandboxes.insert(sandbox.id, ready);
    }
    for container in agent.engine.containers(None).await? {
        let Some(uid) = uid(&container.labels) else { continue };
        let running = container.state == v1::ContainerState::ContainerRunning as i32;
        listing.pods.entry(uid).or_default().containers.insert(container.id, running);
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(containers: &[(&str, bool)]) -> Listing {
        let containers = containers.iter().map(|(id, runs)| ((*id).to_owned(), *runs)).collect();
        let listed = Listed { containers, ..Listed::default() };
        Listing { pods: HashMap::from([("u".to_owned(), listed)]) }
    }

    #[test]
    fn ends_are_found_once() {
        let mut ends = Ends::default();
        let mut look = |containers: &[(&str, bool)], expected: &[&str]| {
            let mut found = ends.take(&listing(containers));
            found.sort();
            assert_eq!(found, expected, "{containers:?}");
        };
        look(&[("a", true), ("made", false)], &[]);
        look(&[("a", true), ("made", true), ("quick", false)], &[]);
        look(&[("a", false), ("made", true), ("quick", false)], &["a", "quick"]);
        look(&[("a", false), ("made", true), ("quick", false)], &[]);
        look(&[("made", true)], &[]);
        look(&[], &["made"]);
    }
}
