//! Writes to the API, in the background.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use plimsoll_client::{EventRecorder, EventType};
use plimsoll_schedule::PodInfo;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// How a write ended.
pub(crate) enum Outcome {
    /// The pod is on that node.
    Bound(Arc<PodInfo>, String),
    /// It is not, because of this.
    NotBound(Arc<PodInfo>, String),
    /// The condition of that pod could not be written.
    NotReported(Arc<str>),
}

/// Starts writes and tells how they ended.
pub(crate) struct Effects {
    client: kube::Client,
    recorder: EventRecorder,
    outcomes: mpsc::UnboundedSender<Outcome>,
}

impl Effects {
    pub(crate) fn new(
        client: kube::Client,
        recorder: EventRecorder,
    ) -> (Self, mpsc::UnboundedReceiver<Outcome>) {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        (Effects { client, recorder, outcomes }, receiver)
    }

    /// Binds the pod to the node.
    pub(crate) fn bind(&self, pod: Arc<PodInfo>, node: String) {
        let (api, outcomes) = (self.pods(&pod), self.outcomes.clone());
        tokio::spawn(async move {
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": *pod.uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": node},
            });
            let answer: Result<Value, _> =
                api.create_subresource("binding", &pod.name, &PostParams::default(), &binding).await;
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
    pub(crate) fn event(&self, pod: &PodInfo, kind: EventType, reason: &str, message: String) {
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.clone()),
            name: Some(pod.name.clone()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        self.recorder.event(&object, kind, reason, message);
    }

    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.namespace)
    }
}

fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
