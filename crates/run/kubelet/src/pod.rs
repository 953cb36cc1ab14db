//! One pod's task: it carries what happens to podlife and what podlife wants to the engine.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use plimsoll_client::Backoff;
use plimsoll_podlife::observed::{Container, Sandbox};
use plimsoll_podlife::probe::ProbeKind;
use plimsoll_podlife::projection::projection;
use plimsoll_podlife::resize::Pending;
use plimsoll_podlife::static_pod::is_static;
use plimsoll_podlife::{Effect, Input, Life, Verdict, status_patch};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::agent::Agent;
use crate::effect::{Scene, is_own, place};
use crate::listing::{Listed, Listing};
use crate::metrics::{ProbeOf, Starting};
use crate::pod_certificate::Certificates;
use crate::prober;
use crate::references::Watches;
use crate::token::Tokens;
use crate::volume;

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
    Patched(Result<Box<Pod>, kube::Error>, Value),
    Deleted(Result<(), kube::Error>),
    Refreshed(Result<(), String>),
}

struct Task {
    agent: Arc<Agent>,
    life: Life,
    inbox: mpsc::UnboundedReceiver<Message>,
    work: JoinSet<Done>,
    probes: HashMap<(String, ProbeKind), AbortHandle>,
    probing: JoinSet<()>,
    results: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    changes: (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>),
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

/// The status in the API, and what is on its way there.
struct Writer {
    /// The status as the API has it, as far as is known.
    known: Value,
    version: u64,
    busy: bool,
    /// By a clock that nobody sets.
    retry: Option<Instant>,
    backoff: Backoff,
    finish: bool,
    deleted: bool,
    /// Since when the status differs from what the API has.
    changed: Option<std::time::Instant>,
    place: Place,
}

/// Where the status goes.
enum Place {
    /// To the pod itself.
    Own,
    /// To the mirror of a static pod, if it has one.
    Mirror(Option<String>),
}

impl Writer {
    /// A static pod has another mirror, or another version of it.
    fn mirrored(&mut self, mirror: Option<Arc<Pod>>) {
        let mirror = mirror.filter(|mirror| mirror.metadata.deletion_timestamp.is_none());
        let uid = mirror.as_ref().and_then(|mirror| mirror.metadata.uid.clone());
        let is_other = !matches!(&self.place, Place::Mirror(known) if *known == uid);
        if is_other {
            (self.version, self.retry, self.deleted) = (0, None, false);
        }
        if let Some(mirror) =
            mirror.filter(|mirror| is_other || (!self.busy && version(mirror) > self.version))
        {
            (self.known, self.version) = (status_of(&mirror), version(&mirror));
        }
        self.place = Place::Mirror(uid);
    }

    /// What the API has of a container's devices.
    fn last_devices(&self, list: &str, container: &str) -> Option<Value> {
        let mut all = self.known.get(list)?.as_array()?.iter();
        all.find(|it| it["name"] == container)?.get("allocatedResourcesStatus").cloned()
    }

