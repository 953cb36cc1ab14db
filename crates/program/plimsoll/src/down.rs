//! `plimsoll down`: the end of an instance and of everything it made.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_engine::Engine;
use plimsoll_kernel::mount;
use plimsoll_podlife::cgroup::name::Driver;

use crate::cli::Down;
use crate::instance::Instance;
use crate::progress::Progress;

/// The program gets this long to stop before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn run(options: &Down) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("must run as root; try `sudo plimsoll down`");
    }
    let progress = Progress::begin();
    let directory = &options.instance.data_dir;
    let Some(instance) = Instance::open(directory)? else {
        progress.line(&format!("nothing to stop: no instance in {}", directory.display()));
        return Ok(());
    };
    if let Some(pid) = instance.running() {
        stop(pid)?;
        progress.line(&format!("- stopped process {pid}"));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(undo(&instance))?;
    if options.keep_data {
        progress.line(&format!(
            "- pods are gone, objects and images are kept in {}",
            instance.directory.display()
        ));
    } else {
        std::fs::remove_dir_all(&instance.directory)
            .with_context(|| format!("remove {}", instance.directory.display()))?;
        progress.line(&format!("- everything is gone, {} too", instance.directory.display()));
    }
    Ok(())
}

/// Pods, mounts, control groups, links and rules.
async fn undo(instance: &Instance) -> anyhow::Result<()> {
    // The settings that named the groups may be gone.
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let names = driver.parse(&instance.cgroup_root);
        let root = driver.path(&names.iter().map(String::as_str).collect::<Vec<_>>());
        Engine::destroy_all(&instance.directory, &root).await.context("stop pods")?;
    }
    plimsoll_network::cleanup(&instance.directory, &instance.id).await.context("remove the pod network")?;
    mount::unmount_below(&instance.directory).context("unmount volumes")?;
    for folder in ["kubelet", "engine", "run"] {
        remove(&instance.file(folder))?;
    }
    Ok(())
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Asks a process to end, and insists after a while.
fn stop(pid: i32) -> anyhow::Result<()> {
    let process = Pid::from_raw(pid);
    // Opened before the signal: the number could belong to another process afterwards.
    let Ok(handle) = plimsoll_kernel::process::pidfd(pid) else { return Ok(()) };
    match kill(process, Signal::SIGTERM) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("stop process {pid}")),
    }
    if !ended(&handle)? {
        kill(process, Signal::SIGKILL).with_context(|| format!("kill process {pid}"))?;
        if !ended(&handle)? {
            bail!("process {pid} does not end");
        }
    }
    Ok(())
}

/// Waits a while for the end of a process.
fn ended(handle: &OwnedFd) -> anyhow::Result<bool> {
    let mut handles = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(PATIENCE).context("a few seconds fit")?;
    Ok(poll(&mut handles, patience).context("wait for the process")? > 0)
}
