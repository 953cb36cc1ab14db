//! Large files go to the disk little by little.
//!
//! What enters: a folder, and work that writes files there and syncs each when it is whole. What leaves: the same
//! files, parts of which were synced all along. A sync of the whole at the end would keep the disk busy for so long
//! that writers wait.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// What is written in this time goes together: a few megabytes.
const STEP: Duration = Duration::from_millis(10);

/// Does the work while the files that grow in `folder` are synced.
pub(crate) fn beside<T>(folder: &Path, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        // The thread ends when this end is gone.
        let (_end, ended) = mpsc::channel::<()>();
        let started = thread::Builder::new()
            .name("store-trickle".into())
            .spawn_scoped(scope, move || run(folder, &ended));
        if let Err(error) = started {
            tracing::warn!(%error, "tables are synced as a whole; writers may wait for that");
        }
        work()
    })
}

fn run(folder: &Path, ended: &Receiver<()>) {
    let mut lengths = HashMap::new();
    while matches!(ended.recv_timeout(STEP), Err(RecvTimeoutError::Timeout)) {
        // Whoever writes the files syncs them, too, and learns what is wrong.
        let _ = look(folder, &mut lengths);
    }
}

/// Syncs the files that grew.
fn look(folder: &Path, lengths: &mut HashMap<std::ffi::OsString, u64>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let length = entry.metadata()?.len();
        if lengths.insert(entry.file_name(), length) != Some(length) {
            File::open(entry.path())?.sync_data()?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn files_that_grow_are_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut lengths = HashMap::new();
        fs::write(folder.path().join("1"), "one").unwrap();
        look(folder.path(), &mut lengths).unwrap();
        fs::write(folder.path().join("1"), "one and two").unwrap();
        fs::write(folder.path().join("2"), "").unwrap();
        look(folder.path(), &mut lengths).unwrap();
        assert_eq!((lengths["1".as_ref() as &std::ffi::OsStr], lengths.len()), (11, 2));
        assert_eq!(beside(folder.path(), || 7), 7);
    }
}
