//! Which pods belong together where they do not say: those that a Service selects, or one owner has.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ReplicationController, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_meta::selector::Labels;

use crate::pod::PodInfo;

/// Selectors of Services and of owners of pods.
#[derive(Debug, Default)]
pub struct Selectors {
    /// By namespace and name.
    services: HashMap<String, BTreeMap<String, Labels>>,
    /// By kind, then by namespace and name.
    owners: HashMap<&'static str, HashMap<(String, String), Labels>>,
}

impl Selectors {
    /// A Service is new or changed.
    pub fn set_service(&mut self, service: &Service) {
        let (namespace, name) = key(&service.metadata);
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        match selector {
            Some(selector) => {
                self.services.entry(namespace).or_default().insert(name, Labels::from_map(selector));
            }
            None => self.remove_service(service),
        }
    }

    /// A Service is gone.
    pub fn remove_service(&mut self, service: &Service) {
        let (namespace, name) = key(&service.metadata);
        if let Some(there) = self.services.get_mut(&namespace) {
            there.remove(&name);
            if there.is_empty() {
                self.services.remove(&namespace);
            }
        }
    }

    /// A ReplicationController is new or changed.
    pub fn set_replication_controller(&mut self, owner: &ReplicationController) {
        let selector = owner.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Labels::from_map);
        self.set("ReplicationController", &owner.metadata, selector);
    }

    /// A ReplicationController is gone.
    pub fn remove_replication_controller(&mut self, owner: &ReplicationController) {
        self.set("ReplicationController", &owner.metadata, None);
    }

    /// A ReplicaSet is new or changed.
    pub fn set_replica_set(&mut self, owner: &ReplicaSet) {
        let selector = Some(Labels::from(&owner.spec.selector));
        self.set("ReplicaSet", &owner.metadata, selector);
    }

    /// A ReplicaSet is gone.
    pub fn remove_replica_set(&mut self, owner: &ReplicaSet) {
        self.set("ReplicaSet", &owner.metadata, None);
    }

    /// A StatefulSet is new or changed.
    pub fn set_stateful_set(&mut self, owner: &StatefulSet) {
        let selector = Some(Labels::from(&owner.spec.selector));
        self.set("StatefulSet", &owner.metadata, selector);
    }

    /// A StatefulSet is gone.
    pub fn remove_stateful_set(&mut self, owner: &StatefulSet) {
        self.set("StatefulSet", &owner.metadata, None);
    }

    fn set(&mut self, kind: &'static str, meta: &ObjectMeta, selector: Option<Labels>) {
        let owners = self.owners.entry(kind).or_default();
        match selector {
            Some(selector) => drop(owners.insert(key(meta), selector)),
            None => drop(owners.remove(&key(meta))),
        }
    }

    /// What selects the pods that a pod belongs to; empty if it belongs to none.
    pub(crate) fn of(&self, pod: &PodInfo) -> Labels {
        let mut all = Labels::default();
        let services = self.services.get(&pod.namespace).into_iter().flat_map(BTreeMap::values);
        for service in services.filter(|service| service.matches_map(Some(&pod.labels))) {
            add(&mut all, service);
        }
        let owner = pod.owner.as_ref().and_then(|(kind, name)| {
            self.owners.get(kind.as_str())?.get(&(pod.namespace.clone(), name.clone()))
        });
        if let Some(owner) = owner {
            add(&mut all, owner);
        }
        all
    }
}

fn add(all: &mut Labels, more: &Labels) {
    for requirement in &more.0 {
        if !all.0.contains(requirement) {
            all.0.push(requirement.clone());
        }
    }
}

fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
