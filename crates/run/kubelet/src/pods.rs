//! All pods of the node: a task for each, fed by the API and by the engine.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::{Delta, Filter, Informer};
use plimsoll_cri::v1;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::Verdict;
use plimsoll_podlife::cgroup::class::{Levels, Sum};
use plimsoll_podlife::preemption;
use plimsoll_podlife::resize::{Book, Fixed, Outcome, Pending, Room};
use plimsoll_podlife::spec::is_over;
use plimsoll_podlife::static_pod::{FullName, ended, full_name, shown_by};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::acceptance::{Acceptance, Answer, refuse, refused};
use crate::agent::Agent;
use crate::engine::{container, sandbox};
use crate::listing::{Event, Listed, Listing, list, listen, try_list};
use crate::placement::{Change, share};
use crate::pod::{Message, live};
use crate::pressure::Order;
use crate::statics::Statics;
use crate::volume;

/// How often everything is compared, should an event have been lost.
const COMPARE: Duration = Duration::from_secs(60);
/// Seconds that containers get whose pod nobody knows any more.
const ORPHAN_GRACE: i64 = 30;

/// The informer of the pods that are bound to this node.
pub(crate) fn informer(agent: &Agent) -> Informer<Pod> {
    let fields = Some(format!("spec.nodeName={}", agent.config.node_name));
    agent.informers.filtered(Filter { namespace: None, labels: None, fields })
}

struct Pods {
    agent: Arc<Agent>,
    informer: Informer<Pod>,
    tasks: HashMap<String, UnboundedSender<Message>>,
    running: JoinSet<String>,
    orphans: HashSet<String>,
    /// Static pods that there are to be, by UID.
    statics: HashMap<String, Arc<Pod>>,
    /// Whether all of them are known.
    listed: bool,
    /// Namespace and name of static pods whose tasks run, by UID.
    names: HashMap<String, FullName>,
    /// What the engine had when this agent started, until the API's pods are all there.
    found: Arc<Listing>,
    synced: bool,
    /// What the classes of pods were given last.
    levels: Option<Levels>,
    /// What all pods were given.
    book: Book,
    /// What that is together.
    sum: Sum,
    /// The pods that were taken.
    acceptance: Acceptance,
    /// What pods' tasks know about their wishes.
    pending: HashMap<String, Pending>,
    /// Whether what nobody knew at the start was ended.
    swept: bool,
}

/// Runs every pod of the node until `stop`; then the tasks end and containers go on.
pub(crate) async fn run(
    agent: Arc<Agent>,
    informer: Informer<Pod>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    stop: CancellationToken,
) {
    let found = Arc::new(list(&agent).await);
    agent.placement.forget(|uid| found.pods.contains_key(uid));
    let mut pods = Pods {
        agent: agent.clone(),
        informer: informer.clone(),
        tasks: HashMap::new(),
        running: JoinSet::new(),
        orphans: HashSet::new(),
        statics: HashMap::new(),
        listed: false,
        names: HashMap::new(),
        found,
        synced: false,
        levels: None,
        book: book(&agent),
        sum: Sum::default(),
        acceptance: Acceptance::new(agent.clone()),
        pending: HashMap::new(),
        swept: false,
    };
    let mut deltas = informer.subscribe();
    let mut statics = agent.statics.clone();
    statics.mark_changed();
    let (sender, mut events) = mpsc::unbounded_channel();
    let mut listening = JoinSet::new();
    listening.spawn(listen(agent, sender));
    let mut compare = tokio::time::interval(COMPARE);
    compare.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(delta) = deltas.recv() => pods.change(delta),
            Ok(()) = statics.changed() => pods.statics_changed(statics.borrow_and_update().clone()),
            Some(event) = events.recv() => pods.event(event).await,
            Some(order) = orders.recv() => pods.send(&order.uid, Message::Evict(order.verdict)),
            Some(ended) = pods.running.join_next() => pods.ended(&ended.expect("pod tasks do not panic")),
            _ = compare.tick() => pods.compare().await,
        }
    }
}

