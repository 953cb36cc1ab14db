//! What a cluster that was left alone has come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    Node, PersistentVolumeClaim, Pod, PodSpec, PodTemplateSpec, ReplicationController, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::job;
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::pod;
use plimsoll_reconcile::service;

use crate::api::Api;
use crate::attaching;
use crate::ends;
use crate::judge::{Judge, finished};
use crate::storage;

type Check = fn(&Api, &Judge) -> Result<(), String>;

const CHECKS: [Check; 10] = [
    nothing_is_going,
    owners_live,
    deployments,
    replica_sets,
    replication_controllers,
    daemon_sets,
    stateful_sets,
    jobs,
    cron_jobs,
    services,
];

/// Whether all is as it should be.
pub(crate) fn check(api: &Api, judge: &Judge) -> Result<(), String> {
    CHECKS.iter().try_for_each(|check| check(api, judge))?;
    budgets(api)?;
    storage::check(api)?;
    attaching::check(api)?;
    ends::check(api)
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("at rest: {}", what())) }
}

fn nothing_is_going(api: &Api, _: &Judge) -> Result<(), String> {
    let mut all = api.objects.iter().flatten();
    // Pods that are held for a Job's sake are looked at there.
    let going = all.find(|(_, stored)| {
        stored.node.deleting && !stored.node.has(job::TRACKING) && !storage::is_held(api, &stored.typed)
    });
    ensure(going.is_none(), || format!("{:?} is still being deleted", going.map(|(_, one)| &one.value)))
}

fn owners_live(api: &Api, _: &Judge) -> Result<(), String> {
    let uids: BTreeSet<_> = api.objects.iter().flatten().map(|(_, stored)| stored.node.uid.clone()).collect();
    for (name, stored) in api.objects.iter().flatten() {
        let owners = &stored.node.owners;
        let orphaned = !owners.is_empty() && !owners.iter().any(|owner| uids.contains(&owner.uid));
        ensure(!orphaned, || format!("{} {} has lost its owner", stored.node.target.resource.kind, name.1))?;
    }
    Ok(())
}

/// The living pods of an owner.
fn alive(api: &Api, uid: Option<&String>) -> Vec<Arc<Pod>> {
    let mut pods = api.all::<Pod>();
    pods.retain(|pod| pod::active(pod) && controller_of(&pod.metadata).map(|owner| &owner.uid) == uid);
    pods
}

fn count(number: Option<i32>) -> usize {
    usize::try_from(number.unwrap_or_default()).unwrap_or_default()
}

fn image_of(spec: &PodSpec) -> Option<String> {
    spec.containers[0].image.clone()
}

fn deployments(api: &Api, _: &Judge) -> Result<(), String> {
    for one in api.all::<Deployment>() {
        let wanted = one.spec.replicas.unwrap_or(1);
        let status = one.status.clone().unwrap_or_default();
        let numbers =
            [status.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas];
        let same = numbers.iter().all(|number| number.unwrap_or_default() == wanted);
        ensure(same, || format!("Deployment {:?} wants {wanted}: {status:?}", one.metadata.name))?;
        let mut sets = api.all::<ReplicaSet>();
        sets.retain(|set| controller_of(&set.metadata).map(|owner| &owner.uid) == one.metadata.uid.as_ref());
        let image = |spec: Option<&PodTemplateSpec>| spec.map(|spec| spec.spec.as_ref().map(image_of));
        let newest = image(Some(&one.spec.template));
        let (new, old): (Vec<_>, Vec<_>) =
            sets.iter().partition(|set| image(set.spec.template.as_ref()) == newest);
        let pods = |sets: &[&Arc<ReplicaSet>]| -> usize {
            sets.iter().map(|set| alive(api, set.metadata.uid.as_ref()).len()).sum()
        };
        let (new, old) = (pods(&new), pods(&old));
        ensure(new == count(Some(wanted)) && old == 0, || {
            format!("Deployment {:?} has {new} new and {old} old pods of {wanted}", one.metadata.name)
        })?;
        let limit = count(one.spec.revision_history_limit.or(Some(10)));
        ensure(sets.len() <= limit + 1, || format!("{} ReplicaSets are kept of {limit}", sets.len()))?;
    }
    Ok(())
}

