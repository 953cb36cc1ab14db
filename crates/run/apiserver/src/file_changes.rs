//! News of files: the configuration that counts while the server runs.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Changes of a file, also when another one takes its name.
pub(crate) struct Changes(pipe::Receiver);

impl Changes {
    /// Changes from now on.
    pub(crate) fn of(file: &std::path::Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let flags = AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(folder.unwrap_or(std::path::Path::new(".")), flags)?;
        Ok(Self(pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))?))
    }

    /// Returns when something in the folder of the file changed.
    pub(crate) async fn next(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.0.read(&mut events).await.map(drop)
    }
}
