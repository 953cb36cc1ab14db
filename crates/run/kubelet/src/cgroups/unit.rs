//! Telling systemd what its own units may use: it writes its values again whenever it looks at its files anew.
//!
//! Units that it does not know (`kubepods.slice` and those below) it leaves alone.

use std::process::{Command, Stdio};

use plimsoll_kernel::cgroup::{Cgroup, cpu_weight};
use plimsoll_podlife::cgroup::{Values, Version};

/// Has systemd keep values of a group of its own until the next boot. The kernel has them already, so a machine
/// that runs no systemd is no failure.
pub(super) fn keep(group: &Cgroup, values: &Values, version: Version) {
    // Another tree than the machine's is not systemd's.
    if !group.dir("memory").is_some_and(|dir| dir.starts_with("/sys/fs/cgroup")) {
        return;
    }
    let path = group.path();
    let properties = properties(values, version);
    let Some(unit) = path.rsplit('/').next().filter(|unit| unit.ends_with(".slice")) else { return };
    if properties.is_empty() {
        return;
    }
    let mut command = Command::new("systemctl");
    command.args(["set-property", "--runtime", unit]).args(&properties);
    match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            tracing::warn!(unit, error = error.trim(), "systemd does not keep what is reserved");
        }
        Err(error) => tracing::warn!(unit, %error, "systemd does not keep what is reserved"),
    }
}

/// Values under systemd's names. It knows no huge pages, and does not touch them.
fn properties(values: &Values, version: Version) -> Vec<String> {
    let shares = values.shares.and_then(|shares| u64::try_from(shares).ok());
    let (processor, memory) = match version {
        Version::V1 => (shares.map(|shares| format!("CPUShares={shares}")), "MemoryLimit"),
        Version::V2 => (shares.map(|shares| format!("CPUWeight={}", cpu_weight(shares))), "MemoryMax"),
    };
    let memory = values.memory.map(|bytes| format!("{memory}={bytes}"));
    let tasks = values.pids.map(|tasks| format!("TasksMax={tasks}"));
    [processor, memory, tasks].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_under_systemds_names() {
        let all = Values { shares: Some(512), memory: Some(1 << 30), pids: Some(7), ..Values::default() };
        let slow = Values { shares: Some(512), ..Values::default() };
        for (values, version, expected) in [
            (&all, Version::V2, &["CPUWeight=59", "MemoryMax=1073741824", "TasksMax=7"][..]),
            (&all, Version::V1, &["CPUShares=512", "MemoryLimit=1073741824", "TasksMax=7"]),
            (&slow, Version::V2, &["CPUWeight=59"]),
            (&Values::default(), Version::V2, &[]),
        ] {
            assert_eq!(properties(values, version), expected);
        }
    }
}
