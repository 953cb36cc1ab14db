//! `/metrics/cadvisor`: a series of each family for each group, as cAdvisor in upstream's agent writes them.
//!
//! Source of names, labels and help: cAdvisor, metrics/prometheus.go; of the labels' values:
//! pkg/kubelet/server/server.go, containerPrometheusLabelsFunc.

use super::disk::Disk;
use super::group::Measured;
use super::hardware::Hardware;
use super::process::Limit;
use super::series::{Group, Lines};
use super::text::{Kind, family, seconds, value};

/// The whole text.
pub(super) fn write(measured: &[Measured], disk: Option<&Disk>, hardware: Hardware) -> String {
    let groups: Vec<Group<'_>> = measured.iter().map(|it| Group::new(it, disk)).collect();
    let mut out = String::with_capacity(4096 + groups.len() * ROWS.len() * 256);
    out.push_str(&hardware.version);
    for row in ROWS {
        let before = out.len();
        family(&mut out, row.name, row.kind, row.help);
        let head = out.len();
        for group in &groups {
            (row.of)(&mut Lines { out: &mut out, name: row.name, group });
        }
        if out.len() == head {
            out.truncate(before);
        }
        if row.name == LAST_BEFORE_ERROR {
            error(&mut out);
        }
    }
    out.push_str(&hardware.machine);
    out
}

/// The family behind which that of errors comes.
const LAST_BEFORE_ERROR: &str = "container_processes";

fn error(out: &mut String) {
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    family(out, "container_scrape_error", Kind::Gauge, help);
    out.push_str("container_scrape_error");
    value(out, 0.0, None);
}

/// A family.
struct Row {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    of: fn(&mut Lines<'_, '_>),
}

const fn counter(name: &'static str, help: &'static str, of: fn(&mut Lines<'_, '_>)) -> Row {
    Row { name, kind: Kind::Counter, help, of }
}

const fn gauge(name: &'static str, help: &'static str, of: fn(&mut Lines<'_, '_>)) -> Row {
    Row { name, kind: Kind::Gauge, help, of }
}

fn failures(lines: &mut Lines<'_, '_>) {
    let memory = lines.measured().account.stats.memory;
    for (kind, scope, count) in [
        ("pgfault", "container", memory.own_page_faults),
        ("pgfault", "hierarchy", memory.page_faults),
        ("pgmajfault", "container", memory.own_major_page_faults),
        ("pgmajfault", "hierarchy", memory.major_page_faults),
    ] {
        lines.set_with(&[("failure_type", kind), ("scope", scope)], count as f64);
    }
}

fn device_usage(lines: &mut Lines<'_, '_>) {
    let group = lines.group;
    for (name, device) in group.devices() {
        let (major, minor) = (device.major.to_string(), device.minor.to_string());
        for (operation, bytes) in [("Read", device.read_bytes), ("Write", device.write_bytes)] {
            let labels =
                [("device", name.as_str()), ("major", &major), ("minor", &minor), ("operation", operation)];
            lines.set_with(&labels, bytes as f64);
        }
    }
}

fn open_files_limit(lines: &mut Lines<'_, '_>) {
    let amount = match lines.measured().open.limit {
        Some(Limit::Files(files)) => files as f64,
        Some(Limit::Unlimited) => -1.0,
        None => return,
    };
    lines.set_with(&[("ulimit", "max_open_files")], amount);
}

fn layer_bytes(disk: &Disk, measured: &Measured) -> u64 {
    measured.layer.map_or(disk.used, |layer| layer.bytes)
}

