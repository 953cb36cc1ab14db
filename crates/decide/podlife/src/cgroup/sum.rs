//! What a pod asks for and may use as a whole.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use plimsoll_meta::quantity::Quantity;

use crate::qos::amount;
use crate::spec::is_sidecar;

type Read = fn(Quantity) -> i64;

/// What a pod asks for: main containers and sidecars together, or the largest moment of its
/// initialization, and its overhead (kubernetes: component-helpers/resource).
#[must_use]
pub fn request_sum(spec: &PodSpec, name: &str, read: Read) -> i64 {
    let of = |container: &Container| {
        let resources = container.resources.as_ref();
        let limit = resources.and_then(|it| amount(it.limits.as_ref(), name));
        resources.and_then(|it| amount(it.requests.as_ref(), name)).or(limit).map_or(0, read)
    };
    let own = spec.resources.as_ref().and_then(|it| amount(it.requests.as_ref(), name)).map(read);
    own.unwrap_or_else(|| total(spec, of)) + overhead(spec, name, read)
}

/// The sum of limits; none when a container has no limit of this kind.
pub(super) fn limit_sum(spec: &PodSpec, name: &str, read: Read) -> Option<i64> {
    let of = |container: &Container| {
        container.resources.as_ref().and_then(|it| amount(it.limits.as_ref(), name)).map_or(0, read)
    };
    if let Some(own) = spec.resources.as_ref().and_then(|it| amount(it.limits.as_ref(), name)) {
        return Some(read(own) + overhead(spec, name, read));
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let unlimited = containers.into_iter().any(|container| of(container) == 0);
    (!unlimited).then(|| total(spec, of) + overhead(spec, name, read))
}

/// The sum of a pod's limits of one kind, of those containers that have one; none when none has.
#[must_use]
pub fn limit_total(spec: &PodSpec, name: &str) -> Option<Quantity> {
    let of = |container: &Container| amount(container.resources.as_ref()?.limits.as_ref(), name);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let any = containers.into_iter().any(|container| of(container).is_some());
    let bytes = |container: &Container| of(container).map_or(0, |amount| amount.value());
    any.then(|| Quantity::from_bytes(total(spec, bytes) + overhead(spec, name, |amount| amount.value())))
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> i64) -> i64 {
    let mains: i64 = spec.containers.iter().map(&of).sum();
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars += of(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + of(container));
        }
    }
    peak.max(mains + sidecars)
}

fn overhead(spec: &PodSpec, name: &str, read: Read) -> i64 {
    amount(spec.overhead.as_ref(), name).map_or(0, read)
}
