//! A stream of changes without gaps.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use plimsoll_mvcc::{Event, Revision};

use crate::hub::{Hub, Subscription};
use crate::shared::{Joined, Shared};
use crate::{StoreError, WatchEnd};

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A change of a key with the watch's prefix.
    Event(Arc<Event>),
}

/// Changes of the keys with one prefix, in order, each once.
///
/// A watcher that is slower than the writers costs a queue of bounded length; what does not fit is
/// read from history when the watcher gets to it.
pub struct Watch {
    shared: Weak<Shared>,
    hub: Arc<Hub>,
    prefix: Arc<str>,
    /// Everything up to here was delivered or is none of our business.
    cursor: Revision,
    backlog: Backlog,
    live: Option<Subscription>,
    /// It is counted as one that reads history.
    slow: bool,
}

/// Events read ahead. When they are delivered, everything up to `until` is.
struct Backlog {
    events: VecDeque<Arc<Event>>,
    until: Revision,
}

impl Watch {
    /// Starts behind `after`, or behind the current revision.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        prefix: &str,
        after: Option<Revision>,
    ) -> Result<Self, StoreError> {
        let mut watch = Self {
            shared: Arc::downgrade(shared),
            hub: Arc::clone(&shared.hub),
            prefix: prefix.into(),
            cursor: after.unwrap_or_else(|| shared.read().revision()),
            backlog: Backlog { events: VecDeque::new(), until: Revision(0) },
            live: None,
            slow: false,
        };
        watch.join(shared)?;
        Ok(watch)
    }

    /// The next change. Cancelling it loses nothing.
    ///
    /// # Errors
    /// When there will be no more.
    pub async fn next(&mut self) -> Result<WatchItem, WatchEnd> {
        loop {
            if let Some(event) = self.ready() {
                return Ok(WatchItem::Event(event));
            }
            match &mut self.live {
                Some(live) => match live.events.recv().await {
                    Some(event) => self.backlog.events.push_back(event),
                    None => self.live = None,
                },
                None => self.catch_up().await?,
            }
        }
    }

    /// The next change if it is there already, for callers that send several at once.
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        loop {
            let queued = || self.live.as_mut().and_then(|live| live.events.try_recv().ok());
            let Some(event) = self.backlog.events.pop_front().or_else(queued) else {
                self.cursor = self.cursor.max(self.backlog.until);
                return None;
            };
            // What came with the backlog may be queued as well.
            if event.revision() > self.cursor {
                self.cursor = event.revision();
                return Some(event);
            }
        }
    }

    /// Everything up to this revision has been delivered.
    #[must_use]
    pub fn progress(&self) -> Revision {
        // Read before looking at the queue: whatever it covers is in the queue by then.
        let published = self.hub.published();
        let idle = |live: &Subscription| live.events.is_empty() && !live.events.is_closed();
        match &self.live {
            _ if !self.backlog.events.is_empty() => self.cursor,
            Some(live) if idle(live) => self.cursor.max(self.backlog.until).max(published),
            _ => self.cursor.max(self.backlog.until),
        }
    }

    /// How many past changes there are to deliver, as far as they are known.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.backlog.events.len()
    }

    /// How many watches of the same directory there are, this one included: as many get most events.
    #[must_use]
    pub fn company(&self) -> usize {
        self.live.as_ref().map_or(1, Subscription::company)
    }

    /// Goes live, or finds out how much history must be read first.
    fn join(&mut self, shared: &Shared) -> Result<Option<Revision>, StoreError> {
        let joined = shared.join(&self.prefix, self.cursor)?;
        self.count(matches!(joined, Joined::Behind(_)));
        match joined {
            Joined::Live(subscription, events, until) => {
                self.live = Some(subscription);
                self.backlog = Backlog { events: events.into(), until };
                Ok(None)
            }
            Joined::Behind(floor) => Ok(Some(floor)),
        }
    }

    fn count(&mut self, slow: bool) {
        if slow != self.slow {
            self.slow = slow;
            self.hub.count_slow(slow);
        }
    }

    async fn catch_up(&mut self) -> Result<(), WatchEnd> {
        if self.hub.closed() {
            return Err(WatchEnd::Closed);
        }
        let shared = self.shared.upgrade().ok_or(WatchEnd::Closed)?;
        let Some(until) = self.join(&shared)? else { return Ok(()) };
        let (prefix, cursor) = (Arc::clone(&self.prefix), self.cursor);
        let read = tokio::task::spawn_blocking(move || {
            let chapter = shared.disk.chapter(&prefix, cursor, until)?;
            // Rows that went while we read would be a gap.
            shared.read().kept(cursor)?;
            Ok::<_, StoreError>(chapter)
        });
        let chapter = read.await.map_err(|_| WatchEnd::Closed)??;
        self.backlog = Backlog { events: chapter.events.into(), until: chapter.until };
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.count(false);
    }
}
