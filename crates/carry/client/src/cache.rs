//! The shared content of one informer, its indexes and its subscribers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use tokio::sync::{mpsc, watch};

use crate::object::Object;
use crate::progress::Followers;

/// A change seen by an informer.
#[derive(Debug)]
pub enum Delta<K> {
    /// An object is new or changed.
    Applied {
        /// What the cache held before.
        old: Option<Arc<K>>,
        /// What it holds now.
        new: Arc<K>,
    },
    /// An object is gone; this was its last known state.
    Deleted(Arc<K>),
    /// All that existed when the subscription began has been told.
    Synced,
}

impl<K> Clone for Delta<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Applied { old, new } => Self::Applied { old: old.clone(), new: new.clone() },
            Self::Deleted(object) => Self::Deleted(object.clone()),
            Self::Synced => Self::Synced,
        }
    }
}

/// Namespace and name.
type Key = (Box<str>, Box<str>);

/// Computes the values under which an index finds an object.
pub(crate) type IndexFn<K> = fn(&K) -> Vec<String>;

struct Index<K> {
    name: &'static str,
    values: IndexFn<K>,
    /// In the order of their keys, which the objects tell themselves: most values have few objects.
    entries: HashMap<Box<str>, Vec<Arc<K>>>,
}

impl<K: Object> Index<K> {
    fn insert(&mut self, object: &Arc<K>) {
        for value in (self.values)(object) {
            let entry = self.entries.entry(value.into()).or_insert_with(|| Vec::with_capacity(1));
            match place(entry, object) {
                Ok(known) => entry[known] = object.clone(),
                Err(free) => entry.insert(free, object.clone()),
            }
        }
    }

    fn remove(&mut self, object: &Arc<K>) {
        for value in (self.values)(object) {
            let Some(entry) = self.entries.get_mut(&*value) else { continue };
            if let Ok(known) = place(entry, object) {
                entry.remove(known);
            }
            if entry.is_empty() {
                self.entries.remove(&*value);
            }
        }
    }
}

/// Where an object of this key is, or would be.
fn place<K: Object>(entry: &[Arc<K>], object: &Arc<K>) -> Result<usize, usize> {
    let wanted = (object.namespace(), object.name());
    entry.binary_search_by(|known| (known.namespace(), known.name()).cmp(&wanted))
}

struct State<K> {
    namespaces: HashMap<Box<str>, BTreeMap<Box<str>, Arc<K>>>,
    indexes: Vec<Index<K>>,
    subscribers: Vec<mpsc::UnboundedSender<Delta<K>>>,
    /// How many changes there were.
    changes: u64,
    synced: bool,
}

/// Objects by namespace and name. Readers never wait for I/O: the lock is held for map work only.
pub(crate) struct Cache<K> {
    state: RwLock<State<K>>,
    synced: watch::Sender<bool>,
    /// Up to which version of the server all changes are in; moved before subscribers are told.
    version: AtomicU64,
    pub(crate) followers: Followers,
}

/// The index that every cache has: by the id of the controlling owner.
pub(crate) const OWNER: &str = "owner";

const POISON: &str = "no code under the lock panics";

impl<K: Object> Cache<K> {
    pub(crate) fn new() -> Self {
        let owner = Index { name: OWNER, values: controller, entries: HashMap::new() };
        let state = State {
            namespaces: HashMap::new(),
            indexes: vec![owner],
            subscribers: Vec::new(),
            changes: 0,
            synced: false,
        };
        Self {
            state: RwLock::new(state),
            synced: watch::Sender::new(false),
            version: AtomicU64::new(0),
            followers: Followers::default(),
        }
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.state.read().expect(POISON).namespaces.get(namespace)?.get(name).cloned()
    }

    pub(crate) fn list(&self) -> Vec<Arc<K>> {
        let state = self.state.read().expect(POISON);
        state.namespaces.values().flat_map(BTreeMap::values).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.state.read().expect(POISON).namespaces.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.state.read().expect(POISON);
        state.namespaces.get(namespace).map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn indexed(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let state = self.state.read().expect(POISON);
        let index = state.indexes.iter().find(|known| known.name == index);
        let entry = index.and_then(|index| index.entries.get(value));
        entry.cloned().unwrap_or_default()
    }

    /// Adds an index over the present and all later content. Adding a name again changes nothing.
    pub(crate) fn add_index(&self, name: &'static str, values: IndexFn<K>) {
        let mut state = self.state.write().expect(POISON);
        if state.indexes.iter().any(|known| known.name == name) {
            return;
        }
        let mut index = Index { name, values, entries: HashMap::new() };
        for object in state.namespaces.values().flat_map(BTreeMap::values) {
            index.insert(object);
        }
        state.indexes.push(index);
    }

    /// A replay of the present content, then every change, without gap or repetition between.
    pub(crate) fn subscribe(&self) -> mpsc::UnboundedReceiver<Delta<K>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state.write().expect(POISON);
        let present = state.namespaces.values().flat_map(BTreeMap::values);
        // The receiver lives here: sending cannot fail.
        present.for_each(|new| drop(sender.send(Delta::Applied { old: None, new: new.clone() })));
        if state.synced {
            drop(sender.send(Delta::Synced));
        }
        state.subscribers.push(sender);
        receiver
    }

