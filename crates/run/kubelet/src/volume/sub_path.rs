//! A part of a volume inside a container, without a way out of the volume.
//!
//! A container can change its volume while another mounts a part of it. So the part is opened below
//! the volume by the kernel's own rules, without following a link outwards, and mounted by the open
//! file; the engine then gets a path that no container can reach.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use plimsoll_kernel::mount;

/// Mounts `part` of the volume at `target`, and makes it as a folder when it is not there.
pub(crate) fn sub_path(volume: &Path, part: &str, target: &Path) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| format!("subPath \"{part}\": {error}");
    let opened = open(volume, Path::new(part)).map_err(|error| text(&error))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
    let is_dir = fs::metadata(&source).map_err(|error| text(&error))?.is_dir();
    mount::unmount(target).map_err(|error| text(&error))?;
    let made = match (is_dir, target.parent()) {
        (true, _) => fs::create_dir_all(target),
        (false, Some(parent)) => fs::create_dir_all(parent).and_then(|()| fs::write(target, "")),
        (false, None) => Ok(()),
    };
    made.map_err(|error| text(&error))?;
    mount::bind(&source, target).map_err(|error| text(&error))
}

fn open(volume: &Path, part: &Path) -> Result<OwnedFd, Errno> {
    let how = |flags| OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH);
    let whole = openat2(AT_FDCWD, volume, OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC))?;
    match openat2(&whole, part, how(OFlag::O_PATH | OFlag::O_CLOEXEC)) {
        Err(Errno::ENOENT) => {}
        result => return result,
    }
    let mut so_far = PathBuf::new();
    let mut parent = whole.try_clone().map_err(|_| Errno::EMFILE)?;
    for component in part.components() {
        let Component::Normal(name) = component else { return Err(Errno::EXDEV) };
        so_far.push(name);
        match mkdirat(&parent, Path::new(name), Mode::from_bits_truncate(0o750)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        parent = openat2(&whole, &so_far, how(OFlag::O_PATH | OFlag::O_CLOEXEC))?;
    }
    Ok(parent)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn parts_stay_inside() {
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a/f"), "x").unwrap();
        symlink("a", volume.join("inward")).unwrap();
        symlink("/etc", volume.join("outward")).unwrap();
        symlink("../..", volume.join("upward")).unwrap();
        for good in ["a", "a/f", "inward/f", "new/folder"] {
            assert!(open(&volume, Path::new(good)).is_ok(), "{good}");
        }
        assert!(volume.join("new/folder").is_dir());
        for bad in ["outward", "outward/passwd", "upward", "..", "../volume2", "outward/new"] {
            assert!(open(&volume, Path::new(bad)).is_err(), "{bad}");
        }
    }
}
