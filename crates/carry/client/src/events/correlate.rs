//! Which occurrences become Events, which are counted, which are held back.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;

use super::Occurrence;

/// Entries of each table; the oldest half goes when one is full.
const ENTRIES: usize = 4096;
/// Different messages of one reason about one object before they are combined.
const SIMILAR: usize = 10;
/// Seconds in which they must come.
const WINDOW: i64 = 600;
/// Events about one object that may come at once, and the seconds after which one more may.
const BURST: f64 = 25.0;
const REFILL_SECONDS: f64 = 300.0;

/// What is compared, as a number that nobody outside can foresee: thousands of objects are remembered, and their
/// names would take more room than everything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark(u64);

struct Group {
    messages: Vec<Mark>,
    last: Timestamp,
}

struct Bucket {
    tokens: f64,
    last: Timestamp,
}

/// An Event that exists already.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Repeats {
    pub(crate) name: String,
    pub(crate) count: i32,
    last: Timestamp,
}

/// What to post.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) occurrence: Occurrence,
    /// The occurrence's message, or the combined one.
    pub(crate) message: String,
    /// The Event to count on, instead of making one.
    pub(crate) repeats: Option<Repeats>,
    key: Mark,
    at: Timestamp,
}

#[derive(Default)]
pub(crate) struct Correlator {
    groups: HashMap<Mark, Group>,
    buckets: HashMap<Mark, Bucket>,
    posted: HashMap<Mark, Repeats>,
    marks: RandomState,
}

impl Correlator {
    /// Decides on one occurrence; `None` holds it back.
    pub(crate) fn see(&mut self, occurrence: Occurrence, now: Timestamp) -> Option<Outcome> {
        let subject = self.subject(&occurrence.object);
        let similar = self.mark((subject, occurrence.kind, &occurrence.reason));
        let combined = self.combine(similar, &occurrence.message, now);
        if !self.allow(subject, now) {
            return None;
        }
        let message = if combined {
            format!("(combined from similar events): {}", occurrence.message)
        } else {
            occurrence.message.clone()
        };
        // A combined Event counts on whatever its present message is.
        let same = if combined { "" } else { &message };
        let key = self.mark((similar, same));
        let repeats = self.posted.get(&key).cloned();
        Some(Outcome { occurrence, message, repeats, key, at: now })
    }

    /// Remembers the Event that an outcome became.
    pub(crate) fn posted(&mut self, outcome: &Outcome, name: String, count: i32) {
        prune(&mut self.posted, |repeats| repeats.last);
        self.posted.insert(outcome.key, Repeats { name, count, last: outcome.at });
    }

    fn mark(&self, what: impl Hash) -> Mark {
        Mark(self.marks.hash_one(what))
    }

    /// What an event is about.
    fn subject(&self, object: &ObjectReference) -> Mark {
        let ObjectReference { namespace, name, kind, uid, field_path, .. } = object;
        self.mark([namespace, name, kind, uid, field_path])
    }

    fn combine(&mut self, similar: Mark, message: &str, now: Timestamp) -> bool {
        let message = self.mark(message);
        prune(&mut self.groups, |group| group.last);
        // Most say one thing.
        let fresh = || Group { messages: Vec::with_capacity(1), last: now };
        let group = self.groups.entry(similar).or_insert_with(fresh);
        if now.as_second() - group.last.as_second() > WINDOW {
            group.messages.clear();
        }
        group.last = now;
        if group.messages.len() <= SIMILAR && !group.messages.contains(&message) {
            group.messages.push(message);
        }
        group.messages.len() > SIMILAR
    }

    fn allow(&mut self, subject: Mark, now: Timestamp) -> bool {
        prune(&mut self.buckets, |bucket| bucket.last);
        let bucket = self.buckets.entry(subject).or_insert(Bucket { tokens: BURST, last: now });
        let elapsed = now.duration_since(bucket.last).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + elapsed / REFILL_SECONDS).min(BURST);
        bucket.last = now;
        let allowed = bucket.tokens >= 1.0;
        bucket.tokens -= if allowed { 1.0 } else { 0.0 };
        allowed
    }
}

/// Drops the older half of a table that is full.
fn prune<K: Eq + Hash, V>(table: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    if table.len() < ENTRIES {
        return;
    }
    let mut times: Vec<_> = table.values().map(&last).collect();
    times.sort_unstable();
    let middle = times[times.len() / 2];
    table.retain(|_, value| last(value) > middle);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::EventType;
    use super::*;

    fn seconds(at: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + at).unwrap()
    }

    fn occurrence(name: &str, message: &str) -> Occurrence {
        let object = ObjectReference { name: Some(name.into()), ..ObjectReference::default() };
        Occurrence {
            object,
            kind: EventType::Normal,
            reason: "Pulled".into(),
            message: message.into(),
            annotations: Default::default(),
        }
    }

    #[test]
    fn a_repeat_counts_on_in_the_same_event() {
        let mut correlator = Correlator::default();
        let first = correlator.see(occurrence("a", "m"), seconds(0)).unwrap();
        assert_eq!(first.repeats, None);
        correlator.posted(&first, "a.1".into(), 1);
        let second = correlator.see(occurrence("a", "m"), seconds(1)).unwrap();
        assert_eq!(second.repeats.map(|known| (known.name, known.count)), Some(("a.1".into(), 1)));
        assert_eq!(correlator.see(occurrence("b", "m"), seconds(1)).unwrap().repeats, None);
    }

    #[test]
    fn the_eleventh_message_of_a_reason_is_combined() {
        let mut correlator = Correlator::default();
        for at in 0..10 {
            let outcome = correlator.see(occurrence("a", &format!("m{at}")), seconds(at)).unwrap();
            assert_eq!(outcome.message, format!("m{at}"));
        }
        let outcome = correlator.see(occurrence("a", "m10"), seconds(10)).unwrap();
        assert_eq!(outcome.message, "(combined from similar events): m10");
        correlator.posted(&outcome, "a.2".into(), 1);
        let outcome = correlator.see(occurrence("a", "m11"), seconds(11)).unwrap();
        assert_eq!(outcome.repeats.map(|known| known.name), Some("a.2".into()));
        let outcome = correlator.see(occurrence("a", "m12"), seconds(800)).unwrap();
        assert_eq!(outcome.message, "m12", "the window is over");
    }

    #[test]
    fn an_object_gets_25_events_at_once_and_one_more_every_five_minutes() {
        let mut correlator = Correlator::default();
        let mut see = |at| correlator.see(occurrence("a", "m"), seconds(at)).is_some();
        assert_eq!((0..30).filter(|_| see(0)).count(), 25);
        assert!(!see(299));
        assert!(see(301));
        assert!(!see(302));
    }
}
