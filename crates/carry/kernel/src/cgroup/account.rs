//! Everything that the files of one group tell: what it used, what it may use, who is in it.

use std::path::PathBuf;
use std::time::SystemTime;

use super::stats::{self, Stats};
use super::{Cgroup, Result, Version, read, read_number};

/// All figures of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// What it used.
    pub stats: Stats,
    /// The most memory that counted towards the limit, in bytes.
    pub most_memory: u64,
    /// Memory of the kernel, in bytes.
    pub kernel_memory: u64,
    /// Processes that the kernel killed for memory.
    pub oom_kills: u64,
    /// Traffic by device.
    pub devices: Vec<DeviceIo>,
    /// What it may use.
    pub allowance: Allowance,
    /// How long it waited for what it could not have; only version 2 knows.
    pub pressure: Option<Pressure>,
    /// The processes of the group itself, without those of groups below.
    pub processes: Vec<i32>,
    /// When the group was made.
    pub created: Option<SystemTime>,
}

/// What a group may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Relative weight of processor time in the scale of version 1.
    pub shares: Option<u64>,
    /// Microseconds of processor time in a period; none without a limit.
    pub quota: Option<u64>,
    /// A period in microseconds.
    pub period: Option<u64>,
    /// Bytes of memory that the group is pushed back to on version 1, that are its own on version 2.
    pub memory_soft: Option<u64>,
    /// Bytes of memory and swap on version 1, of swap alone on version 2.
    pub swap: Option<u64>,
}

/// What a group moved from and to one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceIo {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// Seconds that some, or all, processes of a group have waited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// For processors.
    pub cpu: Stall,
    /// For memory.
    pub memory: Stall,
    /// For devices.
    pub io: Stall,
}

/// How long processes waited for one thing, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// At least one of them waited.
    pub some: u64,
    /// All of them waited.
    pub full: u64,
}

impl Cgroup {
    /// Everything the group's files tell.
    ///
    /// # Errors
    /// When the group does not exist.
    pub fn account(&self) -> Result<Account> {
        let stats = self.stats()?;
        let mut account = match self.hierarchy.version {
            Version::V1 => self.account_v1(),
            Version::V2 => self.account_v2(),
        };
        account.stats = stats;
        account.oom_kills = self.oom_kills();
        account.created = self.created();
        account.processes = self.processes();
        Ok(account)
    }

