//! The log: frames of rows, one behind the other, in files that go when nothing in them is needed.
//!
//! What enters: rows by revision, and which of them are needed no more. What leaves: the same rows, after any end of
//! the process or the power. A value is written once. Memory knows where each row lies (`shelf`).
//!
//! The oldest file goes first. If something in it is still needed although much of the log is not, that is written again
//! at the end (`tidy`). So whatever replaced a row lies behind it until the row is gone, unless the row was moved: then
//! the log says that it is gone.

mod frame;
mod scan;
mod shelf;
mod spare;
mod tidy;

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use plimsoll_mvcc::{Revision, Row};

pub(crate) use frame::{Frame, Kind};
pub(crate) use scan::{Found, read};
pub(crate) use tidy::Tidy;

use crate::StoreError;
use shelf::{Reader, Shelf, Slot, Volume};
use spare::Spare;

/// How large a file is made at most.
const LARGEST: u64 = 256 << 20;
/// How large a file becomes at most while the next one cannot be made: places in it are numbers of 32 bits.
const FAR: u64 = 1 << 30;
/// A file has this part of what is kept,
const PART: u64 = 64;
/// or, while files are full more often than so many times in a second, what is written in that time, up to this part.
const OFTEN: u64 = 16;
const SHARE: u64 = 8;

/// An open log.
#[derive(Debug)]
pub(crate) struct Log {
    folder: PathBuf,
    tail: Mutex<Tail>,
    shelf: RwLock<Shelf>,
    spare: Spare,
    /// How large a file is at least.
    smallest: u64,
    /// Held by who moves rows.
    tidying: Mutex<()>,
}

/// The end of the log.
#[derive(Debug)]
struct Tail {
    file: Arc<File>,
    volume: u32,
    at: u64,
    /// Where the next file begins, if it is there.
    room: u64,
    /// The number of the next frame.
    number: u64,
    /// The oldest file that counts.
    first: u32,
    began: Instant,
    /// Something of the end was not written: nothing may follow it.
    broken: bool,
}

/// Key and value of a row.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// The rows of some moment, in order of their revisions.
pub(crate) struct Rows {
    slots: std::vec::IntoIter<Slot>,
    reader: Reader,
}