fn replica_sets(api: &Api, _: &Judge) -> Result<(), String> {
    api.all::<ReplicaSet>().iter().try_for_each(|set| {
        let status = set.status.clone().unwrap_or_default();
        let wanted = set.spec.replicas.unwrap_or(1);
        let pods = alive(api, set.metadata.uid.as_ref()).len();
        let told = (status.replicas, status.available_replicas.unwrap_or_default());
        ensure(pods == count(Some(wanted)) && told == (wanted, wanted), || {
            format!("ReplicaSet {:?} has {pods} pods of {wanted} and says {told:?}", set.metadata.name)
        })
    })
}

fn replication_controllers(api: &Api, _: &Judge) -> Result<(), String> {
    api.all::<ReplicationController>().iter().try_for_each(|one| {
        let wanted = one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let pods = alive(api, one.metadata.uid.as_ref()).len();
        ensure(pods == count(Some(wanted)), || {
            format!("ReplicationController {:?} has {pods} pods of {wanted}", one.metadata.name)
        })
    })
}

fn daemon_sets(api: &Api, _: &Judge) -> Result<(), String> {
    let nodes: BTreeSet<_> = api.all::<Node>().iter().filter_map(|node| node.metadata.name.clone()).collect();
    for set in api.all::<DaemonSet>() {
        let pods = alive(api, set.metadata.uid.as_ref());
        let on: BTreeSet<_> = pods.iter().map(|pod| pod::node(pod).to_owned()).collect();
        ensure(on == nodes && pods.len() == nodes.len(), || {
            format!("DaemonSet {:?} has {} pods on {on:?} of {nodes:?}", set.metadata.name, pods.len())
        })?;
        let image = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.containers[0].image.clone());
        let newest = set.spec.template.spec.as_ref().map(|spec| spec.containers[0].image.clone());
        let updated = pods.iter().all(|pod| image(pod) == newest);
        ensure(updated, || format!("DaemonSet {:?} is not updated", set.metadata.name))?;
    }
    Ok(())
}

fn stateful_sets(api: &Api, _: &Judge) -> Result<(), String> {
    let claims: BTreeSet<_> =
        api.all::<PersistentVolumeClaim>().iter().filter_map(|claim| claim.metadata.name.clone()).collect();
    for set in api.all::<StatefulSet>() {
        let name = set.metadata.name.clone().unwrap_or_default();
        let pods = alive(api, set.metadata.uid.as_ref());
        let names: BTreeSet<_> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
        let wanted: BTreeSet<_> =
            (0..set.spec.replicas.unwrap_or(1)).map(|ordinal| format!("{name}-{ordinal}")).collect();
        ensure(names == wanted, || format!("StatefulSet {name} has {names:?} of {wanted:?}"))?;
        let kept = wanted.iter().all(|pod| claims.contains(&format!("data-{pod}")));
        ensure(kept, || format!("StatefulSet {name} misses claims: {claims:?}"))?;
        let image = |pod: &Pod| pod.spec.as_ref().map(|spec| spec.containers[0].image.clone());
        let newest = set.spec.template.spec.as_ref().map(|spec| spec.containers[0].image.clone());
        ensure(pods.iter().all(|pod| image(pod) == newest), || format!("StatefulSet {name} is not updated"))?;
    }
    Ok(())
}

fn jobs(api: &Api, judge: &Judge) -> Result<(), String> {
    let all = api.all::<Job>();
    for pod in api.all::<Pod>() {
        let held = job::is_tracked(&pod) && !pod::active(&pod);
        ensure(!held || waits(&pod, &all), || format!("Pod {:?} is held for ever", pod.metadata.name))?;
    }
    for job in all {
        let name = job.metadata.name.clone().unwrap_or_default();
        let spec = job.spec.clone().unwrap_or_default();
        let rests = spec.suspend == Some(true) || spec.parallelism == Some(0);
        ensure(finished(&job) || rests, || format!("Job {name} does not end: {:?}", job.status))?;
        ensure(alive(api, job.metadata.uid.as_ref()).is_empty(), || format!("Job {name} has pods left"))?;
        count_exactly(&job, judge)?;
    }
    Ok(())
}

/// The last failure of an index is held until its next pod knows of it.
fn waits(pod: &Pod, jobs: &[Arc<Job>]) -> bool {
    let owner = controller_of(&pod.metadata).map(|owner| &owner.uid);
    let job = jobs.iter().find(|job| job.metadata.uid.as_ref() == owner);
    job.is_some_and(|job| {
        let per_index = job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some());
        per_index && !finished(job)
    })
}

