//! How much room there is, and what is done before there is none.
//!
//! The quota bounds what all rows take. Before it is reached, history goes ([`Space::tight`]); keys that delete
//! themselves have a share of their own, of which the oldest go first. Only when the current versions alone fill it,
//! or are written faster than history goes, is a write refused: then the alarm is raised, history is compacted to
//! the newest revision, and the alarm goes when that helped, or as soon as deletions did.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plimsoll_mvcc::Bytes;
use tokio::sync::watch;

/// What is the matter with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alarm {
    /// Nothing.
    #[default]
    None,
    /// A write did not fit: only deletions are accepted.
    NoSpace,
}

/// The bounds of one store.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) quota: u64,
    alarm: watch::Sender<Alarm>,
    recoveries: AtomicU64,
    /// Somebody raised the alarm, and whoever does ends it.
    held: AtomicBool,
}

impl Space {
    pub(crate) fn new(quota: u64) -> Self {
        Self {
            quota,
            alarm: watch::Sender::new(Alarm::None),
            recoveries: AtomicU64::new(0),
            held: AtomicBool::new(false),
        }
    }

    pub(crate) fn alarm(&self) -> Alarm {
        *self.alarm.borrow()
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Alarm> {
        self.alarm.subscribe()
    }

    pub(crate) fn set(&self, alarm: Alarm) -> bool {
        self.alarm.send_if_modified(|current| std::mem::replace(current, alarm) != alarm)
    }

    /// Raises or ends the alarm by hand.
    pub(crate) fn hold(&self, alarm: Alarm) {
        self.held.store(alarm == Alarm::NoSpace, Ordering::Relaxed);
        self.set(alarm);
    }

    /// How often the alarm went by itself.
    pub(crate) fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }

    pub(crate) fn recovered(&self) {
        if self.held.load(Ordering::Relaxed) {
            return;
        }
        // Who sees that the alarm is over sees it counted.
        let ended = self.alarm.send_if_modified(|current| {
            let ended = std::mem::replace(current, Alarm::None) != Alarm::None;
            self.recoveries.fetch_add(u64::from(ended), Ordering::Relaxed);
            ended
        });
        if ended {
            tracing::warn!(quota = self.quota, "store has room again and accepts writes");
        }
    }

    /// Whether there is room for so much more.
    pub(crate) fn fits(&self, kept: u64, more: u64) -> bool {
        kept.saturating_add(more) <= self.quota
    }

    /// Whether leases may become more: those that nothing hangs on have a share, too.
    pub(crate) fn fits_lease(&self, leases: u64) -> bool {
        leases < self.quota / 64
    }

    /// History should go before its time: three quarters are full, and it is a part worth the work.
    pub(crate) fn tight(&self, bytes: Bytes) -> bool {
        bytes.kept() > self.quota / 4 * 3 && bytes.history > self.quota / 16
    }

    /// How much keys that delete themselves take beyond their share, an eighth.
    pub(crate) fn surplus(&self, bytes: Bytes) -> u64 {
        bytes.mortal.saturating_sub(self.quota / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_goes_before_there_is_no_room() {
        let space = Space::new(800);
        for (live, mortal, history, tight, surplus) in [
            (500, 0, 100, false, 0),
            (500, 0, 101, true, 0),
            (600, 100, 40, false, 0),
            (600, 101, 51, true, 1),
            (800, 300, 0, false, 200),
        ] {
            let bytes = Bytes { live, mortal, history };
            assert_eq!((space.tight(bytes), space.surplus(bytes)), (tight, surplus), "{bytes:?}");
        }
        assert!(space.fits(700, 100) && !space.fits(700, 101));
    }
}
