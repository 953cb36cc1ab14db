//! The kinds of the simulated cluster, and objects as caches hold them.

use std::any::Any;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttachment};
use plimsoll_reconcile::action::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object of any kind, read once.
pub(crate) type Typed = Arc<dyn Any + Send + Sync>;

/// A kind: its names, how it is read, and whether it has a status of its own door.
pub(crate) struct Kind {
    pub(crate) resource: Resource,
    pub(crate) read: fn(&Value) -> Typed,
    pub(crate) has_status: bool,
}

/// The number of a kind in [`all`].
pub(crate) type KindId = usize;

/// Every kind.
pub(crate) fn all() -> Vec<Kind> {
    vec![
        row::<Pod>(true),
        row::<ReplicaSet>(true),
        row::<Deployment>(true),
        row::<ReplicationController>(true),
        row::<DaemonSet>(true),
        row::<StatefulSet>(true),
        row::<ControllerRevision>(false),
        row::<PersistentVolumeClaim>(true),
        row::<PersistentVolume>(true),
        row::<StorageClass>(false),
        row::<Namespace>(true),
        row::<Job>(true),
        row::<CronJob>(true),
        row::<Service>(true),
        row::<EndpointSlice>(false),
        row::<PodDisruptionBudget>(true),
        row::<Node>(true),
        row::<HorizontalPodAutoscaler>(true),
        row::<VolumeAttachment>(true),
    ]
}

fn row<K>(has_status: bool) -> Kind
where
    K: k8s_openapi::Resource + DeserializeOwned + Send + Sync + 'static,
{
    let read = |value: &Value| -> Typed {
        match K::deserialize(value) {
            Ok(object) => Arc::new(object),
            Err(error) => panic!("{} is not valid: {error}: {value}", K::KIND),
        }
    };
    Kind { resource: Resource::of::<K>(), read, has_status }
}

/// An object of a known type.
pub(crate) fn typed<K: Send + Sync + 'static>(object: &Typed) -> Arc<K> {
    object.clone().downcast::<K>().expect("a cache holds objects of its kind")
}
