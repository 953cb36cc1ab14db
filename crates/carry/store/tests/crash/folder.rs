//! Folders of a store as they are, and as a power cut might leave them.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use nix::unistd::{Whence, lseek};

use crate::Dice;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Scratch space, in memory where there is some: what is simulated needs no disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let here = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    here.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a folder; holes stay holes. Files that vanish meanwhile are left out.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&source, &target),
            false => copy_file(&source, &target),
        }
    }
}

fn copy_file(from: &Path, to: &Path) {
    let mut source = File::open(from).unwrap();
    let length = source.metadata().unwrap().len();
    let mut target = File::create(to).unwrap();
    let mut at = 0;
    while let Ok(data) = lseek(&source, at, Whence::SeekData) {
        let end = lseek(&source, data, Whence::SeekHole).unwrap();
        let mut bytes = vec![0; (end - data) as usize];
        source.seek(SeekFrom::Start(data as u64)).unwrap();
        source.read_exact(&mut bytes).unwrap();
        target.seek(SeekFrom::Start(data as u64)).unwrap();
        target.write_all(&bytes).unwrap();
        at = end;
    }
    target.set_len(length).unwrap();
}

/// The files of the log, oldest first.
pub(crate) fn journals(folder: &Path) -> Vec<PathBuf> {
    let number = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    let files = fs::read_dir(folder.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let mut journals: Vec<_> = files.collect();
    journals.sort_by_key(number);
    journals
}

/// What every frame begins with.
const MARK: &[u8] = b"PLF\x01";
/// Where the length of its rows stands, and where they begin.
const LENGTH: usize = 12;
const HEAD: usize = 32;

/// Where the frames of a file lie, which follow each other from its beginning.
pub(crate) fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while bytes[at..].starts_with(MARK) && bytes.len() >= at + HEAD {
        let length = u32::from_le_bytes(*bytes[at + LENGTH..].first_chunk().unwrap()) as usize;
        if bytes.len() < at + HEAD + length {
            break;
        }
        frames.push(at..at + HEAD + length);
        at += HEAD + length;
    }
    frames
}

/// The revisions of the rows of a frame; those about the store have 0.
pub(crate) fn revisions(frame: &[u8]) -> Vec<i64> {
    let (mut revisions, mut at) = (Vec::new(), HEAD);
    while at < frame.len() {
        let number = |at: usize| u32::from_le_bytes(*frame[at..].first_chunk().unwrap()) as usize;
        revisions.push(i64::from_be_bytes(*frame[at + 13..].first_chunk().unwrap()));
        at += 13 + number(at + 1) + number(at + 5);
    }
    revisions
}

/// What a power cut makes of a file whose bytes from `synced` on were never synced: each sector is there or not,
/// or is something else, and the file may end anywhere.
pub(crate) fn cut(bytes: &mut Vec<u8>, synced: usize, dice: &mut Dice) {
    let style = dice.below(4);
    let mut at = synced;
    while at < bytes.len() {
        let end = ((at / SECTOR + 1) * SECTOR).min(bytes.len());
        let sector = &mut bytes[at..end];
        match style {
            0 if dice.below(2) == 0 => sector.fill(0),
            1 if dice.below(8) == 0 => sector.fill(0),
            2 if dice.below(4) == 0 => sector.iter_mut().for_each(|byte| *byte = dice.roll() as u8),
            _ => {}
        }
        at = end;
    }
    if style == 3 {
        bytes.truncate(synced + dice.below(bytes.len() - synced + 1));
    }
    bytes.resize(bytes.len() + [0, 1, 4096, 100_000][dice.below(4)], 0);
}
