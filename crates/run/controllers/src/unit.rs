//! The one loop that all controllers run in.
//!
//! A controller is declared: which caches it looks at, which key a changed object belongs to, and how
//! it decides about a key. The loop takes one key at a time from a queue, waits until the caches show
//! everything that was written for that key before, decides, and acts. So no replica is made twice,
//! and nothing happens when nothing changes.

use std::collections::{BTreeSet, HashMap};
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Delta, Informer, Object, WorkQueue};
use plimsoll_reconcile::action::{Action, Failure, Living, Resource};
use plimsoll_reconcile::expectation::{Expectations, Written};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::executor::{Executor, Outcome};
use crate::graph::Declared;
use crate::output;

/// When to look again, should the event that is waited for never lead to the key.
const RECHECK: Duration = Duration::from_millis(200);

/// Decisions that take less are made as often as something changes.
const DEAR: Duration = Duration::from_millis(1);
/// The longest rest between two decisions about a key.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Which decision: usually the namespace and name of the object that is controlled.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of<K: Object>(object: &K) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

/// Gives also the processor time that the decision took, if that counts.
type Decide = Arc<dyn Fn(Key, Timestamp) -> BoxFuture<'static, (Vec<Action>, Duration)> + Send + Sync>;
type Report = Arc<dyn Fn(&Key, Timestamp, &Failure) -> Vec<Action> + Send + Sync>;
type Feed = Box<dyn FnOnce(WorkQueue<Key>) -> BoxFuture<'static, ()> + Send>;

/// A controller, declared.
pub(crate) struct Unit {
    feeds: Vec<Feed>,
    ready: Vec<BoxFuture<'static, ()>>,
    inputs: BTreeSet<String>,
    workers: usize,
    core: Core,
}

/// What its workers share.
struct Core {
    name: &'static str,
    executor: Executor,
    queue: WorkQueue<Key>,
    views: HashMap<Resource, Box<dyn View>>,
    decide: Decide,
    report: Option<Report>,
    expected: Mutex<Expectations<Key>>,
    /// What its clock counts from.
    started: Instant,
}

/// What a cache shows.
trait View: Send + Sync {
    fn version(&self) -> u64;
    /// Whether that object is there and stays.
    fn lives(&self, living: &Living) -> bool;
}

impl<K: Object + Metadata<Ty = ObjectMeta>> View for Informer<K> {
    fn version(&self) -> u64 {
        Informer::version(self)
    }

    fn lives(&self, living: &Living) -> bool {
        let object = self.get(&living.target.namespace, &living.target.name);
        object.is_some_and(|object| {
            let meta = object.metadata();
            meta.uid.as_deref() == Some(&living.uid) && meta.deletion_timestamp.is_none()
        })
    }
}

impl Unit {
    /// A controller that acts by `executor` on the keys of `queue`, on `workers` of them at once.
    pub(crate) fn new(name: &'static str, executor: Executor, queue: WorkQueue<Key>, workers: usize) -> Self {
        let core = Core {
            name,
            executor,
            queue,
            views: HashMap::new(),
            decide: Arc::new(|_, _| ready((Vec::new(), Duration::ZERO)).boxed()),
            report: None,
            expected: Mutex::default(),
            started: Instant::now(),
        };
        Self { feeds: Vec::new(), ready: Vec::new(), inputs: BTreeSet::new(), workers, core }
    }

    /// What it looks at, what it is called, what it writes.
    pub(crate) fn declared(&self) -> Declared {
        Declared {
            name: self.core.name,
            inputs: self.inputs.iter().cloned().collect(),
            outputs: self.core.executor.outputs(),
        }
    }

    /// What acts for it, for decisions that need to know what came of a deletion.
    pub(crate) fn executor(&self) -> Executor {
        self.core.executor.clone()
    }

    /// The queue, for what is not told by an informer.
    pub(crate) fn queue(&self) -> WorkQueue<Key> {
        self.core.queue.clone()
    }

