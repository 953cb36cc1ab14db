//! Answers that are remembered for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers by question, each until its time is over.
#[derive(Debug)]
pub(crate) struct Kept<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
    most: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Kept<K, V> {
    /// Room for `most` answers.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most }
    }

    /// The answer, if it is there and its time is not over.
    pub(crate) fn get(&self, question: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = entries.get(question)?;
        (*until > Instant::now()).then(|| answer.clone())
    }

    /// Remembers an answer; where room is short, the one that would be forgotten next goes.
    pub(crate) fn put(&self, question: K, answer: V, time: Duration) {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.most {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() >= self.most {
            let first = entries.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone());
            first.map(|key| entries.remove(&key));
        }
        entries.insert(question, (now + time, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_their_time_and_within_bounds() {
        let kept = Kept::new(2);
        kept.put("a", 1, Duration::from_secs(60));
        kept.put("b", 2, Duration::ZERO);
        assert_eq!((kept.get(&"a"), kept.get(&"b"), kept.get(&"c")), (Some(1), None, None));
        kept.put("c", 3, Duration::from_secs(90));
        kept.put("d", 4, Duration::from_secs(90));
        assert_eq!((kept.get(&"a"), kept.get(&"c"), kept.get(&"d")), (None, Some(3), Some(4)));
    }
}
