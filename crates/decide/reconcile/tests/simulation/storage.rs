//! The controllers of claims and volumes, what the scheduler and the agents of nodes do for them, and what
//! must hold of them at every moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::local_volume::{self, is_called, node_of, selected_node, volume_name};
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::persistent_volume::{Claim, Volume, decide_claim, decide_volume};
use plimsoll_reconcile::pod;
use plimsoll_reconcile::protection::{self, Guard};
use plimsoll_volume::annotation::SELECTED_NODE;
use plimsoll_volume::local::FINALIZER;
use plimsoll_volume::{claim_class, claims_of, default_class, is_bound};
use serde_json::json;

use crate::api::{Api, Name};
use crate::cache::Caches;
use crate::kind::{Typed, typed};
use crate::wiring::{Controller, Key};

fn name_of(meta: &ObjectMeta) -> Name {
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn of_volume(name: &str) -> Name {
    (String::new(), name.to_owned())
}

/// The volume that a claim names.
fn named(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// The claim that a volume is for, and its id.
fn owner(volume: &PersistentVolume) -> Option<(Name, &str)> {
    let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(((owner.namespace.clone()?, owner.name.clone()?), owner.uid.as_deref()?))
}

/// The keys that an object leads to, here.
pub(crate) fn keys(caches: &Caches, kind: &str, object: &Typed) -> Vec<Key> {
    match kind {
        "PersistentVolumeClaim" => keys_of_claim(caches, &typed(object)),
        "PersistentVolume" => keys_of_volume(caches, &typed(object)),
        "Pod" => {
            let pod = typed::<Pod>(object);
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let names = claims_of(&pod).map(|name| (namespace.clone(), name));
            names
                .flat_map(|name| [(Controller::Binder, name.clone()), (Controller::ClaimGuard, name)])
                .collect()
        }
        "Node" => {
            let node = name_of(&typed::<Node>(object).metadata);
            let mut volumes = caches.all::<PersistentVolume>();
            volumes.retain(|volume| node_of(volume) == Some(&node.1) && caches.get::<Node>(&node).is_none());
            volumes.iter().map(|volume| (Controller::Provisioner, name_of(&volume.metadata))).collect()
        }
        _ => Vec::new(),
    }
}

fn keys_of_claim(caches: &Caches, claim: &PersistentVolumeClaim) -> Vec<Key> {
    let name = name_of(&claim.metadata);
    let mut keys = vec![(Controller::Binder, name.clone()), (Controller::ClaimGuard, name.clone())];
    keys.extend(named(claim).map(|volume| (Controller::Binder, of_volume(volume))));
    let mut volumes = caches.all::<PersistentVolume>();
    volumes.retain(|volume| owner(volume).is_some_and(|(owner, _)| owner == name));
    keys.extend(volumes.iter().map(|volume| (Controller::Binder, name_of(&volume.metadata))));
    keys.extend(is_called(claim).then_some((Controller::Provisioner, name)));
    keys
}

fn keys_of_volume(caches: &Caches, volume: &PersistentVolume) -> Vec<Key> {
    let name = name_of(&volume.metadata);
    let own = [Controller::Binder, Controller::VolumeGuard, Controller::Provisioner];
    let mut keys: Vec<_> = own.map(|controller| (controller, name.clone())).into();
    let both = |claim: Name| [(Controller::Binder, claim.clone()), (Controller::Provisioner, claim)];
    keys.extend(owner(volume).into_iter().flat_map(|(claim, _)| both(claim)));
    let mut claims = caches.all::<PersistentVolumeClaim>();
    claims.retain(|claim| named(claim) == Some(&name.1));
    keys.extend(claims.iter().map(|claim| (Controller::Binder, name_of(&claim.metadata))));
    keys
}

/// What a controller of claims and volumes does next; nothing if the key is of another.
pub(crate) fn decide(api: &Api, caches: &Caches, (controller, name): &Key) -> Vec<Action> {
    let claim = || caches.get::<PersistentVolumeClaim>(name);
    let volume = || caches.get::<PersistentVolume>(name);
    let actions = match (controller, name.0.is_empty()) {
        (Controller::Binder, true) => volume().map(|volume| bind_volume(api, caches, &volume)),
        (Controller::Binder, false) => claim().map(|claim| bind_claim(caches, &claim)),
        (Controller::Provisioner, true) => volume().map(|volume| {
            let has_node =
                node_of(&volume).is_some_and(|node| caches.get::<Node>(&of_volume(node)).is_some());
            local_volume::decide_volume(&volume, has_node)
        }),
        (Controller::Provisioner, false) => claim().map(|claim| provision(caches, &claim)),
        (Controller::VolumeGuard, _) => {
            volume().map(|volume| Guard::Volume.decide(&*volume, protection::is_in_use(&volume)))
        }
        (Controller::ClaimGuard, _) => claim().map(|claim| {
            let uses = |pods: Vec<Arc<Pod>>| pods.iter().any(|pod| protection::uses(pod, &claim));
            // The cache may be late: only the server's word frees a claim.
            Guard::Claim.decide(&*claim, uses(caches.all()) || uses(api.all()))
        }),
        _ => None,
    };
    actions.unwrap_or_default()
}

fn bind_volume(api: &Api, caches: &Caches, volume: &PersistentVolume) -> Vec<Action> {
    let found = owner(volume).and_then(|(name, uid)| {
        let is_it = |claim: &Arc<PersistentVolumeClaim>| claim.metadata.uid.as_deref() == Some(uid);
        let asked = || Some(typed(&api.get(api.kind_named("PersistentVolumeClaim"), &name)?.typed));
        caches.get::<PersistentVolumeClaim>(&name).filter(is_it).or_else(|| asked().filter(is_it))
    });
    decide_volume(&Volume { volume, claim: found.as_deref() })
}

fn bind_claim(caches: &Caches, claim: &PersistentVolumeClaim) -> Vec<Action> {
    let own = name_of(&claim.metadata);
    decide_claim(&Claim {
        claim,
        volume: &|name| caches.get(&of_volume(name)),
        free: &|| {
            let mut volumes = caches.all::<PersistentVolume>();
            volumes.retain(|volume| owner(volume).is_none_or(|(owner, _)| owner == own));
            volumes
        },
        class: &|name| caches.get(&of_volume(name)),
        default: &|| default_class(&caches.all::<StorageClass>()).cloned(),
        waiting: &Vec::new,
    })
}

fn provision(caches: &Caches, claim: &PersistentVolumeClaim) -> Vec<Action> {
    local_volume::decide_claim(&local_volume::Claim {
        claim,
        class: caches.get(&of_volume(claim_class(claim))).as_deref(),
        node: selected_node(claim).and_then(|name| caches.get(&of_volume(name))).as_deref(),
        is_made: caches.get::<PersistentVolume>(&of_volume(&volume_name(claim))).is_some(),
    })
}

/// What a scheduler waits for before a pod goes to a node.
pub(crate) enum Claims {
    Ready,
    /// It has just asked for a volume.
    Asked,
    Wait,
}

/// Chooses a pod's node for its claims. Volumes are reached from everywhere: none is ever lost with a node.
pub(crate) fn prepare(api: &mut Api, pod: &Pod, node: &str) -> Claims {
    let kind = api.kind_named("PersistentVolumeClaim");
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    for name in claims_of(pod) {
        let name = (namespace.clone(), name);
        let Some(claim) = api.get(kind, &name) else { return Claims::Wait };
        let claim = typed::<PersistentVolumeClaim>(&claim.typed);
        if claim.metadata.deletion_timestamp.is_some() {
            return Claims::Wait;
        }
        if is_bound(&claim) {
            continue;
        }
        if selected_node(&claim).is_some() {
            return Claims::Wait;
        }
        api.edit(kind, &name, |claim| claim["metadata"]["annotations"][SELECTED_NODE] = json!(node));
        return Claims::Asked;
    }
    Claims::Ready
}

/// The agents of nodes remove the folders of volumes that go; tells whether there was one.
pub(crate) fn clean(api: &mut Api) -> bool {
    let kind = api.kind_named("PersistentVolume");
    let nodes = api.all::<Node>();
    let lives = |node: Option<&str>| nodes.iter().any(|one| one.metadata.name.as_deref() == node);
    let mut volumes = api.all::<PersistentVolume>();
    volumes.retain(|volume| {
        let held = volume.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER);
        volume.metadata.deletion_timestamp.is_some() && held && lives(node_of(volume))
    });
    for volume in &volumes {
        let rest: Vec<_> =
            volume.metadata.finalizers.iter().flatten().filter(|one| *one != FINALIZER).collect();
        api.edit(kind, &name_of(&volume.metadata), |volume| volume["metadata"]["finalizers"] = json!(rest));
    }
    !volumes.is_empty()
}

/// What was seen of claims and volumes.
#[derive(Default)]
pub(crate) struct Ledger {
    claims: BTreeMap<Name, Arc<PersistentVolumeClaim>>,
    owners: BTreeMap<Name, String>,
    claims_seen: usize,
    volumes_seen: usize,
}

impl Ledger {
    /// Looks at all that changed.
    pub(crate) fn look(&mut self, api: &Api) -> Result<(), String> {
        let claims = &api.log[api.kind_named("PersistentVolumeClaim")];
        for change in &claims[std::mem::replace(&mut self.claims_seen, claims.len())..] {
            match &change.now {
                Some(now) => drop(self.claims.insert(change.name.clone(), typed(&now.typed))),
                None => self.claim_goes(api, &change.name)?,
            }
        }
        let volumes = &api.log[api.kind_named("PersistentVolume")];
        for change in &volumes[std::mem::replace(&mut self.volumes_seen, volumes.len())..] {
            let volume = change.now.as_ref().map(|now| typed::<PersistentVolume>(&now.typed));
            match volume.as_deref().and_then(owner) {
                Some((_, uid)) => self.is_owned(&change.name, uid)?,
                None => self.volume_goes(&change.name)?,
            }
        }
        Ok(())
    }

    /// Nobody loses a claim that a container uses.
    fn claim_goes(&mut self, api: &Api, name: &Name) -> Result<(), String> {
        let Some(claim) = self.claims.remove(name) else { return Ok(()) };
        let user =
            api.all::<Pod>().into_iter().find(|pod| protection::uses(pod, &claim) && !pod::deleting(pod));
        user.map_or(Ok(()), |pod| {
            Err(format!("claim {} goes, but Pod {:?} uses it", name.1, pod.metadata.name))
        })
    }

    /// No volume changes hands.
    fn is_owned(&mut self, name: &Name, uid: &str) -> Result<(), String> {
        let before = self.owners.insert(name.clone(), uid.to_owned());
        match before.filter(|before| before != uid) {
            Some(before) => Err(format!("volume {} of claim {before} is given to {uid}", name.1)),
            None => Ok(()),
        }
    }

    /// No claim loses its volume.
    fn volume_goes(&mut self, name: &Name) -> Result<(), String> {
        self.owners.remove(name);
        let claim = self.claims.values().find(|claim| named(claim) == Some(&name.1) && is_bound(claim));
        claim
            .map_or(Ok(()), |claim| Err(format!("volume {} of claim {:?} goes", name.1, claim.metadata.name)))
    }
}

/// What holds at rest: claims that pods use have a volume each, and there are no others.
pub(crate) fn check(api: &Api) -> Result<(), String> {
    let claims: BTreeMap<_, _> = api
        .all::<PersistentVolumeClaim>()
        .into_iter()
        .map(|claim| (name_of(&claim.metadata), claim))
        .collect();
    for volume in api.all::<PersistentVolume>() {
        let found = owner(&volume).and_then(|(name, uid)| Some((claims.get(&name)?, uid)));
        let pair = found.is_some_and(|(claim, uid)| {
            claim.metadata.uid.as_deref() == Some(uid) && named(claim) == volume.metadata.name.as_deref()
        });
        if !pair || !protection::is_in_use(&volume) {
            return Err(format!(
                "at rest: volume {:?} is left over: {:?}",
                volume.metadata.name, volume.status
            ));
        }
    }
    for pod in api.all::<Pod>() {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let lacks =
            |name: &String| claims.get(&(namespace.clone(), name.clone())).is_none_or(|one| !is_bound(one));
        // Where nobody is to make it anew, a claim may be missing.
        if let Some(name) = claims_of(&pod).find(lacks).filter(|_| controller_of(&pod.metadata).is_some()) {
            return Err(format!("at rest: Pod {:?} has no claim {name}", pod.metadata.name));
        }
    }
    Ok(())
}

/// Whether something that goes is held for as long as it is used.
pub(crate) fn is_held(api: &Api, object: &Typed) -> bool {
    let object = object.clone();
    if let Ok(claim) = object.clone().downcast::<PersistentVolumeClaim>() {
        return api.all::<Pod>().iter().any(|pod| protection::uses(pod, &claim));
    }
    object.downcast::<PersistentVolume>().is_ok_and(|volume| protection::is_in_use(&volume))
}
