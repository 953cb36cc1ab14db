//! The policies that are in force now, compiled.
//!
//! Follows policies and bindings of both kinds. Each is read once, when it changes; policies without a binding
//! do nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use plimsoll_admission::plugins::{Plugin, Plugins};
use plimsoll_admission::policy::{Binding, Policy};
use plimsoll_catalogue::Kind;
use plimsoll_store::Store;
use serde_json::Value;

use crate::follow::{Follower, follow};
use crate::object::meta;

const GROUP: &str = "admissionregistration.k8s.io";
const KINDS: [(Plugin, &str); 4] = [
    (Plugin::MutatingAdmissionPolicy, "mutatingadmissionpolicies"),
    (Plugin::MutatingAdmissionPolicy, "mutatingadmissionpolicybindings"),
    (Plugin::ValidatingAdmissionPolicy, "validatingadmissionpolicies"),
    (Plugin::ValidatingAdmissionPolicy, "validatingadmissionpolicybindings"),
];

/// A policy with all its bindings.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) policy: Arc<Policy>,
    pub(crate) bindings: Vec<Arc<Binding>>,
}

/// Both kinds of policies.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    mutating: Side,
    validating: Side,
}

#[derive(Debug, Default)]
struct Side {
    known: Mutex<Known>,
    active: RwLock<Arc<[Active]>>,
}

#[derive(Debug, Default)]
struct Known {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
}

impl Policies {
    /// Reads everything and follows changes, as far as the plugins are on.
    pub(crate) fn follow(store: &Store, plugins: &Plugins) -> Arc<Self> {
        let policies = Arc::<Self>::default();
        for (_, plural) in KINDS.into_iter().filter(|(plugin, _)| plugins.has(*plugin)) {
            if let Some(kind) = plimsoll_catalogue::find(GROUP, "v1", plural) {
                follow(store, kind, Arc::clone(&policies) as Arc<dyn Follower>);
            }
        }
        policies
    }

    /// Those that may change objects.
    pub(crate) fn mutating(&self) -> Arc<[Active]> {
        self.mutating.active()
    }

    /// Those that only say yes or no.
    pub(crate) fn validating(&self) -> Arc<[Active]> {
        self.validating.active()
    }

    fn change(&self, kind: &Kind, change: impl FnOnce(&mut Known)) {
        let side = if kind.kind.starts_with("Mutating") { &self.mutating } else { &self.validating };
        let mut known = side.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        *side.active.write().unwrap_or_else(PoisonError::into_inner) = known.active();
    }
}

impl Side {
    fn active(&self) -> Arc<[Active]> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn active(&self) -> Arc<[Active]> {
        let bound = |policy: &Arc<Policy>| Active {
            policy: Arc::clone(policy),
            bindings: self.bindings.values().filter(|one| one.policy == policy.name).cloned().collect(),
        };
        self.policies.values().map(bound).filter(|active| !active.bindings.is_empty()).collect()
    }

    fn put(&mut self, kind: &Kind, object: &Value) {
        let name = meta(object, "name").to_owned();
        match is_binding(kind) {
            true => drop(self.bindings.insert(name, Arc::new(Binding::read(object)))),
            false => drop(self.policies.insert(name, Arc::new(Policy::read(object)))),
        }
    }
}

fn is_binding(kind: &Kind) -> bool {
    kind.kind.ends_with("Binding")
}

impl Follower for Policies {
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>) {
        self.change(kind, |known| {
            match is_binding(kind) {
                true => known.bindings.clear(),
                false => known.policies.clear(),
            }
            objects.iter().for_each(|object| known.put(kind, object));
        });
    }

    fn put(&self, kind: &'static Kind, object: &Value) {
        self.change(kind, |known| known.put(kind, object));
    }

    fn remove(&self, kind: &'static Kind, object: &Value) {
        let name = meta(object, "name");
        self.change(kind, |known| match is_binding(kind) {
            true => drop(known.bindings.remove(name)),
            false => drop(known.policies.remove(name)),
        });
    }
}
