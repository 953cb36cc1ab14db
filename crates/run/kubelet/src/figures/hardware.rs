//! The machine's own series (cAdvisor: metrics/prometheus_machine.go).

use std::collections::BTreeSet;
use std::fs;

use super::text::{Kind, family, label, value};
use crate::machine::{Machine, total_swap};
use crate::node::VERSION;

/// Families between `container_…` and the end of the alphabet: those of the machine.
pub(super) struct Hardware {
    /// `cadvisor_version_info`.
    pub(super) version: String,
    /// `machine_…`.
    pub(super) machine: String,
}

/// What the machine has.
pub(super) fn text(machine: &Machine) -> Hardware {
    Hardware { version: version(machine), machine: of(machine) }
}

fn version(machine: &Machine) -> String {
    let mut out = String::new();
    let help = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.";
    family(&mut out, "cadvisor_version_info", Kind::Gauge, help);
    out.push_str("cadvisor_version_info{");
    let labels = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", VERSION),
        ("dockerVersion", ""),
        ("kernelVersion", &machine.kernel),
        ("osVersion", &machine.os_image),
    ];
    for (place, (name, text)) in labels.into_iter().enumerate() {
        out.push_str(if place == 0 { "" } else { "," });
        label(&mut out, name, text);
    }
    out.push('}');
    value(&mut out, 1.0, None);
    out
}

fn of(machine: &Machine) -> String {
    let mut labels = String::new();
    label(&mut labels, "boot_id", &machine.boot_id);
    labels.push(',');
    label(&mut labels, "machine_id", &machine.machine_id);
    let mut system = String::from(",");
    label(&mut system, "system_uuid", &machine.system_uuid);
    let cpus = cpus(machine);
    let rows: [(&str, &str, &[&str], f64); 7] = [
        ("machine_cpu_cores", "Number of logical CPU cores.", &[""], machine.cpus as f64),
        ("machine_cpu_physical_cores", "Number of physical CPU cores.", &[""], cpus.cores as f64),
        ("machine_cpu_sockets", "Number of CPU sockets.", &[""], cpus.sockets as f64),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", &[""], machine.memory as f64),
        ("machine_nvm_avg_power_budget_watts", "NVM power budget.", &[""], 0.0),
        (
            "machine_nvm_capacity",
            "NVM capacity value labeled by NVM mode (memory mode or app direct mode).",
            &[",mode=\"app_direct_mode\"", ",mode=\"memory_mode\""],
            0.0,
        ),
        ("machine_swap_bytes", "Amount of swap memory available on the machine.", &[""], total_swap() as f64),
    ];
    let mut out = String::new();
    for (name, help, modes, amount) in rows {
        family(&mut out, name, Kind::Gauge, help);
        for mode in modes {
            out.push_str(&format!("{name}{{{labels}{mode}{system}}}"));
            value(&mut out, amount, None);
        }
    }
    let help = "1 if there was an error while getting machine metrics, 0 otherwise.";
    family(&mut out, "machine_scrape_error", Kind::Gauge, help);
    out.push_str("machine_scrape_error");
    value(&mut out, 0.0, None);
    out
}

struct Cpus {
    cores: usize,
    sockets: usize,
}

/// Cores and sockets, as far as the kernel tells; each processor is one of its own where it does not.
fn cpus(machine: &Machine) -> Cpus {
    let (mut cores, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    for cpu in 0..machine.cpus {
        let read = |file: &str| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}");
            fs::read_to_string(path).map(|text| text.trim().to_owned()).ok()
        };
        let socket = read("physical_package_id").unwrap_or_default();
        cores.insert((socket.clone(), read("core_id").unwrap_or_else(|| cpu.to_string())));
        sockets.insert(socket);
    }
    Cpus { cores: cores.len(), sockets: sockets.len() }
}
