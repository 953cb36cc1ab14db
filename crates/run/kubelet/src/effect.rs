//! Carrying out what podlife asks for.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{LifecycleHandler, Pod};
use plimsoll_podlife::observed::Container;
use plimsoll_podlife::spec::Spec;
use plimsoll_podlife::{Effect, Event, Input, Signal, StartError, Verdict};
use tokio::sync::Mutex;

use crate::agent::Agent;
use crate::container::{self, Start};
use crate::engine::text;
use crate::handler::Place;
use crate::placement::{Change, share};
use crate::pod_certificate::Certificates;
use crate::references::Watches;
use crate::rotation::Writer;
use crate::token::Tokens;
use crate::{admission, claims, hook, image, rotation, sandbox, volume};

/// The grace that every container gets at least, in seconds (kubelet: minimumGracePeriodInSeconds).
const LEAST_GRACE: i64 = 2;

/// A pod at the moment an effect is begun.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) agent: Arc<Agent>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) pod_ips: Vec<String>,
    pub(crate) watches: Arc<Watches>,
    pub(crate) tokens: Arc<Mutex<Tokens>>,
    pub(crate) certificates: Arc<Mutex<Certificates>>,
    /// Held while the pod's volumes are made.
    pub(crate) mounting: Arc<Mutex<()>>,
    /// Held while the pod gets its devices and what has to be near to them.
    pub(crate) admitting: Arc<Mutex<()>>,
}

impl Scene {
    fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    fn tell(&self, event: &Event) {
        self.agent.tell(&self.pod, event);
    }

