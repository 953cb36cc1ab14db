//! Who owns whom.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{FOREGROUND, ORPHAN};
use crate::action::Target;

/// A unique id.
pub type Uid = Arc<str>;

/// An owner that an object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `group/version` of its kind.
    pub api_version: Box<str>,
    /// Its kind.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
    /// Its id.
    pub uid: Uid,
    /// Whether it controls the object; `None` where that is not said.
    pub controller: bool,
    /// Whether its foreground deletion waits for the object.
    pub blocks: bool,
}

impl Owner {
    /// An owner that does not control.
    pub fn new(api_version: &str, kind: &str, name: &str, uid: &str, blocks: bool) -> Self {
        let (api_version, kind, name) = (api_version.into(), kind.into(), name.into());
        Self { api_version, kind, name, uid: uid.into(), controller: false, blocks }
    }

    pub(super) fn to_value(&self) -> Value {
        let Self { api_version, kind, name, uid, .. } = self;
        let mut value = json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": &**uid});
        if self.controller {
            value["controller"] = json!(true);
        }
        if self.blocks {
            value["blockOwnerDeletion"] = json!(true);
        }
        value
    }
}

/// An object, as far as ownership goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its id.
    pub uid: Uid,
    /// The version known of it.
    pub resource_version: Box<str>,
    /// Where it is.
    pub target: Target,
    /// Its owners.
    pub owners: Vec<Owner>,
    /// What holds it.
    pub finalizers: Vec<Box<str>>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

impl Node {
    /// Whether it carries a finalizer.
    pub fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| &**one == finalizer)
    }

    /// Whether an owner's foreground deletion waits for it.
    pub fn blocks(&self, owner: &str) -> bool {
        self.owners.iter().any(|one| &*one.uid == owner && one.blocks)
    }

    /// Whether its dependents are to go with it, or to be let go.
    fn concerns_dependents(&self) -> bool {
        self.deleting && (self.has(FOREGROUND) || self.has(ORPHAN))
    }
}

/// All objects and their owners.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    /// Dependents by owner, whether or not the owner is known.
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// The object of an id.
    pub fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name an id as owner.
    pub fn dependents(&self, uid: &str) -> Vec<&Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid)).collect()
    }

    /// Takes in an object; gives the ids that are worth a look.
    pub fn upsert(&mut self, node: Node) -> Vec<Uid> {
        let mut look = Vec::new();
        if let Some(old) = self.nodes.get_mut(&node.uid) {
            let same = old.owners == node.owners
                && old.finalizers == node.finalizers
                && old.deleting == node.deleting;
            if same {
                old.resource_version = node.resource_version;
                return look;
            }
        }
        if let Some(old) = self.nodes.get(&node.uid).cloned() {
            self.unlink(&old);
            // Somebody who waited for this object may wait no longer.
            look.extend(old.owners.iter().filter(|owner| owner.blocks).map(|owner| owner.uid.clone()));
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        if node.concerns_dependents() {
            look.extend(self.dependents.get(&node.uid).into_iter().flatten().cloned());
        }
        if !node.owners.is_empty() || node.concerns_dependents() {
            look.push(node.uid.clone());
        }
        self.nodes.insert(node.uid.clone(), node);
        look
    }

    /// Forgets an object; gives the ids that are worth a look.
    pub fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        self.unlink(&node);
        let dependents = self.dependents.get(uid).into_iter().flatten().cloned();
        let owners = node.owners.iter().map(|owner| owner.uid.clone());
        dependents
            .chain(owners.filter(|uid| self.nodes.get(uid).is_some_and(Node::concerns_dependents)))
            .collect()
    }

    /// Every object that has owners or dependents to see to.
    pub fn all_with_owners(&self) -> Vec<Uid> {
        let relevant =
            self.nodes.values().filter(|node| !node.owners.is_empty() || node.concerns_dependents());
        relevant.map(|node| node.uid.clone()).collect()
    }

    fn unlink(&mut self, node: &Node) {
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&node.uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}
