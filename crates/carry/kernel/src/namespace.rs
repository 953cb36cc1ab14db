//! Namespaces that outlive processes, and entering them for a moment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};

use crate::mount;

/// Why a namespace could not be kept or entered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of the namespace could not be opened or created.
    #[error("namespace {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file could not be tied to the namespace.
    #[error(transparent)]
    Mount(#[from] mount::Error),
}

/// The file of one namespace of a process: `net`, `ipc`, `uts`, `pid`, `mnt`, `user` or `cgroup`.
#[must_use]
pub fn of_process(pid: i32, kind: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/{kind}"))
}

/// Keeps the network namespace of `pid` alive under the file `path`.
///
/// # Errors
/// When the file cannot be made or the process is gone.
pub fn keep_network(pid: i32, path: &Path) -> Result<(), Error> {
    keep(pid, "net", path)
}

/// Keeps a namespace of `pid` alive under the file `path`; `kind` as for [`of_process`].
///
/// # Errors
/// When the file cannot be made or the process is gone.
pub fn keep(pid: i32, kind: &str, path: &Path) -> Result<(), Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o444).open(path).map_err(fail)?;
    Ok(mount::bind(&of_process(pid, kind), path)?)
}

/// Lets go of a namespace kept under `path`; a missing file is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn release(path: &Path) -> Result<(), Error> {
    mount::unmount(path)?;
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Runs `work` on a thread of its own inside the network namespace at `path`.
///
/// Sockets made by `work` stay in that namespace and may be used anywhere afterwards.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn in_network<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let entered = std::thread::Builder::new().name("in-netns".to_owned()).spawn(move || -> io::Result<T> {
        setns(file, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    });
    let result = entered.map_err(fail)?.join();
    result.map_err(|_| fail(io::Error::other("the work inside panicked")))?.map_err(fail)
}