/// An empty book of what there is for pods.
fn book(agent: &Agent) -> Book {
    let reserved = agent.config.reserved();
    let whole = |name: &str, capacity: i64, read: fn(&Quantity) -> i64| capacity - read(&reserved.of(name));
    let left = |name: &str| agent.allocatable.get(name).copied().unwrap_or_default();
    let whole = Room {
        cpu: whole("cpu", agent.machine.cpus * 1000, Quantity::milli),
        memory: whole("memory", agent.machine.memory, Quantity::value),
    };
    let allocatable = Room { cpu: left("cpu").milli(), memory: left("memory").value() };
    let cpus = agent.placement.has_cpus().then_some(Fixed::Cpu);
    let memory = agent.placement.has_memory().then_some(Fixed::Memory);
    let fixed = cpus.into_iter().chain(memory).collect();
    Book::new(whole, allocatable, agent.cgroups.rules().clone(), fixed)
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

impl Pods {
    fn change(&mut self, delta: Delta<Pod>) {
        match delta {
            Delta::Applied { new, .. } => match shown_by(&new) {
                Some(shown) => self.send(shown, Message::Mirror(Some(new.clone()))),
                None => self.applied(new),
            },
            Delta::Deleted(old) => match shown_by(&old) {
                Some(shown) => self.send(shown, Message::Mirror(None)),
                None => self.deleted(&old),
            },
            Delta::Synced => {
                self.synced = true;
                self.sweep_once();
            }
        }
        self.weigh();
    }

    fn deleted(&mut self, old: &Arc<Pod>) {
        let uid = uid(old);
        let allocated = self.book.allocation(&uid).map_or_else(|| old.clone(), |it| it.apply(old));
        self.send(&uid, Message::Gone(allocated));
        self.free(&uid);
    }

    /// Gives what a pod had to those that wait.
    fn free(&mut self, uid: &str) {
        self.sum.set(uid, None);
        let outcomes = self.book.gone(uid, Timestamp::now());
        outcomes.into_iter().for_each(|outcome| self.resized(outcome));
    }

    /// Ends what nobody knows as soon as all pods are known.
    fn sweep_once(&mut self) {
        if self.is_complete() && !self.swept {
            self.swept = true;
            let found = std::mem::take(&mut self.found);
            self.sweep(&found);
            self.sweep_folders();
        }
    }

    fn is_complete(&self) -> bool {
        (self.synced || self.agent.config.standalone) && self.listed
    }

    fn statics_changed(&mut self, now: Statics) {
        self.listed = now.complete;
        let now: HashMap<_, _> = now.pods.into_values().map(|pod| (uid(&pod), pod)).collect();
        for (uid, pod) in &self.statics {
            if !now.contains_key(uid) {
                let ended = ended(pod, Timestamp::now());
                self.send(uid, Message::Desired(Arc::new(ended)));
            }
        }
        self.statics = now;
        self.start_statics();
        self.sweep_once();
        self.weigh();
    }

    /// Starts the static pods that do not run. One of the same name has to be gone first.
    fn start_statics(&mut self) {
        let waits = |(uid, pod): &(&String, &Arc<Pod>)| {
            !self.tasks.contains_key(*uid) && !self.names.values().any(|name| *name == full_name(pod))
        };
        let due: Vec<_> =
            self.statics.iter().filter(waits).map(|(uid, pod)| (uid.clone(), pod.clone())).collect();
        for (uid, pod) in due {
            let name = full_name(&pod);
            let shown = self.informer.get(&name.0, &name.1).filter(|it| shown_by(it) == Some(uid.as_str()));
            self.names.insert(uid.clone(), name);
            self.applied(pod);
            self.send(&uid, Message::Mirror(shown));
        }
    }

    fn applied(&mut self, pod: Arc<Pod>) {
        let uid = uid(&pod);
        // A pod that was here before this agent may have been given something else than it asks for now.
        let known = (!self.synced && self.book.allocation(&uid).is_none())
            .then(|| crate::resize::known(&self.agent.config, &pod));
        let mut outcomes = self.book.desired(&uid, &pod, known, Timestamp::now()).into_iter();
        if let Some(own) = outcomes.next() {
            self.take_in(&uid, own);
        }
        outcomes.for_each(|outcome| self.resized(outcome));
    }

    /// Takes a version of a pod with what it was given to its task.
    fn take_in(&mut self, uid: &str, outcome: Outcome) {
        if self.tasks.contains_key(uid) {
            if is_over(&outcome.pod) {
                self.shared(self.agent.placement.release(uid));
            }
            return self.resized(outcome);
        }
        self.begin(outcome.pod.clone());
        self.note(&outcome);
    }

    /// Tells a pod's task what became of its wish.
    fn resized(&mut self, outcome: Outcome) {
        self.note(&outcome);
        if self.acceptance.has(&outcome.uid) {
            self.account(&outcome.uid, &outcome.pod);
        }
        self.send(&outcome.uid, Message::Desired(outcome.pod));
    }

    /// Keeps what was granted before anything goes by it, and tells why a wish waits.
    fn note(&mut self, outcome: &Outcome) {
        let uid = &outcome.uid;
        self.sum.set(uid, outcome.pod.spec.as_ref().filter(|_| !is_over(&outcome.pod)));
        let is_news = self.pending.get(uid) != outcome.pending.as_ref();
        if (outcome.granted || is_news)
            && let Some(allocation) = self.book.allocation(uid)
            && let Err(error) = crate::resize::keep(&self.agent.config, uid, allocation)
        {
            tracing::warn!(pod = uid, %error, "what the pod was given is not kept");
        }
        if let Some(event) = &outcome.event {
            self.agent.tell(&outcome.pod, event);
        }
        if is_news {
            match &outcome.pending {
                Some(pending) => self.pending.insert(uid.clone(), pending.clone()),
                None => self.pending.remove(uid),
            };
            self.send(uid, Message::Pending(outcome.pending.clone()));
        }
    }

    fn begin(&mut self, pod: Arc<Pod>) {
        let uid = uid(&pod);
        let (sender, inbox) = unbounded();
        self.tasks.insert(uid.clone(), sender);
        let seen = !self.swept && self.found.pods.contains_key(&uid);
        let refused = self.admitted(&uid, &pod, seen).err();
        if refused.is_none() {
            self.account(&uid, &pod);
            self.agent.metrics.lives.taken(pod.spec.as_ref().map_or(0, |spec| spec.containers.len()));
        }
        let (agent, noticed) = (self.agent.clone(), std::time::Instant::now());
        self.running.spawn(async move {
            agent.metrics.lives.begun(noticed.elapsed());
            live(agent, pod, seen, refused, inbox).await;
            uid
        });
    }

    /// Whether the node takes a pod. One that ran here before, or began to, is not asked for its needs again.
    fn admitted(&self, uid: &str, pod: &Pod, seen: bool) -> Result<(), Verdict> {
        let is_new = !seen && pod.status.as_ref().is_none_or(|status| status.start_time.is_none());
        if is_new && let Some(refused) = refused(&self.agent, pod) {
            return Err(refused);
        }
        if let Some(refused) = self.placed(pod, seen) {
            return Err(refused);
        }
        if !is_new || is_over(pod) {
            return Ok(());
        }
        match self.acceptance.room(pod) {
            Answer::Taken(victims) => {
                for victim in victims {
                    self.send(&victim, Message::Evict(preemption::verdict()));
                }
                Ok(())
            }
            Answer::Refused(refused) => {
                self.shared(self.agent.placement.release(uid));
                Err(refused)
            }
        }
    }

    /// Counts what a pod takes of the node.
    fn account(&mut self, uid: &str, pod: &Arc<Pod>) {
        if is_over(pod) {
            self.acceptance.remove(uid);
        } else {
            self.acceptance.place(uid, pod);
        }
    }

    /// Gives a pod processors of its own, if it is to have any; why it is not taken when there are none.
    fn placed(&self, pod: &Pod, seen: bool) -> Option<Verdict> {
        // Who asks for devices gets all when he gets these.
        if is_over(pod) || (!seen && self.agent.devices.concerns(pod)) {
            return None;
        }
        let begun = std::time::Instant::now();
        let admitted = self.agent.placement.admit(pod);
        self.agent.metrics.placed(begun.elapsed());
        match admitted {
            Ok(change) => {
                self.shared(change);
                None
            }
            Err(refused) => {
                let (reason, message) = (refused.reason(), refused.message());
                if seen {
                    // It runs already, and goes on without.
                    tracing::warn!(pod = pod.metadata.name, message, "no processors for a pod that runs");
                    return None;
                }
                Some(refuse(&self.agent, pod, reason, message))
            }
        }
    }

    /// Tells those that share processors which ones these are now.
    fn shared(&self, change: Change) {
        if change == Change::Shared {
            tokio::spawn(share(self.agent.clone()));
        }
    }

    fn send(&self, uid: &str, message: Message) {
        if let Some(task) = self.tasks.get(uid) {
            // A task that has just ended needs no news.
            let _ = task.unbounded_send(message);
        }
    }

    fn ended(&mut self, uid: &str) {
        self.tasks.remove(uid);
        self.pending.remove(uid);
        self.shared(self.agent.placement.release(uid));
        self.orphans.remove(uid);
        self.acceptance.remove(uid);
        if self.names.remove(uid).is_some() {
            self.free(uid);
            self.start_statics();
        }
    }

    async fn event(&mut self, event: Event) {
        match event {
            Event::Told(event) => self.told(*event),
            Event::Resumed => self.compare().await,
            Event::Found(listing) => self.check(&listing),
            // Nobody may be reading a log.
            Event::Ended(id) => drop(self.agent.exits.send(id)),
        }
    }

    fn told(&self, event: v1::ContainerEventResponse) {
        let status = event.pod_sandbox_status;
        let labels = status.as_ref().map(|status| &status.labels);
        let labels = labels.or_else(|| event.containers_statuses.first().map(|status| &status.labels));
        let Some(uid) = labels.and_then(|labels| labels.get(plimsoll_cri::POD_UID)).cloned() else { return };
        if event.container_event_type == v1::ContainerEventType::ContainerDeletedEvent as i32 {
            self.send(&uid, Message::Removed(event.container_id.clone()));
        }
        let id = status.as_ref().map(|status| status.id.clone()).unwrap_or_default();
        let ended = v1::ContainerState::ContainerExited as i32;
        for status in event.containers_statuses.iter().filter(|status| status.state == ended) {
            // Nobody may be reading a log.
            let _ = self.agent.exits.send(status.id.clone());
        }
        let containers = event.containers_statuses.into_iter();
        let containers = containers.map(|status| container(status, &id)).collect();
        let sandboxes = status.map(sandbox).into_iter().collect();
        self.send(&uid, Message::Seen(sandboxes, containers));
    }

    /// Compares what the engine has with what the tasks know.
    async fn compare(&mut self) {
        let Ok(listing) = try_list(&self.agent).await else { return };
        self.check(&Arc::new(listing));
    }

    fn check(&mut self, listing: &Arc<Listing>) {
        for task in self.tasks.values() {
            let _ = task.unbounded_send(Message::Check(listing.clone()));
        }
        if self.swept {
            self.sweep(listing);
            self.sweep_claims();
        }
    }

    /// Ends sandboxes whose pods nobody knows.
    fn sweep(&mut self, listing: &Listing) {
        for (uid, listed) in &listing.pods {
            if self.tasks.contains_key(uid) || !self.orphans.insert(uid.clone()) {
                continue;
            }
            tracing::info!(pod = uid, "ending a pod that the API does not have");
            self.agent.metrics.lives.orphaned();
            self.running.spawn(end_orphan(self.agent.clone(), uid.clone(), sandboxes(listed)));
        }
    }

    /// Removes folders and control groups of pods that nobody knows.
    fn sweep_folders(&self) {
        // What is found now is removed later: the groups of pods that come meanwhile are not among it.
        let is_known = |uid: &str| self.tasks.contains_key(uid) || self.orphans.contains(uid);
        let strangers = self.agent.cgroups.strangers(is_known);
        tokio::task::spawn_blocking(move || crate::cgroups::sweep(&strangers));
        let folder = self.agent.config.data_dir.join("pods");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if !self.tasks.contains_key(&uid) && !self.orphans.contains(&uid) {
                tokio::spawn(volume::release_orphan(self.agent.clone(), uid));
            }
        }
        tokio::spawn(volume::sweep_stages(self.agent.clone()));
        self.sweep_claims();
    }

    /// Takes back what drivers prepared for pods that are not there any more.
    fn sweep_claims(&self) {
        let known: HashSet<String> = self.tasks.keys().chain(&self.orphans).cloned().collect();
        let agent = self.agent.clone();
        tokio::spawn(async move { agent.claims.reconcile(|uid| known.contains(uid)).await });
    }

    /// Gives burstable pods together the weight that they ask for.
    fn weigh(&mut self) {
        if !self.is_complete() {
            return;
        }
        if let Err(error) = self.agent.cgroups.weigh(&self.sum, &mut self.levels) {
            tracing::warn!(%error, "classes of pods keep their weights");
        }
    }
}

