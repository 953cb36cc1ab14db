//! The log on disk: every change as a row, in the order of revisions.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use plimsoll_mvcc::{Changes, Entry, Event, EventKind, Lease, Memo, Revision, Row, Span};

use crate::log::{Frame, Kind, Log, Tidy};
use crate::row::{self, LogRow};
use crate::{Options, StoreError, Timings, Transform, log, older};

/// The layout that this version writes. 3: the log is files of frames; before, it was kept by fjall.
pub(crate) const FORMAT: u32 = 3;
/// The oldest layout that it reads.
const OLDEST: u32 = 1;
/// Memory for frames that is kept from one group to the next.
const FRAME: usize = 2 << 20;

/// The open log.
pub(crate) struct Disk {
    log: Log,
    transform: Option<Arc<dyn Transform>>,
    path: PathBuf,
    /// Where groups are put together.
    frame: Mutex<Frame>,
    pub(crate) timings: Timings,
    /// Held for as long as the log is open, and before anything in it is touched.
    _lock: Lock,
}

/// Some events of history.
pub(crate) struct Chapter {
    pub(crate) events: Vec<Arc<Event>>,
    /// Everything up to here has been looked at.
    pub(crate) until: Revision,
}

impl Disk {
    /// Opens or creates the log below `path`; it holds secrets, so only the owner may enter.
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, StoreError> {
        let format = check_format(path)?;
        let lock = lock(path)?;
        match format {
            Some(FORMAT) => {}
            Some(_) => older::convert(path, options.volume)?,
            None => {
                older::layout::clear(path)?;
                log::clear(path)?;
            }
        }
        let fresh = format.is_none();
        let log = Log::open(&path.join("log"), options.volume, fresh)?;
        if format < Some(FORMAT) {
            write_format(path).map_err(|source| StoreError::Directory { path: path.into(), source })?;
        }
        older::remove(path)?;
        Ok(Self {
            log,
            transform: options.transform.clone(),
            path: path.into(),
            frame: Mutex::default(),
            timings: Timings::default(),
            _lock: lock,
        })
    }

    /// Appends a group and syncs it: all of it or nothing is there after a crash.
    pub(crate) fn append(&self, changes: &Changes) -> io::Result<()> {
        let started = Instant::now();
        let mut frame = self.frame.lock().expect("nothing panics while it puts a group together");
        if frame.len() > FRAME {
            *frame = Frame::default();
        }
        frame.clear();
        for (id, lease) in &changes.leases {
            let key = [&row::lease_key(*id)[..], &[]];
            match lease {
                Some(lease) => frame.add(Kind::Written, key, |value| value.extend(lease.ttl.to_be_bytes())),
                None => frame.add(Kind::Gone, key, |_| {}),
            }
        }
        for event in &changes.events {
            let (key, value) = (&event.entry.key, &event.entry.value);
            let sealed = self.transform.as_ref().and_then(|transform| transform.seal(key, value));
            let revision = row::revision_key(event.revision());
            let bytes = sealed.as_deref().unwrap_or(value);
            frame
                .add(Kind::Written, [&revision, key.as_bytes()], |value| row::put_value(event, bytes, value));
        }
        let syncing = self.log.append(&mut frame)?;
        self.timings.sync.observe(syncing.as_secs_f64());
        self.timings.commit.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// All rows from a revision on, in order.
    pub(crate) fn rows(&self, from: Revision) -> impl Iterator<Item = Result<LogRow, StoreError>> + use<> {
        self.first_rows(from, usize::MAX)
    }

    /// The first of them: at least so many, whole revisions, and one row more, if there are.
    fn first_rows(
        &self,
        from: Revision,
        least: usize,
    ) -> impl Iterator<Item = Result<LogRow, StoreError>> + use<> {
        let transform = self.transform.clone();
        self.log.first_rows(from, least).map(move |row| {
            let (key, value) = row?;
            read(transform.as_deref(), &key, &value).map(|(row, _)| row)
        })
    }

    /// The leases, as if they were granted now.
    pub(crate) fn leases(&self, now: u64) -> Result<Vec<Lease>, StoreError> {
        leases(self.log.notes(&row::leases()), now)
    }

    /// All rows as they lie on disk, that of the compaction first; those of this moment, whatever is written meanwhile.
    pub(crate) fn stored(&self) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        let (notes, rows) = self.log.everything();
        notes.into_iter().map(Ok).chain(rows.map(|row| Ok(row?)))
    }

    /// A sum of all rows.
    pub(crate) fn hash(&self) -> Result<u32, StoreError> {
        let mut hash = crc32fast::Hasher::new();
        for row in self.stored() {
            let (key, value) = row?;
            hash.update(&key);
            hash.update(&value);
        }
        Ok(hash.finalize())
    }

