//! Folders of this node, of NFS servers, and devices, shown below the pod's own folder.

use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use plimsoll_kernel::mount;
use plimsoll_podlife::volume::{Mode, Source, nfs};

use super::held::Place;
use super::is_mount_point;
use super::ownership::Ownership;

/// Shows a folder or device of the node.
pub(super) fn local(
    source: &Source,
    path: &str,
    dir: &Path,
    ownership: Option<Ownership>,
) -> Result<Place, String> {
    let from = Path::new(path);
    let meta = fs::metadata(from).map_err(|_| format!("path \"{path}\" does not exist"))?;
    if source.mode == Mode::Block {
        return match meta.file_type().is_block_device() {
            true => Ok(Place::Device(from.to_owned())),
            false => Err(format!("path \"{path}\" is not a block device")),
        };
    }
    if !meta.is_dir() {
        return Err(format!("path \"{path}\" is not a directory"));
    }
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if !is_mount_point(dir) {
        mount::bind(from, dir).map_err(|error| error.to_string())?;
        // What the pod mounts below it is its own business.
        mount::propagate(dir, mount::Propagation::Slave).map_err(|error| error.to_string())?;
        if source.read_only {
            mount::read_only(dir).map_err(|error| error.to_string())?;
        } else if let Some(ownership) = ownership {
            ownership.give(dir)?;
        }
    }
    Ok(Place::Path(dir.to_owned()))
}

/// Mounts a folder of an NFS server by the kernel's own client.
pub(super) fn nfs(source: &Source, server: &str, path: &str, dir: &Path) -> Result<Place, String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if is_mount_point(dir) {
        return Ok(Place::Path(dir.to_owned()));
    }
    let what = nfs::device(server, path);
    let address = address(server)?;
    let mut last = String::new();
    for attempt in nfs::attempts(address, &source.options, source.read_only) {
        match mount::file_system(&what, dir, attempt.kind, &attempt.options) {
            Ok(()) => return Ok(Place::Path(dir.to_owned())),
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("mount failed: {last}"))
}

fn address(server: &str) -> Result<IpAddr, String> {
    let bare = server.trim_start_matches('[').trim_end_matches(']');
    let found = (bare, 2049).to_socket_addrs().map_err(|error| format!("mount failed: {server}: {error}"))?;
    found.map(|it| it.ip()).next().ok_or_else(|| format!("mount failed: {server} has no address"))
}