    /// The UID of what the status is written to.
    fn target(&self, own: &str) -> Option<String> {
        match &self.place {
            Place::Own => Some(own.to_owned()),
            Place::Mirror(uid) => uid.clone(),
        }
    }
}

/// Lives a pod until it is gone. `seen` says that the engine may have something of it already.
pub(crate) async fn live(
    agent: Arc<Agent>,
    pod: Arc<Pod>,
    seen: bool,
    refused: Option<Verdict>,
    inbox: mpsc::UnboundedReceiver<Message>,
) {
    let changes = mpsc::unbounded_channel();
    let watches = Arc::new(Watches::new(&agent.informers, &pod, &changes.0));
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let (devices, drivers) = (agent.devices.subscribe(), agent.claims.subscribe());
    let health = agent.claims.subscribe_to_health();
    let mut task = Task {
        devices,
        starting: (!seen && !has_run(&pod)).then(|| Starting::new(created)),
        life: Life::new(pod.clone(), agent.node.clone(), Timestamp::now()),
        watches,
        agent,
        inbox,
        work: JoinSet::new(),
        probes: HashMap::new(),
        probing: JoinSet::new(),
        results: mpsc::unbounded_channel(),
        changes,
        tokens: Arc::default(),
        certificates: Arc::default(),
        mounting: Arc::default(),
        admitting: Arc::default(),
        drivers,
        health,
        renewal: None,
        refreshing: false,
        stale: false,
        unsettled: true,
        writer: Writer {
            known: status_of(&pod),
            version: version(&pod),
            busy: false,
            retry: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            finish: false,
            deleted: false,
            changed: None,
            place: if is_static(&pod) { Place::Mirror(None) } else { Place::Own },
        },
    };
    if let Some(verdict) = refused {
        // Before anything is begun.
        task.take(Input::Refuse(verdict));
    }
    let input = if seen { task.look().await } else { listed(Vec::new(), Vec::new()) };
    task.take(input);
    task.run().await;
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

fn status_of(pod: &Pod) -> Value {
    serde_json::to_value(pod.status.clone().unwrap_or_default()).expect("statuses are JSON")
}

/// Resource versions of one server grow.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Task {
    async fn run(mut self) {
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
                    Some(message) => self.hear(message).await,
                    // The agent ends; containers go on.
                    None => return,
                },
                Some(done) = self.work.join_next() => self.done(done.expect("work is not aborted and does not panic")),
                Some(input) = self.results.1.recv() => self.take(input),
                Some(()) = self.changes.1.recv() => self.references_changed(),
                Ok(()) = self.devices.changed(), if self.agent.devices.concerns(self.life.pod()) => self.unsettled = true,
                Ok(()) = self.drivers.changed(), if has_claims(self.life.pod()) => self.take(Input::Retry),
                Ok(()) = self.health.changed(), if has_claims(self.life.pod()) => self.unsettled = true,
                () = until(wake, self.writer.retry) => self.take(Input::Tick),
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
                    let input = self.look().await;
                    self.take(input);
                }
            }
        }
    }

    fn desired(&mut self, pod: Arc<Pod>) {
        let is_own = matches!(self.writer.place, Place::Own);
        if is_own && version(&pod) > self.writer.version && !self.writer.busy {
            (self.writer.known, self.writer.version) = (status_of(&pod), version(&pod));
        }
        if !self.watches.fit(&pod) {
            self.watches = Arc::new(Watches::new(&self.agent.informers, &pod, &self.changes.0));
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

    fn scene(&self) -> Scene {
        Scene {
            agent: self.agent.clone(),
            pod: self.life.pod().clone(),
            pod_ips: self.pod_ips(),
            watches: self.watches.clone(),
            tokens: self.tokens.clone(),
            certificates: self.certificates.clone(),
            mounting: self.mounting.clone(),
            admitting: self.admitting.clone(),
        }
    }

    fn pod_ips(&self) -> Vec<String> {
        if plimsoll_podlife::spec::host_network(self.life.pod()) {
            return self.agent.node.addresses.clone();
        }
        self.life.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    fn begin(&mut self, effect: Effect) {
        if is_own(&effect) {
            match effect {
                Effect::Event(event) => self.agent.tell(self.life.pod(), &event),
                _ => self.writer.finish = true,
            }
            return;
        }
        let scene = self.scene();
        let spec = |name: &str| self.life.specs().iter().find(|spec| spec.name() == name).cloned();
        match effect {
            Effect::PrepareVolumes => {
                let runs = self.life.runs_anything();
                self.spawn("create", scene.prepare_volumes(runs));
            }
            Effect::StartSandbox { attempt } => self.spawn("create", scene.start_sandbox(attempt)),
            Effect::StopSandbox { id } => {
                let busy = self.life.runs_anything();
                self.spawn("kill", scene.stop_sandbox(id, busy));
            }
            Effect::RemoveSandbox { id } => {
                let last = self.life.ending();
                self.spawn("kill", scene.remove_sandbox(id, last));
            }
            Effect::Resize { before, after, runs } => {
                self.spawn("update", scene.resize(before, after, runs));
            }
            Effect::RemoveContainer { id } => self.spawn("kill", scene.remove_container(id)),
            Effect::Release => self.spawn("kill", scene.release()),
            Effect::EnsureImage { container } => {
                if let Some(starting) = &mut self.starting {
                    starting.pulls();
                }
                if let Some(spec) = spec(&container) {
                    self.spawn("create", scene.ensure_image(spec));
                }
            }
            Effect::StartContainer { container, attempt, image, sandbox } => {
                if let Some(spec) = spec(&container) {
                    let target = spec.target.as_deref().and_then(|name| self.life.newest(name));
                    let target = target.map(|run| run.id.clone());
                    self.spawn("create", scene.start_container(spec, attempt, image, sandbox, target));
                }
            }
            Effect::RunPostStart { container, id, hook } => {
                if let Some(spec) = spec(&container) {
                    self.spawn("sync", scene.post_start(spec, id, hook));
                }
            }
            Effect::StopContainer { container, id, grace, pre_stop, signal } => {
                if let Some(spec) = spec(&container) {
                    self.spawn("kill", scene.stop_container(spec, id, grace, pre_stop, signal));
                }
            }
            Effect::Event(_) | Effect::Finish => {}
        }
    }

    fn spawn(&mut self, operation: &'static str, work: impl Future<Output = Vec<Input>> + Send + 'static) {
        let (metrics, begun) = (self.agent.metrics.clone(), std::time::Instant::now());
        self.work.spawn(async move {
            let inputs = work.await;
            metrics.worked(operation, begun.elapsed());
            Done::Inputs(inputs)
        });
    }

    /// Brings probes, status and the end of the pod into line with its life.
    fn settle(&mut self) {
        self.settle_probes();
        self.publish();
    }

    fn settle_probes(&mut self) {
        let wanted = self.life.probes();
        self.probes.retain(|key, handle| {
            let kept = wanted.iter().any(|target| (&target.id, target.kind) == (&key.0, key.1));
            if !kept {
                handle.abort();
            }
            kept
        });
        let ips = self.pod_ips();
        for target in wanted {
            let key = (target.id.clone(), target.kind);
            if self.probes.contains_key(&key) {
                continue;
            }
            let Some(spec) = self.life.specs().iter().find(|spec| spec.name() == target.container) else {
                continue;
            };
            let place = place(&self.agent, spec, &target.id, &ips);
            let late = prober::lateness(&target, self.agent.started, Timestamp::now());
            let series = self.agent.metrics.probe(probe_of(self.life.pod(), &target.container, target.kind));
            let probing = prober::run(target, place, late, series, self.results.0.clone());
            let handle = self.probing.spawn(probing);
            self.probes.insert(key, handle);
        }
        while self.probing.try_join_next().is_some() {}
    }

    /// Takes the series of the pod's probes out of what is told.
    fn forget_probes(&self) {
        let kinds = [ProbeKind::Liveness, ProbeKind::Readiness, ProbeKind::Startup];
        for spec in self.life.specs() {
            for kind in kinds {
                self.agent.metrics.forget_probe(probe_of(self.life.pod(), spec.name(), kind));
            }
        }
    }

    /// Sends the status when it differs from what the API has. One patch is under way at a time, and
    /// the next one tells the newest.
    fn publish(&mut self) {
        let now = Timestamp::now();
        if self.writer.finish && matches!(self.writer.place, Place::Mirror(_)) && !self.life.gone() {
            // There is no object to delete: the mirror is not the pod.
            return self.take(Input::Gone);
        }
        if self.life.gone()
            || self.writer.busy
            || self.writer.retry.is_some_and(|retry| retry > Instant::now())
        {
            return;
        }
        self.writer.retry = None;
        let pod = self.life.pod().clone();
        let mut status = serde_json::to_value(self.life.status(now)).expect("statuses are JSON");
        self.tell_devices(&mut status);
        let Some(uid) = self.writer.target(pod.metadata.uid.as_deref().unwrap_or_default()) else { return };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let pods = self.pods();
        if let Some(patch) = status_patch(&uid, &self.writer.known, &status) {
            self.writer.busy = true;
            self.writer.changed.get_or_insert_with(std::time::Instant::now);
            self.work.spawn(async move {
                let result =
                    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                Done::Patched(result.map(Box::new), status)
            });
        } else if self.writer.finish && !self.writer.deleted {
            self.writer.busy = true;
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
                ..DeleteParams::default()
            };
            self.work.spawn(async move { Done::Deleted(pods.delete(&name, &params).await.map(drop)) });
        }
    }

    /// Adds to a status which devices containers have, and how these are.
    fn tell_devices(&self, status: &mut Value) {
        let pod = self.life.pod();
        let (uid, spec) = (pod.metadata.uid.as_deref().unwrap_or_default(), pod.spec.as_ref());
        let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
        let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        for (list, specs) in [("initContainerStatuses", init), ("containerStatuses", main)] {
            for container in status.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default();
                let mut told = self.agent.devices.status(uid, name).unwrap_or_default();
                if let Some(spec) = specs.iter().find(|spec| spec.name == name).filter(|_| has_claims(pod)) {
                    let claimed = self.agent.claims.statuses(pod, spec);
                    told.extend(claimed.into_iter().map(|it| json!(it)));
                }
                if !told.is_empty() {
                    container["allocatedResourcesStatus"] = Value::Array(told);
                } else if let Some(last) = self.writer.last_devices(list, name) {
                    // What a container had and has no more stays as it was.
                    container["allocatedResourcesStatus"] = last;
                }
            }
        }
    }

    fn pods(&self) -> Api<Pod> {
        let namespace = self.life.pod().metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.agent.client.clone(), namespace)
    }

    fn patched(&mut self, result: Result<Box<Pod>, kube::Error>, sent: Value) {
        self.writer.busy = false;
        match result {
            Ok(pod) => {
                self.writer.backoff.reset();
                if self.writer.target(pod.metadata.uid.as_deref().unwrap_or_default()) != pod.metadata.uid {
                    return;
                }
                // Older servers leave out what they do not know, however often it is sent.
                let is_taken = version(&pod) > self.writer.version;
                let known = if is_taken { status_of(&pod) } else { sent };
                (self.writer.known, self.writer.version) = (known, version(&pod));
                if let Some(changed) = self.writer.changed.take() {
                    self.agent.metrics.status_written(changed.elapsed());
                }
                self.has_started(&pod);
            }
            Err(error) => self.refused("status", &error),
        }
    }

    /// Notes how long the start took, once the API knows that all containers run.
    fn has_started(&mut self, pod: &Pod) {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let run = |it: &k8s_openapi::api::core::v1::ContainerStatus| {
            it.state.as_ref().is_some_and(|state| state.running.is_some())
        };
        if statuses.is_some_and(|list| !list.is_empty() && list.iter().all(run))
            && let Some(starting) = self.starting.take()
        {
            self.agent.metrics.pod_runs(&starting.runs(Timestamp::now()));
        }
    }

    fn deleted(&mut self, result: Result<(), kube::Error>) {
        self.writer.busy = false;
        match result {
            Ok(()) => self.writer.deleted = true,
            Err(error) => self.refused("deletion", &error),
        }
    }

    fn refused(&mut self, what: &str, error: &kube::Error) {
        let gone = matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
        if gone {
            // The watch will say so; until then nothing more is sent.
            self.writer.deleted = true;
        } else {
            tracing::warn!(pod = self.life.pod().metadata.name, %error, "{what} not sent yet");
        }
        let wait = if gone { Duration::from_secs(10) } else { self.writer.backoff.delay() };
        self.writer.retry = Some(Instant::now() + wait);
    }

    fn references_changed(&mut self) {
        while self.changes.1.try_recv().is_ok() {}
        self.take(Input::Retry);
        self.refresh();
    }

    /// Renews the files of volumes, once at a time.
    fn refresh(&mut self) {
        if self.life.ending() {
            return;
        }
        if self.refreshing {
            self.stale = true;
            return;
        }
        self.refreshing = true;
        let scene = self.scene();
        self.work.spawn(async move {
            let result = match scene.volume_inputs().await {
                Ok(inputs) => volume::refresh(scene.agent.clone(), inputs).await,
                Err(why) => Err(why),
            };
            Done::Refreshed(result)
        });
    }

    fn refreshed(&mut self, result: Result<(), String>) {
        self.refreshing = false;
        if let Err(why) = result {
            // What is mounted stays as it was.
            tracing::info!(pod = self.life.pod().metadata.name, why, "volumes not renewed");
        }
        if std::mem::take(&mut self.stale) {
            self.refresh();
        }
    }

    /// Renews tokens and certificates when it is time to.
    fn renewal_due(&mut self) {
        if self.renewal.is_some_and(|renewal| renewal <= Timestamp::now()) {
            self.renewal = None;
            self.refresh();
        } else if let (Ok(tokens), Ok(certificates)) = (self.tokens.try_lock(), self.certificates.try_lock())
        {
            self.renewal = [tokens.renewal(), certificates.renewal()].into_iter().flatten().min();
        }
    }
}

/// Whose probe it is in the series of probes.
fn probe_of<'a>(pod: &'a Pod, container: &'a str, kind: ProbeKind) -> ProbeOf<'a> {
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    let meta = &pod.metadata;
    let (namespace, pod, uid) = (text(&meta.namespace), text(&meta.name), text(&meta.uid));
    ProbeOf { container, namespace, pod, uid, kind }
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
