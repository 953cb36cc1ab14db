//! The machine that the node is: how much there is of it, and who it is.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::cgroup::reserved::Settings;
use plimsoll_podlife::eviction::Signal;
use plimsoll_podlife::eviction::threshold::Threshold;

/// Facts about the machine that stay while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Processors.
    pub(crate) cpus: i64,
    /// Bytes of memory.
    pub(crate) memory: i64,
    /// Bytes of swap.
    pub(crate) swap: i64,
    /// Sizes of huge pages, as files of control groups name them.
    pub(crate) page_sizes: Vec<String>,
    /// Bytes of the file system that holds pods' data.
    pub(crate) disk: i64,
    /// Bytes of huge pages by resource name.
    pub(crate) huge_pages: BTreeMap<String, i64>,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    /// Go's name of the architecture.
    pub(crate) architecture: &'static str,
    /// Whether processors and memory are those of a configuration and not the machine's.
    pub(crate) is_pretended: bool,
}

impl Machine {
    /// Looks around. `data` is where pods' data lies; `pretended` are processors and bytes of memory that
    /// count instead of what there is.
    pub(crate) fn detect(data: &Path, pretended: Option<(i64, i64)>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let disk = nix::sys::statvfs::statvfs(data)
            .map_or(0, |it| i64::try_from(it.blocks() * it.fragment_size()).unwrap_or(i64::MAX));
        let first = |paths: &[&str]| paths.iter().map(|path| read(path)).find(|text| !text.is_empty());
        Self {
            cpus: pretended
                .map_or_else(|| i64::from(online_cpus(&read("/sys/devices/system/cpu/online"))), |it| it.0),
            memory: pretended
                .map_or_else(|| kibibytes(&read("/proc/meminfo"), "MemTotal:") * 1024, |it| it.1),
            is_pretended: pretended.is_some(),
            swap: kibibytes(&read("/proc/meminfo"), "SwapTotal:") * 1024,
            page_sizes: huge_pages()
                .into_keys()
                .filter_map(|name| Some(format!("{}B", name.strip_prefix("hugepages-")?.strip_suffix('i')?)))
                .collect(),
            disk,
            huge_pages: huge_pages(),
            machine_id: first(&["/etc/machine-id", "/var/lib/dbus/machine-id"]).unwrap_or_default(),
            system_uuid: first(&["/sys/class/dmi/id/product_uuid", "/etc/machine-id"]).unwrap_or_default(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            kernel: read("/proc/sys/kernel/osrelease"),
            os_image: os_name(&read("/etc/os-release")),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "x86" => "386",
                other => other,
            },
        }
    }

    /// Everything there is.
    pub(crate) fn capacity(&self, pods: u32) -> BTreeMap<String, Quantity> {
        let bytes = |bytes: i64| Quantity::from_bytes(bytes);
        let mut capacity = BTreeMap::from([
            ("cpu".to_owned(), Quantity::from_units(self.cpus)),
            ("memory".to_owned(), bytes(self.memory)),
            ("ephemeral-storage".to_owned(), bytes(self.disk)),
            ("pods".to_owned(), Quantity::from_units(i64::from(pods))),
        ]);
        capacity.extend(self.huge_pages.iter().map(|(name, size)| (name.clone(), bytes(*size))));
        capacity
    }

    /// What is kept from pods: reservations, and what is kept so that nothing is evicted. What is nothing is left
    /// out.
    pub(crate) fn kept(&self, reserved: &Settings, thresholds: &[Threshold]) -> BTreeMap<String, Quantity> {
        let of = |name: String| {
            let mut sum = reserved.of(&name);
            match name.as_str() {
                "memory" => {
                    sum += Quantity::from_bytes(kept(thresholds, Signal::MemoryAvailable, self.memory))
                }
                "ephemeral-storage" => {
                    sum += Quantity::from_bytes(kept(thresholds, Signal::NodeFsAvailable, self.disk))
                }
                _ => {}
            }
            (name, sum)
        };
        self.capacity(0).into_keys().map(of).filter(|(_, sum)| !sum.is_zero()).collect()
    }

