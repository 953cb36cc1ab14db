//! Version 1: a folder for each controller.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::stats::{self, Stats};
use super::{Cgroup, Error, Limits, Result, read, read_number, write};

pub(super) fn create(group: &Cgroup) -> Result<()> {
    for dir in group.dirs() {
        fs::create_dir_all(&dir).map_err(|source| Error::File { path: dir.clone(), source })?;
    }
    match (group.dir("cpuset"), group.hierarchy.mounts.get("cpuset")) {
        (Some(dir), Some(mount)) => inherit_cpuset(&dir, mount),
        _ => Ok(()),
    }
}

/// A new cpuset is empty and takes no process: it gets what its parent has. Those made below it get that from the
/// kernel: each that is written to has the kernel look at all of them.
fn inherit_cpuset(dir: &Path, mount: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = read(dir, file).unwrap_or_default();
        let Some(parent) = dir.parent().filter(|_| dir != mount && own.trim().is_empty()) else { continue };
        inherit_cpuset(parent, mount)?;
        write(dir, file, read(parent, file)?.trim())?;
        write(dir, "cgroup.clone_children", "1")?;
    }
    Ok(())
}

pub(super) fn apply(group: &Cgroup, limits: &Limits) -> Result<()> {
    let put = |controller: &str, file: &str, value: Option<String>| -> Result<()> {
        match (group.dir(controller), value) {
            (Some(dir), Some(value)) => write(&dir, file, &value),
            _ => Ok(()),
        }
    };
    put("cpu", "cpu.shares", limits.cpu_shares.map(|shares| shares.to_string()))?;
    quota(group, limits)?;
    put("cpuset", "cpuset.cpus", limits.cpuset_cpus.clone())?;
    put("cpuset", "cpuset.mems", limits.cpuset_mems.clone())?;
    memory(group, limits)?;
    let pids = limits.pids.map(|pids| if pids < 0 { "max".to_owned() } else { pids.to_string() });
    put("pids", "pids.max", pids)?;
    for (size, bytes) in &limits.hugepages {
        put("hugetlb", &format!("hugetlb.{size}.limit_in_bytes"), Some(bytes.to_string()))?;
    }
    match (group.dir("devices"), &limits.devices) {
        (Some(dir), Some(rules)) => rules.iter().try_for_each(|rule| {
            write(&dir, if rule.allow { "devices.allow" } else { "devices.deny" }, &rule.to_string())
        }),
        _ => Ok(()),
    }
}

/// A period that is too short for the quota set before is refused, so the quota is lifted first.
fn quota(group: &Cgroup, limits: &Limits) -> Result<()> {
    let Some(dir) = group.dir("cpu") else { return Ok(()) };
    if let Some(period) = limits.cpu_period {
        let changed = read_number(&dir, "cpu.cfs_period_us") != Some(period);
        if changed {
            if limits.cpu_quota.is_some() {
                write(&dir, "cpu.cfs_quota_us", "-1")?;
            }
            write(&dir, "cpu.cfs_period_us", &period.to_string())?;
        }
    }
    match limits.cpu_quota {
        Some(quota) => write(&dir, "cpu.cfs_quota_us", &quota.to_string()),
        None => Ok(()),
    }
}

/// The kernel wants memory ≤ memory + swap at each step, so the order depends on the direction.
fn memory(group: &Cgroup, limits: &Limits) -> Result<()> {
    let Some(dir) = group.dir("memory") else { return Ok(()) };
    const MEMORY: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let swap = limits.memory_swap.filter(|_| dir.join(SWAP).exists());
    match (limits.memory, swap) {
        (Some(memory), Some(swap)) => {
            let now = read_number(&dir, SWAP).unwrap_or(u64::MAX);
            let grows = swap == -1 || swap.unsigned_abs() > now;
            let both = [(MEMORY, memory), (SWAP, swap)];
            let order = if grows { [both[1], both[0]] } else { both };
            order.into_iter().try_for_each(|(file, value)| write(&dir, file, &value.to_string()))
        }
        (Some(memory), None) => write(&dir, MEMORY, &memory.to_string()),
        (None, Some(swap)) => write(&dir, SWAP, &swap.to_string()),
        (None, None) => Ok(()),
    }
}

