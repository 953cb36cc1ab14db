//! A ReplicaSet as it is and as it is to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::annotations;
use crate::action::{Action, Severity};
use crate::owner::controller_ref;
use crate::{fingerprint, template};

/// The label that tells one template's pods from another's.
const HASH: &str = "pod-template-hash";

pub(super) struct Draft {
    set: Arc<ReplicaSet>,
    is_new: bool,
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) annotations: BTreeMap<String, String>,
}

impl Draft {
    pub(super) fn of(set: Arc<ReplicaSet>) -> Self {
        Self {
            is_new: false,
            replicas: set.spec.replicas.unwrap_or(1),
            min_ready_seconds: set.spec.min_ready_seconds.unwrap_or_default(),
            annotations: set.metadata.annotations.clone().unwrap_or_default(),
            set,
        }
    }

    /// A ReplicaSet for the present template, with no replicas yet.
    pub(super) fn create(deployment: &Deployment, spec: &DeploymentSpec) -> Self {
        let collisions =
            deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or_default();
        let hash = fingerprint::of(&spec.template, collisions);
        let mut template = spec.template.clone();
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(HASH.to_owned(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector.clone();
        selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", deployment.metadata.name.as_deref().unwrap_or_default())),
                namespace: deployment.metadata.namespace.clone(),
                owner_references: Some(vec![controller_ref(deployment)]),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            spec: ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            },
            status: None,
        };
        Self {
            set: Arc::new(set),
            is_new: true,
            replicas: 0,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            annotations: BTreeMap::new(),
        }
    }

    pub(super) fn age(&self) -> impl Ord + use<> {
        age(&self.set)
    }

    /// The template that it was made for.
    pub(super) fn template(&self) -> PodTemplateSpec {
        unhashed(&self.set)
    }

    pub(super) fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> Option<&str> {
        self.set.metadata.uid.as_deref()
    }

    /// Its ending pods, if it says.
    pub(super) fn terminating(&self) -> Option<i32> {
        self.set.status.as_ref()?.terminating_replicas
    }

    pub(super) fn status(&self) -> ReplicaSetStatus {
        self.set.status.clone().unwrap_or_default()
    }

    /// Its available pods, as it last said.
    pub(super) fn available(&self) -> i32 {
        self.set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
    }

    /// Its available pods that it is to keep: what it last said may be from before it was made smaller.
    pub(super) fn lasting(&self) -> i32 {
        self.available().min(self.replicas)
    }

    /// Replicas it was told to have before this decision.
    pub(super) fn told(&self) -> i32 {
        if self.is_new { 0 } else { self.set.spec.replicas.unwrap_or(1) }
    }

    pub(super) fn revision(&self) -> i64 {
        self.annotations.get(annotations::REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
    }

    /// A size annotation.
    pub(super) fn noted(&self, annotation: &str) -> Option<i32> {
        self.annotations.get(annotation)?.parse().ok()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.set.metadata.deletion_timestamp.is_some()
    }

    /// Whether it has no pods, wants none and knows it.
    pub(super) fn is_idle(&self) -> bool {
        let status = self.set.status.as_ref();
        let observed = status.and_then(|status| status.observed_generation).unwrap_or_default();
        self.replicas == 0
            && status.is_none_or(|status| status.replicas == 0)
            && self.set.metadata.generation.unwrap_or_default() <= observed
            && !self.is_deleting()
    }

    pub(super) fn deletion(&self) -> Option<Action> {
        (!self.is_new).then(|| Action::delete(&*self.set).into())
    }

    /// Makes it, or writes what changed.
    pub(super) fn write(&self, deployment: &Deployment) -> Option<Action> {
        if self.is_new {
            let mut set = (*self.set).clone();
            set.metadata.annotations = Some(self.annotations.clone());
            set.spec.replicas = Some(self.replicas);
            debug_assert_eq!(set.metadata.namespace, deployment.metadata.namespace);
            return Some(Action::create(&set).into());
        }
        let mut body = json!({});
        let changed: Map<String, Value> = {
            let present = self.set.metadata.annotations.as_ref();
            let differs = |key: &String, value: &String| present.and_then(|all| all.get(key)) != Some(value);
            let changed = self.annotations.iter().filter(|(key, value)| differs(key, value));
            changed.map(|(key, value)| (key.clone(), json!(value))).collect()
        };
        if !changed.is_empty() {
            body["metadata"]["annotations"] = Value::Object(changed);
        }
        if self.replicas != self.told() {
            body["spec"]["replicas"] = json!(self.replicas);
        }
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or_default();
        if self.min_ready_seconds != min_ready {
            body["spec"]["minReadySeconds"] = json!(self.min_ready_seconds);
        }
        (body != json!({})).then(|| Action::patch(&*self.set, body))
    }

    /// Tells of a changed size.
    pub(super) fn event(&self, deployment: &Deployment) -> Option<Action> {
        let (from, to) = (self.told(), self.replicas);
        let direction = match to.cmp(&from) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => "up",
            std::cmp::Ordering::Less => "down",
        };
        let message = format!("Scaled {direction} replica set {} from {from} to {to}", self.name());
        Some(Action::event(deployment, Severity::Normal, "ScalingReplicaSet", message))
    }
}

/// Orders ReplicaSets, the oldest first.
pub(super) fn age(set: &Arc<ReplicaSet>) -> impl Ord + use<> {
    (set.metadata.creation_timestamp.clone(), set.metadata.name.clone())
}

/// Whether a ReplicaSet was made for this template: the hash label apart, they are equal.
pub(super) fn is_for(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    set.spec.template.is_some() && template::same(&unhashed(set), template)
}

/// The template without what tells its pods from another template's.
fn unhashed(set: &ReplicaSet) -> PodTemplateSpec {
    let mut template = set.spec.template.clone().unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH);
    }
    template
}

/// A patch of the Deployment without its version: a way back and the status that follows it are one
/// decision, and nobody else writes these fields.
pub(super) fn unversioned(action: Action) -> Action {
    let Action::Patch(mut patch) = action else { return action };
    if let Some(meta) = patch.body["metadata"].as_object_mut() {
        meta.remove("resourceVersion");
    }
    Action::Patch(patch)
}
