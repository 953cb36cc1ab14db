//! Storage, and what groups pods, as one stream of changes.

use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, ReplicationController, Service};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use plimsoll_client::{Delta, Informers, Object};
use plimsoll_schedule::{Selectors, Snapshot, Storage};

/// Kinds that are followed.
pub(crate) const KINDS: u8 = 11;

/// A change; `None` once a kind is known completely.
pub(crate) type Change = Option<Changed>;

/// What a change does to the scheduler's picture.
pub(crate) enum Changed {
    /// To storage, which pods may wait for.
    Storage(Box<dyn FnOnce(&mut Storage) + Send>),
    /// To what groups pods, which only makes places better or worse.
    Selectors(Box<dyn FnOnce(&mut Selectors) + Send>),
}

impl Changed {
    /// Does it. The answer is whether pods may have waited for it.
    pub(crate) fn apply(self, snapshot: &mut Snapshot) -> bool {
        match self {
            Changed::Storage(change) => {
                change(&mut snapshot.storage);
                true
            }
            Changed::Selectors(change) => {
                change(&mut snapshot.selectors);
                false
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
