//! The thread that lets go: keys whose time is over, and history that nobody needs.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use plimsoll_mvcc::{Change, Compaction, Event, Expect, Expiry, Revision, Step, Value};
use tokio::sync::{mpsc, oneshot};

use crate::StoreError;
use crate::shared::Shared;
use crate::writer::{Request, now};

/// Keys that expire within the same quarter of a second go together.
const COARSE: u64 = 250;
/// Rows that go in one step, so that neither readers nor writers wait long.
const STEP: usize = 512;

/// The inbox of the thread.
pub(crate) struct Upkeep {
    inbox: Mutex<Inbox>,
    wake: Condvar,
}

struct Inbox {
    expiry: Expiry,
    compactions: Vec<(Revision, Reply)>,
    stop: bool,
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Job {
    Expire(Vec<(Arc<str>, Revision)>),
    Compact(Revision, Reply),
    Tick,
    Stop,
}

impl Upkeep {
    pub(crate) fn new(expiry: Expiry) -> Self {
        let inbox = Inbox { expiry, compactions: Vec::new(), stop: false };
        Self { inbox: Mutex::new(inbox), wake: Condvar::new() }
    }

    /// Notes the lifetimes of what was committed.
    pub(crate) fn remember(&self, events: &[Arc<Event>]) {
        let mortal = events.iter().filter(|event| event.entry.expires.is_some());
        let mut sooner = false;
        for event in mortal {
            sooner |= self.inbox().expiry.add(&event.entry);
        }
        if sooner {
            self.wake.notify_one();
        }
    }

    /// Asks for a compaction.
    pub(crate) fn compact(&self, to: Revision) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        self.inbox().compactions.push((to, reply));
        self.wake.notify_one();
        answer
    }

    pub(crate) fn stop(&self) {
        self.inbox().stop = true;
        self.wake.notify_one();
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("nothing panics while it holds the inbox")
    }

    /// Waits for something to do; `tick` is when the next compaction is due.
    fn next(&self, tick: Option<Instant>) -> Job {
        let mut inbox = self.inbox();
        loop {
            if let Some(job) = inbox.job() {
                return job;
            }
            let until_tick = tick.map(|tick| tick.saturating_duration_since(Instant::now()));
            if until_tick == Some(Duration::ZERO) {
                return Job::Tick;
            }
            let until_expiry =
                inbox.expiry.next().map(|at| Duration::from_millis(coarse(at).saturating_sub(now())));
            inbox = match until_tick.into_iter().chain(until_expiry).min() {
                Some(wait) => {
                    self.wake.wait_timeout(inbox, wait).expect("nothing panics while it holds the inbox").0
                }
                None => self.wake.wait(inbox).expect("nothing panics while it holds the inbox"),
            };
        }
    }
}

impl Inbox {
    fn job(&mut self) -> Option<Job> {
        if self.stop {
            return Some(Job::Stop);
        }
        if let Some((to, reply)) = self.compactions.pop() {
            return Some(Job::Compact(to, reply));
        }
        let due = self.expiry.next().is_some_and(|at| coarse(at) <= now());
        due.then(|| Job::Expire(self.expiry.due(now(), STEP)))
    }
}

fn coarse(at: u64) -> u64 {
    at.div_ceil(COARSE).saturating_mul(COARSE)
}

/// Works until it is stopped.
pub(crate) fn run(
    shared: &Shared,
    upkeep: &Upkeep,
    writer: &mpsc::Sender<Request>,
    interval: Option<Duration>,
) {
    let later = || interval.map(|interval| Instant::now() + interval);
    let mut compaction = {
        let state = shared.read();
        Compaction::new(state.revision(), state.compacted())
    };
    // What a crash left of the last compaction.
    report(reclaim(shared, upkeep));
    let mut tick = later();
    loop {
        match upkeep.next(tick) {
            Job::Stop => return,
            Job::Expire(keys) => expire(shared, keys, writer),
            Job::Compact(to, reply) => {
                let _ = reply.send(compact(shared, upkeep, to));
            }
            Job::Tick => {
                tick = later();
                let current = shared.read().revision();
                if let Some(to) = compaction.tick(current) {
                    report(compact_if_newer(shared, upkeep, to));
                }
            }
        }
    }
}

/// Deletes the keys, each only if it is still the version whose time is over.
fn expire(shared: &Shared, keys: Vec<(Arc<str>, Revision)>, writer: &mpsc::Sender<Request>) {
    for (key, revision) in keys {
        let Some(last) = shared.read().get(&key).filter(|entry| entry.modified == revision) else { continue };
        // The final state that watchers see is the last value as it is.
        let change = Change::Delete(Value::plain(last.value.clone()));
        let steps = vec![Step { key, expect: Expect::Revision(revision), change }];
        let (reply, _) = oneshot::channel();
        if writer.blocking_send(Request { steps, reply }).is_err() {
            return;
        }
    }
}

fn compact_if_newer(shared: &Shared, upkeep: &Upkeep, to: Revision) -> Result<(), StoreError> {
    if to <= shared.read().compacted() { Ok(()) } else { compact(shared, upkeep, to) }
}

fn compact(shared: &Shared, upkeep: &Upkeep, to: Revision) -> Result<(), StoreError> {
    // Only this thread compacts: what is readable now still is after the disk knows.
    shared.read().get_at("", to)?;
    shared.disk.set_compacted(to)?;
    shared.write().compact(to)?;
    reclaim(shared, upkeep)
}

fn reclaim(shared: &Shared, upkeep: &Upkeep) -> Result<(), StoreError> {
    let mut removed = false;
    while !upkeep.inbox().stop {
        let (rows, compacted) = {
            let mut state = shared.write();
            (state.reclaim(STEP), state.compacted())
        };
        if rows.is_empty() {
            break;
        }
        shared.disk.remove(&rows, compacted)?;
        removed = true;
    }
    if removed { shared.disk.sync() } else { Ok(()) }
}

fn report(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "store could not compact its history");
    }
}
