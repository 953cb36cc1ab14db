//! Memory on version 2: what is protected, and where slowing down begins
//! (kubernetes: enhancement 2570, pkg/kubelet/cm/qos_container_manager_linux.go).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Machine, Reservation, Version, limit_of, request_sum};
use crate::qos::{Class, amount, class};

/// Memory that is never taken away.
pub(super) const MIN: &str = "memory.min";
/// Memory that is taken away last.
pub(super) const LOW: &str = "memory.low";
/// From here on a group is slowed down.
const HIGH: &str = "memory.high";
/// Limits are whole pages.
const PAGE: f64 = 4096.0;

/// The file that protects memory of this class.
pub(super) fn protection(class: Class) -> Option<&'static str> {
    match class {
        Class::Guaranteed => Some(MIN),
        Class::Burstable => Some(LOW),
        Class::BestEffort => None,
    }
}

fn reserves(machine: &Machine) -> bool {
    machine.version == Version::V2 && machine.reservation == Reservation::Tiered
}

/// What a pod's request protects.
pub(super) fn of_pod(spec: &PodSpec, machine: &Machine) -> BTreeMap<String, String> {
    let request = request_sum(spec, "memory", |amount| amount.value());
    let file = protection(class(spec)).filter(|_| reserves(machine) && request > 0);
    file.map(|file| (file.to_owned(), request.to_string())).into_iter().collect()
}

/// What a container's request protects, and where it is slowed down.
///
/// Worked example: 128Mi asked for, 256Mi allowed, a factor of 0.9: 128Mi + 0.9 × 128Mi, in whole pages, is
/// 255012864.
pub(super) fn of_container(
    spec: &PodSpec,
    container: &Container,
    machine: &Machine,
) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
    let request = amount(requests, "memory").map_or(0, |amount| amount.value());
    let file = protection(class(spec)).filter(|_| reserves(machine) && request > 0);
    files.extend(file.map(|file| (file.to_owned(), request.to_string())));
    let limit = limit_of(spec, container, "memory").map_or(0, |amount| amount.value());
    if let Some(factor) = machine.throttling.filter(|_| machine.version == Version::V2)
        && (request != limit || request == 0)
    {
        let end = if limit > 0 { limit } else { machine.allocatable };
        let high = (request as f64 + (end - request) as f64 * factor) / PAGE;
        let high = (high.floor() * PAGE) as i64;
        if high > request {
            files.insert(HIGH.to_owned(), high.to_string());
        }
    }
    files
}
