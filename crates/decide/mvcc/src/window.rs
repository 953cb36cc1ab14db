//! The latest events, kept in memory for watchers that start or fall a little behind.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Entry, Event, EventKind, Revision, Span};

/// How much the window holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events.
    pub events: usize,
    /// Bytes of their values.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 8192, bytes: 16 << 20 }
    }
}

#[derive(Debug)]
pub(crate) struct Window {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    limits: Limits,
    /// Every event younger than this is here.
    floor: Revision,
}

impl Window {
    pub(crate) fn new(limits: Limits, floor: Revision) -> Self {
        Self { events: VecDeque::new(), bytes: 0, limits, floor }
    }

    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.entry.value.len();
        self.events.push_back(event);
        while self.events.len() > self.limits.events || self.bytes > self.limits.bytes {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.entry.value.len();
            self.floor = oldest.revision();
        }
    }

    /// The events in `span` younger than `after`; none when some of them may be gone.
    pub(crate) fn after(&self, after: Revision, span: &Span) -> Option<Vec<Arc<Event>>> {
        let start = self.events.partition_point(|event| event.revision() <= after);
        let matching = |event: &&Arc<Event>| span.contains(&event.entry.key);
        (after >= self.floor).then(|| self.events.range(start..).filter(matching).cloned().collect())
    }

    /// The version that `revision` wrote, if that is recent.
    pub(crate) fn version(&self, key: &str, revision: Revision) -> Option<Arc<Entry>> {
        let start = self.events.partition_point(|event| event.revision() < revision);
        self.events
            .range(start..)
            .take_while(|event| event.revision() == revision)
            .find(|event| event.kind == EventKind::Put && &*event.entry.key == key)
            .map(|event| Arc::clone(&event.entry))
    }

    /// The version that `revision` replaced, if that is recent.
    pub(crate) fn before(&self, key: &str, revision: Revision) -> Option<Arc<Entry>> {
        let start = self.events.partition_point(|event| event.revision() < revision);
        self.events
            .range(start..)
            .take_while(|event| event.revision() == revision)
            .find(|event| &*event.entry.key == key)
            .and_then(|event| event.previous.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;

    fn event(key: &str, revision: i64) -> Arc<Event> {
        let entry = Entry {
            key: key.into(),
            value: bytes::Bytes::from_static(b"ten bytes."),
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

    #[test]
    fn the_window_knows_what_it_lost() {
        for limits in [Limits { events: 3, bytes: 1000 }, Limits { events: 1000, bytes: 39 }] {
            let mut window = Window::new(limits, Revision(1));
            for revision in 2..=6 {
                window.push(event(if revision % 2 == 0 { "/a" } else { "/b" }, revision));
            }
            for (after, prefix, revisions) in [
                (2, "/", None),
                (3, "/", Some(vec![4, 5, 6])),
                (3, "/a", Some(vec![4, 6])),
                (6, "/", Some(vec![])),
                (9, "/", Some(vec![])),
            ] {
                let found = window.after(Revision(after), &Span::Prefix(prefix.into()));
                let found = found.map(|events| events.iter().map(|event| event.revision().0).collect());
                assert_eq!(found, revisions, "after {after}");
            }
            assert!(window.version("/b", Revision(5)).is_some());
            assert!(window.version("/a", Revision(5)).is_none());
            assert!(window.version("/b", Revision(3)).is_none());
        }
    }
}