    /// What pods may use: capacity less reservations, less what is kept so that nothing is evicted.
    pub(crate) fn allocatable(
        &self,
        pods: u32,
        reserved: &Settings,
        thresholds: &[Threshold],
    ) -> BTreeMap<String, Quantity> {
        let mut all = self.capacity(pods);
        let pages: i64 = self.huge_pages.values().sum();
        for (name, amount) in &mut all {
            *amount -= reserved.of(name);
            let kept = match name.as_str() {
                "memory" => kept(thresholds, Signal::MemoryAvailable, self.memory) + pages,
                "ephemeral-storage" => kept(thresholds, Signal::NodeFsAvailable, self.disk),
                _ => 0,
            };
            *amount -= Quantity::from_bytes(kept);
            if amount.sign() < 0 {
                *amount = Quantity::from_units(0);
            }
        }
        all
    }
}

/// What is kept free because pods are evicted when there is less.
fn kept(thresholds: &[Threshold], signal: Signal, capacity: i64) -> i64 {
    let hard = thresholds.iter().find(|it| it.signal == signal && it.is_hard());
    hard.map_or(0, |it| it.least.of(capacity))
}

fn online_cpus(text: &str) -> u32 {
    let ranges = text.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<u32>().ok()? - first.parse::<u32>().ok()? + 1)
    });
    ranges.sum::<u32>().max(1)
}

fn kibibytes(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn os_name(text: &str) -> String {
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    name.trim_matches('"').to_owned()
}

fn huge_pages() -> BTreeMap<String, i64> {
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(size) = name.strip_prefix("hugepages-").and_then(|it| it.strip_suffix("kB")) else {
            continue;
        };
        let Ok(size) = size.parse::<i64>() else { continue };
        let count = std::fs::read_to_string(entry.path().join("nr_hugepages")).unwrap_or_default();
        let count: i64 = count.trim().parse().unwrap_or(0);
        let shown = Quantity::from_bytes(size * 1024);
        pages.insert(format!("hugepages-{shown}"), count * size * 1024);
    }
    pages
}

/// Bytes of memory that programs can still get.
pub(crate) fn available_memory() -> i64 {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:") * 1024
}

/// Bytes of swap space.
pub(crate) fn total_swap() -> i64 {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "SwapTotal:") * 1024
}

/// When the machine was started.
pub(crate) fn boot_time() -> Option<Timestamp> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Timestamp::from_second(seconds).ok()
}

/// How many tasks there are, and how many there can be.
pub(crate) fn processes() -> Option<(i64, i64)> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let most = |path: &str| read(path)?.trim().parse::<i64>().ok();
    let most = most("/proc/sys/kernel/pid_max")?.min(most("/proc/sys/kernel/threads-max")?);
    let load = read("/proc/loadavg")?;
    let tasks = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some((tasks, most))
}

#[cfg(test)]
mod tests {
    use plimsoll_podlife::eviction::threshold;

    use super::*;

    #[test]
    fn processors_are_counted_in_ranges() {
        for (text, count) in [("0-3", 4), ("0", 1), ("0-1,4-7", 6), ("", 1)] {
            assert_eq!(online_cpus(text), count, "{text}");
        }
    }

    #[test]
    fn allocatable_is_what_reservations_leave() {
        let machine = Machine {
            cpus: 4,
            memory: 8 << 30,
            swap: 0,
            page_sizes: Vec::new(),
            disk: 100 << 30,
            huge_pages: BTreeMap::from([("hugepages-2Mi".to_owned(), 64 << 20)]),
            machine_id: String::new(),
            system_uuid: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
            os_image: String::new(),
            architecture: "amd64",
            is_pretended: false,
        };
        let mut reserved = Settings {
            kube: BTreeMap::from([("cpu".to_owned(), Quantity::from_milli(500))]),
            system: BTreeMap::from([("memory".to_owned(), Quantity::from_bytes(1 << 30))]),
            ..Settings::default()
        };
        let hard = threshold::defaults();
        let thresholds = threshold::Settings { hard, ..threshold::Settings::default() };
        let thresholds = thresholds.thresholds().expect("defaults make sense");
        let left = machine.allocatable(110, &reserved, &thresholds);
        assert_eq!(left["cpu"].to_string(), "3500m");
        assert_eq!(left["memory"].to_string(), "7004Mi");
        assert_eq!(left["ephemeral-storage"].to_string(), "90Gi");
        assert_eq!(left["pods"].to_string(), "110");
        assert_eq!(left["hugepages-2Mi"].to_string(), "64Mi");
        reserved.cpus = Some(1);
        assert_eq!(machine.allocatable(110, &reserved, &thresholds)["cpu"].to_string(), "3");
    }
}
