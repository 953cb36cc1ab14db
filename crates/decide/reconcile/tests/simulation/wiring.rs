//! Which controllers a change concerns, and what each of them looks at: as the units of
//! `run/controllers` declare it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, ReplicationController, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::action::{Action, Failure};
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::replicas::{self, ReplicaOwner};
use plimsoll_reconcile::{
    cron_job, daemon_set, deployment, disruption, endpoint_slices, job, pod_gc, service, stateful_set,
    ttl_after_finished,
};

use crate::api::Name;
use crate::cache::Caches;
use crate::kind::{Typed, typed};

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Controller {
    Deployment,
    ReplicaSet,
    Replication,
    DaemonSet,
    StatefulSet,
    Job,
    JobOrphan,
    CronJob,
    TtlAfterFinished,
    Disruption,
    Slices,
    PodGc,
    Binder,
    Provisioner,
    ClaimGuard,
    VolumeGuard,
    NodeLife,
    TaintEviction,
    Autoscaler,
    Attacher,
    NamespaceEnd,
    Garbage,
}

/// Who decides about what.
pub(crate) type Key = (Controller, Name);

fn name_of(meta: &ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// The controllers that own objects of a kind, by the owner's kind.
const OWNERS: [(&str, &str, Controller); 9] = [
    ("Pod", "ReplicaSet", Controller::ReplicaSet),
    ("Pod", "ReplicationController", Controller::Replication),
    ("Pod", "DaemonSet", Controller::DaemonSet),
    ("Pod", "StatefulSet", Controller::StatefulSet),
    ("Pod", "Job", Controller::Job),
    ("ReplicaSet", "Deployment", Controller::Deployment),
    ("ControllerRevision", "DaemonSet", Controller::DaemonSet),
    ("ControllerRevision", "StatefulSet", Controller::StatefulSet),
    ("Job", "CronJob", Controller::CronJob),
];

/// The keys that an object leads to.
pub(crate) fn keys(caches: &Caches, kind: &str, object: &Typed) -> Vec<Key> {
    match kind {
        "Pod" => keys_of_pod(caches, &typed(object)),
        "ReplicaSet" => keys_of_set(caches, &typed(object)),
        "Deployment" => {
            let meta = &typed::<Deployment>(object).metadata;
            own(Controller::Deployment, meta, &all_budgets(caches))
        }
        "ReplicationController" => {
            own(Controller::Replication, &typed::<ReplicationController>(object).metadata, &[])
        }
        "DaemonSet" => own(Controller::DaemonSet, &typed::<DaemonSet>(object).metadata, &[]),
        "StatefulSet" => {
            own(Controller::StatefulSet, &typed::<StatefulSet>(object).metadata, &all_budgets(caches))
        }
        "ControllerRevision" => {
            owner_key("ControllerRevision", &typed::<ControllerRevision>(object).metadata)
        }
        "Job" => {
            let meta = &typed::<Job>(object).metadata;
            let ttl = (Controller::TtlAfterFinished, name_of(meta));
            let mut orphans = caches.all::<Pod>();
            orphans.retain(|pod| controller_of(&pod.metadata).is_none() && job::is_tracked(pod));
            let orphans = orphans.iter().map(|pod| (Controller::JobOrphan, name_of(&pod.metadata))).collect();
            own(Controller::Job, meta, &[vec![ttl], owner_key("Job", meta), orphans].concat())
        }
        "CronJob" => own(Controller::CronJob, &typed::<CronJob>(object).metadata, &[]),
        "Service" => own(Controller::Slices, &typed::<Service>(object).metadata, &[]),
        "EndpointSlice" => {
            let slice = typed::<EndpointSlice>(object);
            let labels = slice.metadata.labels.as_ref();
            let of = labels.and_then(|labels| labels.get(endpoint_slices::SERVICE));
            let namespace = slice.metadata.namespace.clone().unwrap_or_default();
            of.map(|name| (Controller::Slices, (namespace, name.clone()))).into_iter().collect()
        }
        "PodDisruptionBudget" => {
            own(Controller::Disruption, &typed::<PodDisruptionBudget>(object).metadata, &[])
        }
        "PersistentVolumeClaim" => keys_of_claim(caches, &typed(object)),
        "Node" => keys_of_node(caches, &typed(object)),
        _ => Vec::new(),
    }
}

fn own(controller: Controller, meta: &ObjectMeta, more: &[Key]) -> Vec<Key> {
    let mut keys = vec![(controller, name_of(meta))];
    keys.extend_from_slice(more);
    keys
}

fn all_budgets(caches: &Caches) -> Vec<Key> {
    let budgets = caches.all::<PodDisruptionBudget>();
    budgets.iter().map(|budget| (Controller::Disruption, name_of(&budget.metadata))).collect()
}

fn owner_key(kind: &str, meta: &ObjectMeta) -> Vec<Key> {
    let owner = controller_of(meta);
    let row = owner.and_then(|owner| OWNERS.iter().find(|row| row.0 == kind && row.1 == owner.kind));
    let namespace = meta.namespace.clone().unwrap_or_default();
    row.zip(owner).map(|(row, owner)| (row.2, (namespace, owner.name.clone()))).into_iter().collect()
}

fn keys_of_set(caches: &Caches, set: &ReplicaSet) -> Vec<Key> {
    let mut keys = own(Controller::ReplicaSet, &set.metadata, &all_budgets(caches));
    if controller_of(&set.metadata).is_some() {
        keys.extend(owner_key("ReplicaSet", &set.metadata));
        return keys;
    }
    let mut selecting = caches.all::<Deployment>();
    selecting.retain(|one| Labels::from(&one.spec.selector).matches_map(set.metadata.labels.as_ref()));
    keys.extend(selecting.iter().map(|one| (Controller::Deployment, name_of(&one.metadata))));
    keys
}

fn keys_of_pod(caches: &Caches, pod: &Pod) -> Vec<Key> {
    let labels = pod.metadata.labels.as_ref();
    let mut keys = vec![(Controller::PodGc, name_of(&pod.metadata))];
    let budgets = caches.all::<PodDisruptionBudget>();
    let selecting = budgets.iter().filter(|budget| selects(budget, pod));
    keys.extend(selecting.map(|budget| (Controller::Disruption, name_of(&budget.metadata))));
    let services = caches.all::<Service>();
    let selecting = services
        .iter()
        .filter(|one| service::selector(one).is_some_and(|selector| selector.matches_map(labels)));
    keys.extend(selecting.map(|one| (Controller::Slices, name_of(&one.metadata))));
    if controller_of(&pod.metadata).is_some() {
        keys.extend(owner_key("Pod", &pod.metadata));
        keys.extend(recreating(caches, pod));
        return keys;
    }
    let mut take = |controller: Controller, meta: &ObjectMeta, selector: &Labels| {
        if selector.matches_map(labels) {
            keys.push((controller, name_of(meta)));
        }
    };
    for one in caches.all::<ReplicaSet>() {
        take(Controller::ReplicaSet, &one.metadata, &Labels::from(&one.spec.selector));
    }
    for one in caches.all::<ReplicationController>() {
        let selector = one.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        take(Controller::Replication, &one.metadata, &Labels::from_map(&selector));
    }
    for one in caches.all::<DaemonSet>() {
        take(Controller::DaemonSet, &one.metadata, &Labels::from(&one.spec.selector));
    }
    for one in caches.all::<StatefulSet>() {
        take(Controller::StatefulSet, &one.metadata, &Labels::from(&one.spec.selector));
    }
    for one in caches.all::<Job>() {
        let selector = one.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from);
        if let Some(selector) = selector {
            take(Controller::Job, &one.metadata, &selector);
        }
    }
    if job::is_tracked(pod) {
        keys.push((Controller::JobOrphan, name_of(&pod.metadata)));
    }
    keys
}