    /// The groups directly below this one.
    #[must_use]
    pub fn children(&self) -> Vec<Self> {
        let Some(dir) = self.dir("memory") else { return Vec::new() };
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let relative = format!("{}/{name}", self.relative).trim_matches('/').to_owned();
                Self { hierarchy: self.hierarchy.clone(), relative }
            })
            .collect()
    }

    /// The processes of the group itself.
    #[must_use]
    pub fn processes(&self) -> Vec<i32> {
        let text = self.dir("memory").and_then(|dir| read(&dir, "cgroup.procs").ok()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// When the group was made, or not long after. The kernel dates a folder or file to when it was first looked
    /// at, and folders also to when something was made in them: the earliest of these is the nearest.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        let dir = self.dir("memory")?;
        let changed = |path: PathBuf| std::fs::metadata(path).ok()?.modified().ok();
        [dir.join("cgroup.procs"), dir].into_iter().filter_map(changed).min()
    }

    fn account_v1(&self) -> Account {
        let number = |controller: &str, file: &str| read_number(&self.dir(controller)?, file);
        let text = |file: &str| self.dir("blkio").and_then(|dir| read(&dir, file).ok()).unwrap_or_default();
        let mut account = Account {
            most_memory: number("memory", "memory.max_usage_in_bytes").unwrap_or(0),
            kernel_memory: number("memory", "memory.kmem.usage_in_bytes").unwrap_or(0),
            allowance: Allowance {
                shares: number("cpu", "cpu.shares"),
                // A quota of -1 is no number of this kind.
                quota: number("cpu", "cpu.cfs_quota_us"),
                period: number("cpu", "cpu.cfs_period_us"),
                memory_soft: number("memory", "memory.soft_limit_in_bytes").and_then(stats::bounded),
                swap: number("memory", "memory.memsw.limit_in_bytes").and_then(stats::bounded),
            },
            ..Account::default()
        };
        let bytes = text("blkio.throttle.io_service_bytes_recursive");
        add_devices(&mut account.devices, &bytes, |device| (&mut device.read_bytes, &mut device.write_bytes));
        let operations = text("blkio.throttle.io_serviced_recursive");
        add_devices(&mut account.devices, &operations, |device| (&mut device.reads, &mut device.writes));
        account
    }

    fn account_v2(&self) -> Account {
        let dir = self.dir("").unwrap_or_default();
        let number = |file: &str| read_number(&dir, file);
        let cpu = read(&dir, "cpu.max").unwrap_or_default();
        let mut cpu = cpu.split_whitespace().map(|word| word.parse().ok());
        let allowance = Allowance {
            shares: number("cpu.weight").map(shares),
            quota: cpu.next().flatten(),
            period: cpu.next().flatten(),
            memory_soft: number("memory.min"),
            swap: number("memory.swap.max"),
        };
        let detail = read(&dir, "memory.stat").unwrap_or_default();
        let stall = |file: &str| read(&dir, file).ok().map(|text| stall(&text));
        let pressure = [stall("cpu.pressure"), stall("memory.pressure"), stall("io.pressure")];
        let [cpu, memory, io] = pressure.map(Option::unwrap_or_default);
        Account {
            most_memory: number("memory.peak").unwrap_or(0),
            kernel_memory: stats::field(&detail, "kernel").unwrap_or(0),
            devices: read(&dir, "io.stat").unwrap_or_default().lines().filter_map(device_v2).collect(),
            allowance,
            pressure: pressure.iter().any(Option::is_some).then_some(Pressure { cpu, memory, io }),
            ..Account::default()
        }
    }
}

/// Version 1's scale of a weight, the straight line that monitoring has always shown.
fn shares(weight: u64) -> u64 {
    2 + weight.saturating_sub(1) * 262_142 / 9_999
}

type Pair<'a> = (&'a mut u64, &'a mut u64);

/// Takes up lines such as `8:0 Read 4096`.
fn add_devices(devices: &mut Vec<DeviceIo>, text: &str, pair: impl Fn(&mut DeviceIo) -> Pair<'_>) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, operation @ ("Read" | "Write"), value] = words.as_slice() else { continue };
        let (Some((major, minor)), Ok(value)) = (numbers(name), value.parse::<u64>()) else { continue };
        let place = devices.iter().position(|it| (it.major, it.minor) == (major, minor));
        let place = place.unwrap_or_else(|| {
            devices.push(DeviceIo { major, minor, ..DeviceIo::default() });
            devices.len() - 1
        });
        let (read, write) = pair(&mut devices[place]);
        *(if *operation == "Read" { read } else { write }) += value;
    }
}

/// A line such as `8:0 rbytes=10 wbytes=20 rios=1 wios=2`.
fn device_v2(line: &str) -> Option<DeviceIo> {
    let (name, rest) = line.split_once(' ')?;
    let (major, minor) = numbers(name)?;
    let get = |key: &str| {
        let words = rest.split_whitespace().filter_map(|word| word.split_once('='));
        words.filter(|(name, _)| *name == key).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
    };
    let (read_bytes, write_bytes) = (get("rbytes"), get("wbytes"));
    Some(DeviceIo { major, minor, read_bytes, write_bytes, reads: get("rios"), writes: get("wios") })
}

fn numbers(name: &str) -> Option<(u32, u32)> {
    let (major, minor) = name.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines such as `some avg10=0.00 avg60=0.00 avg300=0.00 total=1234`.
fn stall(text: &str) -> Stall {
    let total = |head: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(head))?;
        line.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
    };
    Stall { some: total("some ").unwrap_or(0), full: total("full ").unwrap_or(0) }
}

/// A device's name as `/dev` has it; its numbers where the kernel knows none.
#[must_use]
pub fn device_name(major: u32, minor: u32) -> String {
    let file = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/uevent"));
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| format!("{major}:{minor}"), |name| format!("/dev/{name}"))
}
