//! Devices that drivers offer, and claims on them (resource.k8s.io/v1, structured parameters).
//!
//! What enters are slices, classes, claims and taints as they change; what leaves is what a claim gets on a node
//! ([`allocate`]). What was decided and is not shown by the API yet is kept here ([`Devices::keep`]).

mod allocate;
mod capacity;
mod extended;
mod pool;
mod request;
mod selector;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceClass, DeviceRequestAllocationResult, DeviceTaintRule, ResourceClaim,
    ResourceSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_meta::quantity::Quantity;

pub(crate) use allocate::Failure;
pub(crate) use extended::{Extended, Special};
pub(crate) use pool::holds;
pub(crate) use request::classes;
use selector::{Compiled, compile};

/// Programs of expressions that are kept.
const KEPT_PROGRAMS: usize = 1024;

/// Driver, pool and name.
pub(crate) type DeviceId = (String, String, String);

/// What claims have of a device.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Use {
    /// Claims that have it, or a share of it.
    claims: usize,
    /// What the shares have together.
    consumed: BTreeMap<String, Quantity>,
}

/// All devices, and who has them.
#[derive(Default)]
pub struct Devices {
    slices: HashMap<String, Arc<ResourceSlice>>,
    /// Names of slices by driver and pool.
    pools: BTreeMap<(String, String), BTreeSet<String>>,
    /// Pools with devices for one node alone, by its name; and with others.
    of_node: HashMap<String, BTreeMap<(String, String), usize>>,
    of_several: BTreeMap<(String, String), usize>,
    classes: HashMap<String, Arc<DeviceClass>>,
    class_names: BTreeSet<String>,
    /// The class that stands for an extended resource.
    resources: BTreeMap<String, String>,
    remapped: bool,
    /// Claims that were made for the extended resources of pods, by the ids of those.
    special: HashMap<String, (String, String)>,
    claims: HashMap<(String, String), Arc<ResourceClaim>>,
    rules: HashMap<String, Arc<DeviceTaintRule>>,
    /// By the claims' ids.
    kept: HashMap<String, Arc<AllocationResult>>,
    taken: HashMap<DeviceId, Use>,
    programs: Mutex<HashMap<String, Arc<Compiled>>>,
}

impl Devices {
    /// A slice is new or changed.
    pub fn set_slice(&mut self, slice: Arc<ResourceSlice>) {
        self.remove_slice(&slice);
        let name = slice.metadata.name.clone().unwrap_or_default();
        let pool = pool_of(&slice);
        self.pools.entry(pool.clone()).or_default().insert(name.clone());
        *self.places(&slice).entry(pool).or_insert(0) += 1;
        self.slices.insert(name, slice);
    }

    /// A slice is gone.
    pub fn remove_slice(&mut self, slice: &ResourceSlice) {
        let name = slice.metadata.name.clone().unwrap_or_default();
        let Some(old) = self.slices.remove(&name) else { return };
        let pool = pool_of(&old);
        if let Some(names) = self.pools.get_mut(&pool) {
            names.remove(&name);
            if names.is_empty() {
                self.pools.remove(&pool);
            }
        }
        let places = self.places(&old);
        if let Some(count) = places.get_mut(&pool) {
            *count -= 1;
            if *count == 0 {
                places.remove(&pool);
            }
        }
        let node = old.spec.node_name.as_deref().unwrap_or_default();
        if self.of_node.get(node).is_some_and(BTreeMap::is_empty) {
            self.of_node.remove(node);
        }
    }

    fn places(&mut self, slice: &ResourceSlice) -> &mut BTreeMap<(String, String), usize> {
        match slice.spec.node_name.as_deref() {
            Some(node) if !node.is_empty() => self.of_node.entry(node.to_owned()).or_default(),
            _ => &mut self.of_several,
        }
    }

    /// A class is new or changed.
    pub fn set_class(&mut self, class: Arc<DeviceClass>) {
        self.classes.insert(class.metadata.name.clone().unwrap_or_default(), class);
        self.map_resources();
    }

    /// A class is gone.
    pub fn remove_class(&mut self, class: &DeviceClass) {
        self.classes.remove(class.metadata.name.as_deref().unwrap_or_default());
        self.map_resources();
    }

