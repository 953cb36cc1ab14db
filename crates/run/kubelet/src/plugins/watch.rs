//! Following the folder in which plugins appear.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use plimsoll_client::Backoff;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{register, registry};
use crate::agent::Agent;
use crate::{claims, csi};

/// Registers every plugin that appears, until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let folder = registry(&agent.config);
    if let Err(error) = fs::create_dir_all(&folder) {
        tracing::warn!(folder = %folder.display(), %error, "plugins cannot make themselves known");
        return;
    }
    if !agent.config.standalone {
        tokio::spawn(claims::wipe_all(agent.clone()));
        csi::begin(&agent).await;
    }
    let mut sockets = Sockets { agent, known: HashMap::new() };
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    while !stop.is_cancelled() {
        // Watched first, looked at then: nothing that appears in between is missed.
        match Watch::new(&folder) {
            Ok(mut watch) => {
                sockets.compare(&folder);
                tokio::select! {
                    () = stop.cancelled() => break,
                    result = watch.changed() => if result.is_ok() { backoff.reset() },
                }
            }
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "plugins are not watched");
                tokio::time::sleep(backoff.delay()).await;
            }
        }
    }
    sockets.known.into_values().for_each(|(_, task)| task.abort());
}

/// The sockets that are there, each with when it was made and the task that registers it.
struct Sockets {
    agent: Arc<Agent>,
    known: HashMap<PathBuf, (SystemTime, JoinHandle<()>)>,
}

impl Sockets {
    fn compare(&mut self, folder: &Path) {
        let mut found = HashMap::new();
        collect(folder, &mut found);
        let is_gone =
            |(path, (made, _)): &(&PathBuf, &(SystemTime, JoinHandle<()>))| found.get(*path) != Some(made);
        let gone: Vec<PathBuf> = self.known.iter().filter(is_gone).map(|(path, _)| path.clone()).collect();
        for path in gone {
            if let Some((_, task)) = self.known.remove(&path) {
                task.abort();
            }
            // One that came back under the same name is registered anew and stays where it is named.
            if !found.contains_key(&path) {
                self.gone(&path);
            }
        }
        for (path, made) in found {
            let agent = self.agent.clone();
            self.known
                .entry(path.clone())
                .or_insert_with(|| (made, tokio::spawn(register::run(agent, path))));
        }
    }

    /// The plugin of a socket is there no more.
    fn gone(&self, socket: &Path) {
        let agent = &self.agent;
        if let Some(name) = agent.drivers.remove(socket) {
            tracing::info!(driver = name, "CSI driver gone");
            tokio::spawn(csi::remove(agent.clone(), name));
        } else if let Some(name) = agent.claims.remove(socket) {
            tracing::info!(driver = name, "DRA driver gone");
            tokio::spawn(claims::wipe(agent.clone(), name));
        } else {
            agent.devices.leave(socket);
        }
    }
}

/// The sockets below a folder.
fn collect(folder: &Path, found: &mut HashMap<PathBuf, SystemTime>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if meta.is_dir() {
            collect(&entry.path(), found);
        } else if meta.file_type().is_socket() {
            found.insert(entry.path(), meta.modified().unwrap_or(SystemTime::UNIX_EPOCH));
        }
    }
}

/// Tells when something changes in a folder or in those below it.
struct Watch {
    /// The kernel's events as a stream of bytes; what they say does not matter, only that they come.
    events: pipe::Receiver,
}

impl Watch {
    fn new(folder: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        add(&inotify, folder)?;
        Ok(Self { events: pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))? })
    }

    async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.events.read(&mut events).await.map(drop)
    }
}

fn add(inotify: &Inotify, folder: &Path) -> io::Result<()> {
    let moved = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MOVED_FROM;
    inotify.add_watch(folder, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | moved)?;
    for entry in fs::read_dir(folder)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add(inotify, &entry.path())?;
        }
    }
    Ok(())
}
