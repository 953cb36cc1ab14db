//! Golden files of both versions against a folder that stands for the kernel's.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("plimsoll-cgroup-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Every file below `folder` as `name=content`.
    fn files(&self, folder: &str) -> Vec<String> {
        let base = self.0.join(folder);
        let mut found = Vec::new();
        collect(&base, &base, &mut found);
        found.sort();
        found
    }
}

fn collect(base: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(base, &entry, found);
        } else {
            let name = entry.strip_prefix(base).unwrap().display().to_string();
            found.push(format!("{name}={}", fs::read_to_string(&entry).unwrap()));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn v1(name: &str) -> (Scratch, Hierarchy) {
    let scratch = Scratch::new(name);
    for controller in ["cpu", "cpuacct", "memory", "pids", "devices"] {
        fs::create_dir_all(scratch.0.join(controller)).unwrap();
    }
    scratch.put("cpuset/cpuset.cpus", "0-1\n");
    scratch.put("cpuset/cpuset.mems", "0\n");
    let hierarchy = Hierarchy::v1(&scratch.0);
    (scratch, hierarchy)
}

fn burstable() -> Limits {
    Limits {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        memory: Some(64 << 20),
        memory_swap: Some(64 << 20),
        pids: Some(100),
        devices: Some(vec![DeviceRule::all(false), DeviceRule::character(1, Some(3), "rwm")]),
        ..Limits::default()
    }
}

#[test]
fn version_1_writes_a_file_of_each_controller() {
    let (scratch, hierarchy) = v1("v1");
    let group = hierarchy.group("/kubepods/pod1/c");
    group.create().unwrap();
    group.apply(&burstable()).unwrap();
    group.add(42).unwrap();
    let expect = |controller: &str, files: &[&str]| {
        assert_eq!(scratch.files(&format!("{controller}/kubepods/pod1/c")), files, "{controller}");
    };
    expect(
        "cpu",
        &["cgroup.procs=42", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.shares=512"],
    );
    expect("memory", &["cgroup.procs=42", "memory.limit_in_bytes=67108864"]);
    expect("pids", &["cgroup.procs=42", "pids.max=100"]);
    expect("cpuset", &["cgroup.clone_children=1", "cgroup.procs=42", "cpuset.cpus=0-1", "cpuset.mems=0"]);
    // The last rule written stands in the file: the kernel's file would take both.
    expect("devices", &["cgroup.procs=42", "devices.allow=c 1:3 rwm", "devices.deny=a"]);
    assert_eq!(group.pids().unwrap(), [42]);
}

#[test]
fn version_1_raises_swap_before_memory() {
    let (scratch, hierarchy) = v1("swap");
    let group = hierarchy.group("/c");
    group.create().unwrap();
    scratch.put("memory/c/memory.memsw.limit_in_bytes", "1000");
    group.apply(&Limits { memory: Some(2000), memory_swap: Some(2000), ..Limits::default() }).unwrap();
    assert_eq!(scratch.files("memory/c"), ["memory.limit_in_bytes=2000", "memory.memsw.limit_in_bytes=2000"]);
}

#[test]
fn version_2_hands_controllers_down_and_writes_one_folder() {
    let scratch = Scratch::new("v2");
    scratch.put("cgroup.controllers", "cpu memory pids");
    scratch.put("cgroup.subtree_control", "cpu");
    let hierarchy = Hierarchy::v2(&scratch.0);
    let group = hierarchy.group("/kubepods");
    group.create().unwrap();
    assert_eq!(fs::read_to_string(scratch.0.join("cgroup.subtree_control")).unwrap(), "+memory +pids");
    group.apply(&Limits { devices: None, ..burstable() }).unwrap();
    group.add(7).unwrap();
    assert_eq!(
        scratch.files("kubepods"),
        ["cgroup.procs=7", "cpu.max=50000 100000", "cpu.weight=59", "memory.max=67108864", "pids.max=100"]
    );
}

#[test]
fn half_of_cpu_max_stays() {
    let quota = Limits { cpu_quota: Some(-1), ..Limits::default() };
    assert_eq!(v2::files(&quota, Some("50000 20000")), [("cpu.max".to_owned(), "max 20000".to_owned())]);
    let swap = Limits { memory: Some(100), memory_swap: Some(150), ..Limits::default() };
    assert_eq!(v2::files(&swap, None).last().unwrap().1, "50");
}

#[test]
fn weights_follow_the_curve() {
    for (shares, weight) in [(2, 1), (102, 17), (512, 59), (1024, 100), (4096, 303), (262_144, 10_000)] {
        assert_eq!(cpu_weight(shares), weight, "{shares}");
    }
}

#[test]
fn usage_is_read_alike_from_both_versions() {
    let (scratch, hierarchy) = v1("stats");
    let group = hierarchy.group("/c");
    group.create().unwrap();
    scratch.put("memory/c/memory.usage_in_bytes", "5000\n");
    scratch.put("memory/c/memory.stat", "total_rss 1000\ntotal_inactive_file 700\ntotal_cache 900\n");
    scratch.put("memory/c/memory.limit_in_bytes", "9223372036854771712\n");
    scratch.put("memory/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
    scratch.put("cpuacct/c/cpuacct.usage", "123\n");
    scratch.put("pids/c/pids.max", "max\n");
    let stats = group.stats().unwrap();
    assert_eq!((stats.memory.usage, stats.memory.working_set, stats.memory.rss), (5000, 4300, 1000));
    assert_eq!((stats.memory.limit, stats.cpu.usage_nanos, stats.pids.limit), (None, 123, None));
    assert_eq!(group.oom_kills(), 3);

    let scratch = Scratch::new("stats2");
    scratch.put("c/memory.current", "5000\n");
    scratch.put("c/memory.stat", "anon 1000\ninactive_file 700\n");
    scratch.put("c/memory.events", "max 1\noom 1\noom_kill 2\n");
    scratch.put("c/cpu.stat", "usage_usec 5\n");
    scratch.put("c/io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16 rbytes=5 wbytes=0 rios=1 wios=0\n");
    let group = Hierarchy::v2(&scratch.0).group("c");
    let stats = group.stats().unwrap();
    assert_eq!((stats.memory.working_set, stats.cpu.usage_nanos), (4300, 5000));
    assert_eq!((stats.io.read_bytes, stats.io.write_bytes, group.oom_kills()), (15, 20, 2));
}

#[test]
fn accounts_are_read_alike_from_both_versions() {
    let (scratch, _) = v1("account");
    for (file, text) in [
        ("memory/c/memory.usage_in_bytes", "5000\n"),
        ("memory/c/memory.max_usage_in_bytes", "7000\n"),
        (
            "memory/c/memory.stat",
            "pgfault 3\ntotal_pgfault 8\ntotal_inactive_file 700\ntotal_active_file 9\n",
        ),
        ("memory/c/cgroup.procs", "7\n8\n"),
        ("memory/c/d/cgroup.procs", "9\n"),
        ("cpu/c/cpu.shares", "512\n"),
        ("cpu/c/cpu.cfs_quota_us", "-1\n"),
        ("cpu/c/cpu.cfs_period_us", "100000\n"),
        (
            "blkio/c/blkio.throttle.io_service_bytes_recursive",
            "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n",
        ),
        ("blkio/c/blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\n8:16 Read 5\n"),
    ] {
        scratch.put(file, text);
    }
    let group = Hierarchy::v1(&scratch.0).group("/c");
    let account = group.account().unwrap();
    let devices = [
        DeviceIo { major: 8, minor: 0, read_bytes: 10, write_bytes: 20, reads: 1, writes: 2 },
        DeviceIo { major: 8, minor: 16, reads: 5, ..DeviceIo::default() },
    ];
    assert_eq!(account.devices, devices);
    assert_eq!((account.most_memory, account.processes), (7000, vec![7, 8]));
    let memory = account.stats.memory;
    assert_eq!((memory.own_page_faults, memory.page_faults, memory.active_file), (3, 8, 9));
    let allowance = Allowance { shares: Some(512), period: Some(100_000), ..Allowance::default() };
    assert_eq!((account.allowance, account.pressure), (allowance, None));
    // The folder is new; a file that the kernel has dated earlier says more.
    let early = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    let date = |path: PathBuf, time| fs::File::open(path).unwrap().set_modified(time).unwrap();
    assert!(account.created > Some(early));
    date(scratch.0.join("memory/c/cgroup.procs"), early);
    assert_eq!(group.created(), Some(early));
    date(scratch.0.join("memory/c/cgroup.procs"), std::time::SystemTime::now());
    date(scratch.0.join("memory/c"), early);
    assert_eq!(group.created(), Some(early));
    let below: Vec<String> = group.children().iter().map(Cgroup::path).collect();
    assert_eq!(below, ["/c/d"]);

    let scratch = Scratch::new("account2");
    for (file, text) in [
        ("c/memory.current", "5000\n"),
        ("c/memory.peak", "7000\n"),
        ("c/memory.stat", "anon 1000\nkernel 30\npgfault 8\n"),
        ("c/memory.max", "max\n"),
        ("c/cpu.weight", "100\n"),
        ("c/cpu.max", "50000 100000\n"),
        ("c/io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n"),
        ("c/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 total=3\n"),
    ] {
        scratch.put(file, text);
    }
    let account = Hierarchy::v2(&scratch.0).group("c").account().unwrap();
    assert_eq!(account.devices, devices[..1]);
    assert_eq!((account.most_memory, account.kernel_memory), (7000, 30));
    let allowance =
        Allowance { shares: Some(2597), quota: Some(50_000), period: Some(100_000), ..Allowance::default() };
    assert_eq!(account.allowance, allowance);
    let cpu = Stall { some: 12, full: 3 };
    assert_eq!(account.pressure, Some(Pressure { cpu, ..Pressure::default() }));
}

#[test]
fn device_programs_jump_behind_the_verdict() {
    let code = device::program(&[DeviceRule::all(false), DeviceRule::character(5, None, "rw")]);
    // Six of preamble; kind, two for access, its test, major, verdict; then the rule for all.
    assert_eq!(code.len(), 6 + (1 + 3 + 1 + 2) + 2);
    let kind = code.get(6).unwrap();
    assert!(kind.is_jump());
    assert_eq!(kind.offset, 6);
}

/// The kernel's verifier is the judge of the programs, wherever a version 2 tree is mounted.
#[test]
fn the_kernel_takes_the_device_program() {
    let mounted = crate::mountinfo::read().unwrap_or_default();
    let Some(tree) = mounted.iter().find(|mount| mount.kind == "cgroup2") else { return };
    let dir = tree.point.join(format!("plimsoll-test-{}", std::process::id()));
    if fs::create_dir(&dir).is_err() {
        return; // not root
    }
    let rules = [
        DeviceRule::all(false),
        DeviceRule::character(1, Some(3), "rwm"),
        DeviceRule::character(5, None, "rw"),
    ];
    let first = device::attach(&dir, &rules);
    let again = device::attach(&dir, &rules);
    fs::remove_dir(&dir).unwrap();
    first.unwrap();
    again.unwrap();
}

#[test]
fn version_2_tells_when_a_group_comes_to_its_limits() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let scratch = Scratch::new("events");
    scratch.put("c/memory.events", "low 0\nhigh 0\nmax 0\n");
    let watch = Hierarchy::v2(&scratch.0).group("c").watch_usage(1).unwrap();
    let rings = || {
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    };
    assert!(!rings());
    scratch.put("c/memory.events", "low 0\nhigh 0\nmax 1\n");
    assert!(rings());
    watch.drain();
    assert!(!rings());
}
