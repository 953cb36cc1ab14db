//! What is counted when somebody asks: pods and containers as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;
use plimsoll_podlife::spec::is_over;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::placement::Placed;

/// What there is.
pub(crate) struct Now {
    pub(crate) sandboxes: Vec<v1::PodSandbox>,
    pub(crate) containers: Vec<v1::Container>,
    pub(crate) pods: Vec<Arc<Pod>>,
    pub(crate) placed: Placed,
    /// Claims by driver.
    pub(crate) claims: BTreeMap<String, i64>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    container_state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Driver {
    driver_name: String,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Static {
    r#static: &'static str,
}

impl Now {
    pub(super) fn register(&self, all: &mut Registry) {
        let claims: Family<Driver, Gauge> = Family::default();
        for (driver_name, count) in &self.claims {
            claims.get_or_create(&Driver { driver_name: driver_name.clone() }).set(*count);
        }
        let help = "[BETA] The number of ResourceClaims that are currently in use on the node, by driver name (driver_name label value) and across all drivers (special value <any> for driver_name). Note that the sum of all by-driver counts is not the total number of in-use ResourceClaims because the same ResourceClaim might use devices from different drivers. Instead, use the count for the <any> driver_name.";
        all.register("dra_resource_claims_in_use", help, claims);
        let all = all.sub_registry_with_prefix("kubelet");
        let running: Gauge = Gauge::default();
        let ready = v1::PodSandboxState::SandboxReady as i32;
        running.set(count(self.sandboxes.iter().filter(|it| it.state == ready).count()));
        all.register("running_pods", "[ALPHA] Number of pods that have a running pod sandbox", running);
        let containers: Family<State, Gauge> = Family::default();
        for it in &self.containers {
            containers.get_or_create(&State { container_state: state(it) }).inc();
        }
        all.register("running_containers", "[ALPHA] Number of containers currently running", containers);
        self.register_pods(all);
        self.placed.register(all);
    }

    fn register_pods(&self, all: &mut Registry) {
        let (desired, active): (Family<Static, Gauge>, Family<Static, Gauge>) = Default::default();
        let mirrors: Gauge = Gauge::default();
        for label in ["", "true"] {
            desired.get_or_create(&Static { r#static: label }).set(0);
            active.get_or_create(&Static { r#static: label }).set(0);
        }
        let ephemeral: Gauge = Gauge::default();
        for pod in &self.pods {
            let debuggers = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
            ephemeral.inc_by(count(debuggers.count()));
            let annotations = pod.metadata.annotations.as_ref();
            let has = |name: &str| annotations.is_some_and(|annotations| annotations.contains_key(name));
            // What is mirrored in the API is desired by a file of the node.
            let mirror = has("kubernetes.io/config.mirror");
            let label = Static { r#static: if mirror { "true" } else { "" } };
            mirrors.inc_by(i64::from(mirror));
            desired.get_or_create(&label).inc();
            if !is_over(pod) {
                active.get_or_create(&label).inc();
            }
        }
        all.register(
            "desired_pods",
            "[ALPHA] The number of pods the kubelet is being instructed to run. static is true if the pod is not from the apiserver.",
            desired,
        );
        all.register(
            "active_pods",
            "[ALPHA] The number of pods the kubelet considers active and which are being considered when admitting new pods. static is true if the pod is not from the apiserver.",
            active,
        );
        all.register(
            "managed_ephemeral_containers",
            "[ALPHA] Current number of ephemeral containers in pods managed by this kubelet.",
            ephemeral,
        );
        all.register(
            "mirror_pods",
            "[ALPHA] The number of mirror pods the kubelet will try to create (one per admitted static pod)",
            mirrors,
        );
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn state(container: &v1::Container) -> &'static str {
    match v1::ContainerState::try_from(container.state) {
        Ok(v1::ContainerState::ContainerCreated) => "created",
        Ok(v1::ContainerState::ContainerRunning) => "running",
        Ok(v1::ContainerState::ContainerExited) => "exited",
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => "unknown",
    }
}
