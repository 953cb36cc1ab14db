//! The bytes of a row of the log.
//!
//! The key is the revision (8 bytes, big endian, so that rows lie in revision order) and the key
//! that changed. The value is a head of [`HEAD`] bytes and the committed bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | 1: put, 2: delete |
//! | 8 | create revision |
//! | 8 | version |
//! | 8 | revision of the version before, 0: none |
//! | 8 | when it expires, milliseconds since the Unix epoch, 0: never |

use std::sync::OnceLock;

use bytes::Bytes;
use plimsoll_mvcc::{Entry, Event, EventKind, Revision};

/// The length of what stands before the committed bytes.
const HEAD: usize = 33;

/// One row, decoded.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) kind: EventKind,
    pub(crate) entry: Entry,
    /// The revision of the version before.
    pub(crate) previous: Option<Revision>,
}

/// The first key of a revision, and a prefix of all its keys.
pub(crate) fn revision_key(revision: Revision) -> [u8; 8] {
    revision.0.to_be_bytes()
}

/// The revision of a row by its key.
pub(crate) fn revision_of(key: &[u8]) -> Revision {
    Revision(key.first_chunk::<8>().map_or(0, |bytes| i64::from_be_bytes(*bytes)))
}

/// The key of the row that `revision` wrote about `key`.
pub(crate) fn row_key(revision: Revision, key: &str) -> Vec<u8> {
    [&revision_key(revision), key.as_bytes()].concat()
}

/// The value of an event's row; `bytes` is the event's value as it lies on disk.
pub(crate) fn row_value(event: &Event, bytes: &[u8]) -> Vec<u8> {
    let entry = &event.entry;
    let mut value = Vec::with_capacity(HEAD + bytes.len());
    value.push(match event.kind {
        EventKind::Put => 1,
        EventKind::Delete => 2,
    });
    value.extend_from_slice(&entry.create.0.to_be_bytes());
    value.extend_from_slice(&entry.version.to_be_bytes());
    value.extend_from_slice(&event.previous.as_ref().map_or(0, |entry| entry.modified.0).to_be_bytes());
    value.extend_from_slice(&entry.expires.unwrap_or(0).to_be_bytes());
    value.extend_from_slice(bytes);
    value
}

/// Reads a row back; none when it is damaged.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<LogRow> {
    let (revision, name) = key.split_first_chunk::<8>()?;
    let (head, bytes) = value.split_at_checked(HEAD)?;
    let number = |at: usize| head.get(at..at + 8)?.first_chunk::<8>().copied();
    let revision_of = |at| number(at).map(i64::from_be_bytes).map(Revision);
    let kind = match head.first()? {
        1 => EventKind::Put,
        2 => EventKind::Delete,
        _ => return None,
    };
    let entry = Entry {
        key: std::str::from_utf8(name).ok()?.into(),
        // A copy: the slice would keep a whole block of the log in memory.
        value: Bytes::copy_from_slice(bytes),
        create: revision_of(1)?,
        modified: Revision(i64::from_be_bytes(*revision)),
        version: number(9).map(u64::from_be_bytes)?,
        expires: number(25).map(u64::from_be_bytes).filter(|at| *at != 0),
        memo: OnceLock::new(),
    };
    Some(LogRow { kind, entry, previous: revision_of(17).filter(|revision| revision.0 != 0) })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn event(kind: EventKind, expires: Option<u64>, previous: Option<Arc<Entry>>) -> Event {
        let entry = Entry {
            key: "/registry/pods/a/b".into(),
            value: Bytes::from_static(b"{}"),
            create: Revision(3),
            modified: Revision(0x0102_0304),
            version: 7,
            expires,
            memo: OnceLock::new(),
        };
        Event { kind, entry: Arc::new(entry), previous, memo: Default::default() }
    }

    #[test]
    fn rows_read_back_as_written() {
        let before = event(EventKind::Put, None, None).entry;
        for event in [
            event(EventKind::Put, None, None),
            event(EventKind::Put, Some(99), Some(Arc::clone(&before))),
            event(EventKind::Delete, None, Some(before)),
        ] {
            let entry = &event.entry;
            let read =
                decode(&row_key(entry.modified, &entry.key), &row_value(&event, &entry.value)).unwrap();
            assert_eq!((read.kind, read.previous), (event.kind, event.previous.map(|entry| entry.modified)));
            assert_eq!(format!("{:?}", read.entry), format!("{entry:?}"));
        }
    }

    #[test]
    fn damaged_rows_are_refused() {
        let event = event(EventKind::Put, None, None);
        let (key, value) = (row_key(event.entry.modified, "k"), row_value(&event, b"{}"));
        assert!(decode(&key, &value).is_some());
        assert!(decode(&key[..7], &value).is_none());
        assert!(decode(&key, &value[..HEAD - 1]).is_none());
        assert!(decode(&[&key[..], &[0xff]].concat(), &value).is_none());
        assert!(decode(&key, &[&[9], &value[1..]].concat()).is_none());
    }

    #[test]
    fn keys_lie_in_revision_order() {
        let keys = [row_key(Revision(255), "z"), row_key(Revision(256), "a"), row_key(Revision(1 << 40), "")];
        assert!(keys.is_sorted());
    }
}
