//! Room ahead of what is written of the newest journal.
//!
//! What enters: batches, and how large they are. What leaves: the same batches in fjall's journal, whose next
//! megabytes are zeros that the disk has already, so that a sync writes what was appended and nothing else. fjall
//! leaves a hole there, and a sync into a hole waits until the file system has found blocks and noted them.
//!
//! Zeros go only where there is a hole while nobody appends, so whoever reads the journal reads the same as before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Whence, lseek};

use crate::journal::journals;

/// How far the room reaches.
const AHEAD: u64 = 8 << 20;
/// How much of it is made while nobody can append.
const STEP: u64 = 128 << 10;
/// How much of it is synced together, and how much is appended before somebody looks again.
const PIECE: u64 = 1 << 20;
/// What is left free of a disk: a full one has better use for its last blocks.
const SPARE: u64 = 256 << 20;

/// The way of batches into the journal.
pub(crate) struct Ahead {
    turn: Arc<Turn>,
    /// None only while closing.
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Whose turn it is to write to the journal.
#[derive(Default)]
struct Turn {
    taken: Mutex<()>,
    /// How many bytes were appended since the store was opened.
    appended: AtomicU64,
}

impl Turn {
    fn take(&self) -> MutexGuard<'_, ()> {
        self.taken.lock().expect("nothing panics while it has its turn")
    }
}

impl Ahead {
    /// Watches over the journals of a database, for as long as it is open.
    pub(crate) fn start(db: &Path) -> io::Result<Self> {
        let turn = Arc::new(Turn::default());
        let (wake, woken) = mpsc::sync_channel(1);
        let layer = Layer { db: db.into(), turn: Arc::clone(&turn), journal: None };
        let thread = thread::Builder::new().name("store-journal".into()).spawn(move || layer.run(&woken))?;
        Ok(Self { turn, wake: Some(wake), thread: Some(thread) })
    }

    /// Appends a batch of about so many bytes.
    pub(crate) fn append(&self, batch: fjall::OwnedWriteBatch, bytes: u64) -> Result<(), fjall::Error> {
        let committed = {
            let _turn = self.turn.take();
            batch.commit()
        };
        let before = self.turn.appended.fetch_add(bytes, Ordering::Relaxed);
        if before / PIECE != (before + bytes) / PIECE
            && let Some(wake) = &self.wake
        {
            // Who was woken before and has not looked yet will see this, too.
            let _ = wake.try_send(());
        }
        committed
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It panics nowhere; what it did is of no use any more.
            let _ = thread.join();
        }
    }
}

/// Makes the room.
struct Layer {
    db: PathBuf,
    turn: Arc<Turn>,
    journal: Option<Journal>,
}

/// The newest journal.
struct Journal {
    path: PathBuf,
    file: File,
    /// How many bytes had been appended when its first byte was.
    began: u64,
    /// Where the room ends.
    end: u64,
}

impl Layer {
    fn run(mut self, woken: &Receiver<()>) {
        loop {
            if let Err(error) = self.look() {
                tracing::warn!(%error, "no room is made ahead in the journal; syncs take longer");
                return;
            }
            if woken.recv().is_err() {
                return;
            }
        }
    }

    fn look(&mut self) -> io::Result<()> {
        let Some(path) = journals(&self.db)?.pop() else { return Ok(()) };
        let appended = self.turn.appended.load(Ordering::Relaxed);
        let known = self.journal.take().filter(|journal| journal.path == path);
        let journal = self.journal.insert(match known {
            Some(journal) => journal,
            None => Journal::open(path, appended)?,
        });
        let until = appended.saturating_sub(journal.began) + AHEAD;
        while journal.end < until && free(&journal.file)? > SPARE {
            let piece = journal.end + PIECE;
            while journal.end < piece {
                let _turn = self.turn.take();
                if !journal.lay()? {
                    return Ok(());
                }
            }
            journal.file.sync_data()?;
        }
        Ok(())
    }
}

impl Journal {
    fn open(path: PathBuf, appended: u64) -> io::Result<Self> {
        let file = File::options().write(true).open(&path)?;
        let used = seek(&file, 0, Whence::SeekHole)?.unwrap_or(0);
        Ok(Self { path, file, began: appended.saturating_sub(used), end: 0 })
    }

    /// Fills the beginning of the next hole; false when there is none. The turn is the caller's.
    fn lay(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        let hole = seek(&self.file, self.end, Whence::SeekHole)?.filter(|hole| *hole < length);
        let Some(hole) = hole else { return Ok(false) };
        let data = seek(&self.file, hole, Whence::SeekData)?.unwrap_or(length);
        let end = data.min(hole + STEP);
        self.file.write_all_at(&[0; STEP as usize][..(end - hole) as usize], hole)?;
        self.end = end;
        Ok(true)
    }
}

/// The next data or hole from a place on; none: there is none.
fn seek(file: &File, from: u64, whence: Whence) -> io::Result<Option<u64>> {
    match lseek(file, from.cast_signed(), whence) {
        Ok(found) => Ok(Some(found.cast_unsigned())),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How many bytes of a file's disk are free.
fn free(file: &File) -> io::Result<u64> {
    let found = fstatvfs(file)?;
    Ok(found.blocks_available() * found.fragment_size())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn zeros_go_into_holes_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("3.jnl");
        let file = File::create(&path).unwrap();
        file.set_len(4 * STEP).unwrap();
        file.write_all_at(&[7; 5000], 0).unwrap();
        // Somebody appended far meanwhile.
        file.write_all_at(&[8; 100], 2 * STEP).unwrap();
        let before = fs::read(&path).unwrap();
        let mut journal = Journal::open(path.clone(), 6000).unwrap();
        while journal.lay().unwrap() {
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        assert_eq!(seek(&file, 0, Whence::SeekHole).unwrap(), Some(4 * STEP), "no hole is left");
        assert_eq!(file.metadata().unwrap().len(), before.len() as u64);
    }

    #[test]
    fn the_newest_journal_has_room_ahead() {
        let folder = tempfile::tempdir().unwrap();
        let empty = |name: &str| {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_len(64 << 20).unwrap();
            file
        };
        let (turn, first) = (Arc::new(Turn::default()), empty("1.jnl"));
        let mut layer = Layer { db: folder.path().into(), turn: Arc::clone(&turn), journal: None };
        layer.look().unwrap();
        let room = |file: &File| seek(file, 0, Whence::SeekHole).unwrap().unwrap();
        assert_eq!(room(&first), AHEAD);
        turn.appended.store(3 * PIECE, Ordering::Relaxed);
        layer.look().unwrap();
        assert_eq!(room(&first), AHEAD + 3 * PIECE);
        let second = empty("2.jnl");
        layer.look().unwrap();
        assert_eq!((room(&first), room(&second)), (AHEAD + 3 * PIECE, AHEAD));
    }
}
