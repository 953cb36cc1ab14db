//! The handle that callers hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use plimsoll_mvcc::members::Member;
use plimsoll_mvcc::{Change, Entry, Expect, Expiry, Mvcc, Revision, Row, Span, Step};
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::Etcd;
use crate::disk::Disk;
use crate::hub::Hub;
use crate::row::LogRow;
use crate::shared::Shared;
use crate::space::Space;
use crate::upkeep::{self, Upkeep};
use crate::writer::{self, Answer, Failure, Request, Work};
use crate::{Alarm, Cluster, Options, Page, Stats, StoreError, Summary, Timings, Watch, snapshot};

/// How long a key may be, in bytes.
const KEY: usize = 4 << 10;
/// How long a value may be, in bytes.
const VALUE: usize = 16 << 20;
/// Requests that may wait for the writer; more wait outside.
const WAITING: usize = 4096;

/// A durable store. Clones are the same store; it closes when the last one is dropped, and every
/// watch ends then.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    engine: Engine,
}

/// What keeps what memory shows.
enum Engine {
    Log(Log),
    Etcd(Box<Etcd>),
}

/// The threads that work on the embedded log.
struct Log {
    upkeep: Arc<Upkeep>,
    /// None only while closing.
    requests: Option<mpsc::Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
}

impl Store {
    /// Opens or creates the store in a directory of its own.
    ///
    /// # Errors
    /// When another process has it, a newer version wrote it, or the disk fails. Nothing is changed then.
    pub fn open(path: &Path, options: Options) -> Result<Self, StoreError> {
        let disk = Disk::open(path, &options)?;
        let mut expiry = Expiry::default();
        let compacted = disk.compacted()?;
        let mut last = compacted;
        let rows = disk.rows(Revision::FIRST).map(|row| {
            let LogRow { kind, entry, .. } = row?;
            // Since the last compaction every revision has a row.
            if entry.modified > last.next() {
                return Err(StoreError::Damaged { revision: last.next() });
            }
            last = last.max(entry.modified);
            expiry.add(&entry);
            Ok((kind, entry))
        });
        let mut state = Mvcc::load(options.window, compacted, rows)?;
        state.adopt(disk.leases(writer::now())?);
        let hub = Arc::new(Hub::new(state.revision(), options.watch_queue));
        let space = Space::new(options.quota);
        let shared = Arc::new(Shared::new(state, Some(disk), hub, space));
        let log = Log::start(&shared, expiry, &options)
            .map_err(|source| StoreError::Directory { path: path.into(), source })?;
        Ok(Self { inner: Arc::new(Inner { shared, engine: Engine::Log(log) }) })
    }

    /// Takes a cluster of etcd as the store.
    ///
    /// # Errors
    /// When it does not serve, is not fit to, or holds what was not written by this program.
    pub async fn connect(cluster: &Cluster, options: Options) -> Result<Self, StoreError> {
        let (shared, etcd) = Etcd::open(cluster, &options).await?;
        Ok(Self { inner: Arc::new(Inner { shared, engine: Engine::Etcd(Box::new(etcd)) }) })
    }

