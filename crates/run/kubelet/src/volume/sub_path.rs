//! A part of a volume inside a container, without a way out of the volume.
//!
//! A container can change its volume while another mounts a part of it. So the part is opened below
//! the volume by the kernel's own rules, without following a link outwards, and mounted by the open
//! file; the engine then gets a path that no container can reach.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use plimsoll_kernel::mount;

/// A part of a volume for a container.
pub(crate) struct SubPath<'a> {
    /// The volume's name.
    pub(crate) volume: &'a str,
    /// The container's name.
    pub(crate) container: &'a str,
    /// Where the volume is.
    pub(crate) from: &'a Path,
    /// The part of it.
    pub(crate) part: &'a str,
}

/// Mounts the part at `target`, and makes it as a folder when it is not there.
///
/// What is wrong inside the machine is for its log, not for users: it would tell them of other files.
pub(crate) fn sub_path(wanted: &SubPath<'_>, target: &Path) -> Result<(), String> {
    let SubPath { volume, container, from, part } = wanted;
    if part.starts_with('/') {
        return Err(format!("error SubPath `{part}` must not be an absolute path"));
    }
    if part.split('/').any(|word| word == "..") {
        return Err(format!("unable to provision SubPath `{part}`: must not contain '..'"));
    }
    let told = |what: &str| {
        format!("failed to {what} subPath for volumeMount \"{volume}\" of container \"{container}\"")
    };
    let log = |error: &dyn std::fmt::Display| tracing::warn!(volume, container, part, %error, "subPath not mounted");
    let opened = match find(from, Path::new(part)) {
        Err(Errno::ENOENT) => make(from, Path::new(part)).map_err(|error| {
            log(&error);
            format!(
                "failed to create subPath directory for volumeMount \"{volume}\" of container \"{container}\""
            )
        })?,
        found => found.map_err(|error| {
            log(&error);
            told("prepare")
        })?,
    };
    bind(&opened, target).map_err(|error| {
        log(&error);
        told("prepare")
    })
}

fn bind(opened: &OwnedFd, target: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    mount::unmount(target)?;
    match (fs::metadata(&source)?.is_dir(), target.parent()) {
        (true, _) => fs::create_dir_all(target)?,
        (false, Some(parent)) => {
            fs::create_dir_all(parent)?;
            fs::write(target, "")?;
        }
        (false, None) => {}
    }
    Ok(mount::bind(&source, target)?)
}

fn inside(flags: OFlag) -> OpenHow {
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH)
}

fn whole(volume: &Path) -> Result<OwnedFd, Errno> {
    openat2(AT_FDCWD, volume, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC))
}

fn find(volume: &Path, part: &Path) -> Result<OwnedFd, Errno> {
    openat2(whole(volume)?, part, inside(OFlag::O_PATH))
}

/// Makes the folders of a part, each with the mode of the volume itself.
fn make(volume: &Path, part: &Path) -> Result<OwnedFd, Errno> {
    let whole = whole(volume)?;
    let mode = fs::metadata(volume).map_err(|_| Errno::EIO)?.permissions().mode() & 0o7777;
    let mut so_far = PathBuf::new();
    let mut parent = whole.try_clone().map_err(|_| Errno::EMFILE)?;
    for component in part.components() {
        let Component::Normal(name) = component else { continue };
        so_far.push(name);
        let made = match mkdirat(&parent, Path::new(name), Mode::from_bits_truncate(0o700)) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(errno),
        };
        parent = openat2(&whole, &so_far, inside(OFlag::O_PATH))?;
        if made {
            let path = format!("/proc/self/fd/{}", parent.as_raw_fd());
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|_| Errno::EPERM)?;
        }
    }
    Ok(parent)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn open(volume: &Path, part: &str) -> Result<OwnedFd, Errno> {
        match find(volume, Path::new(part)) {
            Err(Errno::ENOENT) => make(volume, Path::new(part)),
            found => found,
        }
    }

    #[test]
    fn parts_stay_inside() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2775)).unwrap();
        fs::write(volume.join("a/f"), "x").unwrap();
        symlink("a", volume.join("inward")).unwrap();
        symlink("/etc", volume.join("outward")).unwrap();
        symlink("../..", volume.join("upward")).unwrap();
        for good in ["a", "a/f", "inward/f", "new/folder"] {
            assert!(open(&volume, good).is_ok(), "{good}");
        }
        let mode = fs::metadata(volume.join("new/folder")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o2775, "as the volume itself");
        for bad in ["outward", "outward/passwd", "upward", "outward/new"] {
            assert!(open(&volume, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_users_are_told() {
        let temp = tempfile::tempdir().unwrap();
        symlink("/etc", temp.path().join("out")).unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        let cases = [
            ("/x", "error SubPath `/x` must not be an absolute path"),
            ("a/../b", "unable to provision SubPath `a/../b`: must not contain '..'"),
            ("out", "failed to prepare subPath for volumeMount \"v\" of container \"c\""),
            ("file/x", "failed to prepare subPath for volumeMount \"v\" of container \"c\""),
        ];
        for (part, expected) in cases {
            let wanted = SubPath { volume: "v", container: "c", from: temp.path(), part };
            assert_eq!(sub_path(&wanted, &temp.path().join("target")).unwrap_err(), expected);
        }
    }
}
