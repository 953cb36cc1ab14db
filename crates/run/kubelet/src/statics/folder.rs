//! Static pods of a folder, or of one file.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use plimsoll_podlife::static_pod::Origin;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Writers need a moment for several files.
const SETTLE: Duration = Duration::from_millis(20);

/// A folder with a file for each pod, or a single file.
pub(super) struct Folder {
    path: PathBuf,
    period: Duration,
    read: bool,
    /// Wakes when the folder changes; none when the kernel does not tell.
    watch: Option<pipe::Receiver>,
}

impl Folder {
    pub(super) fn new(path: PathBuf, period: Duration) -> Self {
        Self { path, period, read: false, watch: None }
    }

    /// Whether it was read at least once.
    pub(super) fn is_read(&self) -> bool {
        self.read
    }

    /// All pods of it. Files that are no pods are told of and left out.
    pub(super) fn read(&mut self, node: &str) -> Vec<Pod> {
        // First the watch: what changes while it is read is seen.
        if self.watch.is_none() {
            self.watch = watch(&self.path).ok();
        }
        let files = match files(&self.path) {
            Ok(files) => files,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!(path = %self.path.display(), %error, "Unable to read config path");
                }
                Vec::new()
            }
        };
        self.read = true;
        let mut pods = Vec::new();
        for file in files {
            match read(&file, node) {
                Ok(found) => pods.extend(found),
                Err(error) => {
                    tracing::error!(path = %file.display(), error, "Could not process manifest file");
                }
            }
        }
        pods
    }

    /// Ends when it may have changed, and once in a while.
    pub(super) async fn changed(&mut self) {
        let news = async {
            let Some(watch) = &mut self.watch else { return std::future::pending().await };
            // What the events say does not matter, only that they come.
            let mut events = [0; 4096];
            if watch.read(&mut events).await.is_err() {
                return std::future::pending().await;
            }
            tokio::time::sleep(SETTLE).await;
            while watch.try_read(&mut events).is_ok() {}
        };
        // Losing the watch (the folder was replaced) costs one period.
        if tokio::time::timeout(self.period, news).await.is_err() {
            self.watch = None;
        }
    }
}

fn read(file: &Path, node: &str) -> Result<Vec<Pod>, String> {
    let text = fs::read(file).map_err(|error| error.to_string())?;
    super::pods(&text, Origin::File(&file.to_string_lossy()), node)
}

/// The files that count, in the order of their names.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && fs::metadata(&path).is_ok_and(|it| it.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn watch(path: &Path) -> io::Result<pipe::Receiver> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ATTRIB;
    inotify.add_watch(path, flags)?;
    pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn manifest(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  - {{name: c, image: i}}\n"
        )
    }

    fn names(pods: &[Pod]) -> Vec<&str> {
        pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[tokio::test]
    async fn a_folder_has_a_pod_for_each_good_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().to_owned();
        fs::write(path.join("b.yaml"), manifest("b")).unwrap();
        fs::write(path.join("a.json"), "{}").unwrap();
        fs::write(path.join(".hidden.yaml"), manifest("h")).unwrap();
        fs::create_dir(path.join("sub")).unwrap();
        let mut folder = Folder::new(path.clone(), Duration::from_secs(600));
        assert!(!folder.is_read());
        assert_eq!(names(&folder.read("n")), ["b-n"]);
        assert!(folder.is_read());
        fs::write(path.join("c.yaml"), manifest("c")).unwrap();
        folder.changed().await;
        assert_eq!(names(&folder.read("n")), ["b-n", "c-n"]);
        fs::remove_file(path.join("b.yaml")).unwrap();
        folder.changed().await;
        assert_eq!(names(&folder.read("n")), ["c-n"]);
        let mut one = Folder::new(path.join("c.yaml"), Duration::from_secs(600));
        assert_eq!(names(&one.read("n")), ["c-n"]);
        let mut none = Folder::new(path.join("none"), Duration::from_millis(1));
        assert!(none.read("n").is_empty() && none.is_read());
    }
}
