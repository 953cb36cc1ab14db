//! A file that is there as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file that is written beside its place, under a name of its own; it goes away unless it is finished.
#[derive(Debug)]
pub struct Draft {
    to: PathBuf,
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Draft {
    /// Begins the file that is to be at `to`; its owner alone may read it.
    ///
    /// # Errors
    /// When there is a folder, or nothing can be written there.
    pub fn begin(to: &Path) -> io::Result<Self> {
        let name = to.file_name().filter(|_| !to.is_dir()).ok_or(io::ErrorKind::IsADirectory)?;
        let mut draft = name.to_owned();
        draft.push(".part");
        let path = to.with_file_name(draft);
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(Self { to: to.to_owned(), path, file, finished: false })
    }

    /// Where it is before it is finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.to)?;
        self.finished = true;
        sync_folder(&self.to)
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // Whoever asked for it is told of the first failure.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the name of a file durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let (one, other) = (folder.path().join("copy.db"), folder.path().join("copy.txt"));
        fs::write(&other, "before").unwrap();
        let mut draft = Draft::begin(&one).unwrap();
        draft.write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(names(), ["copy.txt"]);
        // Files of one name with different ends do not meet.
        let mut drafts = [&one, &other].map(|path| Draft::begin(path).unwrap());
        for (draft, text) in drafts.iter_mut().zip(["1", "2"]) {
            draft.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "before");
        drafts.into_iter().for_each(|draft| draft.finish().unwrap());
        assert_eq!([one, other].map(|path| fs::read_to_string(path).unwrap()), ["1", "2"]);
        assert_eq!(Draft::begin(folder.path()).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        assert_eq!(names(), ["copy.db", "copy.txt"]);
    }
}
