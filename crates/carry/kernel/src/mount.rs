//! Mounting and unmounting.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::mountinfo;

/// Why a mount failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused to mount.
    #[error("mounting {what} on {target}: {source}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to unmount.
    #[error("unmounting {target}: {source}")]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A folder of the mount could not be opened.
    #[error("{path}: {source}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The mount table could not be read.
    #[error(transparent)]
    Table(#[from] mountinfo::Error),
}

type Result<T> = std::result::Result<T, Error>;

/// The kernel takes the options of a mount in one page.
const OPTIONS_LIMIT: usize = 4000;

/// Mounts an overlay of `layers` (lowest first) with a writable `upper`.
///
/// Nothing waits for the disk at unmount (`volatile`): what a container wrote into its root file
/// system is gone with the container anyway.
///
/// # Errors
/// When a layer is missing or the kernel refuses.
pub fn overlay(layers: &[PathBuf], upper: &Path, work: &Path, target: &Path) -> Result<()> {
    let top_first: Vec<String> = layers.iter().rev().map(|layer| escape(layer)).collect();
    let options = |lower: &str| {
        format!("lowerdir={lower},upperdir={},workdir={},volatile", escape(upper), escape(work))
    };
    let lower = top_first.join(":");
    let plain = options(&lower);
    // Names of descriptors are shorter than paths; they must stay open until the mount is made.
    let mut open: Vec<File> = Vec::new();
    let line = if plain.len() <= OPTIONS_LIMIT {
        plain
    } else {
        for layer in layers.iter().rev() {
            let handle =
                OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(layer);
            open.push(handle.map_err(|source| Error::Open { path: layer.clone(), source })?);
        }
        let names: Vec<String> =
            open.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd())).collect();
        options(&names.join(":"))
    };
    make("overlay", target, Some("overlay"), MsFlags::empty(), Some(&line))
}

/// Colons separate layers and commas separate options, so both are escaped in paths.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if matches!(letter, ':' | ',' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// Shows `source` (a file or a folder) at `target`, which must exist.
///
/// # Errors
/// When one of them does not exist.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    make(source, target, None, MsFlags::MS_BIND, None)
}

/// Mounts a tmpfs; `options` such as `size=64m,mode=1777`.
///
/// # Errors
/// When `target` is no folder or an option is unknown.
pub fn tmpfs(target: &Path, options: &str) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    make("tmpfs", target, Some("tmpfs"), flags, Some(options))
}

/// Makes a mount that exists read-only; others of the same file system stay as they are.
///
/// # Errors
/// When `target` is no mount.
pub fn read_only(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept_flags(target)?;
    make("none", target, None, flags, None)
}

/// The flags of the mount that `target` is in: a change that leaves them out would take them away.
fn kept_flags(target: &Path) -> Result<MsFlags> {
    let found = nix::sys::statvfs::statvfs(target);
    let open = |errno: Errno| Error::Open { path: target.to_owned(), source: errno.into() };
    let flags = found.map_err(open)?.flags();
    let known = [
        (nix::sys::statvfs::FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (nix::sys::statvfs::FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (nix::sys::statvfs::FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    Ok(known.into_iter().filter(|(has, _)| flags.contains(*has)).map(|(_, flag)| flag).collect())
}

/// Mounts a file system with options as mount tables have them (`ro`, `nosuid`, `size=64m`).
///
/// # Errors
/// When the kernel refuses: it may not have the file system at all.
pub fn file_system(source: &str, target: &Path, kind: &str, options: &[String]) -> Result<()> {
    let (flags, rest) = split(options);
    make(source, target, Some(kind), flags, Some(&rest).filter(|rest| !rest.is_empty()).map(String::as_str))
}

/// Parts options for any file system from those of this one.
fn split(options: &[String]) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest: Vec<&str> = Vec::new();
    for option in options.iter().flat_map(|option| option.split(',')) {
        match option {
            "" | "rw" | "defaults" | "suid" | "dev" | "exec" | "async" | "_netdev" => {}
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

/// How mounts below a mount travel between namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// From the host to here.
    Slave,
    /// Both ways.
    Shared,
}

/// Sets the propagation of the mount at `target` and of all mounts below it.
///
/// # Errors
/// When `target` is no mount.
pub fn propagate(target: &Path, propagation: Propagation) -> Result<()> {
    let kind = match propagation {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Shared => MsFlags::MS_SHARED,
    };
    make("none", target, None, kind | MsFlags::MS_REC, None)
}

/// Whether mounts made under `path` reach other mount namespaces, as the table says.
///
/// # Errors
/// When the table cannot be read.
pub fn is_shared(path: &Path) -> Result<bool> {
    let real = fs::canonicalize(path).map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let table = mountinfo::read()?;
    // The last mount of the longest point lies on top.
    let over = table.iter().filter(|mount| real.starts_with(&mount.point));
    Ok(over.max_by_key(|mount| mount.point.as_os_str().len()).is_some_and(|mount| mount.shared))
}

/// Takes every mount at `target` away, at once even when it is in use; none there is no error.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount(target: &Path) -> Result<()> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Error::Unmount { target: target.to_owned(), source: errno.into() }),
        }
    }
}

/// Takes away the mounts at each of `targets`, without a look at the table.
///
/// # Errors
/// When the kernel refuses.
pub fn unmount_each(targets: &[PathBuf]) -> Result<()> {
    targets.iter().try_for_each(|target| unmount(target))
}

/// Takes away every mount at or below `folder`, the newest first, and says how many there were.
///
/// # Errors
/// When the table cannot be read or the kernel refuses.
pub fn unmount_below(folder: &Path) -> Result<usize> {
    let table = mountinfo::read()?;
    let below: Vec<_> = table.iter().rev().filter(|mount| mount.point.starts_with(folder)).collect();
    for mount in &below {
        unmount(&mount.point)?;
    }
    Ok(below.len())
}

fn make(
    what: impl AsRef<Path>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: Option<&str>,
) -> Result<()> {
    let what = what.as_ref();
    mount(Some(what), target, kind, flags, options).map_err(|errno| Error::Mount {
        what: what.display().to_string(),
        target: target.to_owned(),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_any_and_of_this_file_system() {
        let options =
            ["ro,nosuid".to_owned(), "vers=4.2".to_owned(), "rw".to_owned(), "addr=1.2.3.4".to_owned()];
        let expected = (MsFlags::MS_RDONLY | MsFlags::MS_NOSUID, "vers=4.2,addr=1.2.3.4".to_owned());
        assert_eq!(split(&options), expected);
    }

    #[test]
    fn separators_in_paths_are_escaped() {
        assert_eq!(escape(Path::new("/a:b/c,d\\e")), "/a\\:b/c\\,d\\\\e");
    }
}
