//! What volumes of pods are on this node, for the containers that get them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::provided::Provided;

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder or file of the node.
    Path(PathBuf),
    /// A device of the node.
    Device(PathBuf),
    /// An image, which the engine mounts for each container.
    Image(String),
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) place: Place,
    pub(crate) read_only: bool,
    /// A group that every container gets to use it.
    pub(crate) group: Option<i64>,
}

/// The volumes of all pods.
#[derive(Default)]
pub(crate) struct Volumes {
    state: Mutex<State>,
    /// Told whenever the list of names in use changes.
    pub(crate) used: tokio::sync::watch::Sender<BTreeSet<String>>,
}

#[derive(Default)]
struct State {
    held: HashMap<String, BTreeMap<String, Held>>,
    /// Those that drivers show, by pod and volume.
    provided: BTreeMap<(String, String), Arc<Provided>>,
    gates: HashMap<(String, String), Arc<tokio::sync::Mutex<()>>>,
    /// Names in use by the pods that use them.
    users: BTreeMap<String, BTreeSet<String>>,
    /// PersistentVolumes that one pod may use at a time, by that pod.
    single: HashMap<String, String>,
    /// Bytes in folders of the built-in provisioner, and those that were asked for, by PersistentVolume.
    folders: BTreeMap<String, (u64, u64)>,
}

impl Volumes {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self, pod: &str, volume: &str, held: Held) {
        self.state().held.entry(pod.to_owned()).or_default().insert(volume.to_owned(), held);
    }

    pub(crate) fn get(&self, pod: &str, volume: &str) -> Option<Held> {
        self.state().held.get(pod)?.get(volume).cloned()
    }

    pub(super) fn measured(&self, folders: BTreeMap<String, (u64, u64)>) {
        self.state().folders = folders;
    }

    /// Bytes in a folder of the built-in provisioner, and those that were asked for.
    pub(crate) fn folder_use(&self, volume: &str) -> Option<(u64, u64)> {
        self.state().folders.get(volume).copied()
    }

    pub(super) fn provide(&self, provided: Provided) {
        let uid = provided.pod.metadata.uid.clone().unwrap_or_default();
        let key = (uid, provided.volume.name.clone());
        self.state().provided.insert(key, Arc::new(provided));
    }

    /// What drivers show to pods.
    pub(crate) fn provided(&self) -> Vec<Arc<Provided>> {
        self.state().provided.values().cloned().collect()
    }

    /// The groups that the containers of a pod get to use its volumes.
    pub(crate) fn groups(&self, pod: &str) -> Vec<i64> {
        let state = self.state();
        let held = state.held.get(pod).into_iter().flat_map(BTreeMap::values);
        let groups: BTreeSet<i64> = held.filter_map(|held| held.group).collect();
        groups.into_iter().collect()
    }

    /// What lets one task at a time work on a volume. One that hangs keeps it.
    pub(super) fn gate(&self, pod: &str, volume: &str) -> Arc<tokio::sync::Mutex<()>> {
        self.state().gates.entry((pod.to_owned(), volume.to_owned())).or_default().clone()
    }

    /// Takes a PersistentVolume that one pod may use at a time; false when another one has it.
    pub(super) fn claim_single(&self, volume: &str, pod: &str) -> bool {
        let mut state = self.state();
        state.single.entry(volume.to_owned()).or_insert_with(|| pod.to_owned()) == pod
    }

    /// Notes that a pod uses what a driver provides.
    pub(crate) fn begin_use(&self, name: &str, pod: &str) {
        self.state().users.entry(name.to_owned()).or_default().insert(pod.to_owned());
        self.tell();
    }

    /// Whether something is being made for a pod still.
    pub(super) fn is_busy(&self, pod: &str) -> bool {
        self.state().gates.iter().any(|((owner, _), gate)| owner == pod && gate.try_lock().is_err())
    }

    /// Forgets a pod that has no volumes any more.
    pub(super) fn forget(&self, pod: &str) {
        {
            let mut state = self.state();
            state.held.remove(pod);
            state.provided.retain(|(owner, _), _| owner != pod);
            state.gates.retain(|(owner, _), _| owner != pod);
            state.single.retain(|_, owner| owner != pod);
            state.users.retain(|_, users| {
                users.remove(pod);
                !users.is_empty()
            });
        }
        self.tell();
    }

    fn tell(&self) {
        let names: BTreeSet<String> = self.state().users.keys().cloned().collect();
        self.used.send_if_modified(|known| {
            let changed = *known != names;
            *known = names;
            changed
        });
    }
}
