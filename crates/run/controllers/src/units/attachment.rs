//! Wires what attaches volumes to nodes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Informer, Object as _};
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::attachment::{self, Observed, Promises};
use plimsoll_reconcile::pod;
use plimsoll_volume::{bound_to, claims_of};

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

const NODE: &str = "attachments by node";
const VOLUME: &str = "attachments by volume";

struct State {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    drivers: Informer<CSIDriver>,
    attachments: Informer<VolumeAttachment>,
    /// Since when attachments are not needed any more.
    unwanted: Mutex<HashMap<String, Timestamp>>,
    promises: Mutex<Promises>,
}

/// A key is a node.
pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let state = Arc::new(State {
        nodes: context.informers.informer(),
        pods: context.informers.informer(),
        claims: context.informers.informer(),
        volumes: context.informers.informer(),
        drivers: context.informers.informer(),
        attachments: context.informers.informer(),
        unwanted: Mutex::default(),
        promises: Mutex::default(),
    });
    indexes::nodes(&state.pods);
    indexes::claims(&state.pods);
    state.attachments.add_index(NODE, |one| vec![one.spec.node_name.clone()]);
    state
        .attachments
        .add_index(VOLUME, |one| attachment::volume_of(one).map(str::to_owned).into_iter().collect());
    let (of_node, of_claim) = (state.attachments.clone(), state.pods.clone());
    let unit = unit
        .input(&state.nodes, move |node| match of_node.indexed(NODE, node.name()).is_empty() {
            true => Vec::new(),
            false => vec![Key::of(node)],
        })
        .input(&state.pods, |pod| match claims_of(pod).next() {
            Some(_) if !pod::node(pod).is_empty() => vec![Key::new("", pod::node(pod))],
            _ => Vec::new(),
        })
        .input(&state.claims, move |claim| {
            let pods = indexes::using(&of_claim, claim.namespace(), claim.name());
            let placed = pods.iter().map(|pod| pod::node(pod)).filter(|node| !node.is_empty());
            placed.map(|node| Key::new("", node)).collect()
        })
        .input(&state.attachments, |one| vec![Key::new("", &one.spec.node_name)])
        .reads(&state.volumes)
        .reads(&state.drivers);
    Ok(unit.decide(move |key, now| state.decide(&key.name, now)))
}

impl State {
    fn decide(&self, name: &str, now: Timestamp) -> Vec<Action> {
        let node = self.nodes.get("", name);
        let wanted = self.wanted(name);
        let attachments = self.attachments.indexed(NODE, name);
        let observed = Observed {
            name,
            node: node.as_deref(),
            wanted: &wanted,
            attachments: &attachments,
            volume: &|volume| self.volumes.get("", volume),
            elsewhere: &|volume| {
                self.attachments.indexed(VOLUME, volume).iter().any(|one| one.spec.node_name != name)
            },
            unwanted_since: &|attachment| *self.unwanted().entry(attachment.to_owned()).or_insert(now),
        };
        self.remember(&observed, now);
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        attachment::decide(&observed, &mut promises, now)
    }

    fn unwanted(&self) -> std::sync::MutexGuard<'_, HashMap<String, Timestamp>> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time counts from when an attachment is not needed, not from when that is looked at.
    fn remember(&self, observed: &Observed<'_>, now: Timestamp) {
        let unwanted: Vec<String> = attachment::unwanted(observed).map(|one| one.name().to_owned()).collect();
        let mut known = self.unwanted();
        for one in observed.attachments {
            match unwanted.iter().any(|name| name == one.name()) {
                true => drop(known.entry(one.name().to_owned()).or_insert(now)),
                false => drop(known.remove(one.name())),
            }
        }
        known.retain(|name, _| self.attachments.get("", name).is_some());
    }

    /// Volumes that pods of a node need and that drivers want attached.
    fn wanted(&self, name: &str) -> Vec<(Arc<PersistentVolume>, Vec<Arc<Pod>>)> {
        let mut wanted: BTreeMap<String, (Arc<PersistentVolume>, Vec<Arc<Pod>>)> = BTreeMap::new();
        for pod in indexes::on_node(&self.pods, name).into_iter().filter(|pod| attachment::needs(pod)) {
            for claim in claims_of(&pod).filter_map(|claim| self.claims.get(pod.namespace(), &claim)) {
                let Some(volume) = self.volume(&claim) else { continue };
                let entry = wanted.entry(volume.name().to_owned());
                entry.or_insert_with(|| (volume, Vec::new())).1.push(pod.clone());
            }
        }
        wanted.into_values().collect()
    }

    fn volume(&self, claim: &PersistentVolumeClaim) -> Option<Arc<PersistentVolume>> {
        let name = claim.spec.as_ref()?.volume_name.as_deref()?;
        let volume = self.volumes.get("", name).filter(|volume| bound_to(volume, claim))?;
        let driver = self.drivers.get("", &volume.spec.as_ref()?.csi.as_ref()?.driver);
        let attaches = driver.is_none_or(|driver| driver.spec.attach_required != Some(false));
        attaches.then_some(volume)
    }
}
