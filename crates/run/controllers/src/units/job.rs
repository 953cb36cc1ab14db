//! Wires the Job controller.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::job::{self, Observed};
use plimsoll_reconcile::owner::controller_of;

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

const BY_JOB: &str = "job by name";

/// Begins the keys of pods that nobody controls; no Job has such a name.
const ORPHAN: &str = "pod/";

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let jobs = context.informers.informer::<Job>();
    let pods = context.informers.informer::<Pod>();
    indexes::orphans(&pods);
    pods.add_index(BY_JOB, |pod| of_controller(pod).map(|key| index(&key)).into_iter().collect());
    let (of_pod, of_job) = (jobs.clone(), pods.clone());
    let unit = unit
        .input(&jobs, move |job| keys_of_job(&of_job, job))
        .input(&pods, move |pod| keys_of_pod(&of_pod, pod));
    let (again, their_pods) = (jobs.clone(), pods.clone());
    Ok(unit
        .decide(move |key, now| {
            if let Some(name) = key.name.strip_prefix(ORPHAN) {
                let orphan = pods.get(&key.namespace, name);
                return orphan
                    .map(|pod| job::release_orphan(&pod, &jobs.list_in(&key.namespace)))
                    .unwrap_or_default();
            }
            let found = jobs.get(&key.namespace, &key.name);
            let uid = found.as_ref().and_then(|job| job.metadata.uid.clone());
            // Pods of a Job of that name that is gone are held by nobody any more.
            let mut left = pods.indexed(BY_JOB, &index(key));
            left.retain(|pod| {
                controller_of(&pod.metadata).is_some_and(|owner| Some(&owner.uid) != uid.as_ref())
            });
            let mut actions = job::release(&left);
            if let Some(job) = found {
                let pods = indexes::claimable(&pods, &job.metadata);
                actions.extend(job::decide(&Observed { job: &job, pods: &pods }, now));
            }
            actions
        })
        .report(move |key, now, failure| {
            let Some(job) = again.get(&key.namespace, &key.name) else { return Vec::new() };
            let pods = indexes::claimable(&their_pods, &job.metadata);
            job::report(&Observed { job: &job, pods: &pods }, now, failure)
        }))
}

fn of_controller(pod: &Pod) -> Option<Key> {
    let owner = controller_of(&pod.metadata).filter(|owner| owner.kind == "Job")?;
    Some(Key::new(pod.metadata.namespace.as_deref()?, &owner.name))
}

fn orphan_key(pod: &Pod) -> Key {
    let meta = &pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    Key::new(meta.namespace.as_deref().unwrap_or_default(), &format!("{ORPHAN}{name}"))
}

fn index(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// A Job, and the pods that it may have waited for in vain: nobody takes them in when it is over or gone.
fn keys_of_job(pods: &Informer<Pod>, job: &Job) -> Vec<Key> {
    let mut orphans = indexes::claimable(pods, &job.metadata);
    orphans.retain(|pod| controller_of(&pod.metadata).is_none() && job::is_tracked(pod));
    std::iter::once(Key::of(job)).chain(orphans.iter().map(|pod| orphan_key(pod))).collect()
}

fn keys_of_pod(jobs: &Informer<Job>, pod: &Pod) -> Vec<Key> {
    match controller_of(&pod.metadata) {
        Some(_) => of_controller(pod).into_iter().collect(),
        None => {
            let selects = |job: &Job| {
                let selector = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector
                    .is_some_and(|selector| Labels::from(selector).matches_map(pod.metadata.labels.as_ref()))
            };
            let mut all = jobs.list_in(pod.metadata.namespace.as_deref().unwrap_or_default());
            all.retain(|job| selects(job));
            let orphan = job::is_tracked(pod).then(|| orphan_key(pod));
            all.iter().map(|job| Key::of(&**job)).chain(orphan).collect()
        }
    }
}