    /// A taint that an administrator gives is new or changed.
    pub fn set_rule(&mut self, rule: Arc<DeviceTaintRule>) {
        self.rules.insert(rule.metadata.name.clone().unwrap_or_default(), rule);
    }

    /// It is gone.
    pub fn remove_rule(&mut self, rule: &DeviceTaintRule) {
        self.rules.remove(rule.metadata.name.as_deref().unwrap_or_default());
    }

    /// A claim is new or changed.
    pub fn set_claim(&mut self, claim: Arc<ResourceClaim>) {
        self.remove_claim_shown(&key(&claim.metadata));
        if let Some(allocation) = shown(&claim) {
            // The API shows what was kept for it.
            self.release(claim.metadata.uid.as_deref().unwrap_or_default());
            if let Some(pod) = extended::pod_of(&claim) {
                self.release(&extended::temporary(pod));
            }
            self.count(allocation, true);
        }
        if let Some(pod) = extended::pod_of(&claim) {
            self.special.insert(pod.to_owned(), key(&claim.metadata));
        }
        self.claims.insert(key(&claim.metadata), claim);
    }

    /// A claim is gone.
    pub fn remove_claim(&mut self, claim: &ResourceClaim) {
        self.remove_claim_shown(&key(&claim.metadata));
        self.release(claim.metadata.uid.as_deref().unwrap_or_default());
    }

    fn remove_claim_shown(&mut self, key: &(String, String)) {
        let Some(old) = self.claims.remove(key) else { return };
        if let Some(allocation) = shown(&old) {
            self.count(allocation, false);
        }
        if let Some(pod) = extended::pod_of(&old) {
            self.special.remove(pod);
        }
    }

    /// What a claim gets is decided.
    pub fn keep(&mut self, claim: &ResourceClaim, allocation: Arc<AllocationResult>) {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        self.release(&uid);
        self.count(&allocation, true);
        self.kept.insert(uid, allocation);
    }

    /// It does not get it after all, or the API shows it.
    pub fn release(&mut self, uid: &str) {
        if let Some(allocation) = self.kept.remove(uid) {
            self.count(&allocation, false);
        }
    }

    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// What a claim has, or is about to have.
    pub(crate) fn allocation<'a>(&'a self, claim: &'a ResourceClaim) -> Option<&'a AllocationResult> {
        let kept = || self.kept.get(claim.metadata.uid.as_deref().unwrap_or_default());
        shown(claim).or_else(|| kept().map(|allocation| &**allocation))
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(name)
    }

    fn count(&mut self, allocation: &AllocationResult, comes: bool) {
        for result in results(allocation).filter(|result| result.admin_access != Some(true)) {
            let id = id_of(result);
            let one = self.taken.entry(id.clone()).or_default();
            one.claims = if comes { one.claims + 1 } else { one.claims.saturating_sub(1) };
            for (name, amount) in result.consumed_capacity.iter().flatten() {
                let Ok(amount) = amount.0.parse::<Quantity>() else { continue };
                let there = one.consumed.entry(name.clone()).or_insert(Quantity::from_units(0));
                if comes { *there += amount } else { *there -= amount }
            }
            if one.claims == 0 {
                self.taken.remove(&id);
            }
        }
    }

    /// The program of an expression.
    fn program(&self, expression: &str) -> Arc<Compiled> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = programs.get(expression) {
            return known.clone();
        }
        if programs.len() >= KEPT_PROGRAMS {
            programs.clear();
        }
        let compiled = Arc::new(compile(expression));
        programs.insert(expression.to_owned(), compiled.clone());
        compiled
    }
}

fn shown(claim: &ResourceClaim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

fn results(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten())
}

fn id_of(result: &DeviceRequestAllocationResult) -> DeviceId {
    (result.driver.clone(), result.pool.clone(), result.device.clone())
}

fn pool_of(slice: &ResourceSlice) -> (String, String) {
    (slice.spec.driver.clone(), slice.spec.pool.name.clone())
}

fn key(meta: &ObjectMeta) -> (String, String) {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}
