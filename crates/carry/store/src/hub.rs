//! Who watches what.
//!
//! Watchers are filed under the directory of what their keys start with (up to its last slash), so that an event
//! meets only the watchers of the directories above its key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use plimsoll_mvcc::{Event, Revision, Span};
use tokio::sync::mpsc;

use crate::StoreError;

/// The watchers of a store.
pub(crate) struct Hub {
    folders: Mutex<Folders>,
    /// Every event up to here is in the queues.
    published: AtomicI64,
    queue: usize,
    slow: AtomicUsize,
}

#[derive(Default)]
struct Folders {
    folders: HashMap<Arc<str>, Folder>,
    next: u64,
    closed: bool,
}

/// The watchers whose prefixes have the same directory.
#[derive(Default)]
struct Folder {
    watchers: Vec<Watcher>,
    /// How many they are.
    count: Arc<AtomicUsize>,
}

struct Watcher {
    number: u64,
    span: Arc<Span>,
    /// Dropped when the queue overflows: the watcher empties it, finds it closed, and joins again.
    queue: mpsc::Sender<Arc<Event>>,
}

/// A watcher's end of its queue.
pub(crate) struct Subscription {
    pub(crate) events: mpsc::Receiver<Arc<Event>>,
    count: Arc<AtomicUsize>,
    hub: Arc<Hub>,
    folder: Arc<str>,
    number: u64,
}

impl Hub {
    pub(crate) fn new(published: Revision, queue: usize) -> Self {
        let queue = queue.max(1);
        Self {
            folders: Mutex::default(),
            published: AtomicI64::new(published.0),
            queue,
            slow: AtomicUsize::new(0),
        }
    }

    /// Every event up to this revision is in the queues.
    pub(crate) fn published(&self) -> Revision {
        Revision(self.published.load(Ordering::Acquire))
    }

    pub(crate) fn closed(&self) -> bool {
        self.folders().closed
    }

    pub(crate) fn subscribe(self: &Arc<Self>, span: &Arc<Span>) -> Result<Subscription, StoreError> {
        let (queue, events) = mpsc::channel(self.queue);
        let folder: Arc<str> = folder_of(span.root()).into();
        let mut folders = self.folders();
        if folders.closed {
            return Err(StoreError::Closed);
        }
        folders.next += 1;
        let number = folders.next;
        let watcher = Watcher { number, span: Arc::clone(span), queue };
        let file = folders.folders.entry(Arc::clone(&folder)).or_default();
        file.watchers.push(watcher);
        file.count.store(file.watchers.len(), Ordering::Relaxed);
        let count = Arc::clone(&file.count);
        drop(folders);
        Ok(Subscription { events, count, hub: Arc::clone(self), folder, number })
    }

    /// How many fell behind and were not told yet, or read history.
    pub(crate) fn slow(&self) -> usize {
        self.slow.load(Ordering::Relaxed)
    }

