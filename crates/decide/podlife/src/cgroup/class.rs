//! The groups above pods: all of them together, burstable ones, best effort ones
//! (kubelet: pkg/kubelet/cm/qos_container_manager_linux.go).

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::PodSpec;

use super::memory::{LOW, MIN, protection};
use super::{LEAST_SHARES, Machine, Reservation, Values, Version, request_sum, shares};
use crate::qos::{Class, class};

/// More than any machine has: the pods below are limited, the class is not.
const UNBOUNDED: i64 = 1 << 62;

/// What changes in the classes as pods come and go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// For the group of all pods.
    pub pods: Values,
    /// For that of burstable pods.
    pub burstable: Values,
}

/// The values of a class's group when it is made.
#[must_use]
pub fn made(machine: &Machine) -> Values {
    let huge_pages = machine.page_sizes.iter().map(|size| (size.clone(), UNBOUNDED)).collect();
    Values { shares: Some(LEAST_SHARES), huge_pages, ..Values::default() }
}

/// What the pods of a node ask for together, kept up to date as they come and go: adding them up anew for
/// every change would cost more the more there are.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    parts: HashMap<String, Part>,
    whole: Part,
}

/// What one pod, or all of them, add to the weights and protections of the levels above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    /// Thousandths of processors of burstable pods.
    cpu: i64,
    /// Bytes that are protected softly.
    low: i64,
    /// Bytes that are protected wholly.
    min: i64,
}

impl Part {
    fn of(spec: &PodSpec) -> Self {
        let qos = class(spec);
        let memory = |file| match protection(qos) == Some(file) {
            true => request_sum(spec, "memory", |amount| amount.value()),
            false => 0,
        };
        let cpu = if qos == Class::Burstable { request_sum(spec, "cpu", |amount| amount.milli()) } else { 0 };
        Self { cpu, low: memory(LOW), min: memory(MIN) }
    }

    fn add(&mut self, other: Self, sign: i64) {
        self.cpu += sign * other.cpu;
        self.low += sign * other.low;
        self.min += sign * other.min;
    }
}

impl Sum {
    /// A pod asks for this; none when it is over.
    pub fn set(&mut self, uid: &str, spec: Option<&PodSpec>) {
        if let Some(old) = self.parts.remove(uid) {
            self.whole.add(old, -1);
        }
        if let Some(spec) = spec {
            let part = Part::of(spec);
            self.whole.add(part, 1);
            self.parts.insert(uid.to_owned(), part);
        }
    }

    /// The values for these pods: burstable ones weigh what they ask for together, and requests of memory are
    /// protected on every level above them, or nowhere.
    #[must_use]
    pub fn levels(&self, machine: &Machine) -> Levels {
        let Part { cpu, low, min } = self.whole;
        let file = |name: &str, bytes: i64| -> BTreeMap<String, String> {
            let bytes = if machine.reservation == Reservation::Tiered { bytes } else { 0 };
            let known = machine.version == Version::V2;
            known.then(|| (name.to_owned(), bytes.to_string())).into_iter().collect()
        };
        Levels {
            pods: Values { unified: file(MIN, min + low), ..Values::default() },
            burstable: Values { shares: Some(shares(cpu)), unified: file(LOW, low), ..Values::default() },
        }
    }
}
