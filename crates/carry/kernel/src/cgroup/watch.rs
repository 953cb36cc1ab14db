//! Being told about a group's memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Cgroup, Error, Result, Version, write};

/// Readable when what was asked for happened to the memory of a group.
#[derive(Debug)]
pub enum MemoryWatch {
    /// Version 1: an event counter tied to a file of the group, which must stay open.
    Event(EventFd, File),
    /// Version 2: changes of `memory.events`.
    Change(Inotify),
}

impl MemoryWatch {
    /// Tells that the group ran out of memory.
    pub(super) fn out_of_memory(group: &Cgroup) -> Result<Self> {
        match group.hierarchy.version {
            Version::V1 => Self::event(group, "memory.oom_control", ""),
            Version::V2 => Self::change(group),
        }
    }

    fn change(group: &Cgroup) -> Result<Self> {
        let path = group.dir("memory").unwrap_or_default().join("memory.events");
        let fail = |errno: nix::errno::Errno| Error::File { path: path.clone(), source: errno.into() };
        let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(fail)?;
        watch.add_watch(&path, AddWatchFlags::IN_MODIFY).map_err(fail)?;
        Ok(Self::Change(watch))
    }

    /// Tells that the usage of the group went above or below a number of bytes; on version 2, that it came to
    /// its limits.
    pub(super) fn usage(group: &Cgroup, bytes: u64) -> Result<Self> {
        match group.hierarchy.version {
            Version::V1 => Self::event(group, "memory.usage_in_bytes", &bytes.to_string()),
            Version::V2 => Self::change(group),
        }
    }

    fn event(group: &Cgroup, file: &str, argument: &str) -> Result<Self> {
        let dir = group.dir("memory").unwrap_or_default();
        let path = dir.join(file);
        let fail = |source| Error::File { path: path.clone(), source };
        let watched = File::open(&path).map_err(fail)?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event = EventFd::from_value_and_flags(0, flags).map_err(|errno| fail(errno.into()))?;
        let line = format!("{} {} {argument}", event.as_fd().as_raw_fd(), watched.as_raw_fd());
        write(&dir, "cgroup.event_control", line.trim_end())?;
        Ok(Self::Event(event, watched))
    }

    /// Takes the pending notification, so that the next wait waits for a new one.
    pub fn drain(&self) {
        match self {
            // An empty counter or queue only means that nothing new happened.
            Self::Event(event, _) => {
                let _ = event.read();
            }
            Self::Change(watch) => drop(watch.read_events()),
        }
    }
}

impl AsFd for MemoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Event(event, _) => event.as_fd(),
            Self::Change(watch) => watch.as_fd(),
        }
    }
}
