//! A stream of changes without gaps.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use plimsoll_mvcc::{Event, Revision, Span};

use crate::hub::{Hub, Subscription};
use crate::shared::{Joined, Shared};
use crate::{StoreError, WatchEnd};

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// A change of a key with the watch's prefix.
    Event(Arc<Event>),
}

/// Changes of the keys of one span, in order, each once.
///
/// A watcher that is slower than the writers costs a queue of bounded length; what does not fit is
/// read from history when the watcher gets to it.
pub struct Watch {
    shared: Weak<Shared>,
    hub: Arc<Hub>,
    span: Arc<Span>,
    /// Everything up to here was delivered or is none of our business.
    cursor: Revision,
    /// More may follow of the revision of the cursor.
    open: bool,
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
        span: Span,
        after: Option<Revision>,
    ) -> Result<Self, StoreError> {
        let mut watch = Self::new(shared, span, after);
        watch.join(shared)?;
        Ok(watch)
    }

    /// Starts with what is left of the very revision that history was compacted to.
    pub(crate) fn start_at_compacted(
        shared: &Arc<Shared>,
        span: Span,
        at: Revision,
    ) -> Result<Self, StoreError> {
        let mut watch = Self::new(shared, span, Some(Revision(at.0 - 1)));
        let chapter = shared.disk().chapter(&watch.span, watch.cursor, at)?;
        shared.read().kept(at)?;
        watch.backlog = Backlog { events: chapter.events.into(), until: at };
        watch.cursor = at;
        Ok(watch)
    }

    fn new(shared: &Arc<Shared>, span: Span, after: Option<Revision>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
            hub: Arc::clone(&shared.hub),
            span: Arc::new(span),
            cursor: after.unwrap_or_else(|| shared.read().revision()),
            open: false,
            backlog: Backlog { events: VecDeque::new(), until: Revision(0) },
            live: None,
            slow: false,
        }
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
                    // What came with the backlog may be queued as well.
                    Some(event) if event.revision() <= self.backlog.until => {}
                    Some(event) => return Ok(WatchItem::Event(self.delivered(event))),
                    None => self.live = None,
                },
                None => self.catch_up().await?,
            }
        }
    }

    /// The next change if it is there already, for callers that send several at once.
    pub fn ready(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.backlog.events.pop_front() {
            return Some(self.delivered(event));
        }
        self.reach(self.backlog.until);
        loop {
            let event = self.live.as_mut().and_then(|live| live.events.try_recv().ok())?;
            // What came with the backlog may be queued as well.
            if event.revision() > self.backlog.until {
                return Some(self.delivered(event));
            }
        }
    }

    fn delivered(&mut self, event: Arc<Event>) -> Arc<Event> {
        (self.cursor, self.open) = (event.revision(), !event.last);
        event
    }

    /// Everything up to `until` is behind us.
    fn reach(&mut self, until: Revision) {
        if until >= self.cursor {
            (self.cursor, self.open) = (until, false);
        }
    }

    /// Everything up to this revision has been delivered.
    #[must_use]
    pub fn progress(&self) -> Revision {
        // Read before looking at the queue: whatever it covers is in the queue by then.
        let published = self.hub.published();
        let idle = |live: &Subscription| live.events.is_empty() && !live.events.is_closed();
        let done = Revision(self.cursor.0 - i64::from(self.open));
        match &self.live {
            _ if !self.backlog.events.is_empty() => done,
            Some(live) if idle(live) => done.max(self.backlog.until).max(published),
            _ => done.max(self.backlog.until),
        }
    }

    /// Whether all events of the revision that is delivered are in the queue.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        !self.open || self.hub.published() >= self.cursor
    }

    /// Whether the last event was the last one of its revision that is ours.
    #[must_use]
    pub(crate) fn is_between_revisions(&self) -> bool {
        !self.open
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
        let joined = shared.join(&self.span, self.cursor)?;
        self.count(matches!(joined, Joined::Behind(_)));
        match joined {
            Joined::Live(subscription, events, until) => {
                self.live = Some(subscription);
                // A watch that begins later begins there.
                let until = until.max(self.cursor);
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
        let (span, cursor) = (Arc::clone(&self.span), self.cursor);
        let read = tokio::task::spawn_blocking(move || {
            let chapter = shared.disk().chapter(&span, cursor, until)?;
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