/// Only a Deployment that waits for its old pods' end looks at pods.
fn recreating(caches: &Caches, pod: &Pod) -> Option<Key> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let of = controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
    let set = caches.get::<ReplicaSet>(&(namespace.clone(), of.name.clone()))?;
    let owner = controller_of(&set.metadata)?;
    let deployment = caches.get::<Deployment>(&(namespace, owner.name.clone()))?;
    let strategy = deployment.spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    (strategy == Some("Recreate")).then(|| (Controller::Deployment, name_of(&deployment.metadata)))
}

/// The set for whose pod a claim is.
fn keys_of_claim(caches: &Caches, claim: &PersistentVolumeClaim) -> Vec<Key> {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let mut sets = caches.all::<StatefulSet>();
    sets.retain(|set| stateful_set::has_claim(set, name));
    sets.iter().map(|set| (Controller::StatefulSet, name_of(&set.metadata))).collect()
}

fn keys_of_node(caches: &Caches, node: &Node) -> Vec<Key> {
    let name = node.metadata.name.as_deref();
    let mut keys: Vec<_> =
        caches.all::<DaemonSet>().iter().map(|set| (Controller::DaemonSet, name_of(&set.metadata))).collect();
    let mut pods = caches.all::<Pod>();
    pods.retain(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == name);
    keys.extend(pods.iter().map(|pod| (Controller::PodGc, name_of(&pod.metadata))));
    keys
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| Labels::from(selector).matches_map(pod.metadata.labels.as_ref()))
}