fn sandboxes(listed: &Listed) -> Vec<String> {
    listed.sandboxes.keys().cloned().collect()
}

/// Ends what is left of a pod whose object is gone: containers with grace, then all the rest.
async fn end_orphan(agent: Arc<Agent>, uid: String, sandboxes: Vec<String>) -> String {
    let containers = agent.engine.containers(Some(&uid)).await.unwrap_or_default();
    let running = containers.into_iter().filter(|it| it.state == v1::ContainerState::ContainerRunning as i32);
    let mut stops = JoinSet::new();
    for container in running {
        let agent = agent.clone();
        let grace = container.annotations.get(plimsoll_cri::TERMINATION_GRACE);
        let grace = grace.and_then(|grace| grace.parse().ok()).unwrap_or(ORPHAN_GRACE);
        stops.spawn(async move { agent.engine.stop_container(&container.id, grace).await });
    }
    while stops.join_next().await.is_some() {}
    for id in sandboxes {
        let stopped = agent.engine.stop_sandbox(&id).await;
        if let Err(error) = stopped.and(agent.engine.remove_sandbox(&id).await) {
            tracing::warn!(sandbox = id, %error, "sandbox of a pod that is gone stays");
        }
    }
    remove_logs(&agent, &uid).await;
    if let Err(why) = agent.claims.unprepare(&uid).await {
        tracing::info!(pod = uid, why, "claims of a pod that is gone are not taken back yet");
    }
    volume::release_orphan(agent, uid.clone()).await;
    uid
}

/// Removes the logs of a pod of which only the UID is known.
async fn remove_logs(agent: &Agent, uid: &str) {
    let Ok(mut folders) = tokio::fs::read_dir(&agent.config.log_dir).await else { return };
    while let Ok(Some(folder)) = folders.next_entry().await {
        if folder.file_name().to_string_lossy().ends_with(&format!("_{uid}"))
            && let Err(error) = tokio::fs::remove_dir_all(folder.path()).await
        {
            tracing::warn!(pod = uid, %error, "logs of a pod that is gone stay");
        }
    }
}
