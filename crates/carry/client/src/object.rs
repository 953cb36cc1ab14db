//! What a cache needs to know about an object.

use std::any::Any;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An object that can live in an informer's cache. Every `k8s_openapi` type does.
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    /// Its namespace, or "" in cluster scope.
    fn namespace(&self) -> &str;
    /// Its name.
    fn name(&self) -> &str;
    /// Its unique id.
    fn uid(&self) -> &str;
    /// The version the server gave it.
    fn resource_version(&self) -> &str;
    /// The id of the owner that controls it.
    fn controller_uid(&self) -> Option<&str>;
    /// Drops what no cache reads: field ownership is often the larger half of an object.
    fn strip(&mut self);
    /// Whether a cache keeps it at all. One that it does not keep is as good as gone.
    fn is_kept(&self) -> bool {
        true
    }
}

impl<K: kube::Resource + DeserializeOwned + Send + Sync + 'static> Object for K {
    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
    fn controller_uid(&self) -> Option<&str> {
        let owners = self.meta().owner_references.as_deref()?;
        owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
    }
    fn strip(&mut self) {
        self.meta_mut().managed_fields = None;
        if let Some(pod) = (self as &mut dyn Any).downcast_mut::<Pod>() {
            fit(pod);
        }
    }
}

/// Gives back the room that decoding leaves in a pod's lists, half of the whole: a list that is read makes room for
/// four at once, and pods are what there are thousands of.
fn fit(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            shrink(&mut container.env);
            shrink(&mut container.volume_mounts);
            shrink(&mut container.ports);
        }
        spec.containers.shrink_to_fit();
        shrink(&mut spec.init_containers);
        shrink(&mut spec.volumes);
        shrink(&mut spec.tolerations);
    }
    if let Some(status) = &mut pod.status {
        shrink(&mut status.conditions);
        shrink(&mut status.container_statuses);
        shrink(&mut status.init_container_statuses);
        shrink(&mut status.pod_ips);
        shrink(&mut status.host_ips);
    }
}

fn shrink<T>(list: &mut Option<Vec<T>>) {
    if let Some(list) = list {
        list.shrink_to_fit();
    }
}

/// The part of any object's metadata that says what it belongs to: a tenth of the whole.
///
/// Made from `PartialObjectMetadata`, for loops that look at every kind (garbage collection).
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct MetadataObject {
    metadata: Metadata,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    namespace: Box<str>,
    #[serde(default)]
    name: Box<str>,
    #[serde(default)]
    uid: Box<str>,
    #[serde(default)]
    resource_version: Box<str>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    #[serde(default)]
    finalizers: Vec<Box<str>>,
    deletion_timestamp: Option<Time>,
}

/// An entry of `metadata.ownerReferences`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `group/version` of the owner's kind.
    pub api_version: Box<str>,
    /// The owner's kind.
    pub kind: Box<str>,
    /// The owner's name, in the same namespace or in cluster scope.
    pub name: Box<str>,
    /// The owner's unique id.
    pub uid: Box<str>,
    /// Whether this owner manages the object.
    #[serde(default)]
    pub controller: bool,
    /// Whether the owner's foreground deletion waits for the object.
    #[serde(default)]
    pub block_owner_deletion: bool,
}

impl MetadataObject {
    /// All owners.
    pub fn owners(&self) -> &[Owner] {
        &self.metadata.owner_references
    }

    /// The finalizers that still hold it.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.metadata.finalizers.iter().map(AsRef::as_ref)
    }

    /// Whether it carries this finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers().any(|finalizer| finalizer == name)
    }

    /// When its deletion was asked for.
    pub fn deletion_timestamp(&self) -> Option<&Time> {
        self.metadata.deletion_timestamp.as_ref()
    }
}

impl Object for MetadataObject {
    fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
    fn name(&self) -> &str {
        &self.metadata.name
    }
    fn uid(&self) -> &str {
        &self.metadata.uid
    }
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
    fn controller_uid(&self) -> Option<&str> {
        self.owners().iter().find(|owner| owner.controller).map(|owner| &*owner.uid)
    }
    fn strip(&mut self) {}
}