/// What controllers remember from one decision to the next.
#[derive(Default)]
pub(crate) struct Memory {
    failures: daemon_set::Failures,
    slices: BTreeMap<Name, endpoint_slices::Memory>,
}

/// What a controller does next, or does about a refusal; the garbage collector decides in its own place.
pub(crate) fn decide(
    caches: &Caches,
    memory: &mut Memory,
    key: &Key,
    now: Timestamp,
    failure: Option<&Failure>,
) -> Vec<Action> {
    look(caches, memory, key, now, failure).unwrap_or_default()
}

fn look(
    caches: &Caches,
    memory: &mut Memory,
    (controller, name): &Key,
    now: Timestamp,
    failure: Option<&Failure>,
) -> Option<Vec<Action>> {
    let none = Vec::new();
    Some(match *controller {
        Controller::Deployment => {
            let deployment = caches.get::<Deployment>(name)?;
            let sets = caches.claimable::<ReplicaSet>(&deployment.metadata);
            let pods: Vec<_> =
                sets.iter().flat_map(|set| caches.owned(set.metadata.uid.as_deref())).collect();
            let observed = deployment::Observed { deployment: &deployment, replica_sets: &sets, pods: &pods };
            match failure {
                None => deployment::decide(&observed, now),
                Some(failure) => deployment::report(&observed, now, failure, |set| {
                    caches.get(&(name.0.clone(), set.to_owned()))
                }),
            }
        }
        Controller::ReplicaSet => {
            let set = caches.get::<ReplicaSet>(name)?;
            let related = match controller_of(&set.metadata) {
                Some(owner) => caches.owned::<ReplicaSet>(Some(&owner.uid)),
                None => vec![set.clone()],
            };
            let related: Vec<_> =
                related.iter().flat_map(|set| caches.owned(set.metadata.uid.as_deref())).collect();
            replicate(caches, &ReplicaOwner::from(&*set), &set.metadata, Some(&related), now, failure)
        }
        Controller::Replication => {
            let one = caches.get::<ReplicationController>(name)?;
            replicate(caches, &ReplicaOwner::from(&*one), &one.metadata, None, now, failure)
        }
        Controller::DaemonSet => run_daemon_set(caches, memory, name, now, failure)?,
        Controller::StatefulSet => {
            let set = caches.get::<StatefulSet>(name)?;
            let pods = caches.claimable(&set.metadata);
            let revisions = caches.claimable(&set.metadata);
            let claim =
                |claim: &str| caches.get::<PersistentVolumeClaim>(&(name.0.clone(), claim.to_owned()));
            let observed =
                stateful_set::Observed { set: &set, pods: &pods, revisions: &revisions, claim: &claim };
            let named = |revision: &str| caches.get(&(name.0.clone(), revision.to_owned()));
            match failure {
                None => stateful_set::decide(&observed, now),
                Some(failure) => stateful_set::report(&observed, now, failure, named),
            }
        }
        Controller::Job => run_job(caches, name, now, failure),
        Controller::JobOrphan if failure.is_none() => {
            job::release_orphan(&*caches.get::<Pod>(name)?, &caches.all::<Job>())
        }
        Controller::CronJob if failure.is_none() => {
            let cron_job = caches.get::<CronJob>(name)?;
            let jobs = caches.owned(cron_job.metadata.uid.as_deref());
            let observed = cron_job::Observed { cron_job: &cron_job, jobs: &jobs, zone: Ok(TimeZone::UTC) };
            cron_job::decide(&observed, now)
        }
        Controller::TtlAfterFinished if failure.is_none() => {
            ttl_after_finished::decide(&*caches.get::<Job>(name)?, now)
        }
        Controller::Disruption if failure.is_none() => {
            let budget = caches.get::<PodDisruptionBudget>(name)?;
            let mut pods = caches.all::<Pod>();
            pods.retain(|pod| selects(&budget, pod));
            let replicas = expected(caches, &pods);
            let expected = Ok(disruption::Expected { replicas, unmanaged: false });
            disruption::decide(&disruption::Observed { budget: &budget, pods: &pods, expected }, now)
        }
        Controller::Slices if failure.is_none() => slices(caches, memory, name)?,
        Controller::PodGc if failure.is_none() => {
            let pod = caches.get::<Pod>(name)?;
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let node = on.as_ref().and_then(|on| caches.get::<Node>(&(String::new(), on.clone())));
            match (on, &node) {
                (None, _) => pod_gc::decide(&pod, pod_gc::On::None, now),
                (Some(_), Some(node)) => pod_gc::decide(&pod, pod_gc::On::Node(node), now),
                (Some(_), None) => pod_gc::decide(&pod, pod_gc::On::Gone, now),
            }
        }
        _ => none,
    })
}

