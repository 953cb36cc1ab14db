//! What the threads, readers and watches of one store have in common.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use plimsoll_mvcc::{Entry, Found, Mvcc, Pick, Revision, Span};

use crate::disk::Disk;
use crate::hub::{Hub, Subscription};
use crate::space::Space;
use crate::{Page, StoreError};

/// The state in memory and the log below it.
pub(crate) struct Shared {
    state: RwLock<Mvcc>,
    /// None: what can be read is in memory.
    disk: Option<Disk>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) space: Space,
    /// The log could not be written once; nothing is accepted any more.
    pub(crate) broken: AtomicBool,
}

/// A watcher's place after it asked to join.
pub(crate) enum Joined {
    /// These events of the recent past come first, then the subscription's.
    Live(Subscription, Vec<Arc<plimsoll_mvcc::Event>>, Revision),
    /// The log must be read up to this revision first.
    Behind(Revision),
}

impl Shared {
    pub(crate) fn new(state: Mvcc, disk: Option<Disk>, hub: Arc<Hub>, space: Space) -> Self {
        Self { state: RwLock::new(state), disk, hub, space, broken: AtomicBool::new(false) }
    }

    /// The log, for those who run on one.
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("nothing that can be read lies outside of memory where there is no log")
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Mvcc> {
        self.state.read().expect("nothing panics while it holds the state")
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Mvcc> {
        self.state.write().expect("nothing panics while it holds the state")
    }

    /// The version of a key at a revision. Reads the log when it is neither current nor recent.
    pub(crate) fn get_at(&self, key: &str, at: Revision) -> Result<Option<Arc<Entry>>, StoreError> {
        let pick = self.read().get_at(key, at)?;
        pick.map(|pick| self.resolve(pick, at)).transpose()
    }

    pub(crate) fn range(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let selection = self.read().select(prefix, after, limit, at)?;
        let revision = selection.revision;
        let (picks, more, remaining) = selection.into_picks();
        let entries = picks.into_iter().map(|pick| self.resolve(pick, revision)).collect::<Result<_, _>>()?;
        Ok(Page { entries, revision, more, remaining })
    }

    /// The versions that were found as of a revision.
    pub(crate) fn read_found(&self, found: Found, at: Revision) -> Result<Vec<Arc<Entry>>, StoreError> {
        found.picks.into_iter().map(|pick| self.resolve(pick, at)).collect()
    }

    fn resolve(&self, pick: Pick, at: Revision) -> Result<Arc<Entry>, StoreError> {
        let row = match pick {
            Pick::Entry(entry) => return Ok(entry),
            Pick::Row(row) => row,
        };
        if let Some(entry) = self.disk().version(&row)? {
            return Ok(Arc::new(entry));
        }
        // Compaction may have passed while we were on the way to the disk.
        self.read().kept(at)?;
        Err(StoreError::Damaged { revision: row.revision })
    }

    /// Subscribes to what comes and takes what the window has behind `after`. Subscribing first
    /// means that an event may come twice, never not at all.
    pub(crate) fn join(&self, span: &Arc<Span>, after: Revision) -> Result<Joined, StoreError> {
        let subscription = self.hub.subscribe(span)?;
        let state = self.read();
        Ok(match state.recent(span, after)? {
            Some(events) => Joined::Live(subscription, events, state.revision()),
            None => Joined::Behind(state.window_floor()),
        })
    }
}
