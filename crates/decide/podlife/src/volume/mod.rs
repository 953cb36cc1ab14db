//! What a volume of a pod is on the node that runs it.
//!
//! A volume either says itself what it is, or names a claim that leads to a PersistentVolume which
//! does ([`claim`]). Both come out as a [`Source`].

pub mod claim;
pub mod csi;
pub mod growth;
mod memory;
mod mount;
pub mod nfs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PersistentVolume, Pod, ResourceRequirements, Volume};
use plimsoll_meta::quantity::Quantity;

use crate::projection::{Projection, projection};
use crate::spec::{Role, pod_spec, specs};
use csi::Csi;

pub use memory::memory_size;
pub use mount::{Propagation, propagation, recursive_read_only};

/// A volume as its node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The name of its folder: that of the volume, or of the PersistentVolume.
    pub name: String,
    /// What is behind it.
    pub kind: Kind,
    /// Whether nobody may write to it.
    pub read_only: bool,
    /// Whether containers get files or the device itself.
    pub mode: Mode,
    /// Options for the mount, as `PersistentVolume.spec.mountOptions` names them.
    pub options: Vec<String>,
    /// Whether one pod may use it at a time.
    pub single: bool,
    /// A group that every container gets to use it.
    pub group: Option<i64>,
}

/// What containers get of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A folder.
    Filesystem,
    /// A device.
    Block,
}

/// Where an empty folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// On the node's disk.
    Disk,
    /// In memory, with the most bytes that it takes.
    Memory(Option<i64>),
    /// In huge pages of this many bytes, or of the only size that the pod asks for.
    HugePages(i64),
}

/// The kinds of volumes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Files made from objects of the API.
    Files(Projection),
    /// An empty folder that lives as long as the pod.
    EmptyDir(Medium),
    /// A path of the node.
    HostPath {
        /// The path.
        path: String,
        /// What it has to be, in the words of the API; empty for anything.
        check: String,
    },
    /// A folder or device of the node behind a PersistentVolume.
    Local {
        /// The path.
        path: String,
    },
    /// A folder of an NFS server.
    Nfs {
        /// The server's name or address.
        server: String,
        /// The exported path.
        path: String,
    },
    /// The files of an image.
    Image {
        /// The image's name.
        reference: String,
        /// When it is pulled.
        policy: Option<String>,
    },
    /// What a CSI driver provides.
    Csi(Box<Csi>),
}

/// A volume that leads to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The claim's name.
    pub claim: String,
    /// Whether the pod only reads.
    pub read_only: bool,
    /// Whether the claim has to be the pod's own.
    pub owned: bool,
}

impl Kind {
    /// The name of upstream's plugin, which is part of the volume's folder.
    #[must_use]
    pub fn plugin(&self, volume: &Volume) -> &'static str {
        match self {
            Self::Files(_) if volume.config_map.is_some() => "configmap",
            Self::Files(_) if volume.secret.is_some() => "secret",
            Self::Files(_) if volume.downward_api.is_some() => "downward-api",
            Self::Files(_) => "projected",
            Self::EmptyDir(_) => "empty-dir",
            Self::HostPath { .. } => "host-path",
            Self::Local { .. } => "local-volume",
            Self::Nfs { .. } => "nfs",
            Self::Image { .. } => "image",
            Self::Csi(_) => "csi",
        }
    }
}

