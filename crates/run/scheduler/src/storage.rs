//! Storage, devices, and what groups pods, as one stream of changes.

use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, ReplicationController, Service};
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use plimsoll_client::{Delta, Informers, Object};
use plimsoll_schedule::{Change as News, Devices, Selectors, Snapshot, Storage};

/// Kinds that are followed.
pub(crate) const KINDS: u8 = 11;

/// A change; `None` once a kind is known completely.
pub(crate) type Change = Option<Changed>;

/// What a change does to the scheduler's picture.
pub(crate) enum Changed {
    /// To storage, which pods may wait for.
    Storage(Box<dyn FnOnce(&mut Storage) + Send>),
    /// To devices, which pods may wait for.
    Devices(Box<dyn FnOnce(&mut Devices) + Send>),
    /// To what groups pods, which only makes places better or worse.
    Selectors(Box<dyn FnOnce(&mut Selectors) + Send>),
}

impl Changed {
    /// Does it. The answer is what pods may have waited for.
    pub(crate) fn apply(self, snapshot: &mut Snapshot) -> News {
        match self {
            Changed::Storage(change) => {
                change(&mut snapshot.storage);
                News::Storage
            }
            Changed::Selectors(change) => {
                change(&mut snapshot.selectors);
                News::Nothing
            }
            Changed::Devices(change) => {
                change(&mut snapshot.devices);
                News::Devices
            }
        }
    }
}

/// All changes of all kinds.
pub(crate) fn follow(informers: &Informers) -> impl Stream<Item = Change> + Unpin + use<> {
    stream::select_all([
        kind::<PersistentVolumeClaim>(informers, Storage::set_claim, Storage::remove_claim),
        kind::<PersistentVolume>(informers, Storage::set_volume, Storage::remove_volume),
        kind::<StorageClass>(informers, Storage::set_class, Storage::remove_class),
        kind::<CSIDriver>(informers, Storage::set_driver, Storage::remove_driver),
        kind::<CSIStorageCapacity>(informers, Storage::set_room, Storage::remove_room),
        kind::<CSINode>(informers, Storage::set_csi_node, Storage::remove_csi_node),
        kind::<VolumeAttachment>(informers, Storage::set_attachment, Storage::remove_attachment),
        group::<Service>(informers, Selectors::set_service, Selectors::remove_service),
        group::<ReplicationController>(
            informers,
            Selectors::set_replication_controller,
            Selectors::remove_replication_controller,
        ),
        group::<ReplicaSet>(informers, Selectors::set_replica_set, Selectors::remove_replica_set),
        group::<StatefulSet>(informers, Selectors::set_stateful_set, Selectors::remove_stateful_set),
        devices::<ResourceSlice>(informers, Devices::set_slice, Devices::remove_slice),
        devices::<DeviceClass>(informers, Devices::set_class, Devices::remove_class),
        devices::<ResourceClaim>(informers, Devices::set_claim, Devices::remove_claim),
        devices::<DeviceTaintRule>(informers, Devices::set_rule, Devices::remove_rule),
    ])
}

fn kind<K>(
    informers: &Informers,
    set: fn(&mut Storage, Arc<K>),
    remove: fn(&mut Storage, &K),
) -> BoxStream<'static, Change>
where
    K: Object + kube::Resource<DynamicType = ()>,
{
    changes(informers, move |delta| match delta {
        Delta::Applied { new, .. } => Some(Changed::Storage(Box::new(move |storage| set(storage, new)))),
        Delta::Deleted(old) => Some(Changed::Storage(Box::new(move |storage| remove(storage, &old)))),
        Delta::Synced => None,
    })
}

fn group<K>(
    informers: &Informers,
    set: fn(&mut Selectors, &K),
    remove: fn(&mut Selectors, &K),
) -> BoxStream<'static, Change>
where
    K: Object + kube::Resource<DynamicType = ()>,
{
    changes(informers, move |delta| match delta {
        Delta::Applied { new, .. } => Some(Changed::Selectors(Box::new(move |all| set(all, &new)))),
        Delta::Deleted(old) => Some(Changed::Selectors(Box::new(move |all| remove(all, &old)))),
        Delta::Synced => None,
    })
}

/// Nobody waits until these are known completely: not every API server has them, and pods without claims on devices
/// do not need them.
fn devices<K>(
    informers: &Informers,
    set: fn(&mut Devices, Arc<K>),
    remove: fn(&mut Devices, &K),
) -> BoxStream<'static, Change>
where
    K: Object + kube::Resource<DynamicType = ()>,
{
    let all = changes(informers, move |delta| match delta {
        Delta::Applied { new, .. } => Some(Changed::Devices(Box::new(move |devices| set(devices, new)))),
        Delta::Deleted(old) => Some(Changed::Devices(Box::new(move |devices| remove(devices, &old)))),
        Delta::Synced => None,
    });
    all.filter(|change| std::future::ready(change.is_some())).boxed()
}

fn changes<K>(
    informers: &Informers,
    change: impl Fn(Delta<K>) -> Change + Send + Sync + Copy + 'static,
) -> BoxStream<'static, Change>
where
    K: Object + kube::Resource<DynamicType = ()>,
{
    let deltas = informers.informer::<K>().subscribe();
    stream::unfold(deltas, move |mut deltas| async move { Some((change(deltas.recv().await?), deltas)) })
        .boxed()
}
