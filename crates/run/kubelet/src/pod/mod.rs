//! One pod's task: it carries what happens to podlife and what podlife wants to the engine.
//!
//! A node has hundreds of them, and most rest: what a task holds then is counted in bytes. Its channels make room for
//! messages as they come, and what happens seldom is boxed.

mod probing;
mod work;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Backoff;
use plimsoll_podlife::observed::{Container, Sandbox};
use plimsoll_podlife::probe::ProbeKind;
use plimsoll_podlife::projection::projection;
use plimsoll_podlife::resize::Pending;
use plimsoll_podlife::{Input, Life, Verdict};
use tokio::sync::{Mutex, Notify};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::listing::{Listed, Listing};
use crate::metrics::Starting;
use crate::pod_certificate::Certificates;
use crate::references::Watches;
use crate::token::Tokens;
use crate::volume;
use writer::Writer;

/// What a pod's task is told from outside.
pub(crate) enum Message {
    /// The API has this version now.
    Desired(Arc<Pod>),
    /// The API has it no more; this was its last version.
    Gone(Arc<Pod>),
    /// What shows a static pod in the API now.
    Mirror(Option<Arc<Pod>>),
    /// The engine told of some of what it has.
    Seen(Vec<Sandbox>, Vec<Container>),
    /// The engine removed a container.
    Removed(String),
    /// It was not given what it asks for, or that is over.
    Pending(Option<Pending>),
    /// The node ends it.
    Evict(Verdict),
    /// Everything the engine has, by id, and whether it is ready or running.
    Check(Arc<Listing>),
}

/// What ended beside the pod's task.
enum Done {
    Inputs(Vec<Input>),
    /// With the status that was sent.
    Patched(Result<Box<Pod>, kube::Error>, Box<str>),
    Deleted(Result<(), kube::Error>),
    Refreshed(Result<(), String>),
}

struct Task {
    agent: Arc<Agent>,
    life: Life,
    inbox: UnboundedReceiver<Message>,
    work: JoinSet<Done>,
    probes: HashMap<(String, ProbeKind), AbortHandle>,
    probing: JoinSet<()>,
    results: (UnboundedSender<Input>, UnboundedReceiver<Input>),
    /// Something changed that volumes and environments are made from.
    changes: Arc<Notify>,
    watches: Arc<Watches>,
    tokens: Arc<Mutex<Tokens>>,
    certificates: Arc<Mutex<Certificates>>,
    mounting: Arc<Mutex<()>>,
    admitting: Arc<Mutex<()>>,
    /// Drivers of claimed devices as they come.
    drivers: tokio::sync::watch::Receiver<u64>,
    health: tokio::sync::watch::Receiver<u64>,
    /// When tokens or certificates are to be renewed.
    renewal: Option<Timestamp>,
    refreshing: bool,
    stale: bool,
    /// Something happened that probes and status may have to follow.
    unsettled: bool,
    writer: Writer,
    /// Changes of devices.
    devices: tokio::sync::watch::Receiver<u64>,
    /// The times of its start, until it runs.
    starting: Option<Starting>,
}

/// Lives a pod until it is gone. `seen` says that the engine may have something of it already.
pub(crate) async fn live(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    seen: bool,
    refused: Option<Verdict>,
    inbox: UnboundedReceiver<Message>,
) {
    let mut task = Task::new(agent, pod, seen, inbox);
    if let Some(verdict) = refused {
        // Before anything is begun.
        task.take(Input::Refuse(verdict));
    }
    let input = if seen { Box::pin(task.look()).await } else { listed(Vec::new(), Vec::new()) };
    task.take(input);
    task.run().await;
}

impl Task {
    fn new(agent: Arc<Agent>, pod: Arc<Pod>, seen: bool, inbox: UnboundedReceiver<Message>) -> Box<Self> {
        let changes = Arc::new(Notify::new());
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Box::new(Self {
            devices: agent.devices.subscribe(),
            drivers: agent.claims.subscribe(),
            health: agent.claims.subscribe_to_health(),
            starting: (!seen && !has_run(&pod)).then(|| Starting::new(created)),
            watches: Arc::new(Watches::new(&agent.informers, &pod, &changes)),
            writer: Writer::new(&pod),
            life: Life::new(pod, agent.node.clone(), Timestamp::now()),
            agent,
            inbox,
            work: JoinSet::new(),
            probes: HashMap::new(),
            probing: JoinSet::new(),
            results: unbounded(),
            changes,
            tokens: Arc::default(),
            certificates: Arc::default(),
            mounting: Arc::default(),
            admitting: Arc::default(),
            renewal: None,
            refreshing: false,
            stale: false,
            unsettled: true,
        })
    }

