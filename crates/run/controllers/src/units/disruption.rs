//! Wires the controller of PodDisruptionBudgets.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use plimsoll_client::{Informer, Object as _};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::disruption::{self, Observed};
use plimsoll_reconcile::owner::controller_of;

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// Who may say how many pods there should be.
#[derive(Clone)]
struct Scales {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    stateful: Informer<StatefulSet>,
    replication: Informer<ReplicationController>,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let budgets = context.informers.informer::<PodDisruptionBudget>();
    let pods = context.informers.informer::<Pod>();
    let scales = Scales {
        deployments: context.informers.informer(),
        sets: context.informers.informer(),
        stateful: context.informers.informer(),
        replication: context.informers.informer(),
    };
    let by = || budgets.clone();
    let (of_pod, of_deployment, of_set, of_stateful) = (by(), by(), by(), by());
    let unit = unit
        .input(&budgets, |budget| vec![Key::of(budget)])
        .input(&pods, move |pod| {
            let mut all = of_pod.list_in(pod.namespace());
            all.retain(|budget| selects(budget, pod));
            all.iter().map(|budget| Key::of(&**budget)).collect()
        })
        .input(&scales.deployments, move |one| all_in(&of_deployment, one.namespace()))
        .input(&scales.sets, move |one| all_in(&of_set, one.namespace()))
        .input(&scales.stateful, move |one| all_in(&of_stateful, one.namespace()))
        .reads(&scales.replication);
    Ok(unit.decide(move |key, now| {
        let Some(budget) = budgets.get(&key.namespace, &key.name) else { return Vec::new() };
        let mut pods = pods.list_in(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let expected = scales.expected(&pods);
        disruption::decide(&Observed { budget: &budget, pods: &pods, expected }, now)
    }))
}

/// The budgets of a namespace: few namespaces have more than one or two.
fn all_in(budgets: &Informer<PodDisruptionBudget>, namespace: &str) -> Vec<Key> {
    budgets.list_in(namespace).iter().map(|budget| Key::of(&**budget)).collect()
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| Labels::from(selector).matches_map(pod.metadata.labels.as_ref()))
}

impl Scales {
    /// The sum of what the pods' controllers want, each counted once.
    fn expected(&self, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let (mut seen, mut total) = (HashSet::new(), 0);
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else { continue };
            if !seen.insert(owner.uid.clone()) {
                continue;
            }
            let namespace = pod.namespace();
            let found = match owner.kind.as_str() {
                "ReplicaSet" => self.of_set(namespace, &owner.name, &mut seen),
                "StatefulSet" => {
                    self.stateful.get(namespace, &owner.name).map(|set| set.spec.replicas.unwrap_or(1))
                }
                "ReplicationController" => self
                    .replication
                    .get(namespace, &owner.name)
                    .map(|one| one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)),
                kind => {
                    return Err(format!(
                        "{kind}.{} does not implement the scale subresource",
                        owner.api_version
                    ));
                }
            };
            total += found.unwrap_or_default();
        }
        Ok(total)
    }

    /// A ReplicaSet's size; that of its Deployment, where it has one.
    fn of_set(&self, namespace: &str, name: &str, seen: &mut HashSet<String>) -> Option<i32> {
        let set = self.sets.get(namespace, name)?;
        let Some(owner) = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") else {
            return Some(set.spec.replicas.unwrap_or(1));
        };
        if !seen.insert(owner.uid.clone()) {
            return Some(0);
        }
        self.deployments.get(namespace, &owner.name).map(|one| one.spec.replicas.unwrap_or(1))
    }
}
