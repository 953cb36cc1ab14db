//! Claims, volumes and classes as the scheduler sees them, with what it decided and the API does not show yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};

use crate::node::Node;
use crate::plugins::volume_zone::Place;
use crate::reservation::Reservation;
use crate::terms::NodeTerm;

/// A claim, by namespace and name.
pub(crate) type ClaimKey = (String, String);

/// A volume, and where it can be used.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) object: Arc<PersistentVolume>,
    /// Nodes of one of these; all if there is no such list.
    reach: Option<Vec<NodeTerm>>,
    /// Where its labels say it is.
    pub(crate) places: Vec<Place>,
}

impl Volume {
    fn of(object: Arc<PersistentVolume>) -> Self {
        let affinity = object.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
        let required = affinity.and_then(|affinity| affinity.required.as_ref());
        let reach = required.map(|all| all.node_selector_terms.iter().map(NodeTerm::of).collect());
        let places = Place::of(&object);
        Volume { object, reach, places }
    }

    pub(crate) fn reaches(&self, node: &Node) -> bool {
        self.reach.as_ref().is_none_or(|terms| terms.iter().any(|term| term.holds(node)))
    }
}

/// A volume as its driver knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Attachable {
    pub(crate) driver: String,
    pub(crate) handle: String,
}

impl Attachable {
    /// Only drivers' volumes are counted.
    pub(crate) fn of(volume: &PersistentVolume) -> Option<Self> {
        let source = volume.spec.as_ref()?.csi.as_ref()?;
        Some(Self { driver: source.driver.clone(), handle: source.volume_handle.clone() })
    }
}

/// Everything about storage.
#[derive(Default)]
pub struct Storage {
    claims: HashMap<ClaimKey, Arc<PersistentVolumeClaim>>,
    volumes: HashMap<String, Volume>,
    classes: HashMap<String, Arc<StorageClass>>,
    /// Drivers that say how much room they have.
    metered: HashSet<String>,
    rooms: HashMap<ClaimKey, Arc<CSIStorageCapacity>>,
    /// By node: how many volumes each driver attaches there, where it says so.
    limits: HashMap<String, BTreeMap<String, usize>>,
    /// By node: names of attachments and their volumes.
    attachments: HashMap<String, BTreeMap<String, String>>,
    /// Volumes that are about to be bound to a claim, and the other way round.
    kept: HashMap<ClaimKey, String>,
    /// Claims that are about to get a volume on a node.
    selected: HashMap<ClaimKey, String>,
}

impl Storage {
    /// A claim is new or changed.
    pub fn set_claim(&mut self, claim: Arc<PersistentVolumeClaim>) {
        self.claims.insert(key(&claim), claim);
    }

    /// A claim is gone.
    pub fn remove_claim(&mut self, claim: &PersistentVolumeClaim) {
        self.claims.remove(&key(claim));
    }

    /// A volume is new or changed.
    pub fn set_volume(&mut self, volume: Arc<PersistentVolume>) {
        let name = volume.metadata.name.clone().unwrap_or_default();
        self.volumes.insert(name, Volume::of(volume));
    }

    /// A volume is gone.
    pub fn remove_volume(&mut self, volume: &PersistentVolume) {
        self.volumes.remove(volume.metadata.name.as_deref().unwrap_or_default());
    }

    /// A class is new or changed.
    pub fn set_class(&mut self, class: Arc<StorageClass>) {
        self.classes.insert(class.metadata.name.clone().unwrap_or_default(), class);
    }

    /// A class is gone.
    pub fn remove_class(&mut self, class: &StorageClass) {
        self.classes.remove(class.metadata.name.as_deref().unwrap_or_default());
    }

    /// A driver is new or changed.
    pub fn set_driver(&mut self, driver: Arc<CSIDriver>) {
        let name = driver.metadata.name.clone().unwrap_or_default();
        match driver.spec.storage_capacity == Some(true) {
            true => self.metered.insert(name),
            false => self.metered.remove(&name),
        };
    }

    /// A driver is gone.
    pub fn remove_driver(&mut self, driver: &CSIDriver) {
        self.metered.remove(driver.metadata.name.as_deref().unwrap_or_default());
    }

    /// A driver says how much room it has somewhere.
    pub fn set_room(&mut self, room: Arc<CSIStorageCapacity>) {
        let meta = &room.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        self.rooms.insert(key, room);
    }

    /// It no longer says so.
    pub fn remove_room(&mut self, room: &CSIStorageCapacity) {
        let meta = &room.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        self.rooms.remove(&key);
    }

    /// What drivers say of a node is new or changed.
    pub fn set_csi_node(&mut self, node: Arc<CSINode>) {
        let limits = node.spec.drivers.iter().filter_map(|driver| {
            let count = driver.allocatable.as_ref()?.count?;
            Some((driver.name.clone(), usize::try_from(count).unwrap_or_default()))
        });
        self.limits.insert(node.metadata.name.clone().unwrap_or_default(), limits.collect());
    }

