//! The bytes of a row of the log.
//!
//! The key is the revision (8 bytes, big endian, so that rows lie in revision order) and the key
//! that changed. The value is a head of [`HEAD`] bytes and the committed bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | 1: put, 2: delete; 3 and 4: the same with a lease and a place |
//! | 8 | create revision |
//! | 8 | version |
//! | 8 | revision of the version before, 0: none |
//! | 8 | when it expires, milliseconds since the Unix epoch, 0: never |
//! | 8 | 3 and 4 only: the lease it hangs on, 0: none |
//! | 4 | 3 and 4 only: its place among the rows of its revision, from 0 on |
//!
//! Rows of revision 0, which no change has, are about the store: how far it was compacted (8 bytes, big endian) and its
//! leases (`lease/`, the number in 16 hexadecimal digits; the value is its time to live in seconds, 8 bytes).

use std::sync::OnceLock;

use bytes::Bytes;
use plimsoll_mvcc::{Entry, Event, EventKind, Revision};

/// The length of what stands before the committed bytes.
const HEAD: usize = 33;
/// The length of what else stands there in rows of kinds 3 and 4.
const MORE: usize = 12;
/// What the names of leases start with.
const LEASE: &str = "lease/";
/// The row of the compacted revision.
const COMPACTED: &str = "compacted";

/// One row, decoded.
#[derive(Debug)]
pub(crate) struct LogRow {
    pub(crate) kind: EventKind,
    pub(crate) entry: Entry,
    /// The revision of the version before.
    pub(crate) previous: Option<Revision>,
    /// Its place among the rows of its revision.
    pub(crate) sub: u32,
}

/// The key of the row of the compacted revision.
pub(crate) fn compacted_key() -> Vec<u8> {
    row_key(Revision(0), COMPACTED)
}

/// The revision that a store with this row has reached at least: the deletion that made it may be compacted.
pub(crate) fn reached(key: &[u8], value: &[u8]) -> Revision {
    match value.first_chunk::<8>() {
        Some(compacted) if *key == compacted_key() => Revision(i64::from_be_bytes(*compacted)),
        _ => revision_of(key),
    }
}

/// The key of the row of a lease.
pub(crate) fn lease_key(id: i64) -> Vec<u8> {
    row_key(Revision(0), &format!("{LEASE}{id:016x}"))
}

/// What all keys of leases start with.
pub(crate) fn leases() -> Vec<u8> {
    row_key(Revision(0), LEASE)
}

/// A lease's number and time to live; none when its row is damaged.
pub(crate) fn decode_lease(key: &[u8], value: &[u8]) -> Option<(i64, i64)> {
    let id = std::str::from_utf8(key.get(8 + LEASE.len()..)?).ok()?;
    let id = u64::from_str_radix(id, 16).ok()?.cast_signed();
    Some((id, i64::from_be_bytes(value.try_into().ok()?)))
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

/// The value of an event's row, behind what is there; `bytes` is the event's value as it lies on disk.
pub(crate) fn put_value(event: &Event, bytes: &[u8], value: &mut Vec<u8>) {
    let entry = &event.entry;
    let more = entry.lease != 0 || event.sub != 0;
    value.push(
        match event.kind {
            EventKind::Put => 1,
            EventKind::Delete => 2,
        } + if more { 2 } else { 0 },
    );
    value.extend_from_slice(&entry.create.0.to_be_bytes());
    value.extend_from_slice(&entry.version.to_be_bytes());
    value.extend_from_slice(&event.previous.as_ref().map_or(0, |entry| entry.modified.0).to_be_bytes());
    value.extend_from_slice(&entry.expires.unwrap_or(0).to_be_bytes());
    if more {
        value.extend_from_slice(&entry.lease.to_be_bytes());
        value.extend_from_slice(&event.sub.to_be_bytes());
    }
    value.extend_from_slice(bytes);
}

/// The same alone.
pub(crate) fn row_value(event: &Event, bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEAD + MORE + bytes.len());
    put_value(event, bytes, &mut value);
    value
}

/// Its place among the rows of its revision, by a row's value.
pub(crate) fn sub_of(value: &[u8]) -> u32 {
    let place = value.get(HEAD + 8..).filter(|_| matches!(value[0], 3 | 4));
    place.and_then(|place| place.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Reads a row back; none when it is damaged.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<LogRow> {
    let (revision, name) = key.split_first_chunk::<8>()?;
    let (head, bytes) = value.split_at_checked(HEAD)?;
    let number = |at: usize| head.get(at..at + 8)?.first_chunk::<8>().copied();
    let revision_of = |at| number(at).map(i64::from_be_bytes).map(Revision);
    let (kind, more) = match head.first()? {
        1 => (EventKind::Put, false),
        2 => (EventKind::Delete, false),
        3 => (EventKind::Put, true),
        4 => (EventKind::Delete, true),
        _ => return None,
    };
    let (lease, sub, bytes) = if more {
        let (lease, bytes) = bytes.split_first_chunk::<8>()?;
        let (sub, bytes) = bytes.split_first_chunk::<4>()?;
        (i64::from_be_bytes(*lease), u32::from_be_bytes(*sub), bytes)
    } else {
        (0, 0, bytes)
    };
    let entry = Entry {
        key: std::str::from_utf8(name).ok()?.into(),
        // A copy: the slice would keep a whole block of the log in memory.
        value: Bytes::copy_from_slice(bytes),
        create: revision_of(1)?,
        modified: Revision(i64::from_be_bytes(*revision)),
        version: number(9).map(u64::from_be_bytes)?,
        expires: number(25).map(u64::from_be_bytes).filter(|at| *at != 0),
        lease,
        memo: OnceLock::new(),
    };
    Some(LogRow { kind, entry, previous: revision_of(17).filter(|revision| revision.0 != 0), sub })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn event(kind: EventKind, expires: Option<u64>, previous: Option<Arc<Entry>>) -> Event {
        numbered(7, kind, expires, previous)
    }

    fn numbered(version: u64, kind: EventKind, expires: Option<u64>, previous: Option<Arc<Entry>>) -> Event {
        let entry = Entry {
            key: "/registry/pods/a/b".into(),
            value: Bytes::from_static(b"{}"),
            create: Revision(3),
            modified: Revision(0x0102_0304),
            version,
            expires,
            lease: if version == 7 { 0 } else { -3 },
            memo: OnceLock::new(),
        };
        let sub = u32::try_from(version).unwrap() - 7;
        Event { kind, entry: Arc::new(entry), previous, sub, last: true, memo: Default::default() }
    }

    #[test]
    fn rows_read_back_as_written() {
        let before = event(EventKind::Put, None, None).entry;
        for event in [
            event(EventKind::Put, None, None),
            event(EventKind::Put, Some(99), Some(Arc::clone(&before))),
            event(EventKind::Delete, None, Some(Arc::clone(&before))),
            numbered(8, EventKind::Put, Some(9), None),
            numbered(9, EventKind::Delete, None, Some(before)),
        ] {
            let entry = &event.entry;
            let read =
                decode(&row_key(entry.modified, &entry.key), &row_value(&event, &entry.value)).unwrap();
            let previous = event.previous.as_ref().map(|entry| entry.modified);
            assert_eq!((read.kind, read.previous, read.sub), (event.kind, previous, event.sub));
            assert_eq!(format!("{:?}", read.entry), format!("{entry:?}"));
            assert_eq!(sub_of(&row_value(&event, b"")), event.sub);
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
