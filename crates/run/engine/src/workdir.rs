//! The folder that a container's program starts in: made where neither image nor volumes have it, as other
//! engines do (runc: libcontainer/rootfs_linux.go).
//!
//! Paths are resolved with the container's root as `/`, so that links of an image stay inside.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};
use plimsoll_cri::v1::Mount;

/// Makes `path` of a container whose file system is `root` with these mounts, owned by `owner` where it is new.
pub(crate) fn ensure(root: &Path, mounts: &[Mount], path: &str, owner: (u32, u32)) -> io::Result<()> {
    let path = Path::new(path);
    if !path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))) {
        return Ok(());
    }
    let over = mounts.iter().filter(|mount| path.starts_with(&mount.container_path));
    let Some(mount) = over.max_by_key(|mount| mount.container_path.trim_end_matches('/').len()) else {
        return make(root, path, owner);
    };
    let inside = path.strip_prefix(&mount.container_path).unwrap_or(path);
    if mount.readonly || inside.as_os_str().is_empty() {
        return Ok(());
    }
    make(Path::new(&mount.host_path), inside, owner)
}

fn make(root: &Path, path: &Path, owner: (u32, u32)) -> io::Result<()> {
    let root = File::open(root)?;
    let (mut folder, mut reached) = (OwnedFd::from(root.try_clone()?), PathBuf::new());
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        reached.push(name);
        folder = match open(&root, &reached) {
            Err(Errno::ENOENT) => {
                mkdirat(&folder, name, Mode::from_bits_truncate(0o755))?;
                let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
                fchownat(&folder, name, Some(user), Some(group), flags)?;
                open(&root, &reached)?
            }
            found => found?,
        };
    }
    Ok(())
}

fn open(root: impl AsFd, path: &Path) -> nix::Result<OwnedFd> {
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat2(root, path, OpenHow::new().flags(flags).resolve(inside))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn folders_are_made_inside() {
        let temp = tempfile::tempdir().unwrap();
        let [root, volume] = ["root", "volume"].map(|name| temp.path().join(name));
        fs::create_dir_all(root.join("srv")).unwrap();
        fs::create_dir_all(&volume).unwrap();
        symlink("/srv", root.join("link")).unwrap();
        symlink("../..", root.join("out")).unwrap();
        let mount = |path: &str, readonly| Mount {
            container_path: path.into(),
            host_path: volume.to_string_lossy().into_owned(),
            readonly,
            ..Mount::default()
        };
        let mounts = [mount("/data", false), mount("/fixed", true)];
        let own = fs::metadata(&root).unwrap();
        for path in ["/a/b", "/link/c", "/out/d", "/srv", "/", "/data", "/data/e/f", "/fixed/g", "/../h", "i"]
        {
            ensure(&root, &mounts, path, (own.uid(), own.gid())).unwrap();
        }
        for path in ["root/a/b", "root/srv/c", "root/d", "volume/e/f", "root/i"] {
            assert!(temp.path().join(path).is_dir(), "{path}");
        }
        for path in ["d", "h", "root/data", "root/fixed", "volume/g", "root/h"] {
            assert!(!temp.path().join(path).exists(), "{path}");
        }
        fs::write(root.join("file"), "").unwrap();
        assert!(ensure(&root, &[], "/file/x", (own.uid(), own.gid())).is_err());
    }
}