    pub(crate) async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender is a field of `self`: it outlives this wait.
        drop(synced.wait_for(|synced| *synced).await);
    }

    /// How many changes subscribers have been told of.
    pub(crate) fn changes(&self) -> u64 {
        self.state.read().expect(POISON).changes
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// All changes up to `version` are in. Versions that are not numbers cannot be waited for.
    pub(crate) fn reached(&self, version: &str) {
        if let Ok(version) = version.parse() {
            self.version.fetch_max(version, Ordering::AcqRel);
        }
    }

    /// Takes in an object as the server gave it. `position` is where the watch stands with it.
    pub(crate) fn apply(&self, mut object: K, position: Option<&str>) {
        object.strip();
        let mut state = self.state.write().expect(POISON);
        position.into_iter().for_each(|position| self.reached(position));
        let known = state.namespaces.get(object.namespace()).and_then(|names| names.get(object.name()));
        match known {
            Some(old) if old.uid() != object.uid() || !object.is_kept() => {
                // Deleted and made again while nobody watched: two lives, told as two.
                let old = old.clone();
                state.remove(&old);
                state.tell(Delta::Deleted(old));
            }
            Some(old)
                if !old.resource_version().is_empty()
                    && old.resource_version() == object.resource_version() =>
            {
                return;
            }
            _ => {}
        }
        if !object.is_kept() {
            return;
        }
        let new = Arc::new(object);
        let old = state.insert(&new);
        state.tell(Delta::Applied { old, new });
    }

    /// Forgets an object; `last` is the state the server told with the deletion.
    pub(crate) fn delete(&self, mut last: K, position: &str) {
        last.strip();
        let last = Arc::new(last);
        let mut state = self.state.write().expect(POISON);
        self.reached(position);
        let known = state.namespaces.get(last.namespace()).and_then(|names| names.get(last.name())).cloned();
        if let Some(known) = known {
            state.remove(&known);
        }
        state.tell(Delta::Deleted(last));
    }

    /// Ends a full list: what it did not name is gone. Without names, nothing is.
    pub(crate) fn finish_list(&self, seen: Option<&HashSet<Key>>, version: &str) {
        let mut state = self.state.write().expect(POISON);
        self.reached(version);
        let all = state.namespaces.values().flat_map(BTreeMap::values);
        let is_gone = |object: &&Arc<K>| seen.is_some_and(|seen| !seen.contains(&key(&***object)));
        let gone: Vec<_> = all.filter(is_gone).cloned().collect();
        for object in gone {
            state.remove(&object);
            state.tell(Delta::Deleted(object));
        }
        if !state.synced {
            state.synced = true;
            state.tell(Delta::Synced);
        }
        drop(state);
        self.synced.send_replace(true);
    }
}

impl<K: Object> State<K> {
    fn insert(&mut self, object: &Arc<K>) -> Option<Arc<K>> {
        let names = self.namespaces.entry(object.namespace().into()).or_default();
        let old = names.insert(object.name().into(), object.clone());
        for index in &mut self.indexes {
            old.iter().for_each(|old| index.remove(old));
            index.insert(object);
        }
        old
    }

    fn remove(&mut self, object: &Arc<K>) {
        if let Some(names) = self.namespaces.get_mut(object.namespace()) {
            names.remove(object.name());
            if names.is_empty() {
                self.namespaces.remove(object.namespace());
            }
        }
        self.indexes.iter_mut().for_each(|index| index.remove(object));
    }

    fn tell(&mut self, delta: Delta<K>) {
        self.changes += 1;
        self.subscribers.retain(|subscriber| subscriber.send(delta.clone()).is_ok());
    }
}

/// Namespace and name of an object.
pub(crate) fn key<K: Object>(object: &K) -> Key {
    (object.namespace().into(), object.name().into())
}

fn controller<K: Object>(object: &K) -> Vec<String> {
    object.controller_uid().map(str::to_owned).into_iter().collect()
}
