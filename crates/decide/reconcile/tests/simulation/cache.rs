//! What a process knows: objects by kind, each kind as late as its watch.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use plimsoll_reconcile::action::Living;
use plimsoll_reconcile::expectation::Written;
use plimsoll_reconcile::owner::controller_of;

use crate::api::{Api, Change, Name, Stored};
use crate::kind::{self, KindId, Typed};

/// One kind.
struct Cache {
    objects: BTreeMap<Name, Stored>,
    /// How much of the log it has seen, and up to which version.
    position: usize,
    version: u64,
}

/// All kinds.
pub(crate) struct Caches {
    kinds: Vec<Cache>,
    names: Vec<String>,
}

impl Caches {
    /// Lists everything.
    pub(crate) fn list(api: &Api) -> Self {
        let names = api.kinds.iter().map(|kind| kind.resource.kind.to_string()).collect();
        let pairs = api.objects.iter().zip(&api.log);
        let kinds = pairs.map(|(objects, log)| Cache {
            objects: objects.clone(),
            position: log.len(),
            version: api.version,
        });
        Self { kinds: kinds.collect(), names }
    }

    /// Whether a kind's watch has more to tell.
    pub(crate) fn is_behind(&self, api: &Api, kind: KindId) -> bool {
        self.kinds[kind].position < api.log[kind].len()
    }

    /// Takes in the next change of a kind: what was there, and what is there now.
    pub(crate) fn advance(&mut self, api: &Api, kind: KindId) -> Option<(Option<Stored>, Option<Stored>)> {
        let cache = &mut self.kinds[kind];
        let Change { version, name, now } = api.log[kind].get(cache.position)?;
        cache.position += 1;
        cache.version = *version;
        let old = match now {
            Some(now) => cache.objects.insert(name.clone(), now.clone()),
            None => cache.objects.remove(name),
        };
        Some((old, now.clone()))
    }

    /// Whether what was written is seen.
    pub(crate) fn show(&self, written: &Written) -> bool {
        let kind = self.id(&written.resource().kind);
        match written {
            Written::Version(_, version) => self.kinds[kind].version >= *version,
            Written::Gone(living) => !self.lives(kind, living),
        }
    }

    fn lives(&self, kind: KindId, living: &Living) -> bool {
        let name = (living.target.namespace.clone(), living.target.name.clone());
        let found = self.kinds[kind].objects.get(&name);
        found.is_some_and(|stored| *stored.node.uid == *living.uid && !stored.node.deleting)
    }

    /// Up to which version a kind is seen.
    pub(crate) fn version(&self, kind: &str) -> u64 {
        self.kinds[self.id(kind)].version
    }

    pub(crate) fn id(&self, kind: &str) -> KindId {
        self.names.iter().position(|name| name == kind).expect("a kind of the simulation")
    }

    /// All objects of all kinds.
    pub(crate) fn everything(&self) -> impl Iterator<Item = (KindId, &Stored)> {
        self.kinds
            .iter()
            .enumerate()
            .flat_map(|(kind, cache)| cache.objects.values().map(move |one| (kind, one)))
    }

    pub(crate) fn get<K>(&self, name: &Name) -> Option<Arc<K>>
    where
        K: k8s_openapi::Resource + Send + Sync + 'static,
    {
        let found: Option<&Typed> =
            self.kinds[self.id(K::KIND)].objects.get(name).map(|stored| &stored.typed);
        found.map(kind::typed)
    }

    pub(crate) fn all<K>(&self) -> Vec<Arc<K>>
    where
        K: k8s_openapi::Resource + Send + Sync + 'static,
    {
        self.kinds[self.id(K::KIND)].objects.values().map(|stored| kind::typed(&stored.typed)).collect()
    }

    /// An owner's objects.
    pub(crate) fn owned<K>(&self, uid: Option<&str>) -> Vec<Arc<K>>
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Send + Sync + 'static,
    {
        let mut all = self.all::<K>();
        all.retain(|one| controller_of(one.metadata()).map(|owner| owner.uid.as_str()) == uid);
        all
    }

    /// An owner's objects, and those that nobody controls.
    pub(crate) fn claimable<K>(&self, owner: &ObjectMeta) -> Vec<Arc<K>>
    where
        K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta> + Send + Sync + 'static,
    {
        let mut all = self.all::<K>();
        all.retain(|one| {
            let controller = controller_of(one.metadata());
            controller.is_none_or(|controller| Some(&controller.uid) == owner.uid.as_ref())
        });
        all
    }
}
