//! Shared caches of the API's objects: one watch per type for the whole process.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, Weak};

use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cache::{Cache, Delta, OWNER};
use crate::object::{MetadataObject, Object};
use crate::progress::Progress;
use crate::reflector::{Representation, Source, reflect};

/// Which objects of a type an informer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// A label selector, as the API takes it.
    pub labels: Option<String>,
    /// A field selector, as the API takes it.
    pub fields: Option<String>,
}

/// All informers of a process. Clones share them.
#[derive(Clone)]
pub struct Informers {
    inner: Arc<Inner>,
}

struct Inner {
    client: kube::Client,
    started: Mutex<HashMap<(TypeId, String), Started>>,
}

/// An informer that runs, or ran.
struct Started {
    /// A `Weak<Shared<K>>`.
    weak: Box<dyn Any + Send>,
    /// Cluster-wide informers stay until the process ends; filtered ones end with their last user.
    _kept: Option<Arc<dyn Any + Send + Sync>>,
}

impl Informers {
    /// Informers that read through `client`.
    pub fn new(client: kube::Client) -> Self {
        Self { inner: Arc::new(Inner { client, started: Mutex::default() }) }
    }

    /// The client the informers read through.
    pub fn client(&self) -> &kube::Client {
        &self.inner.client
    }

    /// The cluster-wide informer of a type. Its watch starts with the first call, and needs a tokio
    /// runtime then.
    pub fn informer<K>(&self) -> Informer<K>
    where
        K: kube::Resource<DynamicType = ()> + Object,
    {
        self.start(path::<K>(&(), &Filter::default()), Representation::Full, true)
    }

    /// The cluster-wide informer of what `E` keeps of each object of a type: for programs that would hold the
    /// whole objects for nothing else. Where somebody follows the type itself, its informer costs nothing more.
    pub fn excerpts<K, E>(&self) -> Informer<E>
    where
        K: kube::Resource<DynamicType = ()>,
        E: Object,
    {
        self.start(path::<K>(&(), &Filter::default()), Representation::Full, true)
    }

    /// An informer of the objects that pass `filter`; it stops when nobody holds it any more.
    pub fn filtered<K>(&self, filter: Filter) -> Informer<K>
    where
        K: kube::Resource<DynamicType = ()> + Object,
    {
        self.start(path::<K>(&(), &filter), Representation::Full, false)
    }

    /// An informer of the metadata of any resource; it stops when nobody holds it any more.
    pub fn metadata(&self, resource: &ApiResource) -> Informer<MetadataObject> {
        let path = path::<DynamicObject>(resource, &Filter::default());
        self.start(path, Representation::Metadata, false)
    }

    fn start<K: Object>(&self, path: String, representation: Representation, keep: bool) -> Informer<K> {
        let mut started = self.inner.started.lock().expect("no code under the lock panics");
        let key = (TypeId::of::<K>(), path.clone());
        let running =
            started.get(&key).and_then(|known| known.weak.downcast_ref::<Weak<Shared<K>>>()?.upgrade());
        if let Some(shared) = running {
            return Informer { shared };
        }
        let shared = Arc::new(self.spawn(Source { path, representation }));
        let weak = Box::new(Arc::downgrade(&shared));
        let kept = keep.then(|| shared.clone() as Arc<dyn Any + Send + Sync>);
        started.insert(key, Started { weak, _kept: kept });
        Informer { shared }
    }

    fn spawn<K: Object>(&self, source: Source) -> Shared<K> {
        let cache = Arc::new(Cache::new());
        let stop = CancellationToken::new();
        let (client, work) = (self.inner.client.clone(), cache.clone());
        tokio::spawn(
            stop.clone().run_until_cancelled_owned(async move { reflect(client, source, work).await }),
        );
        Shared { cache, _stop: stop.drop_guard() }
    }
}