/// Each pod that ended while it was tracked is counted once, except those that nobody knew of in time.
fn count_exactly(job: &Job, judge: &Judge) -> Result<(), String> {
    let name = job.metadata.name.clone().unwrap_or_default();
    let spec = job.spec.clone().unwrap_or_default();
    let status = job.status.clone().unwrap_or_default();
    let ends = || judge.ended.iter().filter(|(_, end)| Some(&end.job) == job.metadata.uid.as_ref());
    let unknown =
        ends().filter(|(uid, _)| judge.lost.contains(*uid) || judge.disowned.contains(*uid)).count();
    let (succeeded, failed, all) = (count(status.succeeded), count(status.failed), ends().count());
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let named = uncounted.succeeded.into_iter().chain(uncounted.failed).flatten().count();
    ensure(named == 0, || format!("Job {name} leaves pods uncounted"))?;
    if spec.completion_mode.as_deref() == Some("Indexed") {
        let text = status.completed_indexes.clone().unwrap_or_default();
        let done: BTreeSet<_> =
            ends().filter(|(_, end)| end.succeeded).filter_map(|(_, end)| end.index.clone()).collect();
        return ensure(succeeded <= done.len(), || format!("Job {name} says {text} are done of {done:?}"));
    }
    let ignores = spec.pod_failure_policy.is_some();
    let exact = succeeded + failed <= all && succeeded + failed + unknown >= all;
    ensure(exact || ignores, || {
        format!("Job {name} counts {succeeded} and {failed} of {all} pods: {status:?}")
    })?;
    let wanted = count(spec.completions);
    ensure(succeeded <= wanted + unknown, || format!("Job {name} succeeded {succeeded} times of {wanted}"))
}

fn cron_jobs(api: &Api, _: &Judge) -> Result<(), String> {
    for one in api.all::<CronJob>() {
        let mut jobs = api.all::<Job>();
        jobs.retain(|job| controller_of(&job.metadata).map(|owner| &owner.uid) == one.metadata.uid.as_ref());
        let ended = jobs.iter().filter(|job| finished(job)).count();
        ensure(ended <= 4, || format!("CronJob {:?} keeps {ended} Jobs", one.metadata.name))?;
        let active = one.status.as_ref().and_then(|status| status.active.as_ref()).map_or(0, Vec::len);
        let running = jobs.len() - ended;
        ensure(active == running, || format!("CronJob {:?} says {active} of {running}", one.metadata.name))?;
    }
    Ok(())
}

fn services(api: &Api, _: &Judge) -> Result<(), String> {
    for one in api.all::<Service>() {
        let Some(selector) = service::selector(&one) else { continue };
        let ip = |pod: &Pod| pod.status.as_ref().and_then(|status| status.pod_ip.clone());
        let pods = api.all::<Pod>();
        let behind = pods.iter().filter(|pod| selector.matches_map(pod.metadata.labels.as_ref()));
        let mut wanted: Vec<_> = behind.filter(|pod| pod::active(pod)).filter_map(|pod| ip(pod)).collect();
        wanted.sort();
        let mut slices = api.all::<EndpointSlice>();
        slices.retain(|slice| {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"))
                == one.metadata.name.as_ref()
        });
        let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        let mut shown: Vec<_> = endpoints.flat_map(|endpoint| endpoint.addresses.clone()).collect();
        shown.sort();
        ensure(shown == wanted, || format!("Service {:?} shows {shown:?} of {wanted:?}", one.metadata.name))?;
    }
    Ok(())
}

fn budgets(api: &Api) -> Result<(), String> {
    for one in api.all::<PodDisruptionBudget>() {
        let selector = one.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from);
        let Some(selector) = selector else { continue };
        let pods = api.all::<Pod>();
        let selected = pods.iter().filter(|pod| selector.matches_map(pod.metadata.labels.as_ref()));
        let healthy = selected.filter(|pod| pod::ready(pod) && !pod::deleting(pod)).count();
        let told = count(one.status.as_ref().and_then(|status| status.current_healthy));
        ensure(told == healthy, || format!("budget {:?} says {told} of {healthy}", one.metadata.name))?;
    }
    Ok(())
}
