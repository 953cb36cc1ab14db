//! The claims that are in use on a node.

use std::collections::{BTreeMap, BTreeSet};

/// A claim to be prepared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its UID.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The drivers that have a part in it, with the devices that they have told of.
    pub drivers: BTreeMap<String, Vec<Device>>,
}

/// A device that a driver prepared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The pool that it is of.
    pub pool: String,
    /// Its name there.
    pub name: String,
    /// Which share of it, where it has several.
    pub share: Option<String>,
    /// The requests that it is for; none for all.
    pub requests: Vec<String>,
    /// What the engine calls it.
    pub cdi: Vec<String>,
}

impl Device {
    /// Whether it is for a request; an empty one is for all.
    pub(super) fn is_for(&self, request: &str) -> bool {
        request.is_empty() || self.requests.is_empty() || self.requests.iter().any(|one| one == request)
    }
}

/// A claim in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// What it is.
    pub claim: Claim,
    /// The pods that use it.
    pub pods: BTreeSet<String>,
    /// Whether this agent has had it prepared.
    pub prepared: bool,
}

/// All claims in use, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    held: BTreeMap<(String, String), Held>,
}

impl Book {
    /// Takes in what an agent before this one had. Nothing of it counts as prepared: its drivers are asked again
    /// when another pod comes.
    #[must_use]
    pub fn of(held: Vec<Held>) -> Self {
        let key = |held: &Held| (held.claim.namespace.clone(), held.claim.name.clone());
        Self { held: held.into_iter().map(|held| (key(&held), Held { prepared: false, ..held })).collect() }
    }

    /// Everything that is in use.
    pub fn all(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Held> {
        self.held.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// A pod is about to use a claim. Whether it has to be prepared.
    ///
    /// # Errors
    /// Another one of the same name is still in use.
    pub fn enter(&mut self, pod: &str, claim: &Claim) -> Result<bool, String> {
        let key = (claim.namespace.clone(), claim.name.clone());
        let fresh = || Held { claim: claim.clone(), ..Held::default() };
        let held = self.held.entry(key).or_insert_with(fresh);
        if held.claim.uid != claim.uid {
            return Err(format!(
                "old ResourceClaim with same name {} and different UID {} still exists (previous pod \
                 force-deleted?!)",
                claim.name, held.claim.uid
            ));
        }
        held.pods.insert(pod.to_owned());
        Ok(!held.prepared)
    }

    /// A driver prepared its part of a claim.
    pub fn add(&mut self, namespace: &str, name: &str, driver: &str, devices: Vec<Device>) {
        if let Some(held) = self.held.get_mut(&(namespace.to_owned(), name.to_owned())) {
            held.claim.drivers.insert(driver.to_owned(), devices);
        }
    }

    /// All drivers have prepared their parts.
    pub fn prepared(&mut self, namespace: &str, name: &str) {
        if let Some(held) = self.held.get_mut(&(namespace.to_owned(), name.to_owned())) {
            held.prepared = true;
        }
    }

    /// What the engine is told for requests of a claim.
    ///
    /// # Errors
    /// Nobody has prepared it.
    pub fn cdi(&self, namespace: &str, name: &str, requests: &[String]) -> Result<Vec<String>, String> {
        let held = self.get(namespace, name).ok_or_else(|| {
            format!(
                "internal error: unable to get claim info for ResourceClaim {name} in namespace {namespace}"
            )
        })?;
        let mut found = Vec::new();
        for request in requests {
            let devices = held.claim.drivers.values().flatten().filter(|device| device.is_for(request));
            found.extend(devices.flat_map(|device| device.cdi.iter().cloned()));
        }
        Ok(found)
    }

    /// Whether a pod uses anything.
    #[must_use]
    pub fn uses(&self, pod: &str) -> bool {
        self.held.values().any(|held| held.pods.contains(pod))
    }

    /// A pod uses its claims no more: those that nobody else uses, to be taken back. They stay here until they are
    /// [`taken_back`](Self::taken_back).
    pub fn leave(&mut self, pod: &str) -> Vec<Claim> {
        let mut last = Vec::new();
        for held in self.held.values_mut().filter(|held| held.pods.contains(pod)) {
            if held.pods.len() > 1 {
                held.pods.remove(pod);
            } else {
                last.push(held.claim.clone());
            }
        }
        last
    }

    /// Drivers have taken a claim back.
    pub fn taken_back(&mut self, claim: &Claim) {
        self.held.remove(&(claim.namespace.clone(), claim.name.clone()));
    }

    /// Pods that use something and are not there any more.
    pub fn strangers(&self, is_there: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let pods = self.held.values().flat_map(|held| &held.pods);
        pods.filter(|pod| !is_there(pod)).cloned().collect()
    }
}
