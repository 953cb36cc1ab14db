//! Keys waiting for work.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::backoff::exponential;

/// First delay of an item that failed; doubles with each further failure.
const BASE: Duration = Duration::from_millis(5);
/// Longest delay of an item that keeps failing.
const CAP: Duration = Duration::from_secs(1000);

/// All items that failed wait for a turn of 10 a second; 100 of them may go at once.
const TURN: Duration = Duration::from_millis(100);
const AT_ONCE: u32 = 100;

/// Is told what happens in a queue.
pub trait Tally: Send + Sync {
    /// An item needs work that did not before.
    fn added(&self);
    /// Work was asked for later.
    fn retried(&self);
    /// A worker took an item that had waited so long.
    fn taken(&self, waited: Duration);
    /// A worker ended its work on an item after so long.
    fn done(&self, worked: Duration);
}

/// A queue that hands each item to one worker at a time. An item added while it waits is there once;
/// an item added while a worker has it comes again after [`done`](Self::done). Clones share it.
pub struct WorkQueue<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    tally: Option<Arc<dyn Tally>>,
}

struct State<T> {
    ready: VecDeque<T>,
    /// Items that need work: those in `ready`, and those in `processing` that changed meanwhile.
    dirty: HashMap<T, Instant>,
    /// Since when workers have items.
    processing: HashMap<T, Instant>,
    /// Times of `due`, earliest first; an entry whose time is not the item's time is void.
    later: BinaryHeap<Reverse<Entry<T>>>,
    due: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
    sequence: u64,
    /// When all turns that were given are over.
    turns: Option<Instant>,
}

/// Ordered by time, then by arrival; the item takes no part.
struct Entry<T>(Instant, u64, T);

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl<T> Eq for Entry<T> {}
impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<T> std::fmt::Debug for WorkQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkQueue").finish_non_exhaustive()
    }
}

impl<T: Hash + Eq + Clone> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Hash + Eq + Clone> WorkQueue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::make(None)
    }

    /// An empty queue that tells `tally` what happens in it.
    pub fn tallied(tally: Arc<dyn Tally>) -> Self {
        Self::make(Some(tally))
    }

    fn make(tally: Option<Arc<dyn Tally>>) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashMap::new(),
            processing: HashMap::new(),
            later: BinaryHeap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
            turns: None,
        };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), wake: Notify::new(), tally }) }
    }

    /// Asks for work on `item` now.
    pub fn add(&self, item: T) {
        if self.lock().add(item, self.tally()) {
            self.inner.wake.notify_one();
        }
    }

    /// Asks for work on `item` after `delay`, or earlier if that was asked before.
    pub fn add_after(&self, item: T, delay: Duration) {
        self.tally().iter().for_each(|tally| tally.retried());
        if delay.is_zero() {
            return self.add(item);
        }
        let at = Instant::now() + delay;
        let mut state = self.lock();
        if state.due.get(&item).is_some_and(|due| *due <= at) {
            return;
        }
        state.due.insert(item.clone(), at);
        state.sequence += 1;
        let entry = Entry(at, state.sequence, item);
        state.later.push(Reverse(entry));
        drop(state);
        self.inner.wake.notify_one();
    }

    /// Asks for work on `item` after a delay that doubles with each call until [`forget`](Self::forget):
    /// 5 ms to 1,000 s. Where many items fail, each waits for its turn.
    pub fn add_rate_limited(&self, item: T) {
        let mut state = self.lock();
        let turn = state.turn(Instant::now());
        let failures = state.failures.entry(item.clone()).or_default();
        let delay = exponential(BASE, CAP, *failures);
        *failures = failures.saturating_add(1);
        drop(state);
        self.add_after(item, delay.max(turn));
    }

    /// Forgets the failures of `item`.
    pub fn forget(&self, item: &T) {
        self.lock().failures.remove(item);
    }

    /// How often `item` was rate limited since it was last forgotten.
    pub fn failures(&self, item: &T) -> u32 {
        self.lock().failures.get(item).copied().unwrap_or_default()
    }

    /// Items that are ready and not taken yet.
    pub fn len(&self) -> usize {
        self.lock().ready.len()
    }

    /// For how long workers have had the items that they have.
    pub fn working(&self) -> Vec<Duration> {
        self.lock().processing.values().map(Instant::elapsed).collect()
    }

    /// Whether nothing is ready.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for the next item and takes it. The worker must call [`done`](Self::done) afterwards.
    pub async fn get(&self) -> T {
        loop {
            let (item, next) = self.take();
            if let Some(item) = item {
                return item;
            }
            match next {
                None => self.inner.wake.notified().await,
                Some(at) => {
                    // Either an earlier item came, or the time has.
                    let _ = tokio::time::timeout_at(at, self.inner.wake.notified()).await;
                }
            }
        }
    }

    /// Ends the work on `item`; if it was added meanwhile it is ready again.
    pub fn done(&self, item: &T) {
        let mut state = self.lock();
        if let (Some(since), Some(tally)) = (state.processing.remove(item), self.tally()) {
            tally.done(since.elapsed());
        }
        if state.dirty.contains_key(item) {
            state.ready.push_back(item.clone());
            drop(state);
            self.inner.wake.notify_one();
        }
    }

    /// The first ready item, or else when one will be.
    fn take(&self) -> (Option<T>, Option<Instant>) {
        let mut state = self.lock();
        let next = state.promote(Instant::now(), self.tally());
        let Some(item) = state.ready.pop_front() else { return (None, next) };
        let since = state.dirty.remove(&item);
        if let (Some(since), Some(tally)) = (since, self.tally()) {
            tally.taken(since.elapsed());
        }
        state.processing.insert(item.clone(), Instant::now());
        // This worker took the only wake-up; others may wait for what is left.
        if !state.ready.is_empty() || next.is_some() {
            self.inner.wake.notify_one();
        }
        (Some(item), next)
    }

    fn tally(&self) -> Option<&dyn Tally> {
        self.inner.tally.as_deref()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.inner.state.lock().expect("no code under the lock panics")
    }
}

