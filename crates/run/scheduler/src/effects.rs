//! Writes to the API, in the background.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use plimsoll_client::{EventRecorder, EventType, Term};
use plimsoll_schedule::extender::{Scored, binding, binding_error};
use plimsoll_schedule::{Booking, Diagnosis, Plugin, PodInfo, Point, Preemption, Profile, Reservation};
use plimsoll_volume::annotation::{BOUND_BY_CONTROLLER, SELECTED_NODE};
use plimsoll_volume::bound_to;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::devices::{self, CLAIM_PROTECTION};
use crate::extenders::{Consulted, Extender, Question};
use crate::metrics::Metrics;

/// How a write ended.
pub(crate) enum Outcome {
    /// The pod is on that node.
    Bound(Arc<PodInfo>, String),
    /// Others have had their say about the pod, or could not.
    Consulted(Arc<PodInfo>, Result<Consulted, String>),
    /// Others have said who may end for the pod, which found no node for these reasons.
    Reviewed(Arc<PodInfo>, Diagnosis, Result<Option<Preemption>, String>),
    /// It is not, because of this.
    NotBound(Arc<PodInfo>, String),
    /// The claims of that pod are on their way, since these versions.
    Prepared(Arc<str>, Vec<u64>),
    /// They are not, because of this.
    NotPrepared(Arc<str>, String),
    /// Room for that pod could not be made, because of this.
    NotPreempted(Arc<PodInfo>, String),
    /// The condition of that pod could not be written.
    NotReported(Arc<str>),
}

/// Starts writes and tells how they ended.
pub(crate) struct Effects {
    client: kube::Client,
    term: Term,
    /// By the names of schedulers.
    recorders: HashMap<String, EventRecorder>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    metrics: Arc<Metrics>,
}

impl Effects {
    pub(crate) fn new(
        client: kube::Client,
        term: Term,
        recorders: HashMap<String, EventRecorder>,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::UnboundedReceiver<Outcome>) {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        (Effects { client, term, recorders, outcomes, metrics }, receiver)
    }

    /// Writes what the pod's claims on devices get, and binds the pod to the node.
    pub(crate) fn bind(
        &self,
        pod: Arc<PodInfo>,
        node: String,
        bookings: Vec<Booking>,
        binder: Option<Extender>,
        profile: &Profile,
    ) {
        let (metrics, patience) = (self.metrics.clone(), profile.device_timeout);
        let profile = profile.scheduler_name.clone();
        let (api, outcomes, term) = (self.pods(&pod), self.outcomes.clone(), self.term.clone());
        let client = self.client.clone();
        tokio::spawn(async move {
            if !term.holds() {
                drop(outcomes.send(Outcome::NotBound(pod, "leaderelection lost".to_owned())));
                return;
            }
            let begun = Instant::now();
            let written = devices::book(&client, &pod, &bookings, patience).await;
            if !bookings.is_empty() {
                let plugin = (Point::PreBind, Plugin::DynamicResources);
                let status = if written.is_ok() { "Success" } else { "Error" };
                metrics.executed(&profile, plugin, status, begun.elapsed());
            }
            if let Err(error) = written {
                let why = format!("running PreBind plugin \"DynamicResources\": {error}");
                drop(outcomes.send(Outcome::NotBound(pod, why)));
                return;
            }
            if let Some(extender) = binder {
                let order = binding(&pod.namespace, &pod.name, &pod.uid, &node);
                let answer = extender.bind(&order).await;
                let outcome = match answer.map(|answer| binding_error(&answer)) {
                    Ok(None) => Outcome::Bound(pod, node),
                    Ok(Some(why)) | Err(why) => Outcome::NotBound(pod, format!("binding rejected: {why}")),
                };
                drop(outcomes.send(outcome));
                return;
            }
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": *pod.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let begun = Instant::now();
            let answer: Result<Value, _> =
                api.create_subresource("binding", &pod.name, &PostParams::default(), &binding).await;
            let binder = (Point::Bind, Plugin::DefaultBinder);
            let status = if answer.is_ok() { "Success" } else { "Error" };
            metrics.executed(&profile, binder, status, begun.elapsed());
            let outcome = match answer {
                Ok(_) => Outcome::Bound(pod, node),
                Err(error) => {
                    let why = format!("binding rejected: {}", text(&error));
                    tracing::info!(pod = %pod.name, namespace = %pod.namespace, %node, %error, "pod not bound");
                    Outcome::NotBound(pod, why)
                }
            };
            // Nobody listens any more when the scheduler ends.
            drop(outcomes.send(outcome));
        });
    }

