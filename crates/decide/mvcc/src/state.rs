//! The whole: live keys, their history, and the window of recent events.

use std::sync::Arc;

use crate::history::History;
use crate::keys::{Keys, Run, walk};
use crate::lease::Leases;
use crate::query::Found;
use crate::window::Window;
use crate::{Entry, Event, EventKind, Lease, Limits, Revision, Row, Span};

/// Why a revision cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its history is gone.
    #[error("revision is older than the last compaction, {compacted}")]
    Compacted {
        /// The oldest revision that can be read.
        compacted: Revision,
        /// The newest.
        current: Revision,
    },
    /// It has not happened yet.
    #[error("revision is newer than the current one, {current}")]
    Future {
        /// The newest revision.
        current: Revision,
    },
}

/// A version that was asked for: in memory, or to be read from the log.
#[derive(Clone, Debug)]
pub enum Pick {
    /// Here it is.
    Entry(Arc<Entry>),
    /// The log has it in this row.
    Row(Row),
}

/// Part of a snapshot. It is complete in itself: later commits do not change it.
#[derive(Debug)]
pub struct Selection {
    /// The revision of the snapshot.
    pub revision: Revision,
    /// How many more keys there are; for a snapshot of the past the number of today's keys.
    pub remaining: usize,
    /// True when there are more keys.
    pub more: bool,
    runs: Vec<Run>,
    past: Past,
}

/// What differs from the current state.
#[derive(Debug, Default)]
enum Past {
    /// Nothing: the runs are the answer.
    #[default]
    None,
    /// Entries younger than the revision give way to these rows; then at most `limit` count.
    Rows { rows: Vec<Pick>, limit: usize },
}

/// Keys with their revisions. See the crate's documentation for the life of a write.
#[derive(Debug)]
pub struct Mvcc {
    keys: Keys,
    history: History,
    window: Window,
    revision: Revision,
    compacted: Revision,
    /// What the current versions take, and those of them that delete themselves.
    live: u64,
    mortal: u64,
    leases: Leases,
}

/// What the rows take, as [`Entry::size`] counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Current versions.
    pub live: u64,
    /// Those of them that delete themselves.
    pub mortal: u64,
    /// Versions of the past, and deletions.
    pub history: u64,
}

impl Bytes {
    /// Everything that is kept.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.live + self.history
    }
}

