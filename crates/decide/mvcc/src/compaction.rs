//! Up to which revision history may go.

use crate::Revision;

/// Chooses compaction targets so that history always reaches back at least one interval:
/// each tick names the revision that was current at the tick before
/// (kube-apiserver: `--etcd-compaction-interval`).
#[derive(Debug)]
pub struct Compaction {
    seen: Revision,
    done: Revision,
}

impl Compaction {
    /// Starts with the state found when the store opens.
    #[must_use]
    pub fn new(current: Revision, compacted: Revision) -> Self {
        Self { seen: current, done: compacted }
    }

    /// One interval has passed. The revision to compact to, unless nothing would go.
    pub fn tick(&mut self, current: Revision) -> Option<Revision> {
        let target = std::mem::replace(&mut self.seen, current);
        (target > self.done).then(|| {
            self.done = target;
            target
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tick_compacts_to_the_tick_before() {
        let mut compaction = Compaction::new(Revision(5), Revision(5));
        for (current, target) in [(9, None), (9, Some(9)), (9, None), (12, None), (20, Some(12))] {
            assert_eq!(compaction.tick(Revision(current)), target.map(Revision), "at {current}");
        }
    }
}
