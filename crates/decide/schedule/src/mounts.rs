//! Placed pods that use volumes which others may have to do without.

use std::collections::HashMap;

use crate::pod::PodInfo;
use crate::storage::ClaimKey;

/// Pods with claims or disks, by node, and how many pods use each claim.
#[derive(Default)]
pub(crate) struct Mounts {
    by_node: HashMap<String, Vec<PodInfo>>,
    users: HashMap<ClaimKey, usize>,
}

impl Mounts {
    /// A pod is on a node.
    pub(crate) fn add(&mut self, node: &str, pod: &PodInfo) {
        if !pod.has_volumes() {
            return;
        }
        self.by_node.entry(node.to_owned()).or_default().push(pod.clone());
        for used in &pod.claims {
            *self.users.entry((pod.namespace.clone(), used.name.clone())).or_default() += 1;
        }
    }

    /// It is there no more.
    pub(crate) fn remove(&mut self, node: &str, pod: &PodInfo) {
        if !pod.has_volumes() {
            return;
        }
        if let Some(pods) = self.by_node.get_mut(node) {
            pods.retain(|other| other.uid != pod.uid);
            if pods.is_empty() {
                self.by_node.remove(node);
            }
        }
        for used in &pod.claims {
            let key = (pod.namespace.clone(), used.name.clone());
            match self.users.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.users.remove(&key)),
            }
        }
    }

    /// The pods with volumes on a node.
    pub(crate) fn on(&self, node: &str) -> impl Iterator<Item = &PodInfo> {
        self.by_node.get(node).into_iter().flatten()
    }

    /// Whether a placed pod uses a claim.
    pub(crate) fn is_used(&self, namespace: &str, claim: &str) -> bool {
        self.users.contains_key(&(namespace.to_owned(), claim.to_owned()))
    }
}
