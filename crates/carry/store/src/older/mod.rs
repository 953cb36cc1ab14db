//! What older versions wrote: formats 1 and 2, which fjall kept in `db`.
//!
//! What enters: a directory of theirs. What leaves: the same rows in a log of today. Until the directory says that it is
//! of today's format, nothing of the old files is changed but a tail that a power cut left; if that ends midway, it is
//! done again from the start.

pub(crate) mod journal;
pub(crate) mod layout;

use std::fs;
use std::io;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

use crate::StoreError;
use crate::log::{Frame, Kind, Log};

/// Rows that are written at once, and bytes.
const STEP: usize = 4096;
const BYTES: usize = 8 << 20;
/// fjall's cache, in bytes: everything is read once.
const CACHE: u64 = 4 << 20;

/// What fjall has open, and the rows in it.
pub(crate) struct Older {
    _db: Database,
    rows: Keyspace,
}

impl Older {
    /// Opens what lies below `db`.
    pub(crate) fn open(path: &Path, db: &Path) -> Result<Self, StoreError> {
        let opened =
            Database::builder(db).cache_size(CACHE).worker_threads(1).manual_journal_persist(true).open();
        let db = opened.map_err(|error| match error {
            fjall::Error::Locked => StoreError::InUse { path: path.into() },
            source => StoreError::Unopened { path: path.into(), source },
        })?;
        let rows = db.keyspace("log", KeyspaceCreateOptions::default);
        let rows = rows.map_err(|error| StoreError::Disk(io::Error::other(error)))?;
        Ok(Self { _db: db, rows })
    }

    /// All rows in the order of their keys, those about the store first.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        self.rows.iter().map(|guard| {
            let row = guard.into_inner().map_err(|error| StoreError::Disk(io::Error::other(error)))?;
            Ok((row.0.to_vec(), row.1.to_vec()))
        })
    }
}

/// Makes a log of what older versions wrote below `path`.
pub(crate) fn convert(path: &Path, volume: u64) -> Result<(), StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    let (db, folder) = (path.join("db"), path.join("log"));
    layout::whole(path)?;
    missing(fs::remove_dir_all(&folder)).map_err(failed)?;
    tracing::info!(store = %path.display(), "store is of an older format and written anew");
    journal::repair(&db)?;
    let (older, log) = (Older::open(path, &db)?, Log::open(&folder, volume, true)?);
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for row in older.rows() {
        let row = row?;
        bytes += row.1.len();
        rows.push(row);
        if rows.len() >= STEP || bytes >= BYTES {
            store(&log, &std::mem::take(&mut rows))?;
            bytes = 0;
        }
    }
    store(&log, &rows)
}

/// Adds rows as older versions and snapshots have them.
pub(crate) fn store(log: &Log, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
    let mut frame = Frame::default();
    // Groups were numbered; frames are.
    for (key, value) in rows.iter().filter(|(key, _)| *key != journal::group_key()) {
        frame.add(Kind::Written, [key, &[]], |bytes| bytes.extend_from_slice(value));
    }
    if !frame.is_empty() {
        log.append(&mut frame)?;
    }
    Ok(())
}

/// Removes what was converted.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    missing(fs::remove_dir_all(path.join("db"))).map_err(failed)
}

fn missing(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use fjall::PersistMode;
    use plimsoll_mvcc::{Entry, Event, EventKind, Memo, Revision};

    use super::*;
    use crate::{Options, Store, row};

    fn put(key: &str, revision: i64, previous: Option<Arc<Entry>>) -> Event {
        let entry = Entry {
            key: key.into(),
            value: format!("value of {revision}").into(),
            create: previous.as_ref().map_or(Revision(revision), |entry| entry.create),
            modified: Revision(revision),
            version: previous.as_ref().map_or(1, |entry| entry.version + 1),
            expires: None,
            lease: 9,
            memo: Default::default(),
        };
        let kind = EventKind::Put;
        Event { kind, entry: Arc::new(entry), previous, sub: 0, last: true, memo: Memo::default() }
    }

    #[test]
    fn what_an_older_version_wrote_is_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("format"), "2\n").unwrap();
        {
            let db = Database::builder(folder.path().join("db")).open().unwrap();
            let rows = db.keyspace("log", KeyspaceCreateOptions::default).unwrap();
            rows.insert(journal::group_key(), 3_u64.to_be_bytes()).unwrap();
            rows.insert(row::compacted_key(), 4_i64.to_be_bytes()).unwrap();
            rows.insert(row::lease_key(9), 60_i64.to_be_bytes()).unwrap();
            let first = put("/a", 3, None);
            let second = put("/a", 5, Some(Arc::clone(&first.entry)));
            for event in [first, second, put("/b", 6, None)] {
                let mut value = Vec::new();
                row::put_value(&event, &event.entry.value, &mut value);
                rows.insert(row::row_key(event.revision(), &event.entry.key), value).unwrap();
            }
            db.persist(PersistMode::SyncAll).unwrap();
        }
        // What a conversion left that was cut off goes.
        fs::create_dir(folder.path().join("log")).unwrap();
        fs::write(folder.path().join("log/00000001.log"), "torn").unwrap();
        for _ in 0..2 {
            let store = Store::open(folder.path(), Options::default()).unwrap();
            assert_eq!((store.revision(), store.compacted()), (Revision(6), Revision(4)));
            assert_eq!(&*store.get("/a").unwrap().value, b"value of 5");
            let before = store.get_at("/a", Revision(4)).unwrap().unwrap();
            assert_eq!((&*before.value, before.version), (&b"value of 3"[..], 1));
            assert_eq!((store.count(""), store.leases()), (2, vec![9]));
            assert!(!folder.path().join("db").exists());
            assert_eq!(fs::read_to_string(folder.path().join("format")).unwrap(), "3\n");
        }
    }
}
