//! Version 2: one folder for all controllers.

use std::fs;
use std::path::Path;

use super::stats::{self, Stats};
use super::{Cgroup, Error, Limits, Result, cpu_weight, device, read, read_number, write};

pub(super) fn create(group: &Cgroup) -> Result<()> {
    let Some(root) = group.hierarchy.mounts.get("") else { return Ok(()) };
    let mut dir = root.clone();
    for name in group.relative.split('/').filter(|name| !name.is_empty()) {
        delegate(&dir)?;
        dir.push(name);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::File { path: dir, source }),
        }
    }
    Ok(())
}

/// Hands every controller of a group to its children.
fn delegate(dir: &Path) -> Result<()> {
    let offered = read(dir, "cgroup.controllers").unwrap_or_default();
    let given = read(dir, "cgroup.subtree_control").unwrap_or_default();
    let given: Vec<&str> = given.split_whitespace().collect();
    let missing: Vec<String> = offered
        .split_whitespace()
        .filter(|name| !given.contains(name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { write(dir, "cgroup.subtree_control", &missing.join(" ")) }
}

pub(super) fn apply(group: &Cgroup, limits: &Limits) -> Result<()> {
    let Some(dir) = group.dir("") else { return Ok(()) };
    for (file, value) in files(limits, read(&dir, "cpu.max").ok().as_deref()) {
        // Not every kernel has swap accounting or huge pages; the others are always there.
        let optional = file.starts_with("hugetlb.") || file == "memory.swap.max";
        if optional && !dir.join(&file).exists() {
            continue;
        }
        write(&dir, &file, &value)?;
    }
    match &limits.devices {
        Some(rules) => {
            device::attach(&dir, rules).map_err(|source| Error::Devices { path: dir.clone(), source })
        }
        None => Ok(()),
    }
}

/// The files that `limits` stands for. `cpu_max` is the present content of that file, whose other
/// half stays when only one is given.
pub(super) fn files(limits: &Limits, cpu_max: Option<&str>) -> Vec<(String, String)> {
    let number = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    let mut found: Vec<(String, String)> = Vec::new();
    let mut put =
        |file: &str, value: Option<String>| found.extend(value.map(|value| (file.to_owned(), value)));
    put(
        "cpu.weight",
        limits.cpu_shares.filter(|shares| *shares > 0).map(|shares| cpu_weight(shares).to_string()),
    );
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let mut now = cpu_max.unwrap_or("max 100000").split_whitespace();
        let (quota, period) = (now.next().unwrap_or("max"), now.next().unwrap_or("100000"));
        let quota = limits.cpu_quota.map_or_else(|| quota.to_owned(), number);
        let period = limits.cpu_period.map_or_else(|| period.to_owned(), |period| period.to_string());
        put("cpu.max", Some(format!("{quota} {period}")));
    }
    put("cpuset.cpus", limits.cpuset_cpus.clone());
    put("cpuset.mems", limits.cpuset_mems.clone());
    put("memory.max", limits.memory.map(number));
    put("memory.swap.max", swap(limits).map(number));
    put("pids.max", limits.pids.map(number));
    for (size, bytes) in &limits.hugepages {
        put(&format!("hugetlb.{size}.max"), Some(bytes.to_string()));
    }
    for (file, value) in &limits.unified {
        put(file, Some(value.clone()));
    }
    found
}

/// Version 2 counts swap alone, the interface counts it together with memory.
fn swap(limits: &Limits) -> Option<i64> {
    match (limits.memory_swap?, limits.memory) {
        (swap, _) if swap < 0 => Some(-1),
        (swap, Some(memory)) if memory >= 0 => Some((swap - memory).max(0)),
        _ => None,
    }
}

pub(super) fn stats(group: &Cgroup) -> Result<Stats> {
    let dir = group.dir("").unwrap_or_default();
    let detail = read(&dir, "memory.stat")?;
    // The root has no such file: all of the machine's memory counts there.
    let usage = match read_number(&dir, "memory.current") {
        None if group.relative.is_empty() => machine_usage(),
        usage => usage.unwrap_or(0),
    };
    let get = |name: &str| stats::field(&detail, name).unwrap_or(0);
    let mut found = Stats::default();
    found.memory.usage = usage;
    found.memory.working_set = usage.saturating_sub(get("inactive_file"));
    found.memory.rss = get("anon");
    found.memory.cache = get("file");
    found.memory.mapped_file = get("file_mapped");
    found.memory.page_faults = get("pgfault");
    found.memory.major_page_faults = get("pgmajfault");
    found.memory.own_page_faults = found.memory.page_faults;
    found.memory.own_major_page_faults = found.memory.major_page_faults;
    found.memory.active_file = get("active_file");
    found.memory.inactive_file = get("inactive_file");
    found.memory.swap = read_number(&dir, "memory.swap.current").unwrap_or(0);
    found.memory.limit = read_number(&dir, "memory.max");
    let events = read(&dir, "memory.events").unwrap_or_default();
    found.memory.failures = stats::field(&events, "max").unwrap_or(0);
    let cpu = read(&dir, "cpu.stat").unwrap_or_default();
    let nanos = |name: &str| stats::field(&cpu, name).unwrap_or(0).saturating_mul(1000);
    found.cpu.usage_nanos = nanos("usage_usec");
    found.cpu.user_nanos = nanos("user_usec");
    found.cpu.system_nanos = nanos("system_usec");
    found.cpu.throttled_nanos = nanos("throttled_usec");
    found.cpu.periods = stats::field(&cpu, "nr_periods").unwrap_or(0);
    found.cpu.throttled_periods = stats::field(&cpu, "nr_throttled").unwrap_or(0);
    found.pids.current = read_number(&dir, "pids.current").unwrap_or(0);
    found.pids.limit = read_number(&dir, "pids.max");
    let io = read(&dir, "io.stat").unwrap_or_default();
    let sum = |key: &str| {
        let words = io.split_whitespace().filter_map(|word| word.split_once('='));
        words.filter(|(name, _)| *name == key).filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    };
    found.io.read_bytes = sum("rbytes");
    found.io.write_bytes = sum("wbytes");
    found.io.reads = sum("rios");
    found.io.writes = sum("wios");
    Ok(found)
}

fn machine_usage() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    kibibytes("MemTotal:").saturating_sub(kibibytes("MemFree:")) * 1024
}
