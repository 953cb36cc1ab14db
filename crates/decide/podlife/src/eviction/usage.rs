//! What was measured.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Resource, Signal};

/// How much of something there is and is left: bytes, inodes or process ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What is left.
    pub available: i64,
    /// What there is.
    pub capacity: i64,
    /// When it was measured.
    pub at: Timestamp,
}

/// What was measured of the node. Signals that could not be measured are absent.
pub type Figures = BTreeMap<Signal, Figure>;

/// Space on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Bytes.
    pub bytes: i64,
    /// Inodes.
    pub inodes: i64,
}

impl DiskUse {
    /// The part that a resource means.
    #[must_use]
    pub fn of(self, resource: Resource) -> i64 {
        if resource == Resource::Inodes { self.inodes } else { self.bytes }
    }
}

impl std::ops::Add for DiskUse {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}

impl std::iter::Sum for DiskUse {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), std::ops::Add::add)
    }
}

/// What one container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// The container's name.
    pub name: String,
    /// Bytes of its working set.
    pub memory: i64,
    /// What it wrote over its image.
    pub root: DiskUse,
    /// Its logs.
    pub logs: DiskUse,
}

/// What one pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUse {
    /// Bytes of its working set.
    pub memory: i64,
    /// Its tasks.
    pub processes: i64,
    /// Its containers.
    pub containers: Vec<ContainerUse>,
    /// Its volumes on the node's disk, by name: emptyDir (on disk), configMap and the like, hostPath.
    pub volumes: BTreeMap<String, DiskUse>,
    /// Bytes of everything of it on the node's disk: layers, logs, local volumes, its hosts file.
    pub storage: i64,
}