/// In the order of names.
const ROWS: &[Row] = &[
    counter("container_blkio_device_usage_total", "Blkio Device bytes usage", device_usage),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |it| {
        it.with_quota(it.measured().account.stats.cpu.periods as f64);
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |it| {
        it.with_quota(it.measured().account.stats.cpu.throttled_periods as f64);
    }),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        |it| it.with_quota(seconds(it.measured().account.stats.cpu.throttled_nanos)),
    ),
    counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", |it| {
        it.set(seconds(it.measured().account.stats.cpu.system_nanos));
    }),
    counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", |it| {
        it.set_with(&[("cpu", "total")], seconds(it.measured().account.stats.cpu.usage_nanos));
    }),
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", |it| {
        it.set(seconds(it.measured().account.stats.cpu.user_nanos));
    }),
    gauge("container_file_descriptors", "Number of open file descriptors for the container.", |it| {
        it.set(it.measured().open.files as f64);
    }),
    gauge("container_fs_inodes_free", "Number of available Inodes", |it| {
        it.disk(|disk, _| disk.inodes_free);
    }),
    gauge("container_fs_inodes_total", "Number of Inodes", |it| it.disk(|disk, _| disk.inodes)),
    gauge(
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem.",
        |it| it.disk(|disk, _| disk.capacity),
    ),
    counter("container_fs_reads_bytes_total", "Cumulative count of bytes read", |it| {
        it.devices(|device| device.read_bytes);
    }),
    counter("container_fs_reads_total", "Cumulative count of reads completed", |it| {
        it.devices(|device| device.reads);
    }),
    gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
        |it| it.disk(layer_bytes),
    ),
    counter("container_fs_writes_bytes_total", "Cumulative count of bytes written", |it| {
        it.devices(|device| device.write_bytes);
    }),
    counter("container_fs_writes_total", "Cumulative count of writes completed", |it| {
        it.devices(|device| device.writes);
    }),
    gauge("container_last_seen", "Last time a container was seen by the exporter", |it| {
        it.set(it.measured().at.as_second() as f64);
    }),
    gauge("container_memory_cache", "Number of bytes of page cache memory.", |it| {
        it.set(it.measured().account.stats.memory.cache as f64);
    }),
    counter("container_memory_failcnt", "Number of memory usage hits limits", |it| {
        it.set(it.measured().account.stats.memory.failures as f64);
    }),
    counter("container_memory_failures_total", "Cumulative count of memory allocation failures.", failures),
    gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", |it| {
        it.set(it.measured().account.kernel_memory as f64);
    }),
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", |it| {
        it.set(it.measured().account.stats.memory.mapped_file as f64);
    }),
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", |it| {
        it.set(it.measured().account.most_memory as f64);
    }),
    gauge("container_memory_rss", "Size of RSS in bytes.", |it| {
        it.set(it.measured().account.stats.memory.rss as f64);
    }),
    gauge("container_memory_swap", "Container swap usage in bytes.", |it| {
        it.set(it.measured().account.stats.memory.swap as f64);
    }),
    gauge("container_memory_total_active_file_bytes", "Current total active file in bytes.", |it| {
        it.set(it.measured().account.stats.memory.active_file as f64);
    }),
    gauge("container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", |it| {
        it.set(it.measured().account.stats.memory.inactive_file as f64);
    }),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |it| it.set(it.measured().account.stats.memory.usage as f64),
    ),
    gauge("container_memory_working_set_bytes", "Current working set in bytes.", |it| {
        it.set(it.measured().account.stats.memory.working_set as f64);
    }),
    counter("container_network_receive_bytes_total", "Cumulative count of bytes received", |it| {
        it.links(|link| link.received.bytes);
    }),
    counter(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
        |it| it.links(|link| link.received.errors),
    ),
    counter(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
        |it| it.links(|link| link.received.dropped),
    ),
    counter("container_network_receive_packets_total", "Cumulative count of packets received", |it| {
        it.links(|link| link.received.packets);
    }),
    counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |it| {
        it.links(|link| link.sent.bytes);
    }),
    counter(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
        |it| it.links(|link| link.sent.errors),
    ),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
        |it| it.links(|link| link.sent.dropped),
    ),
    counter("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |it| {
        it.links(|link| link.sent.packets);
    }),
    counter("container_oom_events_total", "Count of out of memory events observed for the container", |it| {
        it.set(it.measured().account.oom_kills as f64)
    }),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
        |it| it.stall(|pressure| pressure.cpu.full),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        |it| it.stall(|pressure| pressure.cpu.some),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        |it| it.stall(|pressure| pressure.io.full),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion.",
        |it| it.stall(|pressure| pressure.io.some),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        |it| it.stall(|pressure| pressure.memory.full),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion.",
        |it| it.stall(|pressure| pressure.memory.some),
    ),
    gauge("container_processes", "Number of processes running inside the container.", |it| {
        it.set(it.measured().account.processes.len() as f64);
    }),
    gauge("container_sockets", "Number of open sockets for the container.", |it| {
        it.set(it.measured().open.sockets as f64);
    }),
    gauge("container_spec_cpu_period", "CPU period of the container.", |it| {
        if let Some(period) = it.measured().account.allowance.period {
            it.allow(period as f64);
        }
    }),
    gauge("container_spec_cpu_quota", "CPU quota of the container.", |it| {
        if let Some(quota) = it.measured().account.allowance.quota {
            it.allow(quota as f64);
        }
    }),
    gauge("container_spec_cpu_shares", "CPU share of the container.", |it| {
        it.allow(it.measured().account.allowance.shares.unwrap_or(0) as f64);
    }),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", |it| {
        it.allow(it.measured().account.stats.memory.limit.unwrap_or(0) as f64);
    }),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory reservation limit for the container.",
        |it| it.allow(it.measured().account.allowance.memory_soft.unwrap_or(0) as f64),
    ),
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", |it| {
        it.allow(it.measured().account.allowance.swap.unwrap_or(0) as f64);
    }),
    gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", |it| {
        it.allow(it.measured().started.as_second() as f64)
    }),
    gauge("container_threads", "Number of threads running inside the container", |it| {
        it.set(it.measured().account.stats.pids.current as f64);
    }),
    gauge(
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |it| it.set(it.measured().account.stats.pids.limit.unwrap_or(0) as f64),
    ),
    gauge(
        "container_ulimits_soft",
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
        open_files_limit,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_the_order_of_names() {
        assert!(ROWS.windows(2).all(|pair| pair[0].name < pair[1].name));
        let last = ROWS.iter().position(|row| row.name == LAST_BEFORE_ERROR).expect("a family");
        assert!(ROWS[last].name < "container_scrape_error" && "container_scrape_error" < ROWS[last + 1].name);
    }
}
