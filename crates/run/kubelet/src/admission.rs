//! Getting a pod what the node has only so much of: devices, processors and memory, close to each other
//! (kubelet: pkg/kubelet/cm/topologymanager/scope_container.go, scope_pod.go).

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, Pod};
use plimsoll_podlife::placement::hints::Hints;
use plimsoll_podlife::placement::{Allocator, Refused};
use plimsoll_podlife::spec::{is_over, is_sidecar};

use crate::agent::Agent;
use crate::devices::Giving;
use crate::placement::Change;

/// Why a pod is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// It does not get its processors or memory.
    #[error("{0}")]
    Placement(#[from] Refused),
    /// It does not get its devices.
    #[error("{0}")]
    Devices(String),
}

impl Denied {
    /// The reason in the pod's status.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Placement(refused) => refused.reason(),
            Self::Devices(_) => "UnexpectedAdmissionError",
        }
    }

    /// The message in the pod's status.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Placement(refused) => refused.message(),
            Self::Devices(why) => format!("Allocate failed due to {why}, which is unexpected"),
        }
    }
}

/// Gives a pod devices of plugins, and what else has to be near to them. Pods that ask for no devices get the rest
/// before their tasks begin.
pub(crate) async fn admit(agent: &Agent, pod: &Pod) -> Result<Change, Denied> {
    if !agent.devices.concerns(pod) {
        return Ok(Change::None);
    }
    let pods = crate::pods::informer(agent);
    pods.synced().await;
    let active: HashSet<String> =
        pods.list().iter().filter(|pod| !is_over(pod)).filter_map(|pod| pod.metadata.uid.clone()).collect();
    let mut giving = agent.devices.turn(pod, |uid| active.contains(uid)).await;
    let begun = std::time::Instant::now();
    let result = admit_all(agent, pod, &mut giving).await;
    agent.metrics.placed(begun.elapsed());
    giving.end(result.is_err());
    if result.is_err() {
        agent.placement.release(pod.metadata.uid.as_deref().unwrap_or_default());
    }
    result
}

async fn admit_all(agent: &Agent, pod: &Pod, giving: &mut Giving<'_>) -> Result<Change, Denied> {
    let Some(spec) = &pod.spec else { return Ok(Change::None) };
    let placement = &agent.placement;
    let (nodes, keeps, whole, due) = placement
        .look(|given: &Allocator| (given.nodes(), given.keeps(), given.keeps_pods(), given.due(pod, spec)));
    let whole = whole.then(|| placement.hint_of_pod(pod, giving.hints_of_pod(pod, &nodes))).transpose()?;
    let mut changed = Change::None;
    for container in due {
        giving.check(container).map_err(Denied::Devices)?;
        let others = if keeps { giving.hints_of(container, &nodes) } else { Hints::new() };
        let (place, change) = placement.give(pod, container, whole.as_ref(), others)?;
        if change == Change::Shared {
            changed = change;
        }
        let leaves = is_init(spec.init_containers.as_deref(), container);
        giving.give(container, &place, leaves).await.map_err(Denied::Devices)?;
    }
    Ok(changed)
}

fn is_init(inits: Option<&[Container]>, container: &Container) -> bool {
    inits.into_iter().flatten().any(|init| init.name == container.name && !is_sidecar(init))
}
