//! Keeps containers' logs small: moves full ones aside, compresses older ones, removes the oldest.
//!
//! What enters is which containers run and what the kernel tells about their logs. A silent log costs nothing: the
//! kernel tells once that it has grown, and it is looked at until it rests again, the more often the faster it grows.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use plimsoll_podlife::rotation::{COMPRESSED, SOON, UNFINISHED, next_look, upkeep};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

/// How long after it has spoken a silent log is looked at.
const AFTER_SILENCE: Duration = Duration::from_millis(500);

/// A container that runs, and where its log is.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) id: String,
    pub(crate) log: PathBuf,
}

/// What is known of a log.
struct Known {
    log: PathBuf,
    size: u64,
    seen: Instant,
    /// None while the kernel will tell of the next growth.
    next: Option<Instant>,
}

struct Rotation {
    agent: Arc<Agent>,
    watch: Inotify,
    watched: HashMap<WatchDescriptor, String>,
    logs: HashMap<String, Known>,
    compress: mpsc::UnboundedSender<PathBuf>,
}

/// Watches logs until `stop`.
pub(crate) async fn run(
    agent: Arc<Agent>,
    mut started: mpsc::UnboundedReceiver<Writer>,
    stop: CancellationToken,
) {
    let mut exits = agent.exits.subscribe();
    let (watch, events) = match watch() {
        Ok(pair) => pair,
        Err(error) => return tracing::error!(%error, "logs are not rotated"),
    };
    let (compress, paths) = mpsc::unbounded_channel();
    let compressor = tokio::spawn(compress_all(paths));
    let (watched, logs) = (HashMap::new(), HashMap::new());
    let mut rotation = Rotation { agent, watch, watched, logs, compress };
    rotation.adopt().await;
    loop {
        let next = rotation.logs.values().filter_map(|known| known.next).min();
        tokio::select! {
            () = stop.cancelled() => break,
            Some(writer) = started.recv() => rotation.follow(writer),
            exit = exits.recv() => match exit {
                Ok(id) => drop(rotation.logs.remove(&id)),
                Err(broadcast::error::RecvError::Lagged(_)) => rotation.adopt().await,
                Err(broadcast::error::RecvError::Closed) => break,
            },
            ready = events.readable() => {
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                rotation.told();
            }
            () = sleep_until(next), if next.is_some() => rotation.look().await,
        }
    }
    compressor.abort();
}

async fn sleep_until(when: Option<Instant>) {
    if let Some(when) = when {
        tokio::time::sleep_until(when).await;
    }
}

fn watch() -> io::Result<(Inotify, AsyncFd<OwnedFd>)> {
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let events = watch.as_fd().try_clone_to_owned()?;
    Ok((watch, plimsoll_kernel::readiness::register(events, Interest::READABLE)?))
}

impl Rotation {
    /// Takes over what runs already.
    async fn adopt(&mut self) {
        let engine = self.agent.engine.clone();
        let running = plimsoll_cri::v1::ContainerState::ContainerRunning as i32;
        let runs = engine.containers(None).await.unwrap_or_default();
        let runs: Vec<_> = runs.into_iter().filter(|run| run.state == running).collect();
        self.logs.retain(|id, _| runs.iter().any(|run| run.id == *id));
        for run in runs {
            if self.logs.contains_key(&run.id) {
                continue;
            }
            if let Ok(Some(status)) = engine.container_status(&run.id).await {
                self.follow(Writer { id: run.id, log: status.log_path.into() });
            }
        }
    }

    fn follow(&mut self, writer: Writer) {
        if writer.log.as_os_str().is_empty() {
            return;
        }
        let now = Instant::now();
        let known = Known { log: writer.log, size: 0, seen: now, next: Some(now + AFTER_SILENCE) };
        self.logs.insert(writer.id, known);
    }

