//! The rule for worlds in which nothing breaks but controllers and requests: rollouts never take more
//! than they may.

use std::collections::{BTreeMap, BTreeSet};
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

/// Counts what matters of a workload's ready pods.
type Count = dyn Fn(&[Arc<Pod>]) -> usize;

/// How many of a workload's pods there must be once there were.
struct Floor {
    what: String,
    uid: String,
    owners: BTreeSet<String>,
    least: usize,
    count: Box<Count>,
}

/// Which workloads have come up.
#[derive(Default)]
pub(crate) struct Floors {
    reached: BTreeSet<String>,
    version: u64,
}

impl Floors {
    /// Looks at what one request did. Whoever takes a pod that it does not know to be ready yet takes none of
    /// those that it counts on; nor does a Deployment that was not yet told of as many as there must be by sets that
    /// knew how large they are to be.
    pub(crate) fn after(&mut self, api: &Api, step: &Step) {
        let view = &step.view;
        match &step.action {
            Action::Delete(delete)
                if delete.target.resource.kind == "Pod"
                    && !delete.uid.as_ref().is_some_and(|uid| view.ready.contains(uid)) =>
            {
                self.forget(api, |floor| floor.owners.contains(&view.uid));
            }
            Action::Patch(patch) if patch.target.resource.kind == "ReplicaSet" => {
                self.forget(api, |floor| floor.uid == view.uid && view.available < floor.least);
            }
            _ => {}
        }
    }

    fn forget(&mut self, api: &Api, concerned: impl Fn(&Floor) -> bool) {
        for floor in floors(api).into_iter().filter(concerned) {
            self.reached.remove(&floor.uid);
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
        Floor::new("StatefulSet", &set.metadata, least, |pods| pods.len())
    }));
    floors.extend(api.all::<DaemonSet>().iter().map(|set| {
        let rolling = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let most = share::of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1, Round::Up);
        Floor::new("DaemonSet", &set.metadata, nodes - size(Some(most)), nodes_of)
    }));
    floors
}

impl Floor {
    fn new(
        kind: &str,
        meta: &ObjectMeta,
        least: usize,
        count: impl Fn(&[Arc<Pod>]) -> usize + 'static,
    ) -> Self {
        let uid = meta.uid.clone().unwrap_or_default();
        Self {
            what: format!("{kind} {}", meta.name.as_deref().unwrap_or_default()),
            owners: [uid.clone()].into(),
            uid,
            least,
            count: Box::new(count),
        }
    }
}

/// None where all old pods go first.
fn of_deployment(one: &Deployment, sets: &[Arc<ReplicaSet>]) -> Option<Floor> {
    let rolling = one.spec.strategy.as_ref()?.rolling_update.as_ref()?;
    let replicas = one.spec.replicas.unwrap_or(1);
    let most = share::of(rolling.max_unavailable.as_ref(), replicas, Round::Down);
    let least = size(Some(replicas)).saturating_sub(size(Some(most)));
    let owned = |set: &&Arc<ReplicaSet>| {
        controller_of(&set.metadata).is_some_and(|owner| Some(&owner.uid) == one.metadata.uid.as_ref())
    };
    let own: BTreeMap<String, usize> = sets
        .iter()
        .filter(owned)
        .filter_map(|set| Some((set.metadata.uid.clone()?, size(set.spec.replicas))))
        .collect();
    let owners = own.keys().cloned().collect();
    let floor = Floor::new("Deployment", &one.metadata, least, move |pods| kept(&own, pods));
    Some(Floor { owners, ..floor })
}

/// The pods that their ReplicaSets are to keep.
fn kept(sets: &BTreeMap<String, usize>, pods: &[Arc<Pod>]) -> usize {
    let of = |pod: &&Arc<Pod>, uid: &str| controller_of(&pod.metadata).is_some_and(|owner| owner.uid == uid);
    sets.iter().map(|(uid, most)| pods.iter().filter(|pod| of(pod, uid)).count().min(*most)).sum()
}

fn nodes_of(pods: &[Arc<Pod>]) -> usize {
    pods.iter().map(|pod| pod::node(pod)).collect::<BTreeSet<_>>().len()
}

fn size(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or(1)).unwrap_or_default()
}
