//! Device files in containers, and the rules that go with them.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use plimsoll_cri::v1::Device;
use plimsoll_kernel::cgroup::DeviceRule;
use serde_json::{Value, json};

use super::SpecError;

/// A device of the machine under its name in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostDevice {
    pub(crate) path: String,
    /// `c` or `b`.
    pub(crate) kind: char,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) access: String,
}

/// Looks up the devices that a container is given: all of them for the privileged.
pub(crate) fn host_devices(wanted: &[Device], privileged: bool) -> Result<Vec<HostDevice>, SpecError> {
    let mut found = Vec::new();
    if privileged {
        collect(Path::new("/dev"), "/dev", "rwm", &mut found);
    }
    for device in wanted {
        let path = Path::new(&device.host_path);
        let before = found.len();
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                collect(path, &device.container_path, &device.permissions, &mut found)
            }
            Ok(meta) => found.extend(describe(&meta, &device.container_path, &device.permissions)),
            Err(error) => {
                return Err(SpecError::Device { path: device.host_path.clone(), reason: error.to_string() });
            }
        }
        if found.len() == before {
            return Err(SpecError::Device {
                path: device.host_path.clone(),
                reason: "is no device".to_owned(),
            });
        }
    }
    Ok(found)
}

/// Terminals and shared memory are the container's own.
fn collect(folder: &Path, shown: &str, access: &str, found: &mut Vec<HostDevice>) {
    const OWN: [&str; 6] = ["pts", "shm", "fd", "mqueue", "console", "ptmx"];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let shown = format!("{shown}/{name}");
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if OWN.contains(&name.as_str()) {
            continue;
        }
        if meta.is_dir() {
            collect(&entry.path(), &shown, access, found);
        } else {
            found.extend(describe(&meta, &shown, access));
        }
    }
}

fn describe(meta: &fs::Metadata, shown: &str, access: &str) -> Option<HostDevice> {
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return None,
    };
    Some(HostDevice {
        path: shown.to_owned(),
        kind,
        major: nix::sys::stat::major(meta.rdev()) as u32,
        minor: nix::sys::stat::minor(meta.rdev()) as u32,
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    })
}

pub(super) fn nodes(devices: &[HostDevice]) -> Value {
    let node = |device: &HostDevice| {
        json!({
            "path": device.path, "type": device.kind.to_string(), "major": device.major, "minor": device.minor,
            "fileMode": device.mode, "uid": device.uid, "gid": device.gid,
        })
    };
    devices.iter().map(node).collect()
}

/// What may be used: everything, or the harmless devices, terminals and what was asked for.
pub(crate) fn rules(devices: &[HostDevice], privileged: bool) -> Vec<DeviceRule> {
    if privileged {
        return vec![DeviceRule::all(true)];
    }
    let any = |kind| DeviceRule { allow: true, kind, major: None, minor: None, access: "m".to_owned() };
    let mut rules = vec![DeviceRule::all(false), any('c'), any('b')];
    // null, zero, full, random, urandom; tty, console, ptmx; terminals
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(DeviceRule::character(major, Some(minor), "rwm"));
    }
    rules.push(DeviceRule::character(136, None, "rwm"));
    // Pipes are files, not devices.
    let devices = devices.iter().filter(|device| device.kind != 'p');
    rules.extend(devices.map(|device| DeviceRule {
        allow: true,
        kind: device.kind,
        major: Some(device.major),
        minor: Some(device.minor),
        access: device.access.clone(),
    }));
    rules
}
