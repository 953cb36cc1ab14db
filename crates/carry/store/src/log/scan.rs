//! What lies in the files of a log when nobody writes to them.
//!
//! Each frame is synced before the next one is written. So a power cut leaves at most one that is not whole, and
//! nothing behind it: nobody was told of that one, and it is dropped. A whole frame behind it means that the disk lost
//! what it had: then nothing is changed, and the log is refused.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_mvcc::Revision;

use super::frame::{Kind, Whole};
use super::shelf::{self, Shelf, Slot, Volume};
use crate::{StoreError, row};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) shelf: Shelf,
    /// How many frames are whole.
    pub(crate) frames: usize,
    /// The number of the next frame.
    pub(crate) number: u64,
    /// The number of the next file.
    pub(crate) next: u32,
    /// Files that are needed no more: older ones, and empty ones.
    pub(crate) idle: Vec<PathBuf>,
    /// The file that was written to last, and how much of it is whole.
    pub(crate) last: Option<(PathBuf, u64)>,
}

/// The name of a file.
pub(crate) fn name(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

/// Reads a log; changes nothing.
pub(crate) fn read(folder: &Path) -> Result<Found, StoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Directory { path, source }
    };
    let files = files(folder).map_err(failed(folder))?;
    let (first, mut files, idle) = counted(files).map_err(failed(folder))?;
    if let Some((number, path)) = files.first().filter(|(number, _)| first > 0 && *number != first) {
        tracing::error!(first, number, "a file of the store's log is missing");
        return Err(StoreError::Torn { path: path.clone(), revision: Revision::FIRST });
    }
    let found = Found { number: 1, next: 1, idle, ..Found::default() };
    let mut reading =
        Reading { found, slots: Vec::new(), revision: Revision::FIRST, torn: None, before: None };
    for (number, path) in files.drain(..) {
        let bytes = fs::read(&path).map_err(failed(&path))?;
        let file = File::open(&path).map_err(failed(&path))?;
        reading.file(number, path, &bytes, file)?;
    }
    let Reading { mut found, slots, .. } = reading;
    found.shelf.fill(slots);
    Ok(found)
}

type Files = Vec<(u32, PathBuf)>;

/// The files of a folder, oldest first.
fn files(folder: &Path) -> io::Result<Files> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.extension().filter(|end| *end == "log").and(path.file_stem());
        let number = stem.and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found)
}

/// Those that count, and those that were deleted but came back: the newest frame says which.
fn counted(mut files: Files) -> io::Result<(u32, Files, Vec<PathBuf>)> {
    let mut first = 0;
    for (_, path) in files.iter().rev() {
        let bytes = fs::read(path)?;
        if let Some(last) = frames(&bytes).last() {
            first = last.first;
            break;
        }
    }
    let counted = files.split_off(files.partition_point(|(number, _)| *number < first));
    Ok((first, counted, files.into_iter().map(|(_, path)| path).collect()))
}

/// The frames that follow each other from the beginning.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Whole<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = Whole::read(bytes.get(at..)?)?;
        at += frame.bytes.len();
        Some(frame)
    })
}

struct Reading {
    found: Found,
    slots: Vec<(Slot, Kind)>,
    /// The newest one so far.
    revision: Revision,
    /// The first file with something that is not whole.
    torn: Option<PathBuf>,
    /// The number of the file before.
    before: Option<u32>,
}

impl Reading {
    fn file(&mut self, number: u32, path: PathBuf, bytes: &[u8], file: File) -> Result<(), StoreError> {
        let missing = self.before.replace(number).is_some_and(|before| before + 1 != number);
        let mut at = 0_u64;
        let file = Volume { file: Arc::new(file), length: 0, kept: 0 };
        self.found.shelf.volumes.insert(number, file);
        for frame in frames(bytes) {
            let astray = self.found.frames > 0 && frame.number != self.found.number;
            if self.torn.is_some() || missing || astray {
                let path = self.torn.take().unwrap_or(path);
                return Err(StoreError::Torn { path, revision: self.revision });
            }
            self.frame(number, at, &frame);
            at += frame.bytes.len() as u64;
        }
        let rest = &bytes[usize::try_from(at).unwrap_or(bytes.len())..];
        if rest.iter().any(|byte| *byte != 0) {
            if self.behind(rest) {
                return Err(StoreError::Torn { path, revision: self.revision });
            }
            self.torn.get_or_insert(path.clone());
        }
        if let Some(volume) = self.found.shelf.volumes.get_mut(&number) {
            volume.length = at;
        }
        if at > 0 {
            self.found.last = Some((path, at));
            self.found.next = number + 1;
        } else {
            self.found.shelf.volumes.remove(&number);
            self.found.idle.push(path);
        }
        Ok(())
    }

    fn frame(&mut self, file: u32, base: u64, frame: &Whole<'_>) {
        for item in frame.items() {
            let revision = row::revision_of(item.key);
            if revision.0 == 0 {
                self.found.shelf.note(file, base, &item);
            } else {
                self.slots.push((shelf::slot(file, base, &item), item.kind));
                self.revision = self.revision.max(revision);
            }
        }
        self.found.frames += 1;
        self.found.number = frame.number + 1;
    }

    /// Whether a later frame lies behind something that is not whole.
    fn behind(&self, rest: &[u8]) -> bool {
        let later = |frame: Whole<'_>| frame.number > self.found.number || self.found.frames == 0;
        (1..rest.len()).any(|at| Whole::read(&rest[at..]).is_some_and(later))
    }
}
