//! Room that comes back.

use std::io;

use super::frame::{Frame, Kind};
use super::{LARGEST, Log, PART, scan, spare};

/// So much is moved at once: writers wait for its sync.
const STEP: usize = 128 << 10;
/// How many times the size of a file may be needless beside a quarter of what is kept.
const SLACK: u64 = 2;

/// So many files may there be: each is open, and each start of the store begins one.
const FILES: usize = 256;

/// Which files are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tidy {
    /// Those of which nothing is needed; others as long as more than a quarter of the log is needless, or they are too many.
    Needless,
    /// All but those that are written now.
    All,
}

impl Log {
    /// Gives room back, the oldest file first, until `stop` says so.
    pub(crate) fn tidy(&self, what: Tidy, stop: &dyn Fn() -> bool) -> io::Result<()> {
        let _turn = self.moving();
        if what == Tidy::All {
            self.leave()?;
        }
        let end = self.tail().volume;
        while let Some(oldest) = self.oldest(end, what) {
            if stop() {
                break;
            }
            self.empty(oldest)?;
            self.cut(oldest + 1)?;
        }
        Ok(())
    }

    /// Ends the file that is written to, so that it can go, too.
    fn leave(&self) -> io::Result<()> {
        self.spare.wait();
        let mut tail = self.tail();
        if tail.at > 0
            && let Some(next) = self.next(&tail)?
        {
            self.turn_over(&mut tail, next)?;
        }
        Ok(())
    }

    /// The oldest file that is to go.
    fn oldest(&self, end: u32, what: Tidy) -> Option<u32> {
        let shelf = self.shelf();
        let (oldest, volume) = shelf.volumes.range(..end).next()?;
        let (length, kept) = shelf.bytes();
        let file = (kept / PART).clamp(self.smallest, LARGEST.max(self.smallest));
        let needless = length > kept + kept / 4 + SLACK * file || shelf.volumes.len() > FILES;
        (what == Tidy::All || volume.kept == 0 || needless).then_some(*oldest)
    }

    /// Moves what is needed of a file to the end.
    fn empty(&self, volume: u32) -> io::Result<()> {
        let (slots, mut reader) = {
            let shelf = self.shelf();
            (shelf.within(volume), shelf.reader())
        };
        let mut frame = Frame::default();
        for slot in slots {
            let (key, value) = reader.row(&slot)?;
            frame.add(Kind::Moved, [&key, &[]], |bytes| bytes.extend_from_slice(&value));
            if frame.len() >= STEP {
                self.append(&mut frame)?;
                frame.clear();
            }
        }
        // What is said about the store may change meanwhile, but not while it is this one's turn to write.
        let mut tail = self.tail();
        for (key, note) in self.shelf().notes.iter().filter(|(_, note)| note.file == volume) {
            frame.add(Kind::Written, [key, &[]], |bytes| bytes.extend_from_slice(&note.value));
        }
        if frame.is_empty() { Ok(()) } else { self.write(&mut tail, &mut frame).map(drop) }
    }

