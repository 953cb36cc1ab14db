//! Kinds that users define, as the generic path needs them.
//!
//! What enters are definitions, as they come and go in the store; what leaves are rows like those of the
//! catalogue, found by path, and the schema of each. A row lives as long as the process: it is made once
//! for each combination of names that was ever served (some hundred bytes each) and used again when the
//! same definition comes back, so that everything behind the registry can hold rows of either origin.

mod convert;
mod definition;
pub(crate) mod lifecycle;
mod present;
mod row;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::Store;
use plimsoll_structural::{compare_versions, status};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

pub(crate) use convert::{convert, is_outdated, presented, stored};
pub(crate) use definition::{Definition, Scale};
pub(crate) use present::Present;

use crate::follow::{Follower, follow};
use crate::object::meta;
use crate::registry;

/// How long a request waits for a definition that is established in the store and not served yet.
const CATCH_UP: Duration = Duration::from_secs(2);

/// The custom kinds that are served now.
#[derive(Clone)]
pub(crate) struct Customs(Arc<Inner>);

struct Inner {
    store: Store,
    served: RwLock<Arc<Served>>,
    known: Mutex<Known>,
    /// Woken when a definition changes.
    changed: Notify,
    /// The same, for all that want to know.
    turned: watch::Sender<()>,
}

/// All definitions as they are stored, and what was made of them.
#[derive(Debug, Default)]
struct Known {
    definitions: BTreeMap<String, Arc<Value>>,
    families: HashMap<String, Vec<(&'static Kind, Arc<Definition>)>>,
    rows: row::Rows,
    dirty: BTreeSet<String>,
}

/// One state of [`Customs`], whole.
#[derive(Debug, Default)]
pub(crate) struct Served {
    kinds: Vec<&'static Kind>,
    definitions: HashMap<(&'static str, &'static str, &'static str), (&'static Kind, Arc<Definition>)>,
}

impl Customs {
    /// Reads all definitions and follows their changes.
    pub(crate) fn follow(store: &Store) -> Self {
        let inner = Inner {
            store: store.clone(),
            served: RwLock::default(),
            known: Mutex::default(),
            changed: Notify::new(),
            turned: watch::Sender::new(()),
        };
        let customs = Self(Arc::new(inner));
        if let Some(kind) = definitions_kind() {
            follow(store, kind, Arc::new(customs.clone()));
        }
        customs
    }

    /// All that is served now, in one state that is the same until something changes.
    pub(crate) fn served(&self) -> Arc<Served> {
        Arc::clone(&self.0.served.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The row of a resource path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        self.served().definitions.get(&(group, version, plural)).map(|(kind, _)| *kind)
    }

    /// [`Customs::find`] for a request: whoever saw that a definition is established finds its kind, even
    /// where this server has yet to hear of it.
    pub(crate) async fn find_in_time(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<&'static Kind> {
        let found = self.find(group, version, plural);
        if found.is_some() || !self.is_about_to_serve(group, version, plural) {
            return found;
        }
        let mut turns = self.0.turned.subscribe();
        let turned = turns.wait_for(|()| self.find(group, version, plural).is_some());
        drop(timeout(CATCH_UP, turned).await);
        self.find(group, version, plural)
    }

    fn is_about_to_serve(&self, group: &str, version: &str, plural: &str) -> bool {
        let Some(kind) = definitions_kind() else { return false };
        let key = kind.key("", &format!("{plural}.{group}"));
        let Some(entry) = key.and_then(|key| self.0.store.get(&key)) else { return false };
        registry::stored(&entry).is_ok_and(|definition| {
            let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
            let mut served = versions.filter(|one| one["served"] == true);
            status::holds(&definition, "Established") && served.any(|one| one["name"] == version)
        })
    }

    /// All rows, those of a group together and its preferred version first.
    pub(crate) fn kinds(&self) -> Vec<&'static Kind> {
        self.served().kinds.clone()
    }

    /// All rows with what they are made of, in the order of [`Customs::kinds`].
    pub(crate) fn all(&self) -> Vec<(&'static Kind, Arc<Definition>)> {
        let served = self.served();
        let whole = |kind: &&'static Kind| {
            let (_, definition) = served.definitions.get(&(kind.group, kind.version, kind.plural))?;
            Some((*kind, Arc::clone(definition)))
        };
        served.kinds.iter().filter_map(whole).collect()
    }

    /// What a row of this registry is made of; `None` when it is served no longer.
    pub(crate) fn definition(&self, kind: &Kind) -> Option<Arc<Definition>> {
        let served = self.served();
        served
            .definitions
            .get(&(kind.group, kind.version, kind.plural))
            .map(|(_, definition)| Arc::clone(definition))
    }

