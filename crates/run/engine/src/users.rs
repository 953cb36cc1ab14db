//! Pods whose users are others outside: a user namespace for each, and their files shown as theirs.
//!
//! The files of images and volumes stay owned as they are. They are mounted once more with their owners
//! moved into the pod's range, which the file system must be able to do; nothing is copied or changed.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use plimsoll_cri::v1::{IdMapping, Mount, NamespaceMode, NamespaceOption, UserNamespace};
use plimsoll_kernel::namespace;
use plimsoll_kernel::pause::Users;
use plimsoll_kernel::{idmap, mount};

use crate::error::{Error, Result};
use crate::layout::{ContainerDir, SandboxDir};

/// The namespaces whose files are kept for containers: from inside, those of the pause process are closed.
pub(crate) const KEPT: [&str; 5] = ["user", "net", "ipc", "uts", "pid"];

/// The range of a pod's users outside; none for pods that have the machine's.
///
/// # Errors
/// When a range is asked for that cannot be made.
pub(crate) fn range(options: &NamespaceOption) -> Result<Option<Users>> {
    let Some(users) = options.userns_options.as_ref().filter(|it| it.mode() == NamespaceMode::Pod) else {
        return Ok(None);
    };
    let hosts = [options.network(), options.pid(), options.ipc()];
    if hosts.contains(&NamespaceMode::Node) {
        let message = "a user namespace and namespaces of the node do not go together";
        return Err(Error::Invalid(message.to_owned()));
    }
    mapping(users).map(Some)
}

fn mapping(users: &UserNamespace) -> Result<Users> {
    let invalid = |message: String| Err(Error::Invalid(message));
    let ([uid], [gid]) = (&users.uids[..], &users.gids[..]) else {
        return invalid("a user namespace needs one range of users and one of groups".to_owned());
    };
    let same = |a: &IdMapping, b: &IdMapping| {
        (a.host_id, a.container_id, a.length) == (b.host_id, b.container_id, b.length)
    };
    if !same(uid, gid) || uid.container_id != 0 || uid.length == 0 || uid.host_id == 0 {
        return invalid(
            "a user namespace begins with root inside, and users and groups have one range".to_owned(),
        );
    }
    Ok(Users { first: uid.host_id, length: uid.length })
}

/// Keeps the namespaces of a pod's pause process in the pod's folder.
pub(crate) fn keep(dir: &SandboxDir, pause: i32) -> Result<()> {
    for kind in KEPT {
        namespace::keep(pause, kind, &dir.namespace(kind))?;
    }
    Ok(())
}

/// Lets go of them.
pub(crate) fn release(dir: &SandboxDir) -> Result<()> {
    KEPT.iter().try_for_each(|kind| Ok(namespace::release(&dir.namespace(kind))?))
}

/// Mounts the root file system of a container: the image's layers as if the pod's users owned them.
pub(crate) fn root(sandbox: &SandboxDir, dir: &ContainerDir, layers: &[PathBuf], users: Users) -> Result<()> {
    let namespace = open(sandbox)?;
    let folders: Vec<PathBuf> = (0..layers.len()).map(|index| dir.layer(index)).collect();
    for (layer, folder) in layers.iter().zip(&folders) {
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        idmap::attach(layer, folder, Some(namespace.as_fd()), false).map_err(Error::io(layer))?;
    }
    give(&dir.upper(), users)?;
    let made = mount::overlay(&folders, &dir.upper(), &dir.work(), &dir.rootfs());
    // The overlay has taken its own copies of these mounts.
    mount::unmount_each(&folders)?;
    Ok(made?)
}

/// Makes a pod's own files its root's.
pub(crate) fn give(path: &Path, users: Users) -> Result<()> {
    chown(path, Some(users.first), Some(users.first)).map_err(Error::io(path))
}

/// Mounts a volume where the pod's users can reach it, as if they owned it when `mount` says so.
pub(crate) fn volume(
    sandbox: &SandboxDir,
    dir: &ContainerDir,
    index: usize,
    mount: &Mount,
) -> Result<String> {
    let (source, target) = (PathBuf::from(&mount.host_path), dir.mount(index));
    if fs::metadata(&source).map_err(Error::io(&source))?.is_dir() {
        fs::create_dir_all(&target).map_err(Error::io(&target))?;
    } else {
        let folder = target.parent().unwrap_or(&target);
        fs::create_dir_all(folder).and_then(|()| fs::write(&target, "")).map_err(Error::io(&target))?;
    }
    let namespace = if mount.uid_mappings.is_empty() { None } else { Some(open(sandbox)?) };
    let users = namespace.as_ref().map(AsFd::as_fd);
    let attached = idmap::attach(&source, &target, users, mount.readonly);
    attached.map_err(|error| {
        Error::Invalid(format!(
            "failed to set MOUNT_ATTR_IDMAP on {}: {error} (maybe the filesystem used doesn't support idmap \
             mounts on this kernel?)",
            source.display()
        ))
    })?;
    Ok(target.to_string_lossy().into_owned())
}

fn open(sandbox: &SandboxDir) -> Result<File> {
    let path = sandbox.namespace("user");
    File::open(&path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_can_be_made() {
        let options = |mode: NamespaceMode, host_id: u32, length: u32, network: NamespaceMode| {
            let one = IdMapping { host_id, container_id: 0, length };
            NamespaceOption {
                network: network as i32,
                pid: NamespaceMode::Container as i32,
                userns_options: Some(UserNamespace { mode: mode as i32, uids: vec![one], gids: vec![one] }),
                ..NamespaceOption::default()
            }
        };
        let (pod, node) = (NamespaceMode::Pod, NamespaceMode::Node);
        let users = Users { first: 65536, length: 65536 };
        assert!(matches!(range(&options(pod, 65536, 65536, pod)), Ok(Some(found)) if found == users));
        assert!(matches!(range(&options(node, 65536, 65536, pod)), Ok(None)));
        assert!(matches!(range(&NamespaceOption::default()), Ok(None)));
        assert!(range(&options(pod, 65536, 65536, node)).is_err(), "the node's network");
        assert!(range(&options(pod, 0, 65536, pod)).is_err(), "the machine's root");
        assert!(range(&options(pod, 65536, 0, pod)).is_err(), "nobody");
        let mut two = options(pod, 65536, 65536, pod);
        if let Some(users) = &mut two.userns_options {
            users.uids.push(users.uids[0]);
        }
        assert!(range(&two).is_err(), "two ranges");
    }
}
