//! What only one pod may use at a time: claims of the mode ReadWriteOncePod, and disks that pods name themselves.

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::diagnosis::Reason;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

/// The mode of claims that are for one pod alone.
const ONE_POD: &str = "ReadWriteOncePod";

/// A disk that a pod names itself, without a claim. Two pods of a node share it only where both just read it;
/// disks of AWS they never share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    id: Id,
    read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Id {
    Gce(String),
    Aws(String),
    Iscsi(String),
    Rbd { monitors: Vec<String>, pool: String, image: String },
}

impl Disk {
    /// The disks of a pod.
    pub(crate) fn of(pod: &Pod) -> Vec<Self> {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.filter_map(Self::read).collect()
    }

    fn read(volume: &Volume) -> Option<Self> {
        let (id, read_only) = if let Some(disk) = &volume.gce_persistent_disk {
            (Id::Gce(disk.pd_name.clone()), disk.read_only)
        } else if let Some(disk) = &volume.aws_elastic_block_store {
            (Id::Aws(disk.volume_id.clone()), Some(false))
        } else if let Some(disk) = &volume.iscsi {
            (Id::Iscsi(disk.iqn.clone()), disk.read_only)
        } else {
            let disk = volume.rbd.as_ref()?;
            let pool = disk.pool.clone().unwrap_or_else(|| "rbd".to_owned());
            (Id::Rbd { monitors: disk.monitors.clone(), pool, image: disk.image.clone() }, disk.read_only)
        };
        Some(Self { id, read_only: read_only == Some(true) })
    }

    fn clashes(&self, other: &Self) -> bool {
        let same = match (&self.id, &other.id) {
            (
                Id::Rbd { monitors, pool, image },
                Id::Rbd { monitors: others, pool: other_pool, image: other_image },
            ) => {
                pool == other_pool
                    && image == other_image
                    && monitors.iter().any(|monitor| others.contains(monitor))
            }
            (one, other) => one == other,
        };
        same && !(self.read_only && other.read_only)
    }
}

/// Whether a claim of the pod is for one pod alone, and another has it.
pub(crate) fn claim_is_taken(pod: &PodInfo, snapshot: &Snapshot) -> bool {
    let mut shared = pod.claims.iter().filter(|used| !used.own);
    shared.any(|used| {
        let claim = snapshot.storage.claim(&pod.namespace, &used.name);
        let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.as_deref());
        modes.is_some_and(|modes| modes.iter().any(|mode| mode == ONE_POD))
            && snapshot.mounts().is_used(&pod.namespace, &used.name)
    })
}

/// `taken` is [`claim_is_taken`].
pub(crate) fn filter(
    pod: &PodInfo,
    taken: bool,
    snapshot: &Snapshot,
    node: &str,
) -> Result<(), Reason<'static>> {
    let there = || snapshot.mounts().on(node).flat_map(|other| &other.disks);
    if pod.disks.iter().any(|disk| there().any(|other| disk.clashes(other))) {
        return Err(Reason::Disk);
    }
    if taken { Err(Reason::ClaimOfOnePod) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn disk(volume: Value) -> Disk {
        let pod = json!({"spec": {"containers": [], "volumes": [volume]}});
        Disk::of(&serde_json::from_value(pod).unwrap()).pop().unwrap()
    }

    #[test]
    fn disks_clash_unless_all_only_read() {
        let gce = |name: &str, only: bool| json!({"name": "v", "gcePersistentDisk": {"pdName": name, "readOnly": only}});
        let aws = |id: &str| json!({"name": "v", "awsElasticBlockStore": {"volumeID": id, "readOnly": true}});
        let iscsi = |iqn: &str, only: bool| json!({"name": "v", "iscsi": {"iqn": iqn, "targetPortal": "p", "lun": 0, "readOnly": only}});
        let rbd = |monitors: &[&str], image: &str, only: bool| json!({"name": "v", "rbd": {"monitors": monitors, "image": image, "readOnly": only}});
        for (one, two, expected) in [
            (gce("a", false), gce("a", true), true),
            (gce("a", true), gce("a", true), false),
            (gce("a", false), gce("b", false), false),
            (gce("a", false), aws("a"), false),
            (aws("a"), aws("a"), true),
            (iscsi("a", false), iscsi("a", true), true),
            (iscsi("a", true), iscsi("a", true), false),
            (rbd(&["m", "n"], "i", false), rbd(&["n"], "i", true), true),
            (rbd(&["m"], "i", false), rbd(&["n"], "i", false), false),
            (rbd(&["m"], "i", false), rbd(&["m"], "j", false), false),
        ] {
            assert_eq!(disk(one.clone()).clashes(&disk(two.clone())), expected, "{one} and {two}");
        }
    }
}
