//! The rule for worlds in which nothing breaks but controllers and requests: rollouts never take more
//! than they may.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::pod;
use plimsoll_reconcile::share::{self, Round};

use crate::api::Api;
use crate::process::Step;

/// How many of a workload's pods there must be once there were.
struct Floor {
    what: String,
    uid: String,
    owners: BTreeSet<String>,
    least: usize,
    count: fn(&[Arc<Pod>]) -> usize,
}

/// Which workloads have come up.
#[derive(Default)]
pub(crate) struct Floors {
    reached: BTreeSet<String>,
    version: u64,
}

impl Floors {
    /// Looks at what one request did. Whoever takes a pod that it does not know to be ready yet takes none of
    /// those that it counts on.
    pub(crate) fn after(&mut self, api: &Api, step: &Step) {
        let Action::Delete(delete) = &step.action else { return };
        let known = delete.uid.as_ref().is_some_and(|uid| step.view.ready.contains(uid));
        if delete.target.resource.kind == "Pod" && !known {
            let concerned = floors(api).into_iter().filter(|floor| floor.owners.contains(&step.view.uid));
            for floor in concerned {
                self.reached.remove(&floor.uid);
            }
        }
    }

    /// Looks at all workloads. What is ready counts: who is the next to go is not asked for how long it has been.
    pub(crate) fn look(&mut self, api: &Api) -> Result<(), String> {
        if std::mem::replace(&mut self.version, api.version) == api.version {
            return Ok(());
        }
        let pods = api.all::<Pod>();
        for floor in floors(api) {
            let mut own = pods.clone();
            own.retain(|pod| {
                let owner =
                    controller_of(&pod.metadata).is_some_and(|owner| floor.owners.contains(&owner.uid));
                owner && pod::ready(pod) && !pod::deleting(pod)
            });
            let count = (floor.count)(&own);
            if count >= floor.least {
                self.reached.insert(floor.uid);
            } else if self.reached.contains(&floor.uid) {
                return Err(format!("{} has {count} ready pods of {}", floor.what, floor.least));
            }
        }
        Ok(())
    }
}

fn floors(api: &Api) -> Vec<Floor> {
    let (sets, deployments) = (api.all::<ReplicaSet>(), api.all::<Deployment>());
    let of_sets = api.all::<StatefulSet>();
    let nodes = api.all::<Node>().len();
    let mut floors: Vec<_> = deployments.iter().filter_map(|one| of_deployment(one, &sets)).collect();
    floors.extend(of_sets.iter().map(|set| {
        let least = size(set.spec.replicas).saturating_sub(1);
        Floor::new("StatefulSet", &set.metadata, least, <[_]>::len)
    }));
    floors.extend(api.all::<DaemonSet>().iter().map(|set| {
        let rolling = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let most = share::of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1, Round::Up);
        Floor::new("DaemonSet", &set.metadata, nodes - size(Some(most)), nodes_of)
    }));
    floors
}

impl Floor {
    fn new(kind: &str, meta: &ObjectMeta, least: usize, count: fn(&[Arc<Pod>]) -> usize) -> Self {
        let uid = meta.uid.clone().unwrap_or_default();
        Self {
            what: format!("{kind} {}", meta.name.as_deref().unwrap_or_default()),
            owners: [uid.clone()].into(),
            uid,
            least,
            count,
        }
    }
}

/// None where all old pods go first.
fn of_deployment(one: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Floor> {
    let rolling = one.spec.strategy.as_ref()?.rolling_update.as_ref()?;
    let replicas = one.spec.replicas.unwrap_or(1);
    let most = share::of(rolling.max_unavailable.as_ref(), replicas, Round::Down);
    let least = size(Some(replicas)).saturating_sub(size(Some(most)));
    let mut floor = Floor::new("Deployment", &one.metadata, least, <[_]>::len);
    let own =
        sets.iter().filter(|set| controller_of(&set.metadata).is_some_and(|owner| owner.uid == floor.uid));
    floor.owners = own.filter_map(|set| set.metadata.uid.clone()).collect();
    Some(floor)
}

fn nodes_of(pods: &[Arc<Pod>]) -> usize {
    pods.iter().map(|pod| pod::node(pod)).collect::<BTreeSet<_>>().len()
}

fn size(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or(1)).unwrap_or_default()
}
