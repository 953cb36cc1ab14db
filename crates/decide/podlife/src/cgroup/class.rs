//! The groups above pods: all of them together, burstable ones, best effort ones
//! (kubelet: pkg/kubelet/cm/qos_container_manager_linux.go).

use std::collections::BTreeMap;

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

/// The values for these pods: burstable ones weigh what they ask for together, and requests of memory are
/// protected on every level above them, or nowhere.
#[must_use]
pub fn levels<'a>(pods: impl Iterator<Item = &'a PodSpec>, machine: &Machine) -> Levels {
    let (mut cpu, mut memory) = (0, BTreeMap::new());
    for spec in pods {
        let qos = class(spec);
        if qos == Class::Burstable {
            cpu += request_sum(spec, "cpu", |amount| amount.milli());
        }
        if let Some(file) = protection(qos) {
            *memory.entry(file).or_insert(0) += request_sum(spec, "memory", |amount| amount.value());
        }
    }
    let low = memory.get(LOW).copied().unwrap_or(0);
    let min = memory.get(MIN).copied().unwrap_or(0) + low;
    let file = |name: &str, bytes: i64| -> BTreeMap<String, String> {
        let bytes = if machine.reservation == Reservation::Tiered { bytes } else { 0 };
        let known = machine.version == Version::V2;
        known.then(|| (name.to_owned(), bytes.to_string())).into_iter().collect()
    };
    Levels {
        pods: Values { unified: file(MIN, min), ..Values::default() },
        burstable: Values { shares: Some(shares(cpu)), unified: file(LOW, low), ..Values::default() },
    }
}
