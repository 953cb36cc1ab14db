//! What a container sees besides its image.

use std::path::PathBuf;

use plimsoll_cri::v1::{Mount, MountPropagation};
use plimsoll_kernel::cgroup::Version;
use serde_json::{Value, json};

use super::{Input, SpecError};
use crate::cdi::MountEdit;

/// The sandbox's own files that containers are given.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) resolv_conf: PathBuf,
    pub(crate) hostname: PathBuf,
    pub(crate) hosts: PathBuf,
    /// The folder behind `/dev/shm`.
    pub(crate) shared_memory: PathBuf,
}

/// Where the container's own control groups are: name under `/sys/fs/cgroup`, folder of the machine.
pub(crate) type CgroupView = Vec<(String, PathBuf)>;

struct Entry {
    destination: String,
    value: Value,
}

/// All mounts in the order they are made: the shorter paths first.
pub(super) fn all(input: &Input<'_>) -> Result<Vec<Value>, SpecError> {
    let privileged = input.security().privileged;
    let mut entries = system(privileged);
    entries.extend(cgroups(input, privileged));
    entries.extend(own_files(input));
    let mut wanted: Vec<Entry> = input.mounts.iter().map(bind).collect::<Result<_, _>>()?;
    wanted.extend(input.edits.mounts.iter().map(edit));
    // What the container asks for replaces what it would have got, and everything below it.
    entries.retain(|entry| !wanted.iter().any(|mount| covers(&mount.destination, &entry.destination)));
    entries.extend(wanted);
    entries.sort_by_key(|entry| entry.destination.split('/').filter(|part| !part.is_empty()).count());
    Ok(entries.into_iter().map(|entry| entry.value).collect())
}

fn covers(upper: &str, path: &str) -> bool {
    let upper = upper.trim_end_matches('/');
    path.strip_prefix(upper).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn entry(destination: &str, kind: &str, source: &str, options: &[&str]) -> Entry {
    let value = json!({ "destination": destination, "type": kind, "source": source, "options": options });
    Entry { destination: destination.to_owned(), value }
}

fn system(privileged: bool) -> Vec<Entry> {
    let sys =
        if privileged { ["nosuid", "noexec", "nodev", "rw"] } else { ["nosuid", "noexec", "nodev", "ro"] };
    vec![
        // Shows the process namespace that the container is in, its own or the machine's.
        entry("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        entry("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        entry(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        entry("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        entry("/sys", "sysfs", "sysfs", &sys),
    ]
}

fn cgroups(input: &Input<'_>, privileged: bool) -> Vec<Entry> {
    let write = if privileged { "rw" } else { "ro" };
    if input.host.cgroups == Version::V2 {
        let options = ["nosuid", "noexec", "nodev", "relatime", write];
        return vec![entry("/sys/fs/cgroup", "cgroup", "cgroup", &options)];
    }
    let mut found =
        vec![entry("/sys/fs/cgroup", "tmpfs", "tmpfs", &["nosuid", "noexec", "nodev", "mode=755"])];
    for (name, folder) in input.cgroup_view {
        let options = ["bind", "nosuid", "noexec", "nodev", write];
        found.push(entry(&format!("/sys/fs/cgroup/{name}"), "bind", &folder.to_string_lossy(), &options));
    }
    found
}

fn own_files(input: &Input<'_>) -> Vec<Entry> {
    let read_only = input.security().readonly_rootfs;
    let bind = |destination: &str, source: &PathBuf, options: &[&str]| {
        entry(destination, "bind", &source.to_string_lossy(), options)
    };
    let file_options: &[&str] =
        if read_only { &["rbind", "rprivate", "ro"] } else { &["rbind", "rprivate", "rw"] };
    vec![
        bind("/etc/hosts", &input.files.hosts, file_options),
        bind("/etc/hostname", &input.files.hostname, file_options),
        bind("/etc/resolv.conf", &input.files.resolv_conf, file_options),
        bind(
            "/dev/shm",
            &input.files.shared_memory,
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"],
        ),
    ]
}

/// A mount that a device brings along.
fn edit(mount: &MountEdit) -> Entry {
    let kind = if mount.kind.is_empty() { "bind" } else { &mount.kind };
    let mut options: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    if kind == "bind" && !options.iter().any(|option| matches!(*option, "bind" | "rbind")) {
        options.push("bind");
    }
    entry(&mount.container_path, kind, &mount.host_path, &options)
}

fn bind(mount: &Mount) -> Result<Entry, SpecError> {
    if mount.image.is_some() {
        return Err(SpecError::Mount {
            path: mount.container_path.clone(),
            reason: "image volumes are resolved before this point".to_owned(),
        });
    }
    if mount.recursive_read_only && !mount.readonly {
        return Err(SpecError::Mount {
            path: mount.container_path.clone(),
            reason: "recursive read-only needs read-only".to_owned(),
        });
    }
    let propagation = match mount.propagation() {
        MountPropagation::PropagationPrivate => "rprivate",
        MountPropagation::PropagationHostToContainer => "rslave",
        MountPropagation::PropagationBidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation, if mount.readonly { "ro" } else { "rw" }];
    if mount.recursive_read_only {
        options.push("rro");
    }
    let destination = if mount.container_path.starts_with('/') {
        mount.container_path.clone()
    } else {
        format!("/{}", mount.container_path)
    };
    Ok(entry(&destination, "bind", &mount.host_path, &options))
}

/// Mounts that travel need a root that lets them.
pub(super) fn root_propagation(mounts: &[Mount]) -> &'static str {
    if mounts.iter().any(|mount| mount.propagation() == MountPropagation::PropagationBidirectional) {
        "shared"
    } else {
        "slave"
    }
}