    /// Waits until everything can be read here that was written, by whomever, before this was called. With the
    /// embedded log that is always so.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn catch_up(&self) -> Result<(), StoreError> {
        match &self.inner.engine {
            Engine::Log(_) => Ok(()),
            Engine::Etcd(etcd) => etcd.catch_up().await,
        }
    }

    /// What the members of the cluster said of themselves last; the embedded log has none.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        match &self.inner.engine {
            Engine::Log(_) => Vec::new(),
            Engine::Etcd(etcd) => etcd.members(),
        }
    }

    /// Commits one change. It is durable when this returns; cancelling does not undo it.
    ///
    /// # Errors
    /// [`StoreError::Precondition`] when the key is not as expected, or for a deletion not there.
    pub async fn commit(&self, key: &str, expect: Expect, change: Change) -> Result<Arc<Entry>, StoreError> {
        let mut entries = self.send(vec![Step { key: key.into(), expect, change }]).await?;
        entries.pop().ok_or(StoreError::Closed)
    }

    /// Commits all changes or none, each at a revision of its own, and no other in between.
    ///
    /// # Errors
    /// [`StoreError::PreconditionAt`] names the first step whose key is not as expected.
    pub async fn commit_many(
        &self,
        steps: Vec<(String, Expect, Change)>,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        let step = |(key, expect, change): (String, _, _)| Step { key: key.into(), expect, change };
        let count = steps.len();
        self.send(steps.into_iter().map(step).collect()).await.map_err(|error| match error {
            StoreError::Precondition { current } if count == 1 => {
                StoreError::PreconditionAt { step: 0, current }
            }
            other => other,
        })
    }

    async fn send(&self, steps: Vec<Step>) -> Result<Vec<Arc<Entry>>, StoreError> {
        check_size(&steps)?;
        let count = steps.len();
        if let Engine::Etcd(etcd) = &self.inner.engine {
            return etcd.commit(&self.inner.shared, steps).await;
        }
        match self.ask(Work::Steps(steps)).await {
            Ok(Answer::Entries(entries)) => Ok(entries),
            Ok(_) => Err(StoreError::Closed),
            Err(Failure::Refused(refusal)) => Err(StoreError::refused(refusal, count)),
            Err(other) => Err(other.into()),
        }
    }

    /// Hands something to the writer, and waits until it is done.
    pub(crate) async fn ask(&self, work: Work) -> Result<Answer, Failure> {
        let Engine::Log(log) = &self.inner.engine else { return Err(Failure::Closed) };
        let (reply, answer) = oneshot::channel();
        let requests = log.requests.as_ref().ok_or(Failure::Closed)?;
        requests.send(Request { work, reply }).await.map_err(|_| Failure::Closed)?;
        answer.await.map_err(|_| Failure::Closed)?
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The current version of a key, from memory.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.inner.shared.read().get(key)
    }

    /// Whether the current version of a key lies on disk in another form than it would be written in
    /// now ([`crate::Transform`]); reads the disk where there is more than one form.
    ///
    /// # Errors
    /// When the disk fails or nothing reads the form.
    pub async fn stale(&self, key: &str) -> Result<bool, StoreError> {
        if let Engine::Etcd(etcd) = &self.inner.engine {
            return etcd.stale(key).await;
        }
        let Some(entry) = self.get(key) else { return Ok(false) };
        self.inner.shared.disk().stale(&Row { revision: entry.modified, key: Arc::clone(&entry.key) })
    }

    /// The version of a key at a revision; may read the disk when it was replaced since.
    ///
    /// # Errors
    /// When the revision was compacted or lies in the future, or the disk fails.
    pub fn get_at(&self, key: &str, at: Revision) -> Result<Option<Arc<Entry>>, StoreError> {
        self.inner.shared.get_at(key, at)
    }

    /// The first `limit` keys (0: all) with `prefix` behind `after`: from memory for the current
    /// revision (`at`: none); a past revision may read the disk, or ask etcd.
    ///
    /// # Errors
    /// When the revision was compacted or lies in the future, or the disk fails.
    pub fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let found = self.inner.shared.range(prefix, after, limit, at);
        match (&found, &self.inner.engine, at) {
            (Err(StoreError::Compacted { .. }), Engine::Etcd(etcd), Some(at)) => {
                etcd.past(prefix, after, limit, at)
            }
            _ => found,
        }
    }

    /// How many keys start with `prefix`.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.inner.shared.read().count(prefix)
    }

    /// Whether writes are accepted: not after the log could not be written once.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.inner.shared.broken.load(Ordering::Relaxed)
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.inner.shared.read().revision()
    }

    /// The oldest revision that can be read.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.inner.shared.read().compacted()
    }

    /// Lets the history before a revision go, and its space come back.
    ///
    /// # Errors
    /// When the revision was compacted already or lies in the future, or the disk fails.
    pub async fn compact(&self, to: Revision) -> Result<(), StoreError> {
        match &self.inner.engine {
            Engine::Log(log) => log.upkeep.compact(to).await.map_err(|_| StoreError::Closed)?,
            Engine::Etcd(etcd) => etcd.compact(to).await,
        }
    }

    /// The changes of keys with `prefix` behind the revision `after`, or from now on.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when some of them are gone.
    pub fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<Watch, StoreError> {
        Watch::start(&self.inner.shared, Span::Prefix(prefix.into()), after)
    }

    /// Writes everything into one run of tables, so that the space of what was removed comes back at once. It does
    /// by itself, too, later; reads and writes go on meanwhile.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn reclaim(&self) -> Result<(), StoreError> {
        if let Engine::Etcd(etcd) = &self.inner.engine {
            return etcd.reclaim().await;
        }
        let shared = Arc::clone(&self.inner.shared);
        tokio::task::spawn_blocking(move || shared.disk().reclaim()).await.map_err(|_| StoreError::Closed)?
    }

    /// Writes everything that is there at this moment to a file, of the cluster that `cluster` names; see
    /// [`crate::restore`]. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// When a disk fails.
    pub async fn save(&self, path: &Path, cluster: &str) -> Result<Summary, StoreError> {
        if let Engine::Etcd(etcd) = &self.inner.engine {
            return etcd.save(path).await;
        }
        let (shared, path, cluster) = (Arc::clone(&self.inner.shared), path.to_owned(), cluster.to_owned());
        let save = move || snapshot::save(shared.disk(), &path, &cluster);
        tokio::task::spawn_blocking(save).await.map_err(|_| StoreError::Closed)?
    }

    /// What is the matter, now and whenever it changes.
    #[must_use]
    pub fn alarm(&self) -> watch::Receiver<Alarm> {
        self.inner.shared.space.follow()
    }

    /// Refuses writes as if there was no room, until [`Store::disarm`].
    pub fn arm(&self) {
        self.inner.shared.space.hold(Alarm::NoSpace);
    }

    /// Accepts writes again, until the next one does not fit.
    pub fn disarm(&self) {
        self.inner.shared.space.hold(Alarm::None);
    }

    /// How long writes took.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        match &self.inner.engine {
            Engine::Log(_) => &self.inner.shared.disk().timings,
            Engine::Etcd(etcd) => &etcd.timings,
        }
    }

    /// How the store is.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn stats(&self) -> Result<Stats, StoreError> {
        let shared = &self.inner.shared;
        let (bytes, keys) = {
            let state = shared.read();
            (state.bytes(), state.count(""))
        };
        let (mut total, mut quota) = (0, shared.space.quota);
        match &self.inner.engine {
            Engine::Log(_) => total = shared.disk().size()?,
            // The largest member's: it is full first.
            Engine::Etcd(etcd) => {
                for member in etcd.members() {
                    total = total.max(member.size);
                    quota = if member.quota > 0 { member.quota } else { quota };
                }
            }
        }
        Ok(Stats {
            total,
            bytes,
            quota,
            keys,
            slow_watchers: shared.hub.slow(),
            alarm: shared.space.alarm(),
            recoveries: shared.space.recoveries(),
        })
    }

    /// Bytes on disk, zeros made ahead included.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn disk_space(&self) -> Result<u64, StoreError> {
        self.stats().map(|stats| stats.total)
    }
}

