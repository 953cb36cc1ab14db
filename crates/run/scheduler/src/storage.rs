//! Everything about storage as one stream of changes.

use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use plimsoll_client::{Delta, Informers, Object};
use plimsoll_schedule::Storage;

/// Kinds that are followed.
pub(crate) const KINDS: u8 = 7;

/// What a change does to the scheduler's picture; `None` once a kind is known completely.
pub(crate) type Change = Option<Box<dyn FnOnce(&mut Storage) + Send>>;

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
    let deltas = informers.informer::<K>().subscribe();
    stream::unfold(deltas, move |mut deltas| async move {
        let change: Change = match deltas.recv().await? {
            Delta::Applied { new, .. } => Some(Box::new(move |storage| set(storage, new))),
            Delta::Deleted(old) => Some(Box::new(move |storage| remove(storage, &old))),
            Delta::Synced => None,
        };
        Some((change, deltas))
    })
    .boxed()
}
