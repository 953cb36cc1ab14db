//! The process as its kernel sees it. Source: `/proc/self`; a value that cannot be read is left out.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Clock ticks in a second, as Linux counts them for user space.
const TICKS: f64 = 100.0;
/// Bytes of a page.
const PAGE: i64 = 4096;

/// Adds what Prometheus' own clients tell of each process.
pub fn register(registry: &mut Registry) {
    if let Some(seconds) = cpu_seconds() {
        let counter = Counter::<f64, AtomicU64>::default();
        counter.inc_by(seconds);
        registry.register("process_cpu_seconds", "Total user and system CPU time spent in seconds", counter);
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory size in bytes", memory(1)),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes", memory(0)),
        ("process_open_fds", "Number of open file descriptors", open_files()),
        ("process_max_fds", "Maximum number of open file descriptors", max_files()),
    ] {
        let Some(value) = value else { continue };
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    register_start(registry);
}

/// Adds when the process started, for what tells nothing else of it.
pub fn register_start(registry: &mut Registry) {
    let Some(time) = start_time() else { return };
    let gauge: Gauge = Gauge::default();
    gauge.set(time);
    registry.register(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds",
        gauge,
    );
}

/// Fields of `/proc/self/stat` behind the program's name, which may hold anything.
fn stat() -> Option<Vec<f64>> {
    let text = std::fs::read_to_string("/proc/self/stat").ok()?;
    let rest = text.rsplit_once(')')?.1;
    Some(rest.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0.0)).collect())
}

fn cpu_seconds() -> Option<f64> {
    let stat = stat()?;
    Some((stat.get(10)? + stat.get(11)?) / TICKS)
}

fn start_time() -> Option<i64> {
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some((boot + stat()?.get(18)? / TICKS) as i64)
}

fn memory(field: usize) -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(field)?.parse::<i64>().ok().map(|pages| pages * PAGE)
}

fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

fn max_files() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let now = i64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .expect("after the epoch")
                .as_secs(),
        )
        .expect("fits");
        assert!(cpu_seconds().expect("time") >= 0.0);
        assert!((now - start_time().expect("start")).abs() < 3600 * 24);
        assert!(memory(1).expect("memory") > 1 << 20);
        assert!(open_files().expect("files") > 2 && max_files().expect("limit") > 2);
    }
}