    /// A name for a file on this disk that nobody else has.
    pub(crate) fn scratch(&self, what: &str) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.path.join(format!("{what}.{}.scratch", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// Adds rows that were read so.
    pub(crate) fn store(&self, rows: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), StoreError> {
        older::store(&self.log, &rows)
    }

    /// One version of a key, if compaction has not dropped it.
    pub(crate) fn version(&self, row: &Row) -> Result<Option<Entry>, StoreError> {
        let Some(value) = self.log.get(row)? else { return Ok(None) };
        let key = row::row_key(row.revision, &row.key);
        let (found, _) = read(self.transform.as_deref(), &key, &value)?;
        Ok((found.kind == EventKind::Put).then_some(found.entry))
    }

    /// Whether a version would be written in another form today.
    pub(crate) fn stale(&self, row: &Row) -> Result<bool, StoreError> {
        if self.transform.is_none() {
            return Ok(false);
        }
        let Some(value) = self.log.get(row)? else { return Ok(false) };
        let key = row::row_key(row.revision, &row.key);
        read(self.transform.as_deref(), &key, &value).map(|(_, stale)| stale)
    }

    /// The events in `span` behind `after` up to `until`, or the first part of them: whole revisions.
    pub(crate) fn chapter(
        &self,
        span: &Span,
        after: Revision,
        until: Revision,
    ) -> Result<Chapter, StoreError> {
        const EVENTS: usize = 256;
        const ROWS: usize = 16_384;
        const BYTES: usize = 4 << 20;
        let mut chapter = Chapter { events: Vec::new(), until };
        let (mut bytes, mut read) = (0, after);
        let mut revision = Vec::new();
        for (number, row) in self.first_rows(after.next(), ROWS).enumerate() {
            let row = row?;
            if row.entry.modified > read {
                self.end_revision(&mut revision, &mut chapter.events)?;
                let full = chapter.events.len() >= EVENTS || bytes >= BYTES;
                if row.entry.modified > until {
                    break;
                }
                if number >= ROWS || full {
                    chapter.until = read;
                    break;
                }
                read = row.entry.modified;
            }
            let ours = span.contains(&row.entry.key);
            if ours {
                bytes += row.entry.value.len();
            }
            revision.push((ours, row));
        }
        self.end_revision(&mut revision, &mut chapter.events)?;
        Ok(chapter)
    }

    /// Those rows of one revision that are asked for, in the order in which they were written.
    fn end_revision(
        &self,
        rows: &mut Vec<(bool, LogRow)>,
        events: &mut Vec<Arc<Event>>,
    ) -> Result<(), StoreError> {
        rows.sort_by_key(|(_, row)| row.sub);
        let last = rows.len().saturating_sub(1);
        for (at, (_, row)) in rows.drain(..).enumerate().filter(|(_, (ours, _))| *ours) {
            events.push(Arc::new(Event { last: at == last, ..self.event(row)? }));
        }
        Ok(())
    }

    fn event(&self, row: LogRow) -> Result<Event, StoreError> {
        let before = row.previous.map(|revision| Row { revision, key: Arc::clone(&row.entry.key) });
        let previous = before.map(|row| self.version(&row)).transpose()?.flatten();
        let previous = previous.map(Arc::new);
        let (kind, sub) = (row.kind, row.sub);
        Ok(Event { kind, entry: Arc::new(row.entry), previous, sub, last: true, memo: Memo::default() })
    }

    /// The revision that the last compaction went to.
    pub(crate) fn compacted(&self) -> Result<Revision, StoreError> {
        compacted(self.log.note(&row::compacted_key()))
    }

    /// Remembers a compaction, durably, before its rows go.
    pub(crate) fn set_compacted(&self, to: Revision) -> Result<(), StoreError> {
        let mut frame = Frame::default();
        let key = [&row::compacted_key()[..], &[]];
        frame.add(Kind::Written, key, |value| value.extend(row::revision_key(to)));
        self.log.append(&mut frame)?;
        Ok(())
    }

    /// Lets rows go that a compaction passed. A crash may bring them back; opening the store finds them again.
    pub(crate) fn remove(&self, rows: &[Row]) -> Result<(), StoreError> {
        Ok(self.log.remove(rows)?)
    }

    /// Bytes on disk that the file system gave.
    pub(crate) fn size(&self) -> Result<u64, StoreError> {
        let failed = |source| StoreError::Directory { path: self.path.clone(), source };
        allocated(&self.path).map_err(failed)
    }

    /// Gives back to the disk what is needed no more, little by little, until `stop` says so.
    pub(crate) fn tidy(&self, stop: impl Fn() -> bool) -> Result<(), StoreError> {
        Ok(self.log.tidy(Tidy::Needless, &stop)?)
    }

    /// Writes everything again that is needed, so that whatever was removed leaves the disk.
    pub(crate) fn reclaim(&self) -> Result<(), StoreError> {
        Ok(self.log.tidy(Tidy::All, &|| false)?)
    }
}

/// The leases that rows about the store tell of.
pub(crate) fn leases(rows: Vec<(Vec<u8>, Vec<u8>)>, now: u64) -> Result<Vec<Lease>, StoreError> {
    let damaged = || StoreError::Damaged { revision: Revision(0) };
    let lease = |(key, value): (Vec<u8>, Vec<u8>)| {
        let (id, ttl) = row::decode_lease(&key, &value).ok_or_else(damaged)?;
        Ok(Lease::new(id, ttl, now))
    };
    rows.into_iter().map(lease).collect()
}

/// What the row of the compacted revision says.
pub(crate) fn compacted(row: Option<Vec<u8>>) -> Result<Revision, StoreError> {
    let Some(value) = row else { return Ok(Revision::FIRST) };
    let number = value.try_into().map_err(|_| StoreError::Damaged { revision: Revision(0) })?;
    Ok(Revision(i64::from_be_bytes(number)))
}

/// A row with its value as it was committed, and whether the form on disk is an outdated one.
fn read(transform: Option<&dyn Transform>, key: &[u8], value: &[u8]) -> Result<(LogRow, bool), StoreError> {
    let mut row =
        row::decode(key, value).ok_or_else(|| StoreError::Damaged { revision: row::revision_of(key) })?;
    let Some(transform) = transform else { return Ok((row, false)) };
    let opened = transform.open(&row.entry.key, &row.entry.value);
    let opened = opened.map_err(|cause| StoreError::Sealed { key: Arc::clone(&row.entry.key), cause })?;
    if let Some(plain) = opened.value {
        row.entry.value = plain.into();
    }
    Ok((row, opened.stale))
}

/// What the files of a folder take. Those that vanish meanwhile take nothing.
fn allocated(path: &Path) -> io::Result<u64> {
    const BLOCK: u64 = 512;
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => allocated(&entry.path()),
            Ok(found) => Ok(found.blocks() * BLOCK),
            Err(error) => Err(error),
        }
        .or_else(|error| if gone(&error) { Ok(0) } else { Err(error) })?;
    }
    Ok(bytes)
}