    /// Writes which volumes the pod's claims get, or for which node they are to be made.
    pub(crate) fn prepare(&self, pod: Arc<str>, reservations: Vec<Reservation>) {
        let (client, outcomes) = (self.client.clone(), self.outcomes.clone());
        tokio::spawn(async move {
            let mut versions = Vec::with_capacity(reservations.len());
            for reservation in &reservations {
                match write(&client, reservation).await {
                    Ok(version) => versions.push(version),
                    Err(error) => {
                        drop(outcomes.send(Outcome::NotPrepared(pod, text(&error))));
                        return;
                    }
                }
            }
            drop(outcomes.send(Outcome::Prepared(pod, versions)));
        });
    }

    /// Lets others have their say about the nodes of a pod.
    pub(crate) fn consult(&self, pod: Arc<PodInfo>, question: Question, nodes: Scored) {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            let left = question.ask(nodes).await;
            drop(outcomes.send(Outcome::Consulted(pod, left)));
        });
    }

    /// Lets others have their say about who ends for a pod.
    pub(crate) fn review(
        &self,
        pod: Arc<PodInfo>,
        question: Question,
        found: Vec<Preemption>,
        diagnosis: Diagnosis,
    ) {
        let outcomes = self.outcomes.clone();
        tokio::spawn(async move {
            let left = question.review(found).await;
            drop(outcomes.send(Outcome::Reviewed(pod, diagnosis, left)));
        });
    }

    /// Takes the devices of a claim that nobody uses away, so that it may get others.
    pub(crate) fn deallocate(&self, claim: Arc<ResourceClaim>) {
        let client = self.client.clone();
        tokio::spawn(async move {
            let meta = &claim.metadata;
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let api = Api::<ResourceClaim>::namespaced(client, namespace);
            let body = json!({"metadata": {"resourceVersion": meta.resource_version},
                "status": {"allocation": null, "reservedFor": null}});
            let name = meta.name.as_deref().unwrap_or_default();
            if let Err(error) = api.patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await {
                tracing::debug!(claim = name, namespace, %error, "devices not taken away");
            }
        });
    }

    /// Removes a claim that was made for a pod and is of no use.
    pub(crate) fn remove(&self, claim: Arc<ResourceClaim>) {
        let client = self.client.clone();
        tokio::spawn(async move {
            let meta = &claim.metadata;
            let (name, namespace) = (meta.name.as_deref().unwrap_or_default(), meta.namespace.as_deref());
            let api = Api::<ResourceClaim>::namespaced(client, namespace.unwrap_or_default());
            let others = meta.finalizers.iter().flatten().filter(|one| *one != CLAIM_PROTECTION);
            let others: Vec<&String> = others.collect();
            let free = json!({"metadata": {"uid": meta.uid, "finalizers": others}});
            let params = DeleteParams::default()
                .preconditions(Preconditions { uid: meta.uid.clone(), resource_version: None });
            let removed = match api.patch(name, &PatchParams::default(), &Patch::Merge(free)).await {
                Ok(_) => api.delete(name, &params).await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::debug!(claim = name, namespace, %error, "claim of extended resources not removed");
            }
        });
    }

    /// Ends the victims, and promises the node to the pod.
    pub(crate) fn preempt(&self, pod: &Arc<PodInfo>, found: Preemption, scheduler: &str) {
        let (client, outcomes, pod) = (self.client.clone(), self.outcomes.clone(), pod.clone());
        let message = format!("{scheduler}: preempting to accommodate a higher priority pod");
        tokio::spawn(async move {
            let promise = Patch::Strategic(json!({"status": {"nominatedNodeName": found.node}}));
            let own = Api::<Pod>::namespaced(client.clone(), &pod.namespace);
            if let Err(error) = own.patch_status(&pod.name, &PatchParams::default(), &promise).await {
                drop(outcomes.send(Outcome::NotPreempted(pod, text(&error))));
                return;
            }
            for victim in found.victims.iter().filter(|victim| !victim.terminating) {
                if let Err(error) = end(&client, victim, &message).await {
                    drop(outcomes.send(Outcome::NotPreempted(pod, text(&error))));
                    return;
                }
            }
        });
    }

    /// Writes why the pod found no node into its condition.
    pub(crate) fn report(&self, pod: &Arc<PodInfo>, message: &str) {
        let (api, outcomes, pod) = (self.pods(pod), self.outcomes.clone(), pod.clone());
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastProbeTime": null,
            "lastTransitionTime": Time(Timestamp::now()),
        });
        tokio::spawn(async move {
            let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
            if let Err(error) = api.patch_status(&pod.name, &PatchParams::default(), &patch).await {
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, %error, "condition not written");
                drop(outcomes.send(Outcome::NotReported(pod.uid.clone())));
            }
        });
    }

    /// Tells users what happened to the pod.
    pub(crate) fn event(
        &self,
        scheduler: &str,
        pod: &PodInfo,
        kind: EventType,
        reason: &str,
        message: String,
    ) {
        let Some(recorder) = self.recorders.get(scheduler) else { return };
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        recorder.event(&object, kind, reason, message);
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }
}