    /// Logs that were silent have grown.
    fn told(&mut self) {
        loop {
            let events = match self.watch.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return,
                Err(errno) => return tracing::warn!(%errno, "growth of logs is not told"),
            };
            let now = Instant::now();
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.logs.values_mut().for_each(|known| known.next = Some(now));
                }
                let id = self.watched.remove(&event.wd);
                if let Some(known) = id.and_then(|id| self.logs.get_mut(&id)) {
                    (known.seen, known.next) = (now, Some(now + AFTER_SILENCE));
                }
            }
        }
    }

    /// Looks at every log whose time has come.
    async fn look(&mut self) {
        let due = Instant::now() + SOON / 4;
        let due = |known: &Known| known.next.is_some_and(|next| next <= due);
        let ids: Vec<_> =
            self.logs.iter().filter(|(_, known)| due(known)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.look_at(&id).await;
        }
    }

    async fn look_at(&mut self, id: &str) {
        let limit = self.agent.config.container_log_max_size;
        let Some(known) = self.logs.get(id) else { return };
        let log = known.log.clone();
        let mut size = size(&log);
        let mut rotated = false;
        if size.is_none_or(|size| size >= limit) {
            match self.rotate(id, &log, size.is_some()).await {
                Ok(()) => rotated = true,
                Err(error) => tracing::warn!(log = %log.display(), error, "log not rotated"),
            }
            size = self::size(&log);
        }
        let (now, size) = (Instant::now(), size.unwrap_or_default());
        let Some(known) = self.logs.get_mut(id) else { return };
        let (before, time) = (known.size, now.duration_since(known.seen));
        // A log that was rotated has grown by what was in it, too.
        let grown =
            if size >= before && !rotated { size - before } else { limit.max(before) - before + size };
        (known.size, known.seen) = (size, now);
        known.next = Some(now + next_look(size, grown, time, limit));
        // A full one is looked at again, whether it grows or not.
        if grown == 0 && size < limit {
            self.rest(id, &log);
        }
    }

    /// Lets the kernel tell when a log grows again.
    fn rest(&mut self, id: &str, log: &Path) {
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ONESHOT;
        let Ok(descriptor) = self.watch.add_watch(log, flags) else { return };
        let Some(known) = self.logs.get_mut(id) else { return };
        // What came between the look and the watch is told by nobody.
        if size(log) == Some(known.size) {
            known.next = None;
            self.watched.insert(descriptor, id.to_owned());
        }
    }

    /// `there` is false when the log was lost: the engine makes a new one.
    async fn rotate(&self, id: &str, log: &Path, there: bool) -> Result<(), String> {
        let rotated =
            if there { Some(self.move_aside(log).map_err(|error| error.to_string())?) } else { None };
        let request = plimsoll_cri::v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        let Err(status) = self.agent.engine.runtime().reopen_container_log(request).await else {
            return Ok(());
        };
        if let Some(rotated) = rotated {
            // The container still writes to it: it is tried again.
            fs::rename(rotated, log).map_err(|error| error.to_string())?;
        }
        Err(crate::engine::text(&status))
    }

    fn move_aside(&self, log: &Path) -> io::Result<PathBuf> {
        let upkeep = upkeep(&rotated(log)?, self.agent.config.container_log_max_files);
        let folder = log.parent().unwrap_or(Path::new("/"));
        for name in upkeep.remove {
            gone_is_fine(fs::remove_file(folder.join(name)))?;
        }
        for name in upkeep.compress {
            // The compressor ends with this task only.
            let _ = self.compress.send(folder.join(name));
        }
        let time = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        let to = free_name(log, &time);
        fs::rename(log, &to)?;
        Ok(to)
    }
}

fn size(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|meta| meta.len())
}

/// Names of the files that were this log once.
pub(crate) fn rotated(log: &Path) -> io::Result<Vec<String>> {
    let prefix = format!("{}.", log.file_name().map(OsStr::to_string_lossy).unwrap_or_default());
    let entries = fs::read_dir(log.parent().unwrap_or(Path::new("/")))?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    Ok(names.filter(|name| name.starts_with(&prefix)).collect())
}

/// A log that fills within a second gets a number: nothing is written over.
fn free_name(log: &Path, time: &str) -> PathBuf {
    let name = |end: &str| PathBuf::from(format!("{}.{time}{end}", log.display()));
    let taken =
        |path: &PathBuf| path.exists() || PathBuf::from(format!("{}{COMPRESSED}", path.display())).exists();
    let mut names = std::iter::once(name("")).chain((1..).map(|number| name(&format!(".{number:03}"))));
    names.find(|path| !taken(path)).expect("numbers do not end")
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a log and everything it once was.
pub(crate) fn remove(log: &Path) -> io::Result<()> {
    let folder = log.parent().unwrap_or(Path::new("/"));
    for name in rotated(log)? {
        gone_is_fine(fs::remove_file(folder.join(name)))?;
    }
    gone_is_fine(fs::remove_file(log))
}

/// Compresses one file after the other: a node's processors are for its pods.
async fn compress_all(mut paths: mpsc::UnboundedReceiver<PathBuf>) {
    while let Some(path) = paths.recv().await {
        let shown = path.display().to_string();
        let done = tokio::task::spawn_blocking(move || compress(&path)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(log = shown, %error, "log not compressed"),
            Err(error) => tracing::warn!(log = shown, %error, "log not compressed"),
        }
    }
}

fn compress(path: &Path) -> io::Result<()> {
    let mut from = match File::open(path) {
        // It was removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    let unfinished = PathBuf::from(format!("{}{UNFINISHED}", path.display()));
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&unfinished)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    let copied = io::copy(&mut from, &mut encoder).and_then(|_| encoder.finish());
    let done = copied.and_then(|_| {
        // A log that was removed as the oldest must not come back.
        if !path.exists() {
            return fs::remove_file(&unfinished);
        }
        fs::rename(&unfinished, format!("{}{COMPRESSED}", path.display()))?;
        fs::remove_file(path)
    });
    if done.is_err() {
        gone_is_fine(fs::remove_file(&unfinished))?;
    }
    done
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn compressed_logs_take_the_place_of_plain_ones() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("0.log");
        let plain = temp.path().join("0.log.20260101-000000");
        fs::write(&plain, "one\n".repeat(1000)).unwrap();
        compress(&plain).unwrap();
        assert_eq!(rotated(&log).unwrap(), ["0.log.20260101-000000.gz"]);
        let mut text = String::new();
        let file = File::open(temp.path().join("0.log.20260101-000000.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "one\n".repeat(1000));
        compress(&temp.path().join("0.log.gone")).unwrap();
    }

    #[test]
    fn no_name_is_taken_twice() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("0.log");
        for end in ["", ".001", ".002"] {
            let name = free_name(&log, "20260101-000000");
            assert_eq!(name, temp.path().join(format!("0.log.20260101-000000{end}")));
            fs::write(if end == ".001" { format!("{}.gz", name.display()).into() } else { name }, "")
                .unwrap();
        }
        fs::write(&log, "").unwrap();
        fs::write(temp.path().join("1.log"), "").unwrap();
        remove(&log).unwrap();
        let left: Vec<_> = fs::read_dir(temp.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["1.log"]);
    }
}
