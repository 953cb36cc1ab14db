//! The series of one group: its labels, and lines with a value.

use jiff::Timestamp;
use plimsoll_kernel::cgroup::{DeviceIo, Pressure, device_name};

use super::disk::Disk;
use super::group::{Kind as Of, Measured};
use super::link::Link;
use super::text::{label, value};

/// A group with its labels, in the pieces between which others come in their order.
pub(super) struct Group<'a> {
    measured: &'a Measured,
    disk: Option<&'a Disk>,
    pieces: [String; 4],
    /// Traffic by the device's name.
    devices: Vec<(String, &'a DeviceIo)>,
}

impl<'a> Group<'a> {
    pub(super) fn new(measured: &'a Measured, disk: Option<&'a Disk>) -> Self {
        let labels = &measured.labels;
        let devices = measured.account.devices.iter();
        Self {
            measured,
            disk,
            pieces: [
                joined(&[("container", &labels.container)]),
                joined(&[("id", &measured.id), ("image", &labels.image)]),
                joined(&[("name", &labels.name), ("namespace", &labels.namespace)]),
                joined(&[("pod", &labels.pod)]),
            ],
            devices: devices.map(|it| (device_name(it.major, it.minor), it)).collect(),
        }
    }

    pub(super) fn devices(&self) -> &[(String, &'a DeviceIo)] {
        &self.devices
    }
}

fn joined(labels: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        label(&mut out, name, value);
    }
    out
}

/// The piece behind which a label comes, by the order of names.
fn place(name: &str) -> usize {
    match name {
        name if name < "id" => 0,
        name if name < "name" => 1,
        name if name < "pod" => 2,
        _ => 3,
    }
}

/// Where a family's series of one group go.
pub(super) struct Lines<'a, 'b> {
    pub(super) out: &'b mut String,
    pub(super) name: &'static str,
    pub(super) group: &'b Group<'a>,
}

impl<'a> Lines<'a, '_> {
    pub(super) fn measured(&self) -> &'a Measured {
        self.group.measured
    }

    /// A series with the time at which it was measured.
    pub(super) fn set(&mut self, amount: f64) {
        self.set_with(&[], amount);
    }

    /// The same with labels of its own.
    pub(super) fn set_with(&mut self, labels: &[(&str, &str)], amount: f64) {
        let at = self.measured().at;
        self.line(labels, amount, Some(at));
    }

    /// A series about what is allowed, which has no time.
    pub(super) fn allow(&mut self, amount: f64) {
        self.line(&[], amount, None);
    }

    fn line(&mut self, labels: &[(&str, &str)], amount: f64, at: Option<Timestamp>) {
        let out = &mut *self.out;
        out.push_str(self.name);
        for (index, piece) in self.group.pieces.iter().enumerate() {
            out.push(if index == 0 { '{' } else { ',' });
            out.push_str(piece);
            for (name, text) in labels.iter().filter(|(name, _)| place(name) == index) {
                out.push(',');
                label(out, name, text);
            }
        }
        out.push('}');
        value(out, amount, at);
    }

    /// A figure of each link.
    pub(super) fn links(&mut self, of: fn(&Link) -> u64) {
        for link in &self.measured().links {
            self.set_with(&[("interface", &link.name)], of(link) as f64);
        }
    }

    /// A figure of each device.
    pub(super) fn devices(&mut self, of: fn(&DeviceIo) -> u64) {
        let group = self.group;
        for (name, device) in &group.devices {
            self.set_with(&[("device", name)], of(device) as f64);
        }
    }

    /// A figure of the disk that the machine and containers write to.
    pub(super) fn disk(&mut self, of: fn(&Disk, &Measured) -> u64) {
        let group = self.group;
        let Some(disk) = group.disk else { return };
        if group.measured.kind == Of::Machine || group.measured.layer.is_some() {
            self.set_with(&[("device", &disk.device)], of(disk, group.measured) as f64);
        }
    }

    /// Waiting, where the kernel tells of it.
    pub(super) fn stall(&mut self, of: fn(&Pressure) -> u64) {
        if let Some(pressure) = self.measured().account.pressure {
            self.set(of(&pressure) as f64 / 1e6);
        }
    }

    /// A figure that makes sense for groups with a quota only.
    pub(super) fn with_quota(&mut self, amount: f64) {
        if self.measured().account.allowance.quota.is_some() {
            self.set(amount);
        }
    }
}