/// The path and selectors of a list or watch, ready to take further parameters.
fn path<K: kube::Resource>(kind: &K::DynamicType, filter: &Filter) -> String {
    let mut path = K::url_path(kind, filter.namespace.as_deref());
    path.push('?');
    for (name, selector) in [("labelSelector", &filter.labels), ("fieldSelector", &filter.fields)] {
        if let Some(selector) = selector {
            write!(path, "{name}={}&", utf8_percent_encode(selector, NON_ALPHANUMERIC))
                .expect("strings take all");
        }
    }
    path
}

struct Shared<K> {
    cache: Arc<Cache<K>>,
    _stop: DropGuard,
}

/// A cache of one type's objects that follows the server. Clones share it.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Object> Informer<K> {
    /// The object of that name; `namespace` is "" in cluster scope.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shared.cache.get(namespace, name)
    }

    /// All objects, in no particular order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.cache.list()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shared.cache.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All objects of a namespace, by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.cache.list_in(namespace)
    }

    /// The objects whose controller has this unique id.
    pub fn owned_by(&self, owner_uid: &str) -> Vec<Arc<K>> {
        self.shared.cache.indexed(OWNER, owner_uid)
    }

    /// Adds an index, kept from now on; a name that is known already changes nothing.
    pub fn add_index(&self, name: &'static str, values: fn(&K) -> Vec<String>) {
        self.shared.cache.add_index(name, values);
    }

    /// The objects that an index (see [`Self::add_index`]) holds under a value.
    pub fn indexed(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        self.shared.cache.indexed(index, value)
    }

    /// Up to which version of the server this cache holds every change; 0 where versions are no numbers.
    pub fn version(&self) -> u64 {
        self.shared.cache.version()
    }

    /// How many changes it saw: what it holds has all of them.
    pub fn changes(&self) -> u64 {
        self.shared.cache.changes()
    }

    /// For a follower whom others wait for: it says up to which change it has carried out what follows from them.
    pub fn progress(&self) -> Progress {
        self.shared.cache.followers.add()
    }

    /// Waits until all who say how far they are (see [`Self::progress`]) have carried out the changes so far.
    pub async fn carried_out(&self) {
        self.shared.cache.followers.reached(self.changes()).await;
    }

    /// First the present content as `Applied` without `old`, then `Synced`, then every change.
    /// When the first list is still under way, its objects come as they are read.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Delta<K>> {
        self.shared.cache.subscribe()
    }

    /// Waits until the first full list has been read.
    pub async fn synced(&self) {
        self.shared.cache.synced().await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Script;

    fn pod(name: &str, uid: &str, version: u64) -> Value {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "owner", "controller": true});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {
            "namespace": "ns", "name": name, "uid": uid, "resourceVersion": version.to_string(),
            "managedFields": [{"manager": "kubectl"}], "ownerReferences": [owner],
        }})
    }

    fn page(version: u64, next: &str, items: &[Value]) -> Value {
        json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items})
    }

    fn tell(delta: Delta<Pod>) -> String {
        let version = |pod: &Pod| format!("{}@{}", pod.name(), pod.resource_version());
        match delta {
            Delta::Applied { old: None, new } => format!("+{}", version(&new)),
            Delta::Applied { old: Some(old), new } => format!("{}>{}", version(&old), version(&new)),
            Delta::Deleted(last) => format!("-{}", version(&last)),
            Delta::Synced => "synced".to_owned(),
        }
    }

    async fn expect(receiver: &mut mpsc::UnboundedReceiver<Delta<Pod>>, expected: &[&str]) {
        for expected in expected {
            let delta = tokio::time::timeout(Duration::from_secs(100), receiver.recv()).await;
            assert_eq!(&tell(delta.unwrap().unwrap()), expected);
        }
        assert!(receiver.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn pages_then_changes_then_a_resumed_watch_then_a_new_list() {
        let script = Script::default();
        script.answer(200, page(10, "more", &[pod("a", "1", 3)]));
        script.answer(200, page(10, "", &[pod("b", "2", 4)]));
        let first = script.watch();
        let second = script.watch();
        script.answer(200, page(30, "", &[pod("b", "9", 25), pod("d", "4", 20)]));
        let _third = script.watch();

        let informers = Informers::new(script.client());
        let informer = informers.informer::<Pod>();
        let mut deltas = informer.subscribe();
        expect(&mut deltas, &["+a@3", "+b@4", "synced"]).await;
        informer.synced().await;
        assert_eq!(informer.get("ns", "a").unwrap().metadata.managed_fields, None);
        assert_eq!(informer.owned_by("owner").len(), 2);

        first.send(json!({"type": "MODIFIED", "object": pod("a", "1", 11)})).unwrap();
        first.send(json!({"type": "DELETED", "object": pod("a", "1", 12)})).unwrap();
        first
            .send(
                json!({"type": "BOOKMARK", "object": {"kind": "Pod", "metadata": {"resourceVersion": "15"}}}),
            )
            .unwrap();
        drop(first);
        expect(&mut deltas, &["a@3>a@11", "-a@12"]).await;

        second.send(json!({"type": "ADDED", "object": pod("c", "3", 18)})).unwrap();
        second.send(json!({"type": "ADDED", "object": pod("d", "4", 20)})).unwrap();
        second
            .send(json!({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "old"}}))
            .unwrap();
        expect(&mut deltas, &["+c@18", "+d@20", "-b@4", "+b@25", "-c@18"]).await;
        assert_eq!(
            informer.list_in("ns").iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>(),
            ["b", "d"]
        );

        tokio::task::yield_now().await;
        assert_eq!(informer.version(), 30);
        let asked = script.asked.lock().unwrap().clone();
        let starts = ["GET /api/v1/pods?limit=500", "GET /api/v1/pods?limit=500&continue=more"];
        assert_eq!(asked[..2], starts);
        assert!(
            asked[2].ends_with("resourceVersion=10") && asked[3].ends_with("resourceVersion=15"),
            "{asked:?}"
        );
        assert_eq!(asked[4], "GET /api/v1/pods?limit=500");
    }

    #[tokio::test(start_paused = true)]
    async fn informers_are_shared_by_type_and_filter_and_errors_are_retried() {
        let script = Script::default();
        script.answer(500, json!({"kind": "Status", "code": 500, "message": "not yet"}));
        script.answer(200, page(10, "", &[pod("a", "1", 3), json!({"metadata": {"name": 7}})]));
        let informers = Informers::new(script.client());
        let (one, two) = (informers.informer::<Pod>(), informers.informer::<Pod>());
        assert!(Arc::ptr_eq(&one.shared, &two.shared));
        one.synced().await;
        assert_eq!(two.list().len(), 1, "the bad object is left out");

        let filter = Filter {
            fields: Some("metadata.name=a,x!=y".into()),
            namespace: Some("ns".into()),
            labels: None,
        };
        let (three, four) = (
            informers.filtered::<ConfigMap>(filter.clone()),
            informers.filtered::<ConfigMap>(filter.clone()),
        );
        assert!(Arc::ptr_eq(&three.shared, &four.shared));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = script.asked.lock().unwrap().clone();
        let path =
            "GET /api/v1/namespaces/ns/configmaps?fieldSelector=metadata%2Ename%3Da%2Cx%21%3Dy&limit=500";
        assert!(asked.iter().any(|line| line == path), "{asked:?}");
        let weak = Arc::downgrade(&three.shared);
        drop((three, four));
        assert!(weak.upgrade().is_none(), "the last user ends it");
    }

    #[tokio::test(start_paused = true)]
    async fn late_subscribers_get_the_present_first_and_indexes_cover_it() {
        let script = Script::default();
        script.answer(200, page(10, "", &[pod("a", "1", 3), pod("b", "2", 4)]));
        let _watch = script.watch();
        let informer = Informers::new(script.client()).informer::<Pod>();
        informer.synced().await;
        expect(&mut informer.subscribe(), &["+a@3", "+b@4", "synced"]).await;
        informer.add_index("uid", |pod| vec![pod.uid().to_owned()]);
        assert_eq!(informer.indexed("uid", "2")[0].name(), "b");
        assert!(informer.indexed("uid", "3").is_empty());
    }
}