    /// [`Customs::definition`], or the 404 of a path that is no more.
    pub(crate) fn require(&self, kind: &Kind) -> Result<Arc<Definition>, Status> {
        self.definition(kind).ok_or_else(Status::no_such_path)
    }

    /// The stored definitions of a group.
    fn group(&self, group: &str) -> Vec<Arc<Value>> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.definitions.values().filter(|one| one["spec"]["group"] == group).cloned().collect()
    }

    /// A definition as it is stored.
    fn stored(&self, name: &str) -> Option<Arc<Value>> {
        let known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.definitions.get(name).cloned()
    }

    /// The definitions whose status is to be looked at, each once.
    fn take_dirty(&self) -> BTreeSet<String> {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut known.dirty)
    }

    /// Has these looked at again.
    fn mark(&self, names: Vec<String>) {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner).dirty.extend(names);
        self.0.changed.notify_one();
    }

    /// What clients of a deprecated version are told.
    pub(crate) fn deprecation(&self, kind: &Kind) -> Option<String> {
        if !kind.is_custom() {
            return None;
        }
        self.definition(kind)?.deprecation.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut known);
        let served = Arc::new(known.served());
        *self.0.served.write().unwrap_or_else(PoisonError::into_inner) = served;
        drop(known);
        self.0.changed.notify_one();
        self.0.turned.send_replace(());
    }
}

/// The row of definitions themselves.
pub(crate) fn definitions_kind() -> Option<&'static Kind> {
    plimsoll_catalogue::find("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}

impl Follower for Customs {
    fn reset(&self, _kind: &'static Kind, objects: Vec<Value>) {
        let store = &self.0.store;
        self.change(|known| {
            known.definitions.clear();
            known.families.clear();
            objects.into_iter().for_each(|object| known.put(object, store));
        });
    }

    fn put(&self, _kind: &'static Kind, object: &Value) {
        self.change(|known| known.put(object.clone(), &self.0.store));
    }

    fn remove(&self, _kind: &'static Kind, object: &Value) {
        self.change(|known| {
            known.definitions.remove(meta(object, "name"));
            known.families.remove(meta(object, "name"));
            known.reconsider(&object["spec"]["group"]);
        });
    }
}

impl Known {
    /// From now on objects are written by this definition.
    fn put(&mut self, object: Value, store: &Store) {
        let name = meta(&object, "name").to_owned();
        let before = self.definitions.get(&name);
        let same = |key: &str| before.is_some_and(|before| before[key] == object[key]);
        let serves = |object: &Value| {
            let names = status::holds(object, "NamesAccepted") || status::holds(object, "Established");
            (names, status::holds(object, "Terminating"), object["status"]["acceptedNames"].clone())
        };
        let is_same = same("spec") && before.is_some_and(|before| serves(before) == serves(&object));
        if !is_same {
            let family = match serves(&object).0 {
                true => definition::family(&object, store, &mut self.rows),
                false => Vec::new(),
            };
            self.families.insert(name.clone(), family);
        }
        let group = object["spec"]["group"].clone();
        let frees = !same_names(before.map(Arc::as_ref), &object);
        self.dirty.insert(name.clone());
        self.definitions.insert(name, Arc::new(object));
        if frees {
            self.reconsider(&group);
        }
    }

    /// Names of a group may have become free.
    fn reconsider(&mut self, group: &Value) {
        let of_group = self.definitions.iter().filter(|(_, one)| one["spec"]["group"] == *group);
        self.dirty.extend(of_group.map(|(name, _)| name.clone()));
    }

    fn served(&self) -> Served {
        let mut all: Vec<&(&'static Kind, Arc<Definition>)> = self.families.values().flatten().collect();
        all.sort_by(|(a, _), (b, _)| {
            (a.group, a.plural).cmp(&(b.group, b.plural)).then_with(|| compare_versions(a.version, b.version))
        });
        all.sort_by(|(a, _), (b, _)| {
            a.group.cmp(b.group).then_with(|| compare_versions(a.version, b.version))
        });
        Served {
            kinds: all.iter().map(|(kind, _)| *kind).collect(),
            definitions: all
                .iter()
                .map(|(kind, definition)| {
                    ((kind.group, kind.version, kind.plural), (*kind, Arc::clone(definition)))
                })
                .collect(),
        }
    }
}

fn same_names(before: Option<&Value>, after: &Value) -> bool {
    before.is_none_or(|before| before["status"]["acceptedNames"] == after["status"]["acceptedNames"])
}
