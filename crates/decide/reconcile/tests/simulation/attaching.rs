//! Volumes that have to be attached: the controller that asks for it, the attacher of their driver, and the
//! agents of nodes, which use only what they have.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use k8s_openapi::jiff::Timestamp;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::attachment::{self, Observed, Promises, volume_of};
use plimsoll_reconcile::pod;
use plimsoll_volume::{bound_to, claims_of};
use serde_json::{Value, json};

use crate::api::{Api, Name};
use crate::cache::Caches;
use crate::kind::{Typed, typed};
use crate::wiring::{Controller, Key};

/// What the attacher holds attachments by.
const FINALIZER: &str = "external-attacher/remote";

/// Makes a volume one of a driver.
pub(crate) fn attachable(volume: &mut Value) {
    volume["spec"]["csi"] = json!({"driver": "remote", "volumeHandle": volume["metadata"]["name"]});
}

fn known_as(volume: &str) -> String {
    format!("kubernetes.io/csi/remote^{volume}")
}

fn of_node(name: &str) -> Key {
    (Controller::Attacher, (String::new(), name.to_owned()))
}

fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// The keys that an object leads to, here.
pub(crate) fn keys(caches: &Caches, kind: &str, object: &Typed) -> Vec<Key> {
    let placed = |pod: &Pod| Some(pod::node(pod).to_owned()).filter(|node| !node.is_empty());
    let nodes: BTreeSet<String> = match kind {
        "Pod" => {
            let pod = typed::<Pod>(object);
            placed(&pod).filter(|_| claims_of(&pod).next().is_some()).into_iter().collect()
        }
        "PersistentVolumeClaim" => {
            let claim = typed::<PersistentVolumeClaim>(object).metadata.name.clone();
            let pods = caches.all::<Pod>();
            let users = pods.iter().filter(|pod| claims_of(pod).any(|name| Some(name) == claim));
            users.filter_map(|pod| placed(pod)).collect()
        }
        "VolumeAttachment" => [typed::<VolumeAttachment>(object).spec.node_name.clone()].into(),
        "Node" => [name_of(&typed::<Node>(object)).to_owned()].into(),
        _ => BTreeSet::new(),
    };
    nodes.iter().map(|node| of_node(node)).collect()
}

/// What the controller remembers.
#[derive(Default)]
pub(crate) struct Attacher {
    promises: Promises,
    unwanted: HashMap<String, Timestamp>,
}

impl Attacher {
    /// What is done next about a node.
    pub(crate) fn decide(&mut self, caches: &Caches, name: &Name, now: Timestamp) -> Vec<Action> {
        let volumes = |volume: &str| caches.get::<PersistentVolume>(&(String::new(), volume.to_owned()));
        let node = caches.get::<Node>(name);
        let mut wanted = BTreeMap::<String, (Arc<PersistentVolume>, Vec<Arc<Pod>>)>::new();
        for user in caches.all::<Pod>().into_iter().filter(|user| attachment::needs(user)) {
            let on_it = pod::node(&user) == name.1;
            for volume in claims_of(&user).filter_map(|claim| volume(caches, &user, claim)).filter(|_| on_it)
            {
                let title = volume.metadata.name.clone().unwrap_or_default();
                wanted.entry(title).or_insert_with(|| (volume, Vec::new())).1.push(user.clone());
            }
        }
        let wanted: Vec<_> = wanted.into_values().collect();
        let all = caches.all::<VolumeAttachment>();
        let (here, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.spec.node_name == name.1);
        let unwanted = &self.unwanted;
        let observed = Observed {
            name: &name.1,
            node: node.as_deref(),
            wanted: &wanted,
            attachments: &here,
            volume: &volumes,
            elsewhere: &|volume| others.iter().any(|one| volume_of(one) == Some(volume)),
            unwanted_since: &|attachment| unwanted.get(attachment).copied().unwrap_or(now),
        };
        let idle: BTreeSet<_> =
            attachment::unwanted(&observed).filter_map(|one| one.metadata.name.clone()).collect();
        let actions = attachment::decide(&observed, &mut self.promises, now);
        for one in here.iter().filter_map(|one| one.metadata.name.as_ref()) {
            match idle.contains(one) {
                true => drop(self.unwanted.entry(one.clone()).or_insert(now)),
                false => drop(self.unwanted.remove(one)),
            }
        }
        actions
    }
}

/// The volume that a pod's claim is bound to.
fn volume(caches: &Caches, user: &Pod, claim: String) -> Option<Arc<PersistentVolume>> {
    let namespace = user.metadata.namespace.clone()?;
    let claim = caches.get::<PersistentVolumeClaim>(&(namespace, claim))?;
    let name = claim.spec.as_ref()?.volume_name.clone()?;
    let volume = caches.get::<PersistentVolume>(&(String::new(), name));
    volume
        .filter(|volume| bound_to(volume, &claim) && volume.spec.as_ref().is_some_and(|it| it.csi.is_some()))
}