impl Log {
    fn start(shared: &Arc<Shared>, expiry: Expiry, options: &Options) -> std::io::Result<Self> {
        let lapse = shared.read().leases().next();
        let upkeep = Arc::new(Upkeep::new(expiry, lapse));
        let (requests, queue) = mpsc::channel(WAITING);
        let mut log =
            Self { upkeep: Arc::clone(&upkeep), requests: Some(requests.clone()), threads: Vec::new() };
        let (writer, keeper, interval) =
            (Arc::clone(shared), Arc::clone(shared), options.compaction_interval);
        let own = Arc::clone(&upkeep);
        log.spawn("store-writer", move || writer::run(&writer, &own, queue))?;
        log.spawn("store-upkeep", move || upkeep::run(&keeper, &upkeep, &requests, interval))?;
        Ok(log)
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(thread::Builder::new().name(name.into()).spawn(work)?);
        Ok(())
    }

    /// Ends the threads, so that the directory is free when the last handle is gone.
    fn stop(&mut self) {
        self.upkeep.stop();
        self.requests = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; closing goes on.
            let _ = thread.join();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No events come any more when the threads have ended.
        if let Engine::Log(log) = &mut self.engine {
            log.stop();
        }
        self.shared.hub.close();
    }
}

fn check_size(steps: &[Step]) -> Result<(), StoreError> {
    let check = |what, size, limit| match size > limit {
        true => Err(StoreError::TooLarge { what, size, limit }),
        false => Ok(()),
    };
    let mut total = 0;
    for step in steps {
        check("key", step.key.len(), KEY)?;
        check("value", step.change.value().size(), VALUE)?;
        total += step.change.value().size();
    }
    check("transaction", total, VALUE)
}