/// Marks a pod as ended for another, and deletes it. One that is gone already is no failure.
async fn end(client: &kube::Client, victim: &PodInfo, message: &str) -> Result<(), kube::Error> {
    let api = Api::<Pod>::namespaced(client.clone(), &victim.namespace);
    let uid = victim.uid.to_string();
    let mark = json!({"metadata": {"uid": uid}, "status": {"conditions": [{
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": message,
        "lastTransitionTime": Time(Timestamp::now()),
    }]}});
    let marked = api.patch_status(&victim.name, &PatchParams::default(), &Patch::Strategic(mark)).await;
    let params =
        DeleteParams::default().preconditions(Preconditions { uid: Some(uid), resource_version: None });
    let ended = match marked {
        Ok(_) => api.delete(&victim.name, &params).await.map(drop),
        Err(error) => Err(error),
    };
    match ended {
        // Gone, or another one by that name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// Writes a reservation unless it is written; the answer is the version since which the API shows it.
async fn write(client: &kube::Client, reservation: &Reservation) -> Result<u64, kube::Error> {
    let meta = &reservation.claim().metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let version = match reservation {
        Reservation::Bind { claim, volume } => {
            let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
            if owner.is_some_and(|owner| owner.uid.is_some() && owner.uid == meta.uid) {
                return Ok(0);
            }
            let mut body = json!({"metadata": {"resourceVersion": volume.metadata.resource_version},
                "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace,
                    "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version}}});
            if !bound_to(volume, claim) {
                body["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
            }
            let api = Api::<PersistentVolume>::all(client.clone());
            let name = text(&volume.metadata.name);
            let written = api.patch(&name, &PatchParams::default(), &Patch::Merge(body)).await?;
            written.metadata.resource_version
        }
        Reservation::Provision { node, .. } => {
            if meta.annotations.as_ref().and_then(|all| all.get(SELECTED_NODE)) == Some(node) {
                return Ok(0);
            }
            let body = json!({"metadata": {"resourceVersion": meta.resource_version, "annotations": {SELECTED_NODE: node}}});
            let api = Api::<PersistentVolumeClaim>::namespaced(client.clone(), &text(&meta.namespace));
            let written = api.patch(&text(&meta.name), &PatchParams::default(), &Patch::Merge(body)).await?;
            written.metadata.resource_version
        }
    };
    Ok(version.and_then(|version| version.parse().ok()).unwrap_or_default())
}

/// What an error of the API says.
pub(crate) fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