impl Log {
    /// Opens the log in a folder, or makes it when it is to be a `fresh` one.
    pub(crate) fn open(folder: &Path, smallest: u64, fresh: bool) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Directory { path: folder.into(), source };
        let store = folder.parent().unwrap_or(folder);
        if fresh && !folder.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
            spare::sync(store).map_err(failed)?;
        }
        let found = if folder.is_dir() { read(folder)? } else { Found::default() };
        if found.frames == 0 && !fresh {
            return Err(missing(store));
        }
        let log = Self::start(folder, smallest, found).map_err(failed)?;
        if fresh {
            // Where there is a log, there is a frame: one that has none has lost it.
            log.append(&mut Frame::default()).map_err(failed)?;
        }
        Ok(log)
    }

    fn start(folder: &Path, smallest: u64, found: Found) -> io::Result<Self> {
        let Found { mut shelf, number, next: volume, idle, last, .. } = found;
        if let Some((path, length)) = last {
            let file = File::options().write(true).open(path)?;
            if file.metadata()?.len() > length {
                file.set_len(length)?;
                file.sync_all()?;
            }
        }
        spare::remove(idle)?;
        let file = Arc::new(spare::create(folder, volume)?);
        let first = shelf.volumes.keys().next().copied().unwrap_or(volume);
        shelf.volumes.insert(volume, Volume { file: Arc::clone(&file), length: 0, kept: 0 });
        // It has no zeros ahead: the next file follows as soon as it is there.
        let (began, broken) = (Instant::now(), false);
        let tail = Tail { file, volume, at: 0, room: 0, number, first, began, broken };
        let spare = Spare::start(folder)?;
        let log = Self {
            folder: folder.into(),
            tail: Mutex::new(tail),
            shelf: RwLock::new(shelf),
            spare,
            smallest,
            tidying: Mutex::default(),
        };
        log.spare.want(volume + 1, log.size_of_next(Duration::MAX, 0));
        Ok(log)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("nothing panics while it writes")
    }

    fn shelf(&self) -> RwLockReadGuard<'_, Shelf> {
        self.shelf.read().expect("nothing panics while it notes rows")
    }

    fn shelf_mut(&self) -> RwLockWriteGuard<'_, Shelf> {
        self.shelf.write().expect("nothing panics while it notes rows")
    }

    fn moving(&self) -> MutexGuard<'_, ()> {
        self.tidying.lock().expect("nothing panics while it moves rows")
    }

    /// Appends a frame and syncs it: all of it or nothing is there after a crash. How long the sync took.
    pub(crate) fn append(&self, frame: &mut Frame) -> io::Result<Duration> {
        self.write(&mut self.tail(), frame)
    }

    fn write(&self, tail: &mut Tail, frame: &mut Frame) -> io::Result<Duration> {
        if tail.broken {
            return Err(io::Error::other("a write before this one failed"));
        }
        let written = self.try_write(tail, frame);
        tail.broken = written.is_err();
        written
    }

    fn try_write(&self, tail: &mut Tail, frame: &mut Frame) -> io::Result<Duration> {
        // A file without frames would be taken for one that was never used.
        if tail.at >= tail.room.max(1) {
            let far = tail.at >= FAR;
            if far {
                self.spare.wait();
            }
            match self.next(tail) {
                Ok(Some(next)) => self.turn_over(tail, next)?,
                Err(error) if far => return Err(error),
                Ok(None) | Err(_) => {}
            }
        }
        (&*tail.file).write_all(frame.seal(tail.number, tail.first))?;
        let syncing = Instant::now();
        tail.file.sync_data()?;
        let synced = syncing.elapsed();
        let base = tail.at;
        tail.number += 1;
        tail.at += frame.len() as u64;
        let mut shelf = self.shelf_mut();
        for item in frame.items() {
            shelf.note(tail.volume, base, &item);
        }
        if let Some(volume) = shelf.volumes.get_mut(&tail.volume) {
            volume.length = tail.at;
        }
        Ok(synced)
    }

    /// The next file, if it is there. Where it cannot be made, it is tried again; this one takes what comes meanwhile.
    fn next(&self, tail: &Tail) -> io::Result<Option<spare::Ready>> {
        self.spare.take().inspect_err(|error| {
            tracing::warn!(%error, "the next file of the store's log cannot be made, trying again");
            self.spare.want(tail.volume + 1, self.size_of_next(tail.began.elapsed(), tail.at));
        })
    }

    /// Goes on in the next file.
    fn turn_over(&self, tail: &mut Tail, next: spare::Ready) -> io::Result<()> {
        let size = self.size_of_next(tail.began.elapsed(), tail.at);
        if tail.at < tail.room {
            // What is left of the zeros. If they come back, they are zeros.
            tail.file.set_len(tail.at)?;
        }
        (tail.file, tail.volume, tail.at, tail.room) = (Arc::new(next.file), next.number, 0, next.room);
        tail.began = Instant::now();
        let volume = Volume { file: Arc::clone(&tail.file), length: 0, kept: 0 };
        self.shelf_mut().volumes.insert(tail.volume, volume);
        self.spare.want(tail.volume + 1, size);
        Ok(())
    }

    /// A small part of what is kept, so that the log is hardly larger than that; more while much is written.
    fn size_of_next(&self, took: Duration, written: u64) -> u64 {
        let (_, kept) = self.shelf().bytes();
        let often = (written as f64 / took.as_secs_f64().max(0.001)) as u64 / OFTEN;
        (kept / PART).max(often.min(kept / SHARE)).clamp(self.smallest, LARGEST.max(self.smallest))
    }

    /// A row about the store.
    pub(crate) fn note(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.shelf().notes.get(key).map(|note| note.value.clone())
    }

    /// All rows about the store whose keys begin so.
    pub(crate) fn notes(&self, prefix: &[u8]) -> Vec<Pair> {
        let shelf = self.shelf();
        let notes = shelf.notes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        notes.map(|(key, note)| (key.clone(), note.value.clone())).collect()
    }

    /// The rows of a revision.
    fn of(&self, revision: Revision) -> (Vec<Slot>, Reader) {
        let shelf = self.shelf();
        let slots = shelf.of(revision.0);
        let reader = shelf.reader_of(&slots);
        (slots, reader)
    }

    /// The row of a key at a revision.
    pub(crate) fn get(&self, row: &Row) -> io::Result<Option<Vec<u8>>> {
        let (slots, reader) = self.of(row.revision);
        for slot in slots {
            let (key, value) = reader.one(&slot)?;
            if key.get(8..) == Some(row.key.as_bytes()) {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// The rows from a revision on that there are at this moment, in order: at least so many, whole revisions, and one
    /// row more, if there are.
    pub(crate) fn first_rows(&self, from: Revision, least: usize) -> Rows {
        let shelf = self.shelf();
        Rows { slots: shelf.from(from.0, least).into_iter(), reader: shelf.reader() }
    }

    /// The rows about the store and all others, of the same moment.
    pub(crate) fn everything(&self) -> (Vec<Pair>, Rows) {
        let shelf = self.shelf();
        let notes = shelf.notes.iter().map(|(key, note)| (key.clone(), note.value.clone())).collect();
        (notes, Rows { slots: shelf.from(1, usize::MAX).into_iter(), reader: shelf.reader() })
    }

    /// Lets rows go. A crash may bring them back.
    pub(crate) fn remove(&self, rows: &[Row]) -> io::Result<()> {
        // Who moves a row would not know that it went.
        let _turn = self.moving();
        let mut gone = Frame::default();
        for row in rows {
            let Some(slot) = self.find(row)? else { continue };
            self.shelf_mut().forget(&slot);
            if slot.moved() {
                let key = [&slot.revision.to_be_bytes()[..], row.key.as_bytes()];
                gone.add(Kind::Gone, key, |value| value.extend_from_slice(&slot.sub.to_le_bytes()));
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.append(&mut gone).map(drop)
    }

    fn find(&self, row: &Row) -> io::Result<Option<Slot>> {
        let (slots, reader) = self.of(row.revision);
        if let [] | [_] = slots[..] {
            return Ok(slots.first().copied());
        }
        for slot in slots {
            if reader.one(&slot)?.0.get(8..) == Some(row.key.as_bytes()) {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }
}

/// The store has lost its log.
pub(crate) fn missing(store: &Path) -> StoreError {
    StoreError::Missing { path: store.into(), file: "log/00000001.log".into() }
}

/// Clears what is left of a log that was never ready, below a store.
pub(crate) fn clear(store: &Path) -> Result<(), StoreError> {
    let folder = store.join("log");
    if !folder.is_dir() {
        return Ok(());
    }
    let found = read(&folder)?;
    // One frame is written when the log is made.
    if found.frames > 1 || found.rows().next().is_some() {
        return Err(StoreError::Missing { path: store.into(), file: "format".into() });
    }
    fs::remove_dir_all(&folder).map_err(|source| StoreError::Directory { path: folder, source })
}

impl Found {
    /// All rows that were found.
    pub(crate) fn rows(&self) -> Rows {
        Rows { slots: self.shelf.from(1, usize::MAX).into_iter(), reader: self.shelf.reader() }
    }
}

impl Iterator for Rows {
    type Item = io::Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.slots.next().map(|slot| self.reader.row(&slot))
    }
}