    /// They say nothing any more.
    pub fn remove_csi_node(&mut self, node: &CSINode) {
        self.limits.remove(node.metadata.name.as_deref().unwrap_or_default());
    }

    /// A volume is to be attached to a node.
    pub fn set_attachment(&mut self, attachment: Arc<VolumeAttachment>) {
        let Some(volume) = attachment.spec.source.persistent_volume_name.clone() else { return };
        let name = attachment.metadata.name.clone().unwrap_or_default();
        self.attachments.entry(attachment.spec.node_name.clone()).or_default().insert(name, volume);
    }

    /// It is not any more.
    pub fn remove_attachment(&mut self, attachment: &VolumeAttachment) {
        let node = &attachment.spec.node_name;
        let Some(names) = self.attachments.get_mut(node) else { return };
        names.remove(attachment.metadata.name.as_deref().unwrap_or_default());
        if names.is_empty() {
            self.attachments.remove(node);
        }
    }

    /// Keeps to what was decided until [`Storage::release`].
    pub(crate) fn keep(&mut self, reservation: &Reservation) {
        match reservation {
            Reservation::Bind { claim, volume } => {
                self.kept.insert(key(claim), volume.metadata.name.clone().unwrap_or_default());
            }
            Reservation::Provision { claim, node } => {
                self.selected.insert(key(claim), node.clone());
            }
        }
    }

    /// The API shows it, or it failed.
    pub fn release(&mut self, reservations: &[Reservation]) {
        for reservation in reservations {
            let key = key(reservation.claim());
            self.kept.remove(&key);
            self.selected.remove(&key);
        }
    }

    pub(crate) fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }

    pub(crate) fn volume(&self, name: &str) -> Option<&Volume> {
        self.volumes.get(name)
    }

    /// How many volumes each driver attaches to a node.
    pub(crate) fn limits(&self, node: &str) -> Option<&BTreeMap<String, usize>> {
        self.limits.get(node).filter(|limits| !limits.is_empty())
    }

    /// What is attached to a node, whoever uses it.
    pub(crate) fn attached(&self, node: &str) -> impl Iterator<Item = Attachable> {
        let names = self.attachments.get(node).into_iter().flat_map(BTreeMap::values);
        names.filter_map(|name| Attachable::of(&self.volume(name)?.object))
    }

    pub(crate) fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    /// The volume that is kept for a claim.
    pub(crate) fn kept_for(&self, claim: &PersistentVolumeClaim) -> Option<&Volume> {
        self.kept.get(&key(claim)).and_then(|name| self.volume(name))
    }

    /// The node for which a claim gets its volume.
    pub(crate) fn selected_for<'a>(&'a self, claim: &'a PersistentVolumeClaim) -> Option<&'a str> {
        let written = || claim.metadata.annotations.as_ref()?.get(plimsoll_volume::annotation::SELECTED_NODE);
        self.selected.get(&key(claim)).or_else(written).map(String::as_str)
    }

    /// Volumes of a class that nobody has, or that wait for the claim.
    pub(crate) fn offers(&self, claim: &PersistentVolumeClaim) -> Vec<Arc<PersistentVolume>> {
        let kept: HashSet<&str> = self.kept.values().map(String::as_str).collect();
        let free = |volume: &PersistentVolume| {
            let taken = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            !taken
                && !kept.contains(name)
                && plimsoll_volume::volume_class(volume) == plimsoll_volume::claim_class(claim)
        };
        let all = self.volumes.values().map(|volume| &volume.object);
        let mut found: Vec<_> =
            all.filter(|volume| free(volume) || plimsoll_volume::bound_to(volume, claim)).cloned().collect();
        // Equal volumes are taken in the order of their names.
        found.sort_by(|one, two| one.metadata.name.cmp(&two.metadata.name));
        found
    }

    /// Whether the driver has room for a claim on a node, as far as it says.
    pub(crate) fn has_room(&self, class: &StorageClass, claim: &PersistentVolumeClaim, node: &Node) -> bool {
        !self.metered.contains(&class.provisioner)
            || self.rooms.values().any(|room| {
                Some(&room.storage_class_name) == class.metadata.name.as_ref()
                    && is_enough(room, claim)
                    && reaches(room, node)
            })
    }
}

fn key(claim: &PersistentVolumeClaim) -> ClaimKey {
    let meta = &claim.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

fn is_enough(room: &CSIStorageCapacity, claim: &PersistentVolumeClaim) -> bool {
    let most = room.maximum_volume_size.as_ref().or(room.capacity.as_ref());
    let most = most.and_then(|text| text.0.parse::<plimsoll_meta::quantity::Quantity>().ok());
    most.is_some_and(|most| most >= plimsoll_volume::requested(claim))
}

fn reaches(room: &CSIStorageCapacity, node: &Node) -> bool {
    let selector = room.node_topology.as_ref().map(plimsoll_meta::selector::Labels::from);
    selector.is_some_and(|selector| selector.matches_map(Some(&node.labels)))
}