    /// Changes of these objects lead to decisions about the keys that `keys` names; also the objects
    /// before the change are asked.
    pub(crate) fn input<K>(
        mut self,
        informer: &Informer<K>,
        keys: impl Fn(&K) -> Vec<Key> + Send + Sync + 'static,
    ) -> Self
    where
        K: Object + k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        let source = informer.clone();
        self.feeds.push(Box::new(move |queue| {
            async move {
                let mut deltas = source.subscribe();
                while let Some(delta) = deltas.recv().await {
                    keys_of(&delta, &keys).into_iter().for_each(|key| queue.add(key));
                }
            }
            .boxed()
        }));
        self.reads(informer)
    }

    /// Decisions read these objects, though their changes alone lead to none.
    pub(crate) fn reads<K>(mut self, informer: &Informer<K>) -> Self
    where
        K: Object + k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
    {
        self.inputs.insert(output::door(&Resource::of::<K>(), None));
        self.core.views.insert(Resource::of::<K>(), Box::new(informer.clone()));
        let source = informer.clone();
        self.ready.push(async move { source.synced().await }.boxed());
        self
    }

    /// Decisions look at the metadata of every kind.
    pub(crate) fn reads_every_kind(mut self) -> Self {
        self.inputs.insert("*".to_owned());
        self
    }

    /// Runs beside the inputs and may ask for decisions itself.
    pub(crate) fn task<F>(mut self, task: impl FnOnce(WorkQueue<Key>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.feeds.push(Box::new(move |queue| task(queue).boxed()));
        self
    }

    /// Decisions begin only after this.
    pub(crate) fn after(mut self, ready: impl Future<Output = ()> + Send + 'static) -> Self {
        self.ready.push(ready.boxed());
        self
    }

    /// How it decides.
    pub(crate) fn decide(
        mut self,
        decide: impl Fn(&Key, Timestamp) -> Vec<Action> + Send + Sync + 'static,
    ) -> Self {
        self.core.decide = Arc::new(move |key, now| {
            let begun = std::time::Instant::now();
            let actions = decide(&key, now);
            ready((actions, begun.elapsed())).boxed()
        });
        self
    }

    /// How it decides, when that takes questions to the server.
    pub(crate) fn decide_async<F>(
        mut self,
        decide: impl Fn(Key, Timestamp) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Vec<Action>> + Send + 'static,
    {
        // It waits for others more than it computes.
        self.core.decide =
            Arc::new(move |key, now| decide(key, now).map(|actions| (actions, Duration::ZERO)).boxed());
        self
    }

    /// What it does about an action that was refused.
    pub(crate) fn report(
        mut self,
        report: impl Fn(&Key, Timestamp, &Failure) -> Vec<Action> + Send + Sync + 'static,
    ) -> Self {
        self.core.report = Some(Arc::new(report));
        self
    }

    /// Runs until `shutdown`; decisions that have begun are carried through.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        for ready in self.ready {
            if shutdown.run_until_cancelled(ready).await.is_none() {
                return;
            }
        }
        for feed in self.feeds {
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(feed(self.core.queue.clone())));
        }
        let core = Arc::new(self.core);
        let free = Arc::new(Semaphore::new(self.workers));
        let tracker = TaskTracker::new();
        while let Some(key) = shutdown.run_until_cancelled(core.queue.get()).await {
            let permit = free.clone().acquire_owned().await;
            let core = core.clone();
            tracker.spawn(async move {
                let worked = AssertUnwindSafe(core.work(&key)).catch_unwind().await;
                drop(permit);
                // One object that is decided wrongly about must not be left alone for ever.
                let cost = worked.unwrap_or_else(|_| {
                    core.queue.add_rate_limited(key.clone());
                    Duration::ZERO
                });
                tokio::time::sleep(pause_after(cost)).await;
                core.queue.done(&key);
            });
        }
        tracker.close();
        tracker.wait().await;
    }
}

impl Core {
    /// Looks at a key; tells how long it took to decide.
    async fn work(&self, key: &Key) -> Duration {
        if !self.caught_up(key) {
            self.queue.add_after(key.clone(), RECHECK);
            return Duration::ZERO;
        }
        let (actions, cost) = (self.decide)(key.clone(), Timestamp::now()).await;
        let outcome = self.executor.execute(actions).await;
        self.settle(key, outcome).await;
        cost
    }

