//! Control groups of both versions behind one type.
//!
//! A [`Hierarchy`] says where the controllers are mounted, a [`Cgroup`] is one path in it. What a
//! caller asks for is [`Limits`]; what a group used is [`Stats`]. Paths look alike in both versions
//! (`/kubepods/burstable/pod<uid>/<container>`): version 1 repeats them under each controller.

mod account;
mod device;
mod limits;
mod stats;
mod v1;
mod v2;
mod watch;

pub use account::{Account, Allowance, DeviceIo, Pressure, Stall, device_name};
pub use device::DeviceRule;
pub use limits::{Limits, cpu_weight};
pub use stats::{CpuStats, IoStats, MemoryStats, PidStats, Stats};
pub use watch::MemoryWatch;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::mountinfo;

/// The controllers that containers are put into on version 1.
const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "pids",
    "devices",
    "freezer",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];

/// Controllers without which no pod can be limited.
const REQUIRED: [&str; 3] = ["cpu", "memory", "pids"];

/// Why a control group could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the group could not be read or written.
    #[error("control group file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The machine has no mounted hierarchy with the controllers that are needed.
    #[error("no control group hierarchy with the controllers {0} is mounted")]
    NoHierarchy(String),
    /// The mounts of this process could not be read.
    #[error("reading the mount table: {0}")]
    Mounts(#[from] mountinfo::Error),
    /// Processes stayed in the group after SIGKILL.
    #[error("control group {0} still holds processes")]
    Busy(PathBuf),
    /// The device filter could not be attached.
    #[error("device filter of control group {path}: {source}")]
    Devices {
        /// The group.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// Which interface the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// One tree for each controller.
    V1,
    /// One tree for all.
    V2,
}

/// Where the controllers are mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hierarchy {
    version: Version,
    /// Version 1: controller to mount point. Version 2: one entry under the empty name.
    mounts: BTreeMap<String, PathBuf>,
}

impl Hierarchy {
    /// Finds the hierarchy of this machine: version 2 if its root offers controllers, else version 1.
    ///
    /// # Errors
    /// When neither has the controllers cpu, memory and pids.
    pub fn detect() -> Result<Self> {
        let table = mountinfo::read()?;
        for mount in table.iter().filter(|mount| mount.kind == "cgroup2") {
            let found = fs::read_to_string(mount.point.join("cgroup.controllers")).unwrap_or_default();
            if REQUIRED.iter().all(|name| found.split_whitespace().any(|other| other == *name)) {
                return Ok(Self::v2(&mount.point));
            }
        }
        let mut mounts = BTreeMap::new();
        for mount in table.iter().filter(|mount| mount.kind == "cgroup") {
            for option in mount.super_options.split(',').filter(|option| CONTROLLERS.contains(option)) {
                mounts.insert(option.to_owned(), mount.point.clone());
            }
        }
        let missing: Vec<&str> = REQUIRED.into_iter().filter(|name| !mounts.contains_key(*name)).collect();
        if missing.is_empty() {
            Ok(Self { version: Version::V1, mounts })
        } else {
            Err(Error::NoHierarchy(missing.join(", ")))
        }
    }

    /// A version 1 hierarchy with the controllers found as folders of `root`.
    #[must_use]
    pub fn v1(root: &Path) -> Self {
        let found = |name: &&str| root.join(name).is_dir();
        let mounts = CONTROLLERS.iter().filter(|name| found(name));
        Self {
            version: Version::V1,
            mounts: mounts.map(|name| ((*name).to_owned(), root.join(name))).collect(),
        }
    }

    /// A version 2 hierarchy at `root`.
    #[must_use]
    pub fn v2(root: &Path) -> Self {
        Self { version: Version::V2, mounts: BTreeMap::from([(String::new(), root.to_owned())]) }
    }

    /// The version in use.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The group at `path` (`/kubepods/pod1`); it need not exist.
    #[must_use]
    pub fn group(&self, path: &str) -> Cgroup {
        let relative = path.trim_matches('/').to_owned();
        Cgroup { hierarchy: self.clone(), relative }
    }
}

/// One control group.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    relative: String,
}