/// The claim that a volume leads to, if it leads to one.
#[must_use]
pub fn reference(pod: &Pod, volume: &Volume) -> Option<Reference> {
    if let Some(it) = &volume.persistent_volume_claim {
        let read_only = it.read_only.unwrap_or(false);
        return Some(Reference { claim: it.claim_name.clone(), read_only, owned: false });
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some(Reference { claim: format!("{pod}-{}", volume.name), read_only: false, owned: true })
}

/// What a volume without a claim is. `allocatable` is the memory that all pods may use.
///
/// # Errors
/// When the node has no such volumes.
pub fn inline(pod: &Pod, volume: &Volume, allocatable: Option<i64>) -> Result<Source, String> {
    let mut read_only = false;
    let kind = if let Some(projection) = projection(volume) {
        read_only = true;
        Kind::Files(projection)
    } else if let Some(it) = &volume.host_path {
        Kind::HostPath { path: it.path.clone(), check: it.type_.clone().unwrap_or_default() }
    } else if let Some(it) = &volume.nfs {
        read_only = it.read_only.unwrap_or(false);
        Kind::Nfs { server: it.server.clone(), path: it.path.clone() }
    } else if let Some(it) = &volume.image {
        read_only = true;
        Kind::Image { reference: it.reference.clone().unwrap_or_default(), policy: it.pull_policy.clone() }
    } else if let Some(it) = &volume.csi {
        read_only = it.read_only.unwrap_or(false);
        Kind::Csi(Box::new(Csi::ephemeral(pod, &volume.name, it)))
    } else if let Some(it) = &volume.empty_dir {
        Kind::EmptyDir(medium(pod, it, allocatable)?)
    } else if *volume == (Volume { name: volume.name.clone(), ..Volume::default() }) {
        // A volume that names no source is an empty folder.
        Kind::EmptyDir(Medium::Disk)
    } else {
        return Err("no volume plugin matched".into());
    };
    Ok(Source {
        name: volume.name.clone(),
        kind,
        read_only,
        mode: Mode::Filesystem,
        options: Vec::new(),
        single: false,
        group: None,
    })
}

/// What a PersistentVolume is.
///
/// # Errors
/// When the node has no such volumes.
pub fn persistent(volume: &PersistentVolume, read_only: bool) -> Result<Source, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    let mut own = false;
    let kind = if let Some(it) = spec.host_path {
        Kind::HostPath { path: it.path, check: it.type_.unwrap_or_default() }
    } else if let Some(it) = spec.local {
        Kind::Local { path: it.path }
    } else if let Some(it) = spec.nfs {
        own = it.read_only.unwrap_or(false);
        Kind::Nfs { server: it.server, path: it.path }
    } else if let Some(it) = spec.csi {
        own = it.read_only.unwrap_or(false);
        Kind::Csi(Box::new(Csi::persistent(it, modes.clone())))
    } else {
        return Err("no volume plugin matched".into());
    };
    Ok(Source {
        name: volume.metadata.name.clone().unwrap_or_default(),
        kind,
        read_only: read_only || own,
        mode: if spec.volume_mode.as_deref() == Some("Block") { Mode::Block } else { Mode::Filesystem },
        options: spec.mount_options.unwrap_or_default(),
        group: group(volume),
        single: modes.iter().any(|mode| mode == "ReadWriteOncePod"),
    })
}

/// The group that an administrator put on a volume: a number, 0 or above.
fn group(volume: &PersistentVolume) -> Option<i64> {
    let value = volume.metadata.annotations.as_ref()?.get("pv.beta.kubernetes.io/gid")?;
    value.parse().ok().filter(|group| *group >= 0)
}

fn medium(pod: &Pod, source: &EmptyDirVolumeSource, allocatable: Option<i64>) -> Result<Medium, String> {
    let limit = source.size_limit.as_ref().and_then(|it| it.0.parse::<Quantity>().ok());
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => Ok(Medium::Memory(memory_size(pod_spec(pod), limit, allocatable))),
        other => match other.strip_prefix("HugePages") {
            Some(size) => page_size(pod, other, size.strip_prefix('-')).map(Medium::HugePages),
            None => Err(format!("unknown storage medium \"{other}\"")),
        },
    }
}

/// The size of the pages that a medium is of: its own, or the only one that the pod asks for.
fn page_size(pod: &Pod, medium: &str, named: Option<&str>) -> Result<i64, String> {
    let wanted = named.and_then(|size| size.parse::<Quantity>().ok()).map(|size| size.value());
    let sizes: BTreeSet<i64> = specs(pod)
        .iter()
        .filter(|spec| spec.role != Role::Ephemeral)
        .flat_map(|spec| asked_sizes(spec.container.resources.as_ref()))
        .filter(|size| wanted.is_none_or(|wanted| wanted == *size))
        .collect();
    if sizes.len() > 1 {
        return Err(format!("medium: {medium} can't be used if container requests multiple huge page sizes"));
    }
    sizes.into_iter().next().ok_or_else(|| {
        format!(
            "medium {medium}: hugePages storage requested, but there is no resource request for huge pages"
        )
    })
}

fn asked_sizes(resources: Option<&ResourceRequirements>) -> Vec<i64> {
    let lists = resources.into_iter().flat_map(|it| [it.requests.as_ref(), it.limits.as_ref()]);
    let names = lists.flatten().flat_map(|list| list.keys());
    let sizes = names.filter_map(|name| name.strip_prefix("hugepages-")?.parse::<Quantity>().ok());
    sizes.map(|size| size.value()).collect()
}

/// What users are told of volumes that cannot even be tried.
#[must_use]
pub fn unable(names: &[&str], why: &str) -> String {
    let names = names.join(" ");
    format!(
        "Unable to attach or mount volumes: unmounted volumes=[{names}], unattached volumes=[], \
         failed to process volumes=[{names}]: {why}"
    )
}

/// Whether a container of the pod uses the volume.
#[must_use]
pub fn is_used(pod: &Pod, volume: &str) -> bool {
    specs(pod).iter().any(|spec| {
        let mut mounts = spec.container.volume_mounts.iter().flatten();
        let mut devices = spec.container.volume_devices.iter().flatten();
        mounts.any(|mount| mount.name == volume) || devices.any(|device| device.name == volume)
    })
}
