//! Disks: file systems as a whole, and what containers wrote.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

use crate::engine::Engine;

/// How long the sizes of layers count: to know them the engine walks over folders.
const FRESH: Duration = Duration::from_secs(60);

/// Bytes and inodes in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl std::ops::Add for Used {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}

/// What each container wrote, by id.
#[derive(Debug, Default)]
pub(super) struct Layers {
    known: HashMap<String, Used>,
    at: Option<Instant>,
}

impl Layers {
    /// The sizes, asked for anew when they are old. What the engine does not tell is absent.
    pub(super) async fn get(&mut self, engine: &Engine) -> HashMap<String, Used> {
        if self.at.is_none_or(|at| at.elapsed() >= FRESH) {
            let stats = engine.container_stats().await.unwrap_or_default();
            let number = |value: Option<plimsoll_cri::v1::UInt64Value>| value.map_or(0, |it| it.value);
            let known = stats.into_iter().filter_map(|it| {
                let layer = it.writable_layer?;
                let used = Used { bytes: number(layer.used_bytes), inodes: number(layer.inodes_used) };
                Some((it.attributes?.id, used))
            });
            self.known = known.collect();
            self.at = Some(Instant::now());
        }
        self.known.clone()
    }
}

/// A file system.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    /// Its device as `/dev` has it.
    pub(super) device: String,
    pub(super) at: Timestamp,
    pub(super) capacity: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) inodes: u64,
    pub(super) inodes_free: u64,
}

impl Disk {
    /// The file system that a path is on.
    pub(super) fn of(path: &Path, at: Timestamp) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let all = statvfs(path).ok()?;
        let device = std::fs::metadata(path).ok()?.dev();
        let part = |part: fn(nix::libc::dev_t) -> u64| u32::try_from(part(device)).unwrap_or(0);
        let (major, minor) = (part(nix::sys::stat::major), part(nix::sys::stat::minor));
        let size = all.fragment_size();
        Some(Self {
            device: plimsoll_kernel::cgroup::device_name(major, minor),
            at,
            capacity: all.blocks() * size,
            available: all.blocks_available() * size,
            used: all.blocks().saturating_sub(all.blocks_free()) * size,
            inodes: all.files(),
            inodes_free: all.files_available(),
        })
    }

    /// As the summary shows it; `used` is what a part of it takes, if only a part is asked for.
    pub(super) fn summary(&self, part: Option<Used>) -> Value {
        let all = Used { bytes: self.used, inodes: self.inodes.saturating_sub(self.inodes_free) };
        let used = part.unwrap_or(all);
        json!({
            "time": second(self.at),
            "availableBytes": self.available,
            "capacityBytes": self.capacity,
            "usedBytes": used.bytes,
            "inodesFree": self.inodes_free,
            "inodes": self.inodes,
            "inodesUsed": used.inodes,
        })
    }
}

/// A time as the API writes it.
pub(super) fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
