//! What a pod's task has done beside it.

use jiff::Timestamp;
use plimsoll_podlife::{Effect, Input};

use super::{Done, Task};
use crate::effect::{Scene, is_own};
use crate::volume;

impl Task {
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

    pub(super) fn pod_ips(&self) -> Vec<String> {
        if plimsoll_podlife::spec::host_network(self.life.pod()) {
            return self.agent.node.addresses.clone();
        }
        self.life.sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    pub(super) fn begin(&mut self, effect: Effect) {
        if is_own(&effect) {
            match effect {
                Effect::Event(event) => self.agent.tell(self.life.pod(), &event),
                _ => self.writer.finish(),
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

    pub(super) fn references_changed(&mut self) {
        self.take(Input::Retry);
        self.refresh();
    }

    /// Renews the files of volumes, once at a time.
    pub(super) fn refresh(&mut self) {
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

    pub(super) fn refreshed(&mut self, result: Result<(), String>) {
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
    pub(super) fn renewal_due(&mut self) {
        if self.renewal.is_some_and(|renewal| renewal <= Timestamp::now()) {
            self.renewal = None;
            self.refresh();
        } else if let (Ok(tokens), Ok(certificates)) = (self.tokens.try_lock(), self.certificates.try_lock())
        {
            self.renewal = [tokens.renewal(), certificates.renewal()].into_iter().flatten().min();
        }
    }
}
