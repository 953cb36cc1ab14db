//! `/metrics/resource`: processors and memory alone, for autoscalers.
//!
//! Source of names and help: pkg/kubelet/metrics/collectors/resource_metrics.go, v1.37.

use jiff::Timestamp;

use super::group::{Kind as Of, Measured};
use super::text::{Kind, family, label, seconds, value};
use crate::machine::Machine;

/// A family: whose, and of what.
struct Row {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    of: Of,
    amount: fn(&Measured) -> Option<f64>,
}

const ROWS: &[Row] = &[
    Row {
        name: "container_cpu_usage_seconds_total",
        kind: Kind::Counter,
        help: "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        of: Of::Container,
        amount: cpu,
    },
    Row {
        name: "container_memory_working_set_bytes",
        kind: Kind::Gauge,
        help: "[STABLE] Current working set of the container in bytes",
        of: Of::Container,
        amount: memory,
    },
    Row {
        name: "container_start_time_seconds",
        kind: Kind::Gauge,
        help: "[STABLE] Start time of the container since unix epoch in seconds",
        of: Of::Container,
        amount: |it| Some(it.started.as_millisecond() as f64 / 1e3),
    },
    Row {
        name: "container_swap_usage_bytes",
        kind: Kind::Gauge,
        help: "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        of: Of::Container,
        amount: swap,
    },
    Row {
        name: "node_cpu_usage_seconds_total",
        kind: Kind::Counter,
        help: "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        of: Of::Machine,
        amount: cpu,
    },
    Row {
        name: "node_memory_working_set_bytes",
        kind: Kind::Gauge,
        help: "[STABLE] Current working set of the node in bytes",
        of: Of::Machine,
        amount: memory,
    },
    Row {
        name: "node_swap_usage_bytes",
        kind: Kind::Gauge,
        help: "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
        of: Of::Machine,
        amount: swap,
    },
    Row {
        name: "pod_cpu_usage_seconds_total",
        kind: Kind::Counter,
        help: "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        of: Of::Pod,
        amount: cpu,
    },
    Row {
        name: "pod_memory_working_set_bytes",
        kind: Kind::Gauge,
        help: "[STABLE] Current working set of the pod in bytes",
        of: Of::Pod,
        amount: memory,
    },
    Row {
        name: "pod_swap_usage_bytes",
        kind: Kind::Gauge,
        help: "[ALPHA] Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
        of: Of::Pod,
        amount: swap,
    },
];

fn cpu(it: &Measured) -> Option<f64> {
    Some(seconds(it.account.stats.cpu.usage_nanos))
}

fn memory(it: &Measured) -> Option<f64> {
    Some(it.account.stats.memory.working_set as f64)
}

fn swap(it: &Measured) -> Option<f64> {
    Some(it.account.stats.memory.swap as f64)
}

/// The whole text; an error shows as such. `available` are bytes of memory that the machine has left.
pub(super) fn write(measured: &Result<Vec<Measured>, ()>, available: i64, machine: &Machine) -> String {
    let groups = measured.as_deref().unwrap_or_default();
    let mut out = String::with_capacity(4096 + groups.len() * 512);
    for row in ROWS {
        let mut of = groups.iter().filter(|it| it.kind == row.of).peekable();
        if of.peek().is_none() {
            continue;
        }
        family(&mut out, row.name, row.kind, row.help);
        for it in of {
            let amount = match row.name {
                // What programs can still get counts as free.
                "node_memory_working_set_bytes" => Some((machine.memory - available) as f64),
                _ => (row.amount)(it),
            };
            series(&mut out, row, it, amount);
        }
    }
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    family(&mut out, "resource_scrape_error", Kind::Gauge, help);
    out.push_str("resource_scrape_error");
    value(&mut out, if measured.is_err() { 1.0 } else { 0.0 }, None);
    out
}

fn series(out: &mut String, row: &Row, it: &Measured, amount: Option<f64>) {
    let Some(amount) = amount else { return };
    let labels = &it.labels;
    let names: &[(&str, &str)] = match row.of {
        Of::Container => {
            &[("container", &labels.container), ("namespace", &labels.namespace), ("pod", &labels.pod)]
        }
        Of::Pod => &[("namespace", &labels.namespace), ("pod", &labels.pod)],
        _ => &[],
    };
    out.push_str(row.name);
    for (place, (name, text)) in names.iter().enumerate() {
        out.push(if place == 0 { '{' } else { ',' });
        label(out, name, text);
    }
    if !names.is_empty() {
        out.push('}');
    }
    value(out, amount, Some(time(row, it)));
}

/// Starts are told with the time at which they were.
fn time(row: &Row, it: &Measured) -> Timestamp {
    if row.name == "container_start_time_seconds" { it.started } else { it.at }
}
