//! Taking away everything of a data directory, with or without an engine.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use plimsoll_cri::v1::PodSandboxConfig;
use plimsoll_kernel::cgroup::Hierarchy;
use plimsoll_kernel::process::Identity;
use plimsoll_kernel::{mount, namespace};
use prost::Message as _;

use crate::engine::{Engine, blocking, boot_id};
use crate::error::{Error, Result};
use crate::files;
use crate::group;
use crate::layout::Layout;
use crate::pods::SandboxRecord;
use crate::protocol::State;
use crate::sandbox::{clear, wait_for_end};

impl Engine {
    /// Ends and removes every pod, and undoes all that was done to the machine for them.
    ///
    /// Needs nothing but the data directory: no engine may be running on it. Addresses of the pod
    /// network are the network's to give back.
    ///
    /// # Errors
    /// When something cannot be undone; the rest is done all the same.
    pub async fn destroy_all(data_dir: &Path, cgroup_root: &str) -> Result<()> {
        let layout = Layout::new(data_dir);
        let hierarchy = Hierarchy::detect()?;
        let mut first_error = Ok(());
        for entry in fs::read_dir(layout.sandboxes()).into_iter().flatten().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            let done = destroy_sandbox(&layout, &hierarchy, &id, cgroup_root).await;
            if first_error.is_ok() {
                first_error = done;
            }
        }
        let cgroup_root = cgroup_root.to_owned();
        let rest = blocking(move || {
            for entry in fs::read_dir(layout.namespaces()).into_iter().flatten().flatten() {
                namespace::release(&entry.path())?;
            }
            mount::unmount_below(&layout.sandboxes())?;
            let root = hierarchy.group(&cgroup_root);
            if cgroup_root.trim_matches('/').is_empty() || !root.exists() {
                return Ok(());
            }
            root.kill_all()?;
            clear(&root)
        });
        first_error.and(rest.await)
    }
}

async fn destroy_sandbox(layout: &Layout, hierarchy: &Hierarchy, id: &str, cgroup_root: &str) -> Result<()> {
    let dir = layout.sandbox(id);
    let state: State = files::read_json(&dir.shim_state()).unwrap_or_default();
    let record: SandboxRecord = files::read_json(&dir.record()).unwrap_or_default();
    // In another boot the numbers mean other processes.
    if record.boot == boot_id() {
        // The shim last: it takes the dead away, without which a process namespace cannot end.
        let containers = state.containers.values().map(|process| process.identity);
        let processes: Vec<Identity> = containers.chain(state.pause).chain(state.shim).collect();
        for process in processes {
            if process.signal(nix::libc::SIGKILL).is_ok() {
                wait_for_end(process).await;
            }
        }
    }
    let config = fs::read(dir.config()).ok();
    let config = config.and_then(|bytes| PodSandboxConfig::decode(bytes.as_slice()).ok()).unwrap_or_default();
    let parent = config.linux.map(|linux| linux.cgroup_parent).filter(|parent| !parent.is_empty());
    let parent = parent.unwrap_or_else(|| cgroup_root.to_owned());
    let containers = fs::read_dir(dir.containers()).into_iter().flatten().flatten();
    let mut ids: Vec<String> =
        containers.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    ids.push(id.to_owned());
    let groups: Vec<_> = ids.iter().map(|id| hierarchy.group(&group::path(&parent, id))).collect();
    let netns = layout.network_namespace(id);
    blocking(move || {
        for group in groups {
            group.kill_all()?;
            clear(&group)?;
        }
        namespace::release(&netns)?;
        mount::unmount_below(dir.path())?;
        remove(dir.path())
    })
    .await
}

/// Removes a folder. What watched a process may just write down how it ended.
fn remove(folder: &Path) -> Result<()> {
    const TRIES: u32 = 50;
    for attempt in 1.. {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && attempt < TRIES => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(folder)(error)),
            _ => break,
        }
    }
    Ok(())
}
