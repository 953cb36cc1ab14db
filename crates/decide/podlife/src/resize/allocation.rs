//! What the containers of a pod were given.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;
use serde::{Deserialize, Serialize};

use crate::few::Few;
use crate::spec::is_sidecar;

/// Resources by container, and those of the pod as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// Of the pod as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ResourceRequirements>,
    /// By name: containers, and sidecars.
    pub containers: Few<String, ResourceRequirements>,
}

impl Allocation {
    /// What this version of the pod asks for.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let named = |it: &Container| (it.name.clone(), it.resources.clone().unwrap_or_default());
        Self { pod: spec.resources.clone(), containers: resizable(spec).map(named).collect() }
    }

    /// What the status says that the containers have; what it does not tell of is as the pod asks.
    #[must_use]
    pub fn of_status(pod: &Pod) -> Self {
        let mut allocation = Self::of(pod);
        let status = pod.status.as_ref();
        let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
        for status in lists.into_iter().flatten().flatten().flatten() {
            if let (Some(known), Some(resources)) =
                (allocation.containers.get_mut(&status.name), &status.resources)
                && !same(known, resources)
            {
                *known = ResourceRequirements { claims: known.claims.clone(), ..resources.clone() };
            }
        }
        allocation
    }

    /// Whether the pod asks for just this.
    #[must_use]
    pub fn agrees(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return true };
        let none = ResourceRequirements::default();
        let own = |it: &Container| {
            let known = self.containers.get(&it.name);
            known.is_none_or(|known| same(known, it.resources.as_ref().unwrap_or(&none)))
        };
        same(self.pod.as_ref().unwrap_or(&none), spec.resources.as_ref().unwrap_or(&none))
            && resizable(spec).all(own)
    }

    /// The pod as if it asked for this.
    #[must_use]
    pub fn apply(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if self.agrees(pod) {
            return pod.clone();
        }
        let mut pod = Pod::clone(pod);
        if let Some(spec) = &mut pod.spec {
            spec.resources.clone_from(&self.pod);
            let init = spec.init_containers.iter_mut().flatten().filter(|it| is_sidecar(it));
            for container in init.chain(&mut spec.containers) {
                if let Some(resources) = self.containers.get(&container.name) {
                    container.resources = Some(resources.clone());
                }
            }
        }
        Arc::new(pod)
    }
}

fn resizable(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().filter(|it| is_sidecar(it)).chain(&spec.containers)
}

/// Whether two lists of resources say the same; `1` and `1000m` do.
pub(super) fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    same_list(a.requests.as_ref(), b.requests.as_ref()) && same_list(a.limits.as_ref(), b.limits.as_ref())
}

type List<'a> = Option<&'a BTreeMap<String, Text>>;

fn same_list(a: List<'_>, b: List<'_>) -> bool {
    let read = |list: List<'_>| -> BTreeMap<String, Option<Quantity>> {
        list.into_iter().flatten().map(|(name, text)| (name.clone(), text.0.parse().ok())).collect()
    };
    a == b || read(a) == read(b)
}