/// Refuses a directory of a newer version before anything in it is touched; the version it has, none: it is not ready.
fn check_format(path: &Path) -> Result<Option<u32>, StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    match known_format(path) {
        Err(StoreError::Directory { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        known => known.map(Some),
    }
}

/// Whether a directory is a store of a version that is known; nothing is made.
pub(crate) fn known_format(path: &Path) -> Result<u32, StoreError> {
    const LONGEST: u64 = 32;
    let mut found = Vec::new();
    let read =
        fs::File::open(path.join("format")).and_then(|file| file.take(LONGEST).read_to_end(&mut found));
    read.map_err(|source| StoreError::Directory { path: path.into(), source })?;
    let found = String::from_utf8_lossy(&found);
    let known = found.trim().parse().ok().filter(|known| (OLDEST..=FORMAT).contains(known));
    let unknown =
        || StoreError::UnknownFormat { path: path.into(), found: found.trim().into(), known: FORMAT };
    known.ok_or_else(unknown)
}

/// A directory that is this process's own until this is dropped.
pub(crate) struct Lock(fs::File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child has it open, too, until it begins with its own program.
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the lock of the store's directory is not given up before its file is closed");
        }
    }
}

/// Takes the directory for this process.
pub(crate) fn lock(path: &Path) -> Result<Lock, StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    let file = fs::File::options().write(true).create(true).truncate(false).open(path.join("lock"));
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.into() }),
        Err(fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

fn write_format(path: &Path) -> io::Result<()> {
    let (draft, name) = (path.join("format.new"), path.join("format"));
    let mut file = fs::File::create(&draft)?;
    writeln!(file, "{FORMAT}")?;
    file.sync_all()?;
    fs::rename(draft, name)?;
    fs::File::open(path)?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_at_once_though_a_child_has_its_lock_open() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let inherited = held.0.try_clone().unwrap();
        assert!(matches!(lock(folder.path()), Err(StoreError::InUse { .. })));
        drop(held);
        lock(folder.path()).unwrap();
        drop(inherited);
    }
}
