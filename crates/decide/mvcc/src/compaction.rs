//! Up to which revision history may go.

use std::collections::VecDeque;

use crate::Revision;

/// Chooses compaction targets so that history always reaches back at least one interval
/// (kube-apiserver: `--etcd-compaction-interval`), and hardly farther: an interval has [`Compaction::TICKS`]
/// ticks, and each of them names the revision that was current one interval before.
#[derive(Debug)]
pub struct Compaction {
    /// What was current at the ticks of the last interval, the oldest first.
    seen: VecDeque<Revision>,
    done: Revision,
}

impl Compaction {
    /// How many ticks make an interval. History of a busy store is as large as its current state: what it reaches
    /// back too far counts on the disk.
    pub const TICKS: u32 = 8;

    /// Starts with the state found when the store opens.
    #[must_use]
    pub fn new(current: Revision, compacted: Revision) -> Self {
        Self { seen: VecDeque::from([current]), done: compacted }
    }

    /// A part of an interval has passed. The revision to compact to, unless nothing would go.
    pub fn tick(&mut self, current: Revision) -> Option<Revision> {
        self.seen.push_back(current);
        let target = if self.seen.len() > Self::TICKS as usize { self.seen.pop_front() } else { None };
        let target = target.filter(|target| *target > self.done)?;
        self.done = target;
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tick_compacts_to_what_was_current_an_interval_before() {
        let mut compaction = Compaction::new(Revision(5), Revision(5));
        let current = [9, 9, 12, 20, 20, 21, 22, 23, 24, 25, 26, 27, 28];
        let targets: Vec<_> =
            current.iter().map(|current| compaction.tick(Revision(*current)).map_or(0, |to| to.0)).collect();
        // The first interval ends with the eighth tick; what was done already is not done again.
        assert_eq!(targets, [0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 12, 20, 0]);
    }
}
