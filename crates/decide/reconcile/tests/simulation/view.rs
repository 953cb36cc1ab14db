//! What a controller saw when it decided, as far as its decision can be judged by it.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_reconcile::pod;
use plimsoll_reconcile::share::{self, Round};

use crate::cache::Caches;
use crate::wiring::{Controller, Key};

/// What was seen.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// The owner.
    pub(crate) uid: String,
    /// Ids of all objects.
    pub(crate) known: BTreeSet<String>,
    /// Ids of pods that were alive: its own, and those that it may have taken.
    pub(crate) alive: BTreeSet<String>,
    /// Ids of its pods that were ready.
    pub(crate) ready: BTreeSet<String>,
    /// How many there may be, and how many there must be.
    pub(crate) most: usize,
    pub(crate) least: usize,
    /// How many replicas its ReplicaSets had together, and how many of them were available, as those said that
    /// knew of their present size.
    pub(crate) before: usize,
    pub(crate) available: usize,
    /// Up to which version ReplicaSets were seen.
    pub(crate) version: u64,
}

impl View {
    pub(crate) fn of(caches: &Caches, (controller, name): &Key) -> Option<Self> {
        let size = |number: Option<i32>| usize::try_from(number.unwrap_or(1)).unwrap_or_default();
        let mut view = match controller {
            Controller::ReplicaSet => {
                let set = caches.get::<ReplicaSet>(name)?;
                Self::exactly(&set.metadata, size(set.spec.replicas))
            }
            Controller::Replication => {
                let one = caches.get::<ReplicationController>(name)?;
                Self::exactly(&one.metadata, size(one.spec.as_ref().and_then(|spec| spec.replicas)))
            }
            Controller::DaemonSet => {
                let set = caches.get::<DaemonSet>(name)?;
                let strategy = set.spec.update_strategy.as_ref();
                let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
                let surge = share::of(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 1, Round::Up);
                Self::exactly(&set.metadata, if surge > 0 { 2 } else { 1 })
            }
            Controller::StatefulSet => {
                let set = caches.get::<StatefulSet>(name)?;
                Self::exactly(&set.metadata, size(set.spec.replicas))
            }
            Controller::Job => {
                let job = caches.get::<Job>(name)?;
                Self::exactly(&job.metadata, size(job.spec.as_ref().and_then(|spec| spec.parallelism)))
            }
            Controller::CronJob => {
                let one = caches.get::<CronJob>(name)?;
                let overlap = one.spec.concurrency_policy.as_deref().unwrap_or("Allow") == "Allow";
                Self::exactly(&one.metadata, if overlap { usize::MAX } else { 1 })
            }
            Controller::Deployment => {
                let one = caches.get::<Deployment>(name)?;
                let rolling =
                    one.spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
                let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
                let replicas = one.spec.replicas.unwrap_or(1);
                let mut view = Self::exactly(
                    &one.metadata,
                    size(Some(replicas + share::of(surge, replicas, Round::Up))),
                );
                let sets = caches.owned::<ReplicaSet>(one.metadata.uid.as_deref());
                view.before = sets.iter().map(|set| size(set.spec.replicas)).sum();
                let available = |set: &ReplicaSet| {
                    let status = set.status.as_ref()?;
                    let knows = status.observed_generation >= set.metadata.generation;
                    let kept = set.spec.replicas.unwrap_or(1);
                    status.available_replicas.filter(|_| knows).map(|count| count.min(kept))
                };
                view.available = sets.iter().map(|set| size(available(set).or(Some(0)))).sum();
                view
            }
            _ => return None,
        };
        view.version = caches.version("ReplicaSet");
        view.known = caches.everything().map(|(_, stored)| stored.node.uid.to_string()).collect();
        let meta = ObjectMeta { uid: Some(view.uid.clone()), ..ObjectMeta::default() };
        let own = caches.claimable::<Pod>(&meta);
        view.alive =
            own.iter().filter(|pod| pod::active(pod)).filter_map(|pod| pod.metadata.uid.clone()).collect();
        let ready = own.iter().filter(|pod| pod::ready(pod) && !pod::deleting(pod));
        view.ready = ready.filter_map(|pod| pod.metadata.uid.clone()).collect();
        Some(view)
    }

    fn exactly(meta: &ObjectMeta, count: usize) -> Self {
        Self { uid: meta.uid.clone().unwrap_or_default(), most: count, least: count, ..Self::default() }
    }
}
