//! Whether a store that nobody uses is what it should be.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use plimsoll_mvcc::{EventKind, Mvcc, Revision};

use crate::disk::{self, Disk};
use crate::{Options, StoreError, journal, layout};

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
    /// Batches in journals.
    pub batches: usize,
}

/// Reads everything below `path`, holds it against its checksums, and the index that is made of it against a scan.
/// The store stays as it is: fjall opens a copy, of which the tables are links.
///
/// # Errors
/// When something is damaged, or the store is in use.
pub fn check(path: &Path) -> Result<Checked, StoreError> {
    if !path.join("format").exists() {
        return Err(match path.join("db").exists() {
            true => StoreError::Missing { path: path.into(), file: "format".into() },
            false => StoreError::Absent { path: path.into() },
        });
    }
    disk::known_format(path)?;
    let _lock = disk::lock(path)?;
    layout::whole(path)?;
    let batches = journal::verify(&path.join("db"))?;
    let failed = |source| StoreError::Directory { path: path.into(), source };
    let copy = path.join("check");
    let _ = fs::remove_dir_all(&copy);
    let checked = link(&path.join("db"), &copy.join("db"))
        .and_then(|()| fs::copy(path.join("format"), copy.join("format")))
        .map_err(failed)
        .and_then(|_| scan(&copy, batches));
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

fn scan(path: &Path, batches: usize) -> Result<Checked, StoreError> {
    let disk = Disk::open(path, &Options::default())?;
    let compacted = disk.compacted()?;
    disk.leases(0)?;
    let rows = disk.rows(Revision::FIRST).map(|row| row.map(|row| (row.kind, row.entry)));
    let state = Mvcc::load(Options::default().window, compacted, rows)?;
    let mut newest: BTreeMap<_, (Revision, u64)> = BTreeMap::new();
    let mut rows = 0;
    for row in disk.rows(Revision::FIRST) {
        let row = row?;
        rows += 1;
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
    Ok(Checked { revision: state.revision(), compacted, keys, rows, batches })
}