    /// A watcher begins or ends to read what did not fit its queue.
    pub(crate) fn count_slow(&self, reads: bool) {
        match reads {
            true => self.slow.fetch_add(1, Ordering::Relaxed),
            false => self.slow.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Hands durable events to the watchers, in order. Never waits for one.
    pub(crate) fn publish(&self, events: &[Arc<Event>]) {
        let Some(last) = events.last() else { return };
        let mut folders = self.folders();
        folders.deliver(events);
        self.published.store(last.revision().0, Ordering::Release);
    }

    /// There are no events up to this revision but those that were handed out.
    pub(crate) fn pass(&self, revision: Revision) {
        self.published.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Sends all watchers to the state, to see whether they can go on from it.
    pub(crate) fn scatter(&self) {
        self.folders().folders.clear();
    }

    /// No more events: every watch ends when it has delivered what is queued.
    pub(crate) fn close(&self) {
        let mut folders = self.folders();
        folders.closed = true;
        folders.folders.clear();
    }

    fn folders(&self) -> MutexGuard<'_, Folders> {
        self.folders.lock().expect("nothing panics while it holds the watchers")
    }
}

impl Folders {
    /// Each watcher gets all its events before the next one gets any: it wakes up once for them. Those of one revision
    /// come all or not at all, so that a watcher that is let go has seen whole revisions.
    fn deliver(&mut self, events: &[Arc<Event>]) {
        for (folder, events) in self.addressed(events) {
            if let Some(file) = self.folders.get_mut(&folder) {
                // What a queue has of a revision is all of it: who joins again goes on behind it.
                let revisions = || events.chunk_by(|one, next| one.revision() == next.revision());
                file.retain(|watcher| revisions().all(|events| watcher.take(events)));
                if file.watchers.is_empty() {
                    self.folders.remove(&folder);
                }
            }
        }
    }

    /// The directories with watchers above the keys of these events, and the events below each.
    fn addressed(&self, events: &[Arc<Event>]) -> HashMap<Arc<str>, Vec<Arc<Event>>> {
        let mut addressed: HashMap<Arc<str>, Vec<Arc<Event>>> = HashMap::new();
        if self.folders.is_empty() {
            return addressed;
        }
        for event in events {
            let key = &event.entry.key;
            let ends = key.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at + 1);
            for end in std::iter::once(0).chain(ends) {
                if let Some((folder, _)) = self.folders.get_key_value(&key[..end]) {
                    addressed.entry(Arc::clone(folder)).or_default().push(Arc::clone(event));
                }
            }
        }
        addressed
    }
}

impl Folder {
    fn retain(&mut self, keep: impl FnMut(&Watcher) -> bool) {
        self.watchers.retain(keep);
        self.count.store(self.watchers.len(), Ordering::Relaxed);
    }
}

impl Watcher {
    /// Whether it can go on after these events, of one revision.
    fn take(&self, events: &[Arc<Event>]) -> bool {
        let mut ours = events.iter().filter(|event| self.span.contains(&event.entry.key));
        if events.len() > 1 && ours.clone().count() > self.queue.capacity() {
            return false;
        }
        ours.all(|event| self.queue.try_send(Arc::clone(event)).is_ok())
    }
}

impl Subscription {
    /// How many watchers its directory has, this one included.
    pub(crate) fn company(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut folders = self.hub.folders();
        if let Some(file) = folders.folders.get_mut(&self.folder) {
            file.retain(|watcher| watcher.number != self.number);
            if file.watchers.is_empty() {
                folders.folders.remove(&self.folder);
            }
        }
    }
}

fn folder_of(prefix: &str) -> &str {
    &prefix[..prefix.rfind('/').map_or(0, |slash| slash + 1)]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::OnceLock;

    use plimsoll_mvcc::{Entry, EventKind};

    use super::*;

    fn event(key: &str, revision: i64) -> Arc<Event> {
        let entry = Entry {
            key: key.into(),
            value: bytes::Bytes::new(),
            create: Revision(revision),
            modified: Revision(revision),
            version: 1,
            expires: None,
            lease: 0,
            memo: OnceLock::new(),
        };
        Arc::new(Event {
            kind: EventKind::Put,
            entry: Arc::new(entry),
            previous: None,
            sub: 0,
            last: true,
            memo: Default::default(),
        })
    }

    fn span(prefix: &str) -> Arc<Span> {
        Arc::new(Span::Prefix(prefix.into()))
    }

    #[test]
    fn a_revision_is_queued_whole_or_not_at_all() {
        let hub = Arc::new(Hub::new(Revision(1), 3));
        let mut slow = hub.subscribe(&span("/")).unwrap();
        hub.publish(&[event("/a", 2), event("/a", 3), event("/b", 3), event("/a", 4), event("/b", 4)]);
        assert_eq!(received(&mut slow), [2, 3, 3]);
        assert!(slow.events.is_closed());
    }

    fn received(subscription: &mut Subscription) -> Vec<i64> {
        std::iter::from_fn(|| subscription.events.try_recv().ok()).map(|event| event.revision().0).collect()
    }

    #[test]
    fn watchers_get_what_starts_with_their_prefix() {
        let hub = Arc::new(Hub::new(Revision(1), 16));
        let prefixes = ["", "/", "/pods/", "/pods/a/", "/pods/a/x", "/po", "/pods/b/"];
        let mut watchers: Vec<_> =
            prefixes.iter().map(|prefix| hub.subscribe(&span(prefix)).unwrap()).collect();
        hub.publish(&[event("/pods/a/x", 2), event("/pods/a/xy", 3), event("/pods/a/y", 4), event("top", 5)]);
        let expected: [&[i64]; 7] =
            [&[2, 3, 4, 5], &[2, 3, 4], &[2, 3, 4], &[2, 3, 4], &[2, 3], &[2, 3, 4], &[]];
        assert_eq!(watchers.iter().map(Subscription::company).collect::<Vec<_>>(), [1, 2, 1, 2, 2, 2, 1]);
        for ((watcher, expected), prefix) in watchers.iter_mut().zip(expected).zip(prefixes) {
            assert_eq!(received(watcher), expected, "{prefix:?}");
        }
        assert_eq!(hub.published(), Revision(5));
        drop(watchers);
        assert!(hub.folders().folders.is_empty());
    }

    #[test]
    fn a_full_queue_is_let_go() {
        let hub = Arc::new(Hub::new(Revision(1), 2));
        let mut slow = hub.subscribe(&span("/")).unwrap();
        hub.publish(&[event("/a", 2), event("/a", 3), event("/a", 4), event("/a", 5)]);
        assert_eq!(received(&mut slow), [2, 3]);
        assert!(slow.events.is_closed());
        let mut whole = hub.subscribe(&span("/")).unwrap();
        hub.publish(&[event("/a", 6), event("/a", 7), event("/b", 7)]);
        assert_eq!(received(&mut whole), [6], "a revision does not come in parts");
        let mut sent = hub.subscribe(&span("/")).unwrap();
        hub.pass(Revision(9));
        hub.scatter();
        assert!(sent.events.try_recv().is_err() && sent.events.is_closed());
        assert_eq!(hub.published(), Revision(9));
        hub.close();
        assert!(matches!(hub.subscribe(&span("/")), Err(StoreError::Closed)));
    }
}