impl Mvcc {
    /// An empty state at [`Revision::FIRST`].
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let first = Revision::FIRST;
        let window = Window::new(limits, first);
        Self {
            keys: Keys::default(),
            history: History::default(),
            window,
            revision: first,
            compacted: first,
            live: 0,
            mortal: 0,
            leases: Leases::default(),
        }
    }

    /// A state from the rows of a log in revision order, which was compacted to `compacted`.
    /// Rows that an interrupted compaction left are dropped by [`Mvcc::reclaim`].
    pub fn load<E>(
        limits: Limits,
        compacted: Revision,
        rows: impl IntoIterator<Item = Result<(EventKind, Entry), E>>,
    ) -> Result<Self, E> {
        let mut state = Self::new(limits);
        for row in rows {
            let (kind, entry) = row?;
            state.place(kind, Arc::new(entry));
        }
        state.compacted = compacted.max(Revision::FIRST);
        state.revision = state.revision.max(state.compacted);
        state.window = Window::new(limits, state.revision);
        Ok(state)
    }

    /// Makes a sequenced group visible. The events are durable by now.
    pub fn apply(&mut self, events: &[Arc<Event>]) {
        for event in events {
            self.place(event.kind, Arc::clone(&event.entry));
            self.window.push(Arc::clone(event));
        }
    }

    /// Leases come and go ([`crate::Changes::leases`]), before the events that go with that.
    pub fn lease(&mut self, changes: impl IntoIterator<Item = (i64, Option<Lease>)>) {
        for (id, lease) in changes {
            self.leases.put(id, lease);
        }
    }

    /// Leases that were read back with the rows of a log: keys hang on them again, and they live their whole time.
    pub fn adopt(&mut self, leases: impl IntoIterator<Item = Lease>) {
        self.leases.adopt(leases);
        if self.leases.next().is_none() {
            return;
        }
        let (runs, _) = self.keys.page("", None, usize::MAX);
        for entry in walk(&runs).filter(|entry| entry.lease != 0) {
            self.leases.attach(entry.lease, &entry.key);
        }
    }

    /// The leases.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// The leases, to renew them.
    pub fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Goes on to a revision at which nothing changed that is kept here.
    pub fn advance(&mut self, to: Revision) {
        self.revision = self.revision.max(to);
    }

    /// Lets all history go that is not in memory. What can be read then needs no log.
    pub fn trim(&mut self) {
        self.compacted = self.compacted.max(self.window.floor());
        self.history.drop_until(self.compacted, usize::MAX);
    }

    fn place(&mut self, kind: EventKind, entry: Arc<Entry>) {
        let at = entry.modified;
        self.revision = at;
        let (key, size) = (Arc::clone(&entry.key), entry.size());
        let mortal = |entry: &Entry| if entry.mortal() { entry.size() } else { 0 };
        let lease = entry.lease;
        let previous = match kind {
            EventKind::Put => {
                self.live += size;
                self.mortal += mortal(&entry);
                self.keys.insert(entry)
            }
            EventKind::Delete => self.keys.remove(&key),
        };
        if let Some(previous) = previous {
            self.live -= previous.size();
            self.mortal -= mortal(&previous);
            if previous.lease != 0 {
                self.leases.detach(previous.lease, &key);
            }
            self.history.supersede(&previous.key, previous.modified, at, previous.size());
        }
        if kind == EventKind::Delete {
            self.history.bury(&key, at, size);
        } else if lease != 0 {
            self.leases.attach(lease, &key);
        }
    }

    /// What the rows take.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        Bytes { live: self.live + self.leases.bytes(), mortal: self.mortal, history: self.history.bytes() }
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    /// The current version of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.keys.get(key).cloned()
    }

    /// The version of a key that was current at a revision.
    ///
    /// # Errors
    /// When the revision cannot be read.
    pub fn get_at(&self, key: &str, at: Revision) -> Result<Option<Pick>, Unreadable> {
        self.readable(at)?;
        let current = self.keys.get(key).filter(|entry| entry.modified <= at);
        Ok(match current {
            Some(entry) => Some(Pick::Entry(Arc::clone(entry))),
            None => self.history.row_at(key, at).map(|(row, end)| self.pick(row, end)),
        })
    }

    /// How many keys start with `prefix`.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.keys.count(prefix, None)
    }

    /// The first `limit` keys (0: all) with `prefix` behind `after`, now or as of a revision.
    /// Cheap: the entries are walked later, by [`Selection::into_picks`].
    ///
    /// # Errors
    /// When the revision cannot be read.
    pub fn select(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Selection, Unreadable> {
        let limit = if limit == 0 { usize::MAX } else { limit };
        let revision = at.unwrap_or(self.revision);
        self.readable(revision)?;
        if revision == self.revision {
            let (runs, remaining) = self.keys.page(prefix, after, limit);
            return Ok(Selection { revision, remaining, more: remaining > 0, runs, past: Past::None });
        }
        let (runs, _) = self.keys.page(prefix, after, usize::MAX);
        // One more than asked for tells whether there is more.
        let rows = self.history.rows_at(prefix, after, revision, limit.saturating_add(1));
        let rows = rows.into_iter().map(|(row, end)| self.pick(row, end)).collect();
        let remaining = self.keys.count(prefix, after);
        Ok(Selection { revision, remaining, more: false, runs, past: Past::Rows { rows, limit } })
    }

    /// The first `limit` keys of a span, now or as of a revision.
    ///
    /// # Errors
    /// When the revision cannot be read.
    pub fn find(&self, span: &Span, limit: usize, at: Option<Revision>) -> Result<Found, Unreadable> {
        let at = at.unwrap_or(self.revision);
        self.readable(at)?;
        if at == self.revision {
            let (runs, remaining) = self.keys.within(span, limit);
            let picks: Vec<_> = walk(&runs).cloned().map(Pick::Entry).collect();
            return Ok(Found { count: picks.len() + remaining, picks });
        }
        let (runs, _) = self.keys.within(span, usize::MAX);
        let rows =
            self.history.rows_within(span, at).into_iter().map(|(row, end)| self.pick(row, end)).collect();
        let past = Past::Rows { rows, limit: usize::MAX };
        let all = Selection { revision: at, remaining: 0, more: false, runs, past };
        let (mut picks, ..) = all.into_picks();
        let count = picks.len();
        picks.truncate(limit);
        Ok(Found { picks, count })
    }

    /// The events in `span` younger than `after`, if the window still has all of them.
    ///
    /// # Errors
    /// When `after` has been compacted: events behind it may be gone for ever.
    pub fn recent(&self, span: &Span, after: Revision) -> Result<Option<Vec<Arc<Event>>>, Unreadable> {
        self.kept(after)?;
        Ok(self.window.after(after, span))
    }

    /// The window has every event younger than this.
    #[must_use]
    pub fn window_floor(&self) -> Revision {
        self.window.floor()
    }

    /// History before `to` may go; what goes is named by [`Mvcc::reclaim`].
    ///
    /// # Errors
    /// When `to` has been compacted already or lies in the future.
    pub fn compact(&mut self, to: Revision) -> Result<(), Unreadable> {
        self.readable(to)?;
        self.compacted = to;
        Ok(())
    }

    /// Up to `limit` rows that the log may delete; empty when all is done.
    pub fn reclaim(&mut self, limit: usize) -> Vec<Row> {
        self.history.drop_until(self.compacted, limit)
    }

    /// Whether history from `at` on is complete.
    ///
    /// # Errors
    /// When it is not.
    pub fn kept(&self, at: Revision) -> Result<(), Unreadable> {
        match at < self.compacted {
            true => Err(Unreadable::Compacted { compacted: self.compacted, current: self.revision }),
            false => Ok(()),
        }
    }

    fn readable(&self, at: Revision) -> Result<(), Unreadable> {
        match at > self.revision {
            true => Err(Unreadable::Future { current: self.revision }),
            false => self.kept(at),
        }
    }

    /// The version of a row that was replaced at `end`.
    fn pick(&self, row: Row, end: Revision) -> Pick {
        let recent = || self.window.version(&row.key, row.revision);
        match recent().or_else(|| self.window.before(&row.key, end)) {
            Some(entry) => Pick::Entry(entry),
            None => Pick::Row(row),
        }
    }
}