impl<T: Hash + Eq + Clone> State<T> {
    /// Whether the item became ready by this.
    fn add(&mut self, item: T, tally: Option<&dyn Tally>) -> bool {
        if self.dirty.contains_key(&item) {
            return false;
        }
        tally.iter().for_each(|tally| tally.added());
        self.dirty.insert(item.clone(), Instant::now());
        if self.processing.contains_key(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    /// How long the next item that failed waits for its turn.
    fn turn(&mut self, now: Instant) -> Duration {
        let over = self.turns.map_or(now, |turns| turns.max(now)) + TURN;
        self.turns = Some(over);
        (over - now).saturating_sub(TURN * AT_ONCE)
    }

    /// Makes ready what is due, and tells when the next item is.
    fn promote(&mut self, now: Instant, tally: Option<&dyn Tally>) -> Option<Instant> {
        while let Some(Reverse(Entry(at, _, item))) = self.later.peek() {
            let valid = self.due.get(item) == Some(at);
            if valid && *at > now {
                return Some(*at);
            }
            let Some(Reverse(Entry(_, _, item))) = self.later.pop() else { break };
            if valid {
                self.due.remove(&item);
                self.add(item, tally);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn take<T: Hash + Eq + Clone>(queue: &WorkQueue<T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(1), queue.get()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_waits_once_and_is_worked_on_by_one() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        queue.add("b");
        assert_eq!(take(&queue).await, Some("a"));
        queue.add("a");
        assert_eq!(take(&queue).await, Some("b"));
        assert_eq!(take(&queue).await, None, "a is being worked on");
        queue.done(&"a");
        assert_eq!(take(&queue).await, Some("a"), "a was added meanwhile");
        queue.done(&"a");
        assert_eq!(take(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_items_come_in_time_order_and_the_earlier_time_wins() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(9));
        queue.add_after("soon", Duration::from_secs(5));
        queue.add_after("late", Duration::from_secs(7));
        queue.add_after("soon", Duration::from_secs(6));
        let mut seen = Vec::new();
        for _ in 0..2 {
            let item = queue.get().await;
            queue.done(&item);
            seen.push((item, start.elapsed().as_secs()));
        }
        assert_eq!(seen, [("soon", 5), ("late", 7)]);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(take(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_until_forgotten() {
        let queue = WorkQueue::new();
        let mut delays = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            queue.add_rate_limited("a");
            let item = queue.get().await;
            queue.done(&item);
            delays.push(start.elapsed().as_millis());
        }
        assert_eq!(delays, [5, 10, 20]);
        assert_eq!(queue.failures(&"a"), 3);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn many_failures_take_turns() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        (0..120).for_each(|item| queue.add_rate_limited(item));
        let mut seen = Vec::new();
        for _ in 0..120 {
            let item = queue.get().await;
            queue.done(&item);
            seen.push(start.elapsed().as_millis());
        }
        assert_eq!((seen[0], seen[99], seen[100], seen[119]), (5, 5, 100, 2000));
    }

    #[tokio::test(start_paused = true)]
    async fn several_workers_share_the_items() {
        let queue = WorkQueue::new();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue: WorkQueue<u32> = queue.clone();
                tokio::spawn(async move { queue.get().await })
            })
            .collect();
        tokio::task::yield_now().await;
        (0..4).for_each(|item| queue.add_after(item, Duration::from_secs(1)));
        let mut items = Vec::new();
        for worker in workers {
            items.push(worker.await.expect("worker ends"));
        }
        items.sort_unstable();
        assert_eq!(items, [0, 1, 2, 3]);
    }
}