/// The names of the attachable volumes that a pod uses, as the server knows them.
fn used(api: &Api, user: &Pod) -> Vec<String> {
    let namespace = user.metadata.namespace.clone().unwrap_or_default();
    let kind = api.kind_named("PersistentVolumeClaim");
    let claims = claims_of(user).filter_map(|claim| api.get(kind, &(namespace.clone(), claim)));
    let volumes = claims.filter_map(|claim| claim.value["spec"]["volumeName"].as_str());
    volumes.filter(|_| api.remote).map(str::to_owned).collect()
}

fn attached(api: &Api) -> Vec<(String, String)> {
    let mut all = api.all::<VolumeAttachment>();
    all.retain(|one| one.status.as_ref().is_some_and(|status| status.attached));
    let pair = |one: &Arc<VolumeAttachment>| (volume_of(one).map(str::to_owned), one.spec.node_name.clone());
    all.iter().map(pair).filter_map(|(volume, node)| Some((volume?, node))).collect()
}

/// Whether a node has all that a pod uses, and says that it uses it.
pub(crate) fn is_ready(api: &Api, user: &Pod, node: &Node) -> bool {
    let status = node.status.clone().unwrap_or_default();
    let (in_use, has) =
        (status.volumes_in_use.unwrap_or_default(), status.volumes_attached.unwrap_or_default());
    let attached = attached(api);
    used(api, user).into_iter().all(|volume| {
        let known = known_as(&volume);
        in_use.contains(&known)
            && has.iter().any(|one| one.name == known)
            && attached.contains(&(volume, name_of(node).to_owned()))
    })
}

/// The attacher and the agents do what there is to do; tells whether there was anything.
pub(crate) fn serve(api: &mut Api) -> bool {
    let before = api.version;
    let kind = api.kind_named("VolumeAttachment");
    for one in api.all::<VolumeAttachment>() {
        let name = (String::new(), one.metadata.name.clone().unwrap_or_default());
        api.edit(kind, &name, |attachment| {
            let goes = !attachment["metadata"]["deletionTimestamp"].is_null();
            attachment["metadata"]["finalizers"] = if goes { json!([]) } else { json!([FINALIZER]) };
            attachment["status"] = json!({"attached": !goes});
        });
    }
    let kind = api.kind_named("Node");
    for node in api.all::<Node>() {
        let name = name_of(&node).to_owned();
        if api.silent.contains_key(&name) {
            continue;
        }
        let pods = api.all::<Pod>();
        let here = pods.iter().filter(|user| pod::node(user) == name && !pod::finished(user));
        let uses: BTreeSet<_> = here.flat_map(|user| used(api, user)).map(|one| known_as(&one)).collect();
        if api.remote {
            api.edit(kind, &(String::new(), name), |node| node["status"]["volumesInUse"] = json!(uses));
        }
    }
    api.version != before
}

/// No volume is attached to two nodes at a time: each of these is for one.
pub(crate) fn look(api: &Api) -> Result<(), String> {
    let mut places = BTreeMap::new();
    for (volume, node) in attached(api) {
        if let Some(other) = places.insert(volume.clone(), node.clone()) {
            return Err(format!("volume {volume} is attached to {other} and {node}"));
        }
    }
    Ok(())
}

/// What holds at rest: attached is what pods use, where they do, and nodes say so.
pub(crate) fn check(api: &Api) -> Result<(), String> {
    let pods = api.all::<Pod>();
    let here = pods.iter().filter(|user| !pod::node(user).is_empty() && !pod::finished(user));
    let wanted: BTreeSet<_> = here
        .flat_map(|user| used(api, user).into_iter().map(|volume| (volume, pod::node(user).to_owned())))
        .collect();
    let found: BTreeSet<_> = attached(api).into_iter().collect();
    let told: BTreeSet<_> = api
        .all::<Node>()
        .iter()
        .flat_map(|node| {
            let has = node.status.as_ref().and_then(|status| status.volumes_attached.clone());
            let name = name_of(node).to_owned();
            has.unwrap_or_default().into_iter().map(move |one| (one.name, name.clone())).collect::<Vec<_>>()
        })
        .collect();
    let named: BTreeSet<_> = wanted.iter().map(|(volume, node)| (known_as(volume), node.clone())).collect();
    match found == wanted && told == named {
        true => Ok(()),
        false => Err(format!("at rest: {found:?} are attached, {told:?} are told of, {wanted:?} are used")),
    }
}