    /// Says that the log begins later, and removes what is before.
    fn cut(&self, first: u32) -> io::Result<()> {
        let mut tail = self.tail();
        tail.first = first;
        self.write(&mut tail, &mut Frame::default())?;
        drop(tail);
        let gone = {
            let mut shelf = self.shelf_mut();
            let later = shelf.volumes.split_off(&first);
            std::mem::replace(&mut shelf.volumes, later)
        };
        spare::remove(gone.into_keys().map(|number| scan::name(&self.folder, number)))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use plimsoll_mvcc::{Revision, Row};

    use super::*;
    use crate::row;

    const SMALL: u64 = 4096;

    fn open(folder: &Path) -> Log {
        Log::open(folder, SMALL, true).unwrap()
    }

    fn write(log: &Log, revision: i64, value: &[u8]) -> Row {
        let row = Row { revision: Revision(revision), key: "/a".into() };
        let mut frame = Frame::default();
        let key = row::row_key(row.revision, &row.key);
        frame.add(Kind::Written, [&key, &[]], |bytes| bytes.extend_from_slice(value));
        log.append(&mut frame).unwrap();
        row
    }

    fn revisions(log: &Log) -> Vec<i64> {
        let revision = |row: io::Result<(Vec<u8>, Vec<u8>)>| row::revision_of(&row.unwrap().0).0;
        log.first_rows(Revision::FIRST, usize::MAX).map(revision).collect()
    }

    #[test]
    fn a_row_that_was_moved_behind_what_replaced_it_goes_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let put = write(&log, 2, b"put");
        log.leave().unwrap();
        let deletion = write(&log, 3, b"deletion");
        log.leave().unwrap();
        // History is needed still: the first file's part of it lies behind the second file now.
        log.empty(1).unwrap();
        log.cut(2).unwrap();
        drop(log);
        let log = open(folder.path());
        assert_eq!(revisions(&log), [2, 3]);
        log.remove(&[put, deletion]).unwrap();
        log.tidy(Tidy::Needless, &|| false).unwrap();
        assert!(!scan::name(folder.path(), 2).exists(), "what replaced it is gone");
        drop(log);
        assert_eq!(revisions(&open(folder.path())), [0; 0]);
    }

    #[test]
    fn what_is_in_the_way_of_the_next_file_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        write(&log, 2, &[7; 2 * SMALL as usize]);
        log.leave().unwrap();
        log.spare.wait();
        let _ = log.spare.take().unwrap();
        let next = scan::name(folder.path(), log.tail().volume + 1);
        std::fs::remove_file(&next).unwrap();
        std::fs::create_dir(&next).unwrap();
        log.spare.want(log.tail().volume + 1, SMALL);
        for revision in 3..9 {
            log.spare.wait();
            write(&log, revision, &[7; 2 * SMALL as usize]);
        }
        assert!(log.leave().is_err());
        std::fs::remove_dir(&next).unwrap();
        log.spare.wait();
        // What failed before is told once more.
        let _ = log.leave();
        log.leave().unwrap();
        assert!(next.is_file());
        drop(log);
        assert_eq!(revisions(&open(folder.path())), (2..9).collect::<Vec<_>>());
    }

    #[test]
    fn many_starts_do_not_leave_many_files() {
        // In memory where there is some: it is about files, not about the disk.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let starts = i64::try_from(FILES).unwrap() + 20;
        for revision in 2..2 + starts {
            write(&open(folder.path()), revision, b"needed");
        }
        let log = open(folder.path());
        log.tidy(Tidy::Needless, &|| false).unwrap();
        assert!(log.shelf().volumes.len() <= FILES);
        drop(log);
        assert_eq!(revisions(&open(folder.path())), (2..2 + starts).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_needed_is_there_after_the_files_went() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        let mut frame = Frame::default();
        frame.add(Kind::Written, [&row::compacted_key(), &[]], |bytes| bytes.extend_from_slice(b"note"));
        log.append(&mut frame).unwrap();
        let rows: Vec<_> = (2..60).map(|revision| write(&log, revision, &[7; 1000])).collect();
        log.remove(&rows[..50]).unwrap();
        log.tidy(Tidy::All, &|| false).unwrap();
        let right: Vec<_> = (52..60).collect();
        assert_eq!(revisions(&log), right);
        let (length, kept) = log.shelf().bytes();
        assert!(length < kept + kept / 4 + SMALL, "{length} bytes for {kept}");
        drop(log);
        let log = open(folder.path());
        assert_eq!((revisions(&log), log.note(&row::compacted_key()).unwrap()), (right, b"note".to_vec()));
        assert_eq!(log.get(&rows[55]).unwrap().unwrap(), [7; 1000]);
        assert!(log.get(&rows[5]).unwrap().is_none());
    }
}