impl Selection {
    /// The versions, in key order, and the two facts that follow from them:
    /// whether there is more, and how much.
    #[must_use]
    pub fn into_picks(self) -> (Vec<Pick>, bool, usize) {
        let entries = walk(&self.runs).cloned();
        match self.past {
            Past::None => (entries.map(Pick::Entry).collect(), self.more, self.remaining),
            Past::Rows { rows, limit } => {
                let current = entries.filter(|entry| entry.modified <= self.revision).map(Pick::Entry);
                let mut picks: Vec<_> =
                    Merge { left: current.peekable(), right: rows.into_iter().peekable() }
                        .take(limit.saturating_add(1))
                        .collect();
                let more = picks.len() > limit;
                picks.truncate(limit);
                let remaining = self.remaining.saturating_sub(picks.len()).max(usize::from(more));
                (picks, more, if more { remaining } else { 0 })
            }
        }
    }
}

impl Pick {
    fn key(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.key,
            Self::Row(row) => &row.key,
        }
    }
}

/// Two sorted sequences as one.
struct Merge<L: Iterator<Item = Pick>, R: Iterator<Item = Pick>> {
    left: std::iter::Peekable<L>,
    right: std::iter::Peekable<R>,
}

impl<L: Iterator<Item = Pick>, R: Iterator<Item = Pick>> Iterator for Merge<L, R> {
    type Item = Pick;

    fn next(&mut self) -> Option<Pick> {
        match (self.left.peek(), self.right.peek()) {
            (Some(left), Some(right)) if right.key() < left.key() => self.right.next(),
            (None, _) => self.right.next(),
            _ => self.left.next(),
        }
    }
}
