//! Rules that hold at every moment, as far as a controller can know what it needs for them: what a
//! request made whose answer was lost is known only when a watch tells of it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::daemon_set::target_node;
use plimsoll_reconcile::job;
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::pod;

use crate::api::Api;
use crate::kind::typed;
use crate::nodes::Machines;
use crate::process::{Fate, Step};
use crate::storage::Ledger;
use crate::view::View;
use crate::wiring::Controller;

/// How a Job's pod ended.
pub(crate) struct End {
    pub(crate) job: String,
    pub(crate) succeeded: bool,
    pub(crate) index: Option<String>,
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Judge {
    /// Ids of what was made by requests whose answers were lost.
    pub(crate) lost: BTreeSet<String>,
    /// Versions of writes to ReplicaSets whose answers were lost, by id.
    lost_writes: BTreeMap<String, u64>,
    /// Pods that their owner's controller deleted, and knows it.
    deleted: BTreeSet<String>,
    /// Pods of Jobs that ended, or began to, while they were tracked.
    pub(crate) ended: BTreeMap<String, End>,
    /// Those of them that users took from their Jobs before they were counted: nobody can count them.
    pub(crate) disowned: BTreeSet<String>,
    ledger: Ledger,
    pods_seen: usize,
    jobs_seen: usize,
}

impl Judge {
    /// Looks at what one request did.
    pub(crate) fn after(&mut self, api: &Api, step: &Step, fate: Fate) -> Result<(), String> {
        let took_place = step.result.is_ok();
        if fate == Fate::AnswerLost && step.result.as_ref().is_err_and(|refusal| refusal.code == 0) {
            self.lose(api, &step.action);
        }
        match &step.action {
            Action::Create(create) if took_place => match create.resource.kind.as_ref() {
                "Pod" => self.made_pod(api, step),
                "ReplicaSet" => self.sized(api, step),
                "Job" => self.started(api, step),
                _ => Ok(()),
            },
            Action::Patch(patch) if took_place && step.key.0 == Controller::Deployment => {
                let raises =
                    patch.target.resource.kind == "ReplicaSet" && patch.body["spec"]["replicas"].is_i64();
                if raises { self.sized(api, step) } else { Ok(()) }
            }
            Action::Delete(delete) if took_place && delete.target.resource.kind == "Pod" => {
                if !matches!(
                    step.key.0,
                    Controller::PodGc | Controller::TaintEviction | Controller::NamespaceEnd
                ) {
                    self.deleted.extend(delete.uid.clone());
                }
                self.took_pod(api, step)
            }
            _ => Ok(()),
        }
    }

    fn lose(&mut self, api: &Api, action: &Action) {
        let (resource, made) = match action {
            Action::Create(create) => (&create.resource, true),
            Action::Patch(patch) => (&patch.target.resource, false),
            _ => return,
        };
        let Some(last) = api.log[api.kind(resource)].last() else { return };
        let Some(stored) = last.now.as_ref().filter(|_| last.version == api.version) else { return };
        if made {
            self.lost.insert(stored.node.uid.to_string());
        } else {
            self.lost_writes.insert(stored.node.uid.to_string(), last.version);
        }
    }

    /// What the controller could not know of.
    fn unknown(&self, view: &View, uid: Option<&str>) -> bool {
        uid.is_some_and(|uid| self.lost.contains(uid) && !view.known.contains(uid))
    }

    fn alive(&self, api: &Api, view: &View) -> Vec<std::sync::Arc<Pod>> {
        let mut pods = api.all::<Pod>();
        pods.retain(|pod| {
            let owner = controller_of(&pod.metadata).map(|owner| owner.uid.as_str());
            owner == Some(&view.uid) && pod::active(pod) && !self.unknown(view, pod.metadata.uid.as_deref())
        });
        pods
    }

