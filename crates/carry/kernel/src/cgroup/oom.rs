//! Being told that a group ran out of memory.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Cgroup, Error, Result, Version, write};

/// Readable when the group ran out of memory; read [`Cgroup::oom_kills`] then.
#[derive(Debug)]
pub enum OomWatch {
    /// Version 1: an event counter tied to `memory.oom_control`, which must stay open.
    Event(EventFd, File),
    /// Version 2: changes of `memory.events`.
    Change(Inotify),
}

impl OomWatch {
    pub(super) fn new(group: &Cgroup) -> Result<Self> {
        let dir = group.dir("memory").unwrap_or_default();
        match group.hierarchy.version {
            Version::V1 => {
                let path = dir.join("memory.oom_control");
                let fail = |source| Error::File { path: path.clone(), source };
                let control = File::open(&path).map_err(fail)?;
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let event = EventFd::from_value_and_flags(0, flags).map_err(|errno| fail(errno.into()))?;
                let line = format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd());
                write(&dir, "cgroup.event_control", &line)?;
                Ok(Self::Event(event, control))
            }
            Version::V2 => {
                let path = dir.join("memory.events");
                let fail =
                    |errno: nix::errno::Errno| Error::File { path: path.clone(), source: errno.into() };
                let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(fail)?;
                watch.add_watch(&path, AddWatchFlags::IN_MODIFY).map_err(fail)?;
                Ok(Self::Change(watch))
            }
        }
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

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Event(event, _) => event.as_fd(),
            Self::Change(watch) => watch.as_fd(),
        }
    }
}
