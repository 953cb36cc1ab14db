//! Swap: who gets how much of it, and whether a machine with it is taken at all
//! (kubelet: pkg/kubelet/kuberuntime/kuberuntime_container_linux.go).

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{Machine, Swap, Version};
use crate::qos::{Class, amount, class, is_critical_priority};

/// A file of version 2.
const MAX: &str = "memory.swap.max";

/// How much a container may swap: nothing, or the part of the swap that its request is of the memory.
pub(super) fn of_container(
    spec: &PodSpec,
    container: &Container,
    machine: &Machine,
) -> Option<(String, String)> {
    if machine.version == Version::V1 || machine.swap == 0 {
        return None;
    }
    let bytes = match behavior(spec, container, machine) {
        Swap::No => 0,
        Swap::Limited => {
            let part = request(container) as f64 / machine.memory.max(1) as f64;
            (part * machine.swap as f64) as i64
        }
    };
    Some((MAX.to_owned(), bytes.to_string()))
}

/// Whether this container may swap on this machine.
#[must_use]
pub fn behavior(spec: &PodSpec, container: &Container, machine: &Machine) -> Swap {
    let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
    let limit = amount(limits, "memory").map_or(0, |amount| amount.value());
    let asked = request(container);
    let may = machine.version == Version::V2
        && machine.swapping == Swap::Limited
        && class(spec) == Class::Burstable
        && !is_critical_priority(spec)
        && asked != limit;
    if may { Swap::Limited } else { Swap::No }
}

fn request(container: &Container) -> i64 {
    let requests = container.resources.as_ref().and_then(|it| it.requests.as_ref());
    amount(requests, "memory").map_or(0, |amount| amount.value())
}

/// Why a machine is not taken whose kernel lists this as its swap (`/proc/swaps`); nothing when it has none.
#[must_use]
pub fn refusal(swaps: &str) -> Option<String> {
    let lines: Vec<&str> = swaps.trim().lines().collect();
    (lines.len() > 1).then(|| {
        format!(
            "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false. \
             /proc/swaps contained: [{}]",
            lines.join(" ")
        )
    })
}