    fn made_pod(&self, api: &Api, step: &Step) -> Result<(), String> {
        let view = &step.view;
        let alive = self.alive(api, view);
        let count = match step.key.0 {
            Controller::ReplicaSet | Controller::Replication | Controller::Job => alive.len(),
            Controller::DaemonSet => {
                let made = step.result.as_ref().ok().and_then(Option::as_ref).map(|answer| &answer.uid);
                let made = alive.iter().find(|pod| pod.metadata.uid.as_ref() == made);
                let node = made.map(|made| target_node(made)).unwrap_or_default();
                alive.iter().filter(|pod| target_node(pod) == node).count()
            }
            _ => return Ok(()),
        };
        if count > view.most {
            return Err(format!("{:?} made too many pods: {count} of {}", step.key, view.most));
        }
        let mut indexes: Vec<_> = alive.iter().filter_map(|pod| index(pod)).collect();
        indexes.sort();
        match indexes.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("{:?} has two pods of index {}", step.key, pair[0])),
            None => Ok(()),
        }
    }

    /// No replica goes that is needed.
    fn took_pod(&self, api: &Api, step: &Step) -> Result<(), String> {
        if !matches!(step.key.0, Controller::ReplicaSet | Controller::Replication) {
            return Ok(());
        }
        let view = &step.view;
        let alive = self.alive(api, view);
        let pods = api.all::<Pod>();
        let of = |uid: &String| pods.iter().find(|pod| pod.metadata.uid.as_ref() == Some(uid));
        let died = |uid: &&String| match of(uid) {
            None => true,
            Some(pod) => {
                let own = controller_of(&pod.metadata).is_some_and(|owner| owner.uid == view.uid);
                own && !pod::active(pod)
            }
        };
        let died = view.alive.iter().filter(|uid| !self.deleted.contains(*uid)).filter(died).count();
        let left = alive.len() + died;
        if left < view.least {
            Err(format!("{:?} left too few: {left} of {}", step.key, view.least))
        } else {
            Ok(())
        }
    }

    /// ReplicaSets of a Deployment are never larger together than it and its surge.
    fn sized(&self, api: &Api, step: &Step) -> Result<(), String> {
        let view = &step.view;
        let mut sets = api.all::<ReplicaSet>();
        sets.retain(|set| {
            controller_of(&set.metadata).is_some_and(|owner| owner.uid == view.uid)
                && !self.unknown(view, set.metadata.uid.as_deref())
        });
        let hidden = |set: &ReplicaSet| {
            let lost = set.metadata.uid.as_ref().and_then(|uid| self.lost_writes.get(uid));
            lost.is_some_and(|version| *version > view.version)
        };
        let total: i32 = sets.iter().map(|set| set.spec.replicas.unwrap_or(1)).sum();
        let total = usize::try_from(total).unwrap_or_default();
        // A Deployment that was made smaller may still be on its way there.
        if total > view.most.max(view.before) && !sets.iter().any(|set| hidden(set)) {
            return Err(format!("{:?} is too large: {total} of {}", step.key, view.most));
        }
        Ok(())
    }

    /// Where runs of a CronJob must not overlap, they do not.
    fn started(&self, api: &Api, step: &Step) -> Result<(), String> {
        let mut jobs = api.all::<Job>();
        jobs.retain(|job| {
            controller_of(&job.metadata).is_some_and(|owner| owner.uid == step.view.uid)
                && job.metadata.deletion_timestamp.is_none()
                && !finished(job)
                && !self.unknown(&step.view, job.metadata.uid.as_deref())
        });
        if jobs.len() > step.view.most {
            Err(format!("{:?}: {} Jobs overlap", step.key, jobs.len()))
        } else {
            Ok(())
        }
    }

    /// Looks at everything that changed.
    pub(crate) fn look(&mut self, api: &Api, machines: &Machines) -> Result<(), String> {
        if let Some(name) = machines.doubles() {
            return Err(format!("two processes are Pod {}", name.1));
        }
        let pods = &api.log[api.kind_named("Pod")];
        for change in &pods[self.pods_seen..] {
            let Some(now) = &change.now else { continue };
            self.note_end(&typed(&now.typed));
        }
        self.pods_seen = pods.len();
        let jobs = &api.log[api.kind_named("Job")];
        for change in &jobs[self.jobs_seen..] {
            let Some(now) = &change.now else { continue };
            self.check_counts(&typed(&now.typed))?;
        }
        self.jobs_seen = jobs.len();
        self.ledger.look(api)
    }

    fn note_end(&mut self, ended: &Pod) {
        let tracked = job::is_tracked(ended);
        let uid = ended.metadata.uid.clone().unwrap_or_default();
        if tracked && controller_of(&ended.metadata).is_none() && self.ended.contains_key(&uid) {
            self.disowned.insert(uid.clone());
        }
        let owner = controller_of(&ended.metadata).filter(|owner| owner.kind == "Job");
        let (Some(owner), true, false) = (owner, tracked, pod::active(ended)) else { return };
        let end = self.ended.entry(uid).or_insert_with(|| End {
            job: owner.uid.clone(),
            succeeded: false,
            index: index(ended),
        });
        end.succeeded |= pod::phase(ended) == "Succeeded";
    }

    /// No Job counts more than there was.
    fn check_counts(&self, job: &Job) -> Result<(), String> {
        let status = job.status.clone().unwrap_or_default();
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let ends = || self.ended.values().filter(|end| end.job == uid);
        let count = |number: Option<i32>| usize::try_from(number.unwrap_or_default()).unwrap_or_default();
        let (succeeded, failed) = (count(status.succeeded), count(status.failed));
        let (true_successes, all) = (ends().filter(|end| end.succeeded).count(), ends().count());
        if succeeded > true_successes || succeeded + failed > all {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            return Err(format!(
                "Job {name} counts {succeeded} successes and {failed} failures: {true_successes} of {all} pods succeeded"
            ));
        }
        Ok(())
    }
}

/// Whether a Job has ended.
pub(crate) fn finished(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ends = |kind: &str| kind == "Complete" || kind == "Failed";
    conditions.into_iter().flatten().any(|one| ends(&one.type_) && one.status == "True")
}

fn index(pod: &Pod) -> Option<String> {
    pod.metadata.annotations.as_ref()?.get("batch.kubernetes.io/job-completion-index").cloned()
}
