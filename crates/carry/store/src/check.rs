//! Whether a store that nobody uses is what it should be.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use plimsoll_mvcc::{EventKind, Mvcc, Revision};

use crate::older::{Older, journal, layout};
use crate::{Options, StoreError, disk, log, row};

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The newest revision.
    pub revision: Revision,
    /// The revision that the last compaction went to.
    pub compacted: Revision,
    /// Keys that exist.
    pub keys: usize,
    /// Versions of keys.
    pub rows: usize,
    /// What was written at once.
    pub batches: usize,
}

/// Reads everything below `path`, holds it against its checksums, and the index that is made of it against a scan.
/// The store stays as it is.
///
/// # Errors
/// When something is damaged, or the store is in use.
pub fn check(path: &Path) -> Result<Checked, StoreError> {
    if !path.join("format").exists() {
        return Err(match path.join("db").exists() || path.join("log").exists() {
            true => StoreError::Missing { path: path.into(), file: "format".into() },
            false => StoreError::Absent { path: path.into() },
        });
    }
    let format = disk::known_format(path)?;
    let _lock = disk::lock(path)?;
    if format < disk::FORMAT {
        return older(path);
    }
    let found = log::read(&path.join("log"))?;
    if found.frames == 0 {
        return Err(log::missing(path));
    }
    let notes = found.shelf.notes.iter().map(|(key, note)| (key.clone(), note.value.clone())).collect();
    scan(notes, || found.rows().map(|row| Ok(row?)), found.frames)
}

/// The same of an older format: fjall opens a copy, of which the tables are links.
fn older(path: &Path) -> Result<Checked, StoreError> {
    layout::whole(path)?;
    let batches = journal::verify(&path.join("db"))?;
    let failed = |source| StoreError::Directory { path: path.into(), source };
    let copy = path.join("check");
    let _ = fs::remove_dir_all(&copy);
    let checked = link(&path.join("db"), &copy).map_err(failed).and_then(|()| {
        journal::repair(&copy)?;
        let older = Older::open(path, &copy)?;
        let store = |row: &Result<(Vec<u8>, _), _>| row.as_ref().is_ok_and(|row| row.0.starts_with(&[0; 8]));
        let notes = older.rows().take_while(store).collect::<Result<_, _>>()?;
        scan(notes, || older.rows().skip_while(store), batches)
    });
    fs::remove_dir_all(&copy).map_err(failed)?;
    checked
}

/// Tables never change, so a link is enough; everything else is copied.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let tables = from.ends_with("tables");
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => link(&entry.path(), &target)?,
            false if tables => fs::hard_link(entry.path(), target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

type Row = (Vec<u8>, Vec<u8>);

/// Looks at the rows about the store, and at all others twice.
fn scan<I>(notes: Vec<Row>, rows: impl Fn() -> I, batches: usize) -> Result<Checked, StoreError>
where
    I: Iterator<Item = Result<Row, StoreError>>,
{
    let (leases, others): (Vec<_>, Vec<_>) =
        notes.into_iter().partition(|(key, _)| key.starts_with(&row::leases()));
    disk::leases(leases, 0)?;
    let compacted = others.into_iter().find(|(key, _)| *key == row::compacted_key());
    let compacted = disk::compacted(compacted.map(|(_, value)| value))?;
    let rows = || {
        rows().map(|found| {
            let (key, value) = found?;
            row::decode(&key, &value).ok_or_else(|| StoreError::Damaged { revision: row::revision_of(&key) })
        })
    };
    let loaded = rows().map(|row| row.map(|row| (row.kind, row.entry)));
    let state = Mvcc::load(Options::default().window, compacted, loaded)?;
    let mut newest: BTreeMap<_, (Revision, u64)> = BTreeMap::new();
    let mut count = 0;
    for row in rows() {
        let row = row?;
        count += 1;
        match row.kind {
            EventKind::Put => newest.insert(row.entry.key, (row.entry.modified, row.entry.version)),
            EventKind::Delete => newest.remove(&row.entry.key),
        };
    }
    let right = |key: &str, found: (Revision, u64)| {
        state.get(key).is_some_and(|entry| (entry.modified, entry.version) == found)
    };
    if let Some((_, (revision, _))) = newest.iter().find(|(key, found)| !right(key, **found)) {
        return Err(StoreError::Damaged { revision: *revision });
    }
    let keys = state.count("");
    if keys != newest.len() {
        return Err(StoreError::Damaged { revision: state.revision() });
    }
    Ok(Checked { revision: state.revision(), compacted, keys, rows: count, batches })
}