fn replicate(
    caches: &Caches,
    owner: &ReplicaOwner,
    meta: &ObjectMeta,
    related: Option<&[Arc<Pod>]>,
    now: Timestamp,
    failure: Option<&Failure>,
) -> Vec<Action> {
    let pods = caches.claimable(meta);
    let observed = replicas::Observed { owner, pods: &pods, related: related.unwrap_or(&pods) };
    match failure {
        None => replicas::decide(&observed, now),
        Some(failure) => replicas::report(&observed, now, failure),
    }
}

fn run_daemon_set(
    caches: &Caches,
    memory: &mut Memory,
    name: &Name,
    now: Timestamp,
    failure: Option<&Failure>,
) -> Option<Vec<Action>> {
    let set = caches.get::<DaemonSet>(name)?;
    let pods = caches.claimable(&set.metadata);
    let revisions = caches.claimable(&set.metadata);
    let nodes = caches.all::<Node>();
    let failures = &memory.failures;
    let observed =
        daemon_set::Observed { set: &set, pods: &pods, revisions: &revisions, nodes: &nodes, failures };
    if let Some(failure) = failure {
        let named = |revision: &str| caches.get(&(name.0.clone(), revision.to_owned()));
        return Some(daemon_set::report(&observed, now, failure, named));
    }
    let actions = daemon_set::decide(&observed, now);
    let given_up = daemon_set::given_up(&observed, &actions);
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    given_up.iter().for_each(|node| memory.failures.note(uid, node, now));
    Some(actions)
}

fn run_job(caches: &Caches, name: &Name, now: Timestamp, failure: Option<&Failure>) -> Vec<Action> {
    let found = caches.get::<Job>(name);
    let uid = found.as_ref().and_then(|job| job.metadata.uid.clone());
    if let Some(failure) = failure {
        let Some(job) = found else { return Vec::new() };
        let pods = caches.claimable(&job.metadata);
        return job::report(&job::Observed { job: &job, pods: &pods }, now, failure);
    }
    let mut left = caches.all::<Pod>();
    left.retain(|pod| {
        let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job" && owner.name == name.1);
        owner.is_some_and(|owner| Some(&owner.uid) != uid.as_ref())
    });
    let mut actions = job::release(&left);
    if let Some(job) = found {
        let pods = caches.claimable(&job.metadata);
        actions.extend(job::decide(&job::Observed { job: &job, pods: &pods }, now));
    }
    actions
}

fn slices(caches: &Caches, memory: &mut Memory, name: &Name) -> Option<Vec<Action>> {
    let of = caches.get::<Service>(name)?;
    let selector = service::selector(&of)?;
    let mut pods = caches.all::<Pod>();
    pods.retain(|pod| selector.matches_map(pod.metadata.labels.as_ref()));
    let mut slices = caches.all::<EndpointSlice>();
    slices.retain(|slice| {
        let labels = slice.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(endpoint_slices::SERVICE)) == Some(&name.1)
    });
    let nodes: HashMap<_, _> = caches
        .all::<Node>()
        .into_iter()
        .filter_map(|node| Some((node.metadata.name.clone()?, node)))
        .collect();
    let observed =
        endpoint_slices::Observed { service: &of, pods: &pods, slices: &slices, nodes: &nodes, shares: None };
    Some(endpoint_slices::decide(&observed, memory.slices.entry(name.clone()).or_default()))
}

/// What the pods' controllers want, each counted once.
fn expected(caches: &Caches, pods: &[Arc<Pod>]) -> i32 {
    let mut seen = HashSet::new();
    let mut total = 0;
    for pod in pods {
        let Some(owner) = controller_of(&pod.metadata) else { continue };
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = (namespace.clone(), owner.name.clone());
        let set = caches.get::<ReplicaSet>(&name).filter(|_| owner.kind == "ReplicaSet");
        let above = set.as_ref().and_then(|set| controller_of(&set.metadata).cloned());
        let (uid, wanted) = match (&above, owner.kind.as_str()) {
            (Some(above), _) => {
                let deployment = caches.get::<Deployment>(&(namespace, above.name.clone()));
                (above.uid.clone(), deployment.map(|one| one.spec.replicas.unwrap_or(1)))
            }
            (None, "ReplicaSet") => (owner.uid.clone(), set.map(|set| set.spec.replicas.unwrap_or(1))),
            (None, "StatefulSet") => {
                let set = caches.get::<StatefulSet>(&name);
                (owner.uid.clone(), set.map(|set| set.spec.replicas.unwrap_or(1)))
            }
            _ => continue,
        };
        if seen.insert(uid) {
            total += wanted.unwrap_or_default();
        }
    }
    total
}
