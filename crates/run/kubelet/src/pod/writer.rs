//! The status of a pod on its way to the API.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use plimsoll_client::Backoff;
use plimsoll_podlife::static_pod::is_static;
use plimsoll_podlife::{Input, status_patch};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Done, Task, has_claims};

/// The status in the API, and what is on its way there.
pub(super) struct Writer {
    /// The status as the API has it, as far as is known. As text it takes a tenth of the room.
    known: Box<str>,
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
    pub(super) fn new(pod: &Pod) -> Self {
        Self {
            known: status_of(pod),
            version: version(pod),
            busy: false,
            retry: None,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(10)),
            finish: false,
            deleted: false,
            changed: None,
            place: if is_static(pod) { Place::Mirror(None) } else { Place::Own },
        }
    }

    /// When to try again.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.retry
    }

    /// The pod is to be deleted when its last status is sent.
    pub(super) fn finish(&mut self) {
        self.finish = true;
    }

    /// The API has this version of the pod.
    pub(super) fn heard(&mut self, pod: &Pod) {
        if matches!(self.place, Place::Own) && version(pod) > self.version && !self.busy {
            (self.known, self.version) = (status_of(pod), version(pod));
        }
    }

    /// A static pod has another mirror, or another version of it.
    pub(super) fn mirrored(&mut self, mirror: Option<Arc<Pod>>) {
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

    fn known(&self) -> Value {
        self.known.parse().unwrap_or_default()
    }

    /// What has to be changed in the API for a status, which `told` is the text of.
    fn patch(&self, uid: &str, status: &Value, told: &str) -> Option<Value> {
        if *self.known == *told { None } else { status_patch(uid, &self.known(), status) }
    }

    /// What the API has of a container's devices.
    fn last_devices(&self, list: &str, container: &str) -> Option<Value> {
        if !self.known.contains(DEVICES) {
            return None;
        }
        let known = self.known();
        let mut all = known.get(list)?.as_array()?.iter();
        all.find(|it| it["name"] == container)?.get(DEVICES).cloned()
    }

    /// The UID of what the status is written to.
    fn target(&self, own: &str) -> Option<String> {
        match &self.place {
            Place::Own => Some(own.to_owned()),
            Place::Mirror(uid) => uid.clone(),
        }
    }
}

/// Where a container's status tells of its devices.
const DEVICES: &str = "allocatedResourcesStatus";

fn status_of(pod: &Pod) -> Box<str> {
    pod.status.as_ref().map_or_else(|| json!({}), |status| json!(status)).to_string().into()
}

/// Resource versions of one server grow.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

impl Task {
    /// Sends the status when it differs from what the API has. One patch is under way at a time, and
    /// the next one tells the newest.
    pub(super) fn publish(&mut self) {
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
        let mut status = json!(self.life.status(now));
        self.tell_devices(&mut status);
        let Some(uid) = self.writer.target(pod.metadata.uid.as_deref().unwrap_or_default()) else { return };
        let name = pod.metadata.name.clone().unwrap_or_default();
        let pods = self.pods();
        let told = status.to_string();
        if let Some(patch) = self.writer.patch(&uid, &status, &told) {
            self.writer.busy = true;
            self.writer.changed.get_or_insert_with(std::time::Instant::now);
            self.work.spawn(async move {
                let result =
                    pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                Done::Patched(result.map(Box::new), told.into())
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
                    container[DEVICES] = Value::Array(told);
                } else if let Some(last) = self.writer.last_devices(list, name) {
                    // What a container had and has no more stays as it was.
                    container[DEVICES] = last;
                }
            }
        }
    }

    fn pods(&self) -> Api<Pod> {
        let namespace = self.life.pod().metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.agent.client.clone(), namespace)
    }

    pub(super) fn patched(&mut self, result: Result<Box<Pod>, kube::Error>, sent: Box<str>) {
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

    pub(super) fn deleted(&mut self, result: Result<(), kube::Error>) {
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
}
