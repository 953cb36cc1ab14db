//! The file that comes next, made ahead.
//!
//! A sync of a file that grows waits until the file system has found blocks and noted them in a journal of its own.
//! So a thread fills the next file with zeros, syncs it and its folder, and then it waits to be taken. Zeros are what
//! nothing was written over.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

use nix::sys::statvfs::fstatvfs;

use super::scan;

/// So many zeros are written, and synced, at once.
const STEP: usize = 1 << 20;
/// What is left free of a disk: a full one has better use for its last blocks.
const FREE: u64 = 256 << 20;

/// A file that is ready.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) number: u32,
    pub(crate) file: File,
    pub(crate) room: u64,
}

#[derive(Debug)]
enum State {
    Wanted(u32, u64),
    Making,
    Ready(Ready),
    Failed(io::Error),
    Idle,
    Closed,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    folder: PathBuf,
}

/// The thread, and what it made.
#[derive(Debug)]
pub(crate) struct Spare {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Spare {
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        let (state, changed) = (Mutex::new(State::Idle), Condvar::new());
        let shared = Arc::new(Shared { state, changed, folder: folder.into() });
        let own = Arc::clone(&shared);
        let thread = thread::Builder::new().name("store-ahead".into()).spawn(move || own.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has a file made, of a number and a size.
    pub(crate) fn want(&self, number: u32, size: u64) {
        *self.shared.state() = State::Wanted(number, size);
        self.shared.changed.notify_all();
    }

    /// The file, if it is there already.
    pub(crate) fn take(&self) -> io::Result<Option<Ready>> {
        let mut state = self.shared.state();
        match std::mem::replace(&mut *state, State::Idle) {
            State::Ready(ready) => Ok(Some(ready)),
            State::Failed(error) => Err(error),
            other => {
                *state = other;
                Ok(None)
            }
        }
    }

    /// Waits until there is one, or none comes.
    pub(crate) fn wait(&self) {
        let mut state = self.shared.state();
        while matches!(*state, State::Wanted(..) | State::Making) {
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        *self.shared.state() = State::Closed;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It panics nowhere; what it did is of no use any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the next file")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("nothing panics while it holds the next file")
    }

    fn run(&self) {
        loop {
            let mut state = self.state();
            let (number, size) = loop {
                match *state {
                    State::Closed => return,
                    State::Wanted(number, size) => break (number, size),
                    _ => state = self.wait(state),
                }
            };
            *state = State::Making;
            drop(state);
            let made = self.make(number, size);
            let mut state = self.state();
            if matches!(*state, State::Making) {
                *state = made.map_or_else(State::Failed, State::Ready);
            }
            self.changed.notify_all();
        }
    }

    fn make(&self, number: u32, size: u64) -> io::Result<Ready> {
        let file = create(&self.folder, number)?;
        let filled = self.fill(&file, size);
        if filled.is_err() {
            // It would be in the way of the next attempt.
            let _ = fs::remove_file(scan::name(&self.folder, number));
        }
        filled.map(|()| Ready { number, file, room: size })
    }

    fn fill(&self, file: &File, size: u64) -> io::Result<()> {
        let mut room = 0;
        while room < size && free(file)? > FREE && !self.closed() {
            let step = STEP.min(usize::try_from(size - room).unwrap_or(STEP));
            (&*file).write_all(&ZEROS[..step])?;
            file.sync_data()?;
            room += step as u64;
        }
        if room > 0 {
            io::Seek::rewind(&mut &*file)?;
        }
        Ok(())
    }

    fn closed(&self) -> bool {
        matches!(*self.state(), State::Closed)
    }
}

static ZEROS: [u8; STEP] = [0; STEP];

/// A new file, whose name is durable.
pub(crate) fn create(folder: &Path, number: u32) -> io::Result<File> {
    let path = scan::name(folder, number);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    sync(folder).inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(file)
}

pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Removes files that are needed no more. Those that come back after a power cut are known to be old.
pub(crate) fn remove(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<()> {
    paths.into_iter().try_for_each(fs::remove_file)
}

/// How many bytes of a file's disk are free.
fn free(file: &File) -> io::Result<u64> {
    let found = fstatvfs(file)?;
    Ok(found.blocks_available() * found.fragment_size())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_zeros_is_made_ahead_and_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let spare = Spare::start(folder.path()).unwrap();
        assert!(spare.take().unwrap().is_none());
        spare.want(7, 3 << 20);
        spare.wait();
        let ready = spare.take().unwrap().unwrap();
        assert_eq!((ready.number, ready.room), (7, 3 << 20));
        let bytes = fs::read(scan::name(folder.path(), 7)).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        assert!(spare.take().unwrap().is_none());
        spare.want(7, 1 << 20);
        spare.wait();
        assert_eq!(spare.take().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