impl Cgroup {
    /// The path in the hierarchy, with a leading slash.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/{}", self.relative)
    }

    /// The folder of `controller`, or of the one tree of version 2.
    #[must_use]
    pub fn dir(&self, controller: &str) -> Option<PathBuf> {
        let key = if self.hierarchy.version == Version::V2 { "" } else { controller };
        self.hierarchy.mounts.get(key).map(|mount| mount.join(&self.relative))
    }

    /// The group's folder in each controller, by the name under which it is mounted.
    #[must_use]
    pub fn folders(&self) -> Vec<(String, PathBuf)> {
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for mount in self.hierarchy.mounts.values() {
            let name = mount.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if !found.iter().any(|(known, _)| *known == name) {
                found.push((name, mount.join(&self.relative)));
            }
        }
        found
    }

    /// Whether the group exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dir("memory").is_some_and(|dir| dir.is_dir())
    }

    /// Creates the group and its parents with all controllers.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self) -> Result<()> {
        match self.hierarchy.version {
            Version::V1 => v1::create(self),
            Version::V2 => v2::create(self),
        }
    }

    /// Writes limits; what is `None` stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses a value; the error names the file.
    pub fn apply(&self, limits: &Limits) -> Result<()> {
        match self.hierarchy.version {
            Version::V1 => v1::apply(self, limits),
            Version::V2 => v2::apply(self, limits),
        }
    }

    /// Moves a process into the group, in every controller.
    ///
    /// # Errors
    /// When the group or the process does not exist.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.dirs().try_for_each(|dir| write(&dir, "cgroup.procs", &pid.to_string()))
    }

    /// The processes of the group and of all groups below it.
    ///
    /// # Errors
    /// When the group cannot be read; a missing group has no processes.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(dir) = self.dir("memory") else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        walk(&dir, &mut |dir| {
            let text = read(dir, "cgroup.procs").unwrap_or_default();
            found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
        Ok(found)
    }

    /// Sends SIGKILL to every process of the group and below.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub fn kill_all(&self) -> Result<()> {
        if self.hierarchy.version == Version::V2
            && let Some(dir) = self.dir("")
            && dir.join("cgroup.kill").exists()
        {
            return write(&dir, "cgroup.kill", "1");
        }
        for pid in self.pids()? {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(Error::File { path: PathBuf::from(self.path()), source: errno.into() });
                }
            }
        }
        Ok(())
    }

    /// Removes the group and the groups below it; they must hold no process.
    ///
    /// # Errors
    /// [`Error::Busy`] while processes remain.
    pub fn remove(&self) -> Result<()> {
        self.dirs().try_for_each(|dir| remove_tree(&dir))
    }

    /// What the group has used.
    ///
    /// # Errors
    /// When the group does not exist.
    pub fn stats(&self) -> Result<Stats> {
        match self.hierarchy.version {
            Version::V1 => v1::stats(self),
            Version::V2 => v2::stats(self),
        }
    }

    /// How many processes of the group the kernel has killed for memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let file = if self.hierarchy.version == Version::V1 { "memory.oom_control" } else { "memory.events" };
        let text = self.dir("memory").and_then(|dir| read(&dir, file).ok()).unwrap_or_default();
        stats::field(&text, "oom_kill").unwrap_or(0)
    }

    /// Something to poll that becomes readable when the group runs out of memory.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn watch_oom(&self) -> Result<MemoryWatch> {
        MemoryWatch::out_of_memory(self)
    }

    /// Something to poll that becomes readable when the group's usage crosses a number of bytes. Version 2
    /// has no such thing: there it becomes readable when the group comes to its limits.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn watch_usage(&self, bytes: u64) -> Result<MemoryWatch> {
        MemoryWatch::usage(self, bytes)
    }

    /// The folders of the group, one for each mount.
    fn dirs(&self) -> impl Iterator<Item = PathBuf> {
        let mut mounts: Vec<&PathBuf> = self.hierarchy.mounts.values().collect();
        mounts.dedup();
        mounts.into_iter().map(|mount| mount.join(&self.relative)).collect::<Vec<_>>().into_iter()
    }
}

fn write(dir: &Path, file: &str, value: &str) -> Result<()> {
    let path = dir.join(file);
    fs::write(&path, value).map_err(|source| Error::File { path, source })
}

fn read(dir: &Path, file: &str) -> Result<String> {
    let path = dir.join(file);
    fs::read_to_string(&path).map_err(|source| Error::File { path, source })
}

fn read_number(dir: &Path, file: &str) -> Option<u64> {
    read(dir, file).ok()?.trim().parse().ok()
}

/// Calls `visit` for `dir` and every folder below it.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path)) {
    visit(dir);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

fn remove_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => Err(Error::Busy(dir.to_owned())),
        Err(source) => Err(Error::File { path: dir.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests;