    async fn settle(&self, key: &Key, outcome: Outcome) {
        self.expect(key, outcome.written);
        let Some(failure) = outcome.failure else {
            self.queue.forget(key);
            return outcome.again.into_iter().for_each(|wait| self.queue.add_after(key.clone(), wait));
        };
        let (name, code, message) = (self.name, failure.code, &failure.message);
        tracing::debug!(controller = name, ?key, code, message, "action failed, trying again later");
        if let Some(report) = &self.report {
            let told = self.executor.execute(report(key, Timestamp::now(), &failure)).await;
            self.expect(key, told.written);
        }
        self.queue.add_rate_limited(key.clone());
    }

    fn expect(&self, key: &Key, mut written: Vec<Written>) {
        written.retain(|written| self.views.contains_key(written.resource()));
        let mut expected = self.expected.lock().expect("no code under the lock panics");
        expected.add(key, written, self.started.elapsed());
    }

    /// Whether the caches show all that was written for the key.
    fn caught_up(&self, key: &Key) -> bool {
        let mut expected = self.expected.lock().expect("no code under the lock panics");
        expected.met(key, self.started.elapsed(), |written| self.shows(written))
    }

    fn shows(&self, written: &Written) -> bool {
        match written {
            Written::Version(resource, version) => {
                self.views.get(resource).is_none_or(|view| view.version() >= *version)
            }
            Written::Gone(living) => {
                self.views.get(&living.target.resource).is_none_or(|view| !view.lives(living))
            }
        }
    }
}

/// How long a key rests after a decision that took so long: an owner of thousands of objects is not decided about
/// for each of them that changes, and takes a tenth of a core at most.
fn pause_after(cost: Duration) -> Duration {
    if cost < DEAR { Duration::ZERO } else { (cost * 9).min(LONGEST_PAUSE) }
}

/// The keys of a change, each once.
fn keys_of<K: Object>(delta: &Delta<K>, keys: &impl Fn(&K) -> Vec<Key>) -> Vec<Key> {
    match delta {
        Delta::Applied { old: None, new: object } | Delta::Deleted(object) => keys(object),
        Delta::Applied { old: Some(old), new } => {
            let mut all = keys(new);
            all.extend(keys(old).into_iter().filter(|key| !all.contains(key)).collect::<Vec<_>>());
            all
        }
        Delta::Synced => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::{Output, removes};
    use crate::testing::Memory;

    const WRITES: &[Output] = &[removes("v1/configmaps")];

    #[tokio::test(start_paused = true)]
    async fn a_decision_that_fails_is_made_again_and_holds_up_nobody() {
        let server = Memory::default();
        let queue = WorkQueue::new();
        for name in ["wrong", "right"] {
            server.put(
                &format!("/api/v1/namespaces/ns/configmaps/{name}"),
                json!({"metadata": {"name": name}}),
            );
            queue.add(Key::new("ns", name));
        }
        let decided = Arc::new(Mutex::new(HashMap::<String, Vec<Instant>>::new()));
        let (log, begun) = (decided.clone(), Instant::now());
        let executor = Executor::new(server.client(), "test", "test", WRITES);
        let unit = Unit::new("test", executor, queue, 1).decide(move |key, _| {
            let mut times = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let times = times.entry(key.name.clone()).or_default();
            times.push(Instant::now());
            assert!(key.name != "wrong" || times.len() > 3, "decided wrongly");
            let map = json!({"metadata": {"name": key.name, "namespace": key.namespace}});
            let map: k8s_openapi::api::core::v1::ConfigMap =
                serde_json::from_value(map).expect("a ConfigMap");
            vec![Action::delete(&map).into()]
        });
        let stop = CancellationToken::new();
        let running = tokio::spawn(unit.run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.cancel();
        running.await.expect("the loop goes on");
        assert!(server.paths("/api/v1/configmaps").is_empty());
        let decided = decided.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let times = |name: &str| decided[name].iter().map(|at| *at - begun).collect::<Vec<_>>();
        let (wrong, right) = (times("wrong"), times("right"));
        assert_eq!((wrong.len(), right.len()), (4, 1), "{wrong:?} {right:?}");
        assert!(right[0] <= wrong[1], "others are not behind it: {wrong:?} {right:?}");
        let pauses: Vec<_> = wrong.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses.is_sorted() && pauses[0] < pauses[2], "less and less often: {pauses:?}");
    }
}