    /// What the files of the pod's volumes are made from.
    pub(crate) async fn volume_inputs(&self) -> Result<volume::Inputs, String> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut references = self.watches.read(namespace).await?;
        let mut certificates = self.certificates.lock().await;
        references.certificates = certificates.get(&self.agent, &self.pod, &self.watches).await?;
        drop(certificates);
        let tokens = self.tokens.lock().await.get(&self.agent, &self.pod).await?;
        Ok(volume::Inputs { pod: self.pod.clone(), pod_ips: self.pod_ips.clone(), references, tokens })
    }

    /// Gets the pod what the node has only so much of, then its volumes. `runs` says that the pod runs already.
    pub(crate) async fn prepare_volumes(self, runs: bool) -> Vec<Input> {
        if !runs {
            let _turn = self.admitting.lock().await;
            match admission::admit(&self.agent, &self.pod).await {
                Ok(Change::None) => {}
                Ok(Change::Shared) => {
                    // The pod's group may have been made before anybody knew.
                    if let Err(why) = self.make_group() {
                        return vec![Input::Volumes(Err(why))];
                    }
                    tokio::spawn(share(self.agent.clone()));
                }
                Err(denied) => {
                    let (reason, message) = (denied.reason(), denied.message());
                    self.tell(&Event::warning(reason, message.clone(), None));
                    let message = format!("Pod was rejected: {message}");
                    let verdict = Verdict { reason: reason.to_owned(), message, ..Verdict::default() };
                    return vec![Input::Refuse(verdict), Input::Volumes(Ok(()))];
                }
            }
        }
        let limit = self.agent.config.volume_mount_timeout;
        let names: Vec<_> = volume::volumes(&self.pod).map(|volume| volume.name.clone()).collect();
        let prepared = tokio::time::timeout(limit, self.clone().try_prepare_volumes()).await;
        let result = prepared.unwrap_or_else(|_| {
            Err(format!(
                "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], failed to \
                 process volumes=[]: context deadline exceeded",
                names.join(" ")
            ))
        });
        if result.is_ok()
            && !runs
            && let Err(why) = claims::prepare(&self.agent, &self.pod).await
        {
            return vec![Input::Unprepared(why)];
        }
        vec![Input::Volumes(result)]
    }

    fn make_group(&self) -> Result<(), String> {
        let spec = self.pod.spec.clone().unwrap_or_default();
        let (uid, rules) = (self.uid(), self.agent.rules(&self.uid()));
        self.agent.cgroups.make(&spec, &uid, &rules).map_err(|error| error.to_string())
    }

    /// Whoever gives up waiting leaves the work to itself: a mount that hangs cannot be broken off. The next try
    /// begins when that has ended, so that there is never more than one that hangs.
    async fn try_prepare_volumes(self) -> Result<(), String> {
        let held = self.mounting.clone().lock_owned().await;
        let inputs = self.volume_inputs().await?;
        let work = tokio::spawn(async move {
            let result = volume::prepare(self.agent.clone(), inputs).await;
            drop(held);
            result
        });
        work.await.map_err(|error| error.to_string())?
    }

    pub(crate) async fn start_sandbox(self, attempt: u32) -> Vec<Input> {
        let result = self.try_start_sandbox(attempt).await;
        self.agent.metrics.pod_started(result.is_ok());
        // Engines may keep what they did not bring up: the next one must not have its attempt.
        let left = if result.is_err() { self.look().await } else { Vec::new() };
        std::iter::once(Input::SandboxStarted(result)).chain(left).collect()
    }

    async fn try_start_sandbox(&self, attempt: u32) -> Result<plimsoll_podlife::observed::Sandbox, String> {
        let begun = Instant::now();
        {
            let concerned = self.agent.devices.concerns(&self.pod);
            let _turn = if concerned { Some(self.admitting.lock().await) } else { None };
            self.make_group()?;
        }
        self.agent.metrics.cgroup("create", begun);
        let config = sandbox::config(&self.agent, &self.pod, attempt)?;
        sandbox::resolver_of(&self.agent, &self.pod).1.iter().for_each(|event| self.tell(event));
        let engine = &self.agent.engine;
        let id = engine.run_sandbox(config).await.map_err(|status| text(&status))?;
        let made = engine.sandbox(&id).await.map_err(|status| text(&status))?;
        made.ok_or_else(|| format!("sandbox {id} is gone as soon as it was made"))
    }

    /// `busy` says that containers run in it.
    pub(crate) async fn stop_sandbox(self, id: String, busy: bool) -> Vec<Input> {
        let result = self.agent.engine.stop_sandbox(&id).await.map_err(|status| text(&status));
        // What the sandbox took with it is seen before the next decision.
        let mut inputs = if busy { self.look().await } else { Vec::new() };
        inputs.push(Input::SandboxStopped { id, result });
        inputs
    }

    /// `last` says that the pod ends with it, and its logs too.
    pub(crate) async fn remove_sandbox(self, id: String, last: bool) -> Vec<Input> {
        let result = self.agent.engine.remove_sandbox(&id).await.map_err(|status| text(&status));
        let logs = sandbox::log_folder(&self.agent.config, &self.pod);
        if last
            && let Err(error) = tokio::fs::remove_dir_all(&logs).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %logs.display(), %error, "logs of a pod that is gone stay");
        }
        vec![Input::SandboxRemoved { id, result }]
    }

    async fn look(&self) -> Vec<Input> {
        match self.agent.engine.observe(&self.uid()).await {
            Ok(seen) => vec![Input::Seen { sandboxes: seen.sandboxes, containers: seen.containers }],
            Err(_) => Vec::new(),
        }
    }

    pub(crate) async fn ensure_image(self, spec: Spec) -> Vec<Input> {
        let result = image::ensure(&self.agent, &self.pod, &spec).await;
        vec![Input::Image { container: spec.container.name, result }]
    }

    pub(crate) async fn start_container(
        self,
        spec: Spec,
        attempt: u32,
        image: String,
        sandbox: String,
        target: Option<String>,
    ) -> Vec<Input> {
        let container = spec.container.name.clone();
        let result = self.try_start(&spec, attempt, image, &sandbox, target).await;
        let failure = result.as_ref().err().map(StartError::reason);
        self.agent.metrics.container_started(&spec.field_path(), failure);
        vec![Input::Started { container, result: result.map(Box::new) }]
    }

    async fn try_start(
        &self,
        spec: &Spec,
        attempt: u32,
        image: String,
        sandbox: &str,
        target: Option<String>,
    ) -> Result<Container, StartError> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let references = self.watches.read(namespace).await.map_err(StartError::Config)?;
        let (pod, pod_ips) = (&*self.pod, &*self.pod_ips);
        let start = Start { pod, spec, attempt, image, pod_ips, references: &references, target };
        if self.agent.placement.started(pod, spec.name()) == Change::Shared {
            tokio::spawn(share(self.agent.clone()));
        }
        let config = container::config(&self.agent, &start).await.map_err(StartError::Config)?;
        let sandbox_config = sandbox::config(&self.agent, pod, 0).map_err(StartError::Config)?;
        let engine = &self.agent.engine;
        let id = engine
            .create_container(sandbox, config, sandbox_config)
            .await
            .map_err(|status| StartError::Create(status.message().to_owned()))?;
        self.tell(&Event::normal("Created", "Container created", Some(spec.field_path())));
        let started = engine.start_container(&id).await;
        let run = engine.container(&id, sandbox).await.ok().flatten();
        match (started, run) {
            (Ok(()), Some(run)) => {
                self.tell(&Event::normal("Started", "Container started", Some(spec.field_path())));
                let folder = sandbox::log_folder(&self.agent.config, pod).join(spec.name());
                let writer = Writer { id, log: folder.join(format!("{attempt}.log")) };
                // The agent is about to end when nobody rotates logs any more.
                let _ = self.agent.writers.send(writer);
                Ok(run)
            }
            (Ok(()), None) => Err(StartError::Create(format!("container {id} is gone after its start"))),
            (Err(status), run) => Err(StartError::Run(status.message().to_owned(), run.map(Box::new))),
        }
    }

    fn place(&self, spec: &Spec, id: &str) -> Place {
        place(&self.agent, spec, id, &self.pod_ips)
    }

    pub(crate) async fn post_start(self, spec: Spec, id: String, hook: LifecycleHandler) -> Vec<Input> {
        let result = hook::run(&hook, &self.place(&spec, &id), &self.agent, &self.pod).await;
        vec![Input::PostStarted { id, result }]
    }

    pub(crate) async fn stop_container(
        self,
        spec: Spec,
        id: String,
        grace: i64,
        pre_stop: Option<LifecycleHandler>,
        signal: Signal,
    ) -> Vec<Input> {
        let begun = Instant::now();
        let traffic = async {
            if signal == Signal::AfterTraffic {
                self.agent.endpoints.dropped(&self.uid(), grace).await;
            }
        };
        let hook = async {
            if let Some(hook) = pre_stop.filter(|_| grace > 0) {
                self.pre_stop(&spec, &id, grace, &hook).await;
            }
        };
        tokio::join!(traffic, hook);
        let spent = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
        let left = grace.saturating_sub(spent).max(LEAST_GRACE);
        let result = self.agent.engine.stop_container(&id, left).await.map_err(|status| text(&status));
        let mut inputs = Vec::new();
        if let Ok(Some(run)) = self.agent.engine.container(&id, "").await {
            if run.exit().is_some() {
                // Some engines do not tell; its record may go before anybody looks. Nobody may be reading its log.
                let _ = self.agent.exits.send(id.clone());
            }
            inputs.push(Input::Seen { sandboxes: Vec::new(), containers: vec![run] });
        }
        inputs.push(Input::Stopped { id, result });
        inputs
    }

    /// A hook that does not end in time is not told of: its container is stopped under it.
    async fn pre_stop(&self, spec: &Spec, id: &str, grace: i64, hook: &LifecycleHandler) {
        let place = self.place(spec, id);
        let running = hook::run(hook, &place, &self.agent, &self.pod);
        let limit = Duration::from_secs(grace.unsigned_abs());
        if let Ok(Err(why)) = tokio::time::timeout(limit, running).await {
            tracing::info!(pod = self.pod.metadata.name, why, "a hook before the end failed");
            // The event does not say why: the answer may hold secrets.
            self.tell(&Event::warning("FailedPreStopHook", "PreStopHook failed", Some(spec.field_path())));
        }
    }

    pub(crate) async fn remove_container(self, id: String) -> Vec<Input> {
        let status = self.agent.engine.container_status(&id).await.ok().flatten();
        match self.agent.engine.remove_container(&id).await {
            Ok(()) => {
                if let Some(status) = status.filter(|status| !status.log_path.is_empty())
                    && let Err(error) = rotation::remove(Path::new(&status.log_path))
                {
                    tracing::warn!(container = id, %error, "log of a removed container stays");
                }
                vec![Input::Removed { id }]
            }
            Err(error) => {
                tracing::warn!(container = id, %error, "ended container not removed");
                Vec::new()
            }
        }
    }

    pub(crate) async fn release(self) -> Vec<Input> {
        let uid = self.uid();
        if let Err(error) = self.agent.claims.unprepare(&uid).await {
            tracing::warn!(pod = self.pod.metadata.name, error, "pod not released yet");
            return vec![Input::Released(Err(error))];
        }
        let volumes = volume::release(self.agent.clone(), uid.clone()).await;
        let spec = self.pod.spec.clone().unwrap_or_default();
        let cgroups = self.agent.cgroups.clone();
        let begun = Instant::now();
        let removed = tokio::task::spawn_blocking(move || cgroups.remove(&spec, &uid)).await;
        self.agent.metrics.cgroup("destroy", begun);
        let cgroup = match removed {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let result = volumes.and(cgroup);
        if let Err(error) = &result {
            tracing::warn!(pod = self.pod.metadata.name, error, "pod not released yet");
        }
        vec![Input::Released(result)]
    }
}

/// Where a run is reached.
pub(crate) fn place(agent: &Agent, spec: &Spec, id: &str, pod_ips: &[String]) -> Place {
    let ip = pod_ips.first().or(agent.node.addresses.first()).cloned().unwrap_or_default();
    Place { engine: agent.engine.clone(), id: id.to_owned(), ip, container: Arc::new(spec.container.clone()) }
}

/// Whether an effect is carried out by the pod's task itself.
pub(crate) fn is_own(effect: &Effect) -> bool {
    matches!(effect, Effect::Event(_) | Effect::Finish)
}
