//! Which nodes get a pod, and what binds the pod to its node.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, PodTemplateSpec, Toleration,
};

use super::{Changes, Sync};
use crate::action::{Action, Severity};
use crate::history::REVISION_LABEL;
use crate::taint_eviction::tolerates;
use crate::{node, node_affinity, pod};

/// What a node's own pods always tolerate: taint and effect.
const TOLERATED: [(&str, &str); 6] = [
    (node::NOT_READY, "NoExecute"),
    (node::UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const NO_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// The node that a pod runs on or is meant for.
pub fn target_node(of: &Pod) -> &str {
    let bound = pod::node(of);
    if !bound.is_empty() {
        return bound;
    }
    let affinity = of.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let required = affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
    let terms = required.into_iter().flat_map(|required| &required.node_selector_terms);
    let mut fields = terms.flat_map(|term| term.match_fields.iter().flatten());
    let name = fields.find(|field| field.key == "metadata.name" && field.operator == "In");
    name.and_then(|field| field.values.as_ref()?.first()).map(String::as_str).unwrap_or_default()
}

/// How a node suits a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// It should have a pod.
    pub(super) runs: bool,
    /// A pod that is there may stay.
    pub(super) stays: bool,
}

/// The pod that is placed in thought. Room and ports are the scheduler's business: a node that lacks them has
/// a pod that waits.
pub(super) struct Simulated<'a> {
    spec: Option<&'a PodSpec>,
    tolerations: Vec<Toleration>,
}

impl<'a> Simulated<'a> {
    pub(super) fn of(set: &'a DaemonSet) -> Self {
        let spec = set.spec.template.spec.as_ref();
        Self { spec, tolerations: spec.map(tolerations).unwrap_or_default() }
    }

    /// Whether a node should get a pod, and whether a pod that is there may stay.
    pub(super) fn fit(&self, on: &Node) -> Fit {
        let never = Fit { runs: false, stays: false };
        let Some(spec) = self.spec else { return never };
        let named = spec.node_name.as_deref().is_none_or(|name| name.is_empty() || name == node::name(on));
        if !named || !node_affinity::allows(spec, on) {
            return never;
        }
        let tolerated = |effect: &str| {
            let mut taints = node::taints(on).iter().filter(|taint| taint.effect == effect);
            taints.all(|taint| self.tolerations.iter().any(|one| tolerates(one, taint)))
        };
        let stays = tolerated("NoExecute");
        Fit { runs: stays && tolerated("NoSchedule"), stays }
    }
}

fn tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut all = spec.tolerations.clone().unwrap_or_default();
    let network = (spec.host_network == Some(true)).then_some(NO_NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        // How long a toleration lasts is no part of what it tolerates.
        let same = |one: &Toleration| {
            one.key == toleration.key
                && one.effect == toleration.effect
                && one.operator == toleration.operator
                && one.value.as_deref().unwrap_or_default().is_empty()
        };
        match all.iter_mut().find(|one| same(one)) {
            Some(known) => *known = toleration,
            None => all.push(toleration),
        }
    }
    all
}

/// The template of one node's pod.
pub(super) fn template_for(set: &DaemonSet, hash: &str, name: &str) -> PodTemplateSpec {
    let mut template = set.spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    let generation =
        set.metadata.annotations.as_ref().and_then(|all| all.get("deprecated.daemonset.template.generation"));
    labels.extend(generation.map(|generation| ("pod-template-generation".to_owned(), generation.clone())));
    let spec = template.spec.get_or_insert_default();
    spec.tolerations = Some(tolerations(spec));
    let field = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![name.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
    template
}

impl Sync<'_> {
    /// Brings each node to one pod, or none.
    pub(super) fn place(&self) -> Changes {
        let mut changes = Changes::default();
        let surges = self.allows_surge();
        for (on, fit) in &self.nodes {
            let name = node::name(on);
            let pods = self.on(name);
            if fit.runs && pods.is_empty() {
                changes.create.push(name.to_owned());
            } else if fit.stays {
                let running = self.without_ended(name, pods, &mut changes);
                if surges {
                    self.tidy_surge(name, *fit, &running, &mut changes);
                } else {
                    changes.delete.extend(running.into_iter().skip(1));
                }
            } else {
                changes.delete.extend(pods.iter().filter(|pod| !pod::deleting(pod)).cloned());
            }
        }
        changes.delete.extend(self.unbound_without_node());
        changes
    }

    /// Pods that wait for a node that is gone: nobody else deletes them.
    fn unbound_without_node(&self) -> impl Iterator<Item = Arc<Pod>> {
        let known: HashSet<_> = self.nodes.iter().map(|(on, _)| node::name(on)).collect();
        let lost = self.pods.iter().filter(move |(name, _)| !known.contains(name.as_str()));
        let pods = lost.flat_map(|(_, pods)| pods);
        pods.filter(|pod| pod::node(pod).is_empty() && !pod::deleting(pod)).cloned()
    }

    /// The running pods of a node; those that have ended are deleted, failed ones not too often.
    fn without_ended(&self, node: &str, pods: &[Arc<Pod>], changes: &mut Changes) -> Vec<Arc<Pod>> {
        let set = self.set.metadata.uid.as_deref().unwrap_or_default();
        let mut running = Vec::new();
        for one in pods.iter().filter(|pod| !pod::deleting(pod)) {
            let wait = self.failures.wait(set, node, self.now).filter(|_| pod::phase(one) == "Failed");
            match (pod::finished(one), wait) {
                (false, _) => running.push(one.clone()),
                (true, Some(wait)) => {
                    changes.again = Some(changes.again.map_or(wait, |known| known.min(wait)));
                }
                (true, None) => {
                    changes.events.push(self.ended(one));
                    changes.delete.push(one.clone());
                }
            }
        }
        running
    }

    /// An old and a new pod may share a node while the old one is ready and the new one not yet available.
    fn tidy_surge(&self, node: &str, fit: Fit, running: &[Arc<Pod>], changes: &mut Changes) {
        if running.is_empty() && fit.runs {
            changes.create.push(node.to_owned());
        }
        let (mut new, mut old): (Vec<_>, Vec<_>) =
            running.iter().cloned().partition(|pod| self.is_current(pod));
        let replaced =
            |old: &Arc<Pod>| new.first().is_some_and(|new| !pod::ready(old) || self.is_available(new));
        if !old.first().is_some_and(replaced) {
            old.drain(..1.min(old.len()));
        }
        new.drain(..1.min(new.len()));
        changes.delete.extend(old.into_iter().chain(new));
    }

    fn ended(&self, one: &Pod) -> Action {
        let (namespace, name) = (one.metadata.namespace.as_deref(), one.metadata.name.as_deref());
        let place = format!(
            "{}/{} on node {}",
            namespace.unwrap_or_default(),
            name.unwrap_or_default(),
            target_node(one)
        );
        if pod::phase(one) == "Failed" {
            let message = format!("Found failed daemon pod {place}, will try to kill it");
            return Action::event(self.set, Severity::Warning, "FailedDaemonPod", message);
        }
        let message = format!("Found succeeded daemon pod {place}, will try to delete it");
        Action::event(self.set, Severity::Normal, "SucceededDaemonPod", message)
    }
}
