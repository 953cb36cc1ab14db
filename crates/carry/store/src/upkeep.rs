//! The thread that lets go: keys whose time is over, and history that nobody needs.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use plimsoll_mvcc::{Change, Compaction, Event, Expect, Expiry, Revision, Step, Value};
use tokio::sync::{mpsc, oneshot};

use crate::StoreError;
use crate::shared::Shared;
use crate::writer::{Request, Work, now};

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
    /// When the next lease ends, unless it was renewed.
    lapse: Option<u64>,
    compactions: Vec<(Revision, Reply)>,
    needs: BTreeSet<Need>,
    stop: bool,
}

/// What the writer finds wanting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Keys that delete themselves are too many.
    Fewer,
    /// History is long for the room there is.
    Shorter,
    /// A write did not fit.
    Room,
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Job {
    Expire(Vec<(Arc<str>, Revision)>),
    Lapse,
    Compact(Revision, Reply),
    Meet(Need),
    Tick,
    Stop,
}

impl Upkeep {
    pub(crate) fn new(expiry: Expiry, lapse: Option<u64>) -> Self {
        let inbox = Inbox { expiry, lapse, compactions: Vec::new(), needs: BTreeSet::new(), stop: false };
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

    /// The next lease ends then.
    pub(crate) fn lapse(&self, at: Option<u64>) {
        let mut inbox = self.inbox();
        let before = std::mem::replace(&mut inbox.lapse, at);
        if at.is_some_and(|at| before.is_none_or(|before| at < before)) {
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

    /// Asks for room. Asking again before it was looked at is the same.
    pub(crate) fn need(&self, need: Need) {
        if self.inbox().needs.insert(need) {
            self.wake.notify_one();
        }
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
            let ends = inbox.expiry.next().into_iter().chain(inbox.lapse);
            let until_end = ends.min().map(|at| Duration::from_millis(coarse(at).saturating_sub(now())));
            inbox = match until_tick.into_iter().chain(until_end).min() {
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
        if let Some(need) = self.needs.pop_last() {
            return Some(Job::Meet(need));
        }
        if self.lapse.is_some_and(|at| coarse(at) <= now()) {
            self.lapse = None;
            return Some(Job::Lapse);
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
    let later = || interval.map(|interval| Instant::now() + interval / Compaction::TICKS);
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
            Job::Lapse => lapse(shared, upkeep, writer),
            Job::Meet(need) => report(meet(shared, upkeep, need, writer)),
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

/// Does what the writer needs.
fn meet(
    shared: &Shared,
    upkeep: &Upkeep,
    need: Need,
    writer: &mpsc::Sender<Request>,
) -> Result<(), StoreError> {
    match need {
        Need::Fewer => thin(shared, upkeep, writer),
        // What is in memory for watchers may stay.
        Need::Shorter => {
            let floor = shared.read().window_floor();
            return compact_if_newer(shared, upkeep, floor);
        }
        Need::Room => {
            let current = shared.read().revision();
            compact_if_newer(shared, upkeep, current)?;
            // A little room at least, so that the next write does not raise the alarm again.
            if shared.space.fits(shared.read().bytes().kept(), shared.space.quota / 64) {
                shared.space.recovered();
            }
        }
    }
    Ok(())
}

/// Deletes the oldest of the keys that delete themselves, until they are well within their share.
fn thin(shared: &Shared, upkeep: &Upkeep, writer: &mpsc::Sender<Request>) {
    loop {
        let mut surplus = shared.space.surplus(shared.read().bytes());
        if surplus == 0 || upkeep.inbox().stop {
            return;
        }
        surplus += shared.space.quota / 64;
        let is_current =
            |key: &str, revision| shared.read().get(key).is_some_and(|entry| entry.modified == revision);
        let mut oldest = upkeep.inbox().expiry.oldest(is_current);
        oldest.extend(leased(shared));
        oldest.sort_unstable_by_key(|(_, revision)| *revision);
        let mut keys = Vec::new();
        for (key, revision) in oldest {
            let Some(entry) = shared.read().get(&key).filter(|entry| entry.modified == revision) else {
                continue;
            };
            keys.push((key, revision));
            surplus = surplus.saturating_sub(entry.size());
            if surplus == 0 {
                break;
            }
        }
        if keys.is_empty() {
            return;
        }
        tracing::warn!(
            keys = keys.len(),
            "events and keys of leases are beyond their share of the store; the oldest go"
        );
        expire(shared, keys, writer);
    }
}

/// What hangs on leases.
fn leased(shared: &Shared) -> Vec<(Arc<str>, Revision)> {
    let state = shared.read();
    let keys = state.leases().iter().flat_map(|lease| &lease.keys);
    keys.filter_map(|key| Some((Arc::clone(key), state.get(key)?.modified))).collect()
}

/// Ends the leases whose time is over.
fn lapse(shared: &Shared, upkeep: &Upkeep, writer: &mpsc::Sender<Request>) {
    let due = shared.read().leases().due(now(), STEP);
    let mut last_answer = None;
    for id in due {
        let (reply, answer) = oneshot::channel();
        if writer.blocking_send(Request { work: Work::Lapse(id), reply }).is_err() {
            return;
        }
        last_answer = Some(answer);
    }
    let done = last_answer.map(oneshot::Receiver::blocking_recv);
    // When the disk failed, they stay; nothing is written any more, so there is nothing to wait for.
    if matches!(done, None | Some(Ok(Ok(_)))) {
        let next = shared.read().leases().next();
        upkeep.lapse(next);
    }
}

/// Deletes the keys, each only if it is still the version whose time is over.
fn expire(shared: &Shared, keys: Vec<(Arc<str>, Revision)>, writer: &mpsc::Sender<Request>) {
    let mut last_answer = None;
    for (key, revision) in keys {
        let Some(last) = shared.read().get(&key).filter(|entry| entry.modified == revision) else { continue };
        // The final state that watchers see is the last value as it is.
        let change = Change::Delete(Value::plain(last.value.clone()));
        let steps = vec![Step { key, expect: Expect::Revision(revision), change }];
        let (reply, answer) = oneshot::channel();
        if writer.blocking_send(Request { work: Work::Steps(steps), reply }).is_err() {
            return;
        }
        last_answer = Some(answer);
    }
    // Whatever came before it is done as well then; what became of it shows in the state.
    let _ = last_answer.map(oneshot::Receiver::blocking_recv);
}

fn compact_if_newer(shared: &Shared, upkeep: &Upkeep, to: Revision) -> Result<(), StoreError> {
    if to <= shared.read().compacted() { Ok(()) } else { compact(shared, upkeep, to) }
}

fn compact(shared: &Shared, upkeep: &Upkeep, to: Revision) -> Result<(), StoreError> {
    // Only this thread compacts: what is readable now still is after the disk knows.
    shared.read().get_at("", to)?;
    shared.disk().set_compacted(to)?;
    shared.write().compact(to)?;
    reclaim(shared, upkeep)
}

fn reclaim(shared: &Shared, upkeep: &Upkeep) -> Result<(), StoreError> {
    while !upkeep.inbox().stop {
        let rows = shared.write().reclaim(STEP);
        if rows.is_empty() {
            break;
        }
        shared.disk().remove(&rows)?;
    }
    shared.disk().tidy(|| upkeep.inbox().stop)
}

fn report(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "store could not compact its history");
    }
}