pub(super) fn stats(group: &Cgroup) -> Result<Stats> {
    let memory = group.dir("memory").ok_or_else(|| missing(group, "memory"))?;
    let usage = read_number(&memory, "memory.usage_in_bytes").ok_or_else(|| missing(group, "memory"))?;
    let detail = read(&memory, "memory.stat")?;
    let inactive = stats::field(&detail, "total_inactive_file").unwrap_or(0);
    let mut found = Stats::default();
    found.memory.usage = usage;
    found.memory.working_set = usage.saturating_sub(inactive);
    found.memory.rss = stats::field(&detail, "total_rss").unwrap_or(0);
    found.memory.cache = stats::field(&detail, "total_cache").unwrap_or(0);
    found.memory.mapped_file = stats::field(&detail, "total_mapped_file").unwrap_or(0);
    found.memory.page_faults = stats::field(&detail, "total_pgfault").unwrap_or(0);
    found.memory.major_page_faults = stats::field(&detail, "total_pgmajfault").unwrap_or(0);
    found.memory.own_page_faults = stats::field(&detail, "pgfault").unwrap_or(0);
    found.memory.own_major_page_faults = stats::field(&detail, "pgmajfault").unwrap_or(0);
    found.memory.active_file = stats::field(&detail, "total_active_file").unwrap_or(0);
    found.memory.inactive_file = inactive;
    found.memory.swap = stats::field(&detail, "total_swap").unwrap_or(0);
    found.memory.limit = read_number(&memory, "memory.limit_in_bytes").and_then(stats::bounded);
    found.memory.failures = read_number(&memory, "memory.failcnt").unwrap_or(0);
    if let Some(dir) = group.dir("cpuacct") {
        found.cpu.usage_nanos = read_number(&dir, "cpuacct.usage").unwrap_or(0);
        found.cpu.user_nanos = read_number(&dir, "cpuacct.usage_user").unwrap_or(0);
        found.cpu.system_nanos = read_number(&dir, "cpuacct.usage_sys").unwrap_or(0);
    }
    if let Some(text) = group.dir("cpu").and_then(|dir| read(&dir, "cpu.stat").ok()) {
        found.cpu.periods = stats::field(&text, "nr_periods").unwrap_or(0);
        found.cpu.throttled_periods = stats::field(&text, "nr_throttled").unwrap_or(0);
        found.cpu.throttled_nanos = stats::field(&text, "throttled_time").unwrap_or(0);
    }
    if let Some(dir) = group.dir("pids") {
        found.pids.current = read_number(&dir, "pids.current").unwrap_or(0);
        found.pids.limit = read_number(&dir, "pids.max");
    }
    if let Some(dir) = group.dir("blkio") {
        let bytes = read(&dir, "blkio.throttle.io_service_bytes_recursive").unwrap_or_default();
        let operations = read(&dir, "blkio.throttle.io_serviced_recursive").unwrap_or_default();
        found.io.read_bytes = per_device(&bytes, "Read");
        found.io.write_bytes = per_device(&bytes, "Write");
        found.io.reads = per_device(&operations, "Read");
        found.io.writes = per_device(&operations, "Write");
    }
    Ok(found)
}

/// Sums lines such as `8:0 Read 4096`.
fn per_device(text: &str, operation: &str) -> u64 {
    let value = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        (words.next() == Some(operation)).then(|| words.next()?.parse::<u64>().ok()).flatten()
    };
    text.lines().filter_map(value).sum()
}

fn missing(group: &Cgroup, controller: &str) -> Error {
    let path = group.dir(controller).unwrap_or_else(|| PathBuf::from(group.path()));
    Error::File { path, source: io::ErrorKind::NotFound.into() }
}