    async fn run(&mut self) {
        loop {
            if std::mem::take(&mut self.unsettled) {
                self.settle();
            }
            if self.life.finished() && self.life.gone() {
                self.forget_probes();
                return;
            }
            let wake = [self.life.wake(), self.renewal].into_iter().flatten().min();
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Ok(message) => self.hear(message).await,
                    // The agent ends; containers go on.
                    Err(_) => return,
                },
                Some(done) = self.work.join_next() => self.done(done.expect("work is not aborted and does not panic")),
                Ok(input) = self.results.1.recv() => self.take(input),
                () = self.changes.notified() => self.references_changed(),
                Ok(()) = self.devices.changed(), if self.agent.devices.concerns(self.life.pod()) => self.unsettled = true,
                Ok(()) = self.drivers.changed(), if has_claims(self.life.pod()) => self.take(Input::Retry),
                Ok(()) = self.health.changed(), if has_claims(self.life.pod()) => self.unsettled = true,
                () = until(wake, self.writer.retry()) => self.take(Input::Tick),
            }
            self.drain().await;
        }
    }

    /// Takes in what else has come, so that one status tells it all.
    async fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.hear(message).await;
        }
        while let Some(done) = self.work.try_join_next() {
            self.done(done.expect("work is not aborted and does not panic"));
        }
        while let Ok(input) = self.results.1.try_recv() {
            self.take(input);
        }
    }

    async fn hear(&mut self, message: Message) {
        match message {
            Message::Desired(pod) => self.desired(pod),
            Message::Gone(pod) => {
                self.desired(pod);
                self.take(Input::Gone);
            }
            Message::Mirror(mirror) => {
                if let Some(status) = mirror.as_ref().and_then(|mirror| mirror.status.clone()) {
                    self.take(Input::Shown(Box::new(status)));
                }
                self.writer.mirrored(mirror);
                self.unsettled = true;
            }
            Message::Seen(sandboxes, containers) => self.take(Input::Seen { sandboxes, containers }),
            Message::Removed(id) => self.take(Input::Removed { id }),
            Message::Pending(pending) => self.take(Input::Pending(pending)),
            Message::Evict(verdict) => self.take(Input::Evict(verdict)),
            Message::Check(listing) => {
                if self.life.is_idle() && !self.agrees(&listing) {
                    // Seldom, and no small thing: it is no part of what every pod has at rest.
                    let input = Box::pin(self.look()).await;
                    self.take(input);
                }
            }
        }
    }

    fn desired(&mut self, pod: Arc<Pod>) {
        self.writer.heard(&pod);
        if !self.watches.fit(&pod) {
            self.watches = Arc::new(Watches::new(&self.agent.informers, &pod, &self.changes));
        }
        let before = self.life.pod().clone();
        let metadata = before.metadata.labels != pod.metadata.labels
            || before.metadata.annotations != pod.metadata.annotations;
        self.take(Input::Desired(pod));
        if metadata && volume::volumes(self.life.pod()).filter_map(projection).any(|it| it.follows_pod()) {
            self.refresh();
        }
    }

    /// Whether the engine has what is known here.
    fn agrees(&self, listing: &Listing) -> bool {
        let none = Listed::default();
        let uid = self.life.pod().metadata.uid.as_deref().unwrap_or_default();
        let listed = listing.pods.get(uid).unwrap_or(&none);
        let (sandboxes, containers) = self.life.known();
        let same = |known: std::collections::BTreeMap<&str, bool>, listed: &HashMap<String, bool>| {
            known.len() == listed.len() && known.iter().all(|(id, state)| listed.get(*id) == Some(state))
        };
        same(sandboxes, &listed.sandboxes) && same(containers, &listed.containers)
    }

    /// Asks the engine for everything, as often as it takes.
    async fn look(&self) -> Input {
        let uid = self.life.pod().metadata.uid.clone().unwrap_or_default();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            match self.agent.engine.observe(&uid).await {
                Ok(seen) => return listed(seen.sandboxes, seen.containers),
                Err(error) => {
                    tracing::warn!(pod = uid, %error, "the engine does not tell what it has");
                    tokio::time::sleep(backoff.delay()).await;
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        if !self.life.is_news(&input) {
            return;
        }
        self.unsettled = true;
        if let (Input::Image { .. }, Some(starting)) = (&input, &mut self.starting) {
            starting.pulled();
        }
        let effects = self.life.on(input, Timestamp::now());
        effects.into_iter().for_each(|effect| self.begin(effect));
        self.renewal_due();
    }

    fn done(&mut self, done: Done) {
        self.unsettled = true;
        match done {
            Done::Inputs(inputs) => inputs.into_iter().for_each(|input| self.take(input)),
            Done::Patched(result, sent) => self.patched(result, sent),
            Done::Deleted(result) => self.deleted(result),
            Done::Refreshed(result) => self.refreshed(result),
        }
    }

    /// Brings probes, status and the end of the pod into line with its life.
    fn settle(&mut self) {
        self.settle_probes();
        self.publish();
    }
}

fn listed(sandboxes: Vec<Sandbox>, containers: Vec<Container>) -> Input {
    Input::Listed { sandboxes, containers }
}

fn has_claims(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.resource_claims.is_some())
}

/// Whether it was started before, by an agent that is gone.
fn has_run(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.start_time.is_some())
}

/// Sleeps until the first of two times; for ever when there is none.
async fn until(wake: Option<Timestamp>, retry: Option<Instant>) {
    let wake = wake.map(|wake| {
        let wait = wake.duration_since(Timestamp::now());
        Instant::now() + Duration::try_from(wait).unwrap_or_default()
    });
    match [wake, retry].into_iter().flatten().min() {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
