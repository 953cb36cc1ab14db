//! Where the rows lie.
//!
//! Memory has the place of each row that is kept, in revision order, and the rows about the store (those of revision
//! 0) themselves.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::frame::{Item, Kind};
use crate::row;

/// Set in the size of a row that was moved.
const MOVED: u32 = 1 << 31;
/// So much is read at once by those who read on.
const WINDOW: usize = 256 << 10;
/// Windows that are held at most.
const WINDOWS: usize = 16;

/// Where a row lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) revision: i64,
    /// Its place among the rows of its revision.
    pub(crate) sub: u32,
    pub(crate) file: u32,
    at: u32,
    /// Its length; 0: the row is gone.
    size: u32,
}

impl Slot {
    fn order(&self) -> (i64, u32) {
        (self.revision, self.sub)
    }

    pub(crate) fn size(&self) -> usize {
        (self.size & !MOVED) as usize
    }

    pub(crate) fn moved(&self) -> bool {
        self.size & MOVED != 0
    }
}

/// A row about the store.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) value: Vec<u8>,
    pub(crate) file: u32,
    size: u64,
}

/// A file of the log.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) file: Arc<File>,
    /// How much was written to it.
    pub(crate) length: u64,
    /// How much of that is needed.
    pub(crate) kept: u64,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    slots: Vec<Slot>,
    gone: usize,
    pub(crate) notes: BTreeMap<Vec<u8>, Note>,
    pub(crate) volumes: BTreeMap<u32, Volume>,
}

impl Shelf {
    /// Notes a row of the frame that begins at `base` in a file.
    pub(crate) fn note(&mut self, file: u32, base: u64, item: &Item<'_>) {
        if row::revision_of(item.key).0 == 0 {
            return self.note_store(file, item);
        }
        let slot = slot(file, base, item);
        let newest = self.slots.last().is_none_or(|last| last.order() < slot.order());
        if newest && item.kind == Kind::Written {
            self.keep(slot);
            return self.slots.push(slot);
        }
        let found = self.slots.binary_search_by_key(&slot.order(), Slot::order);
        match (found, item.kind) {
            (Ok(at), Kind::Gone) => self.drop_at(at),
            (Ok(at), _) if self.slots[at].size > 0 => {
                self.drop_at(at);
                self.gone -= 1;
                self.keep(slot);
                self.slots[at] = slot;
            }
            // It is gone already.
            (Ok(_), _) | (Err(_), Kind::Gone | Kind::Moved) => {}
            (Err(at), Kind::Written) => {
                self.keep(slot);
                self.slots.insert(at, slot);
            }
        }
    }

    fn note_store(&mut self, file: u32, item: &Item<'_>) {
        let size = item.size as u64;
        let before = match item.kind {
            Kind::Gone => self.notes.remove(item.key),
            Kind::Written | Kind::Moved => {
                self.volume(file).kept += size;
                self.notes.insert(item.key.to_vec(), Note { value: item.value.to_vec(), file, size })
            }
        };
        if let Some(before) = before {
            self.volume(before.file).kept -= before.size;
        }
    }

    /// Takes all rows of the files at once, in the order in which they were written.
    pub(crate) fn fill(&mut self, mut slots: Vec<(Slot, Kind)>) {
        slots.sort_by_key(|(slot, _)| slot.order());
        self.slots.reserve_exact(slots.len());
        for same in slots.chunk_by(|(one, _), (next, _)| one.order() == next.order()) {
            if let Some((slot, Kind::Written | Kind::Moved)) = same.last() {
                self.keep(*slot);
                self.slots.push(*slot);
            }
        }
    }

    fn keep(&mut self, slot: Slot) {
        self.volume(slot.file).kept += slot.size() as u64;
    }

    fn volume(&mut self, file: u32) -> &mut Volume {
        self.volumes.get_mut(&file).expect("a file goes after its last row")
    }

    fn drop_at(&mut self, at: usize) {
        let slot = self.slots[at];
        if slot.size > 0 {
            self.volume(slot.file).kept -= slot.size() as u64;
            self.slots[at].size = 0;
            self.gone += 1;
        }
    }

    /// Lets a row go.
    pub(crate) fn forget(&mut self, slot: &Slot) {
        if let Ok(at) = self.slots.binary_search_by_key(&slot.order(), Slot::order) {
            self.drop_at(at);
        }
        if self.gone > self.slots.len() / 2 {
            self.slots.retain(|slot| slot.size > 0);
            self.gone = 0;
        }
    }

    /// The rows of a revision.
    pub(crate) fn of(&self, revision: i64) -> Vec<Slot> {
        let start = self.slots.partition_point(|slot| slot.revision < revision);
        let same = self.slots[start..].iter().take_while(|slot| slot.revision == revision);
        same.filter(|slot| slot.size > 0).copied().collect()
    }

    /// The rows from a revision on: at least so many, whole revisions and one row more, if there are.
    pub(crate) fn from(&self, revision: i64, least: usize) -> Vec<Slot> {
        let start = self.slots.partition_point(|slot| slot.revision < revision);
        let slots = &self.slots[start..];
        let end = slots.get(least).map_or(slots.len(), |last| {
            let end = slots.partition_point(|slot| slot.revision <= last.revision);
            slots[end..].iter().position(|slot| slot.size > 0).map_or(slots.len(), |more| end + more + 1)
        });
        slots[..end].iter().filter(|slot| slot.size > 0).copied().collect()
    }

    /// The rows that lie in a file.
    pub(crate) fn within(&self, file: u32) -> Vec<Slot> {
        self.slots.iter().filter(|slot| slot.file == file && slot.size > 0).copied().collect()
    }

    /// How much was written to the files, and how much of that is needed.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.volumes.values().fold((0, 0), |(length, kept), one| (length + one.length, kept + one.kept))
    }

    /// A reader of these rows.
    pub(crate) fn reader_of(&self, slots: &[Slot]) -> Reader {
        let file = |slot: &Slot| Some((slot.file, Arc::clone(&self.volumes.get(&slot.file)?.file)));
        Reader { files: slots.iter().filter_map(file).collect(), windows: HashMap::new() }
    }

    /// A reader of rows that are here now, also when they are gone when it comes to them.
    pub(crate) fn reader(&self) -> Reader {
        let files = self.volumes.iter().map(|(number, volume)| (*number, Arc::clone(&volume.file)));
        Reader { files: files.collect(), windows: HashMap::new() }
    }
}

/// The place of a row of the frame that begins at `base`.
pub(crate) fn slot(file: u32, base: u64, item: &Item<'_>) -> Slot {
    let at = u32::try_from(base + item.at as u64).expect("a file ends long before 4 GiB");
    let size = u32::try_from(item.size).expect("a row is part of a frame");
    let sub = match item.kind {
        Kind::Gone => item.value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)),
        Kind::Written | Kind::Moved => row::sub_of(item.value),
    };
    let size = if item.kind == Kind::Moved { size | MOVED } else { size };
    Slot { revision: row::revision_of(item.key).0, sub, file, at, size }
}

/// Reads rows, neighbours together.
pub(crate) struct Reader {
    files: HashMap<u32, Arc<File>>,
    windows: HashMap<u32, Window>,
}

struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Reader {
    /// A row among others that follow it.
    pub(crate) fn row(&mut self, slot: &Slot) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (from, size) = (u64::from(slot.at), slot.size());
        if let Some(row) = self.windows.get(&slot.file).and_then(|window| window.get(from, size)) {
            return pair(row);
        }
        if self.windows.len() >= WINDOWS {
            self.windows.clear();
        }
        let mut bytes = vec![0; size.max(WINDOW)];
        let file = self.files.get(&slot.file).ok_or(io::ErrorKind::NotFound)?;
        let read = fill(file, &mut bytes, from)?;
        bytes.truncate(read);
        let window = Window { start: from, bytes };
        let row = window.get(from, size).ok_or(io::ErrorKind::UnexpectedEof)?;
        let row = pair(row);
        self.windows.insert(slot.file, window);
        row
    }

    /// One row alone.
    pub(crate) fn one(&self, slot: &Slot) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let mut bytes = vec![0; slot.size()];
        let file = self.files.get(&slot.file).ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(&mut bytes, u64::from(slot.at))?;
        pair(&bytes)
    }
}

impl Window {
    fn get(&self, from: u64, size: usize) -> Option<&[u8]> {
        let start = usize::try_from(from.checked_sub(self.start)?).ok()?;
        self.bytes.get(start..start.checked_add(size)?)
    }
}

fn fill(file: &File, bytes: &mut [u8], from: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], from + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

fn pair(bytes: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let item = Item::alone(bytes).ok_or(io::ErrorKind::InvalidData)?;
    Ok((item.key.to_vec(), item.value.to_vec()))
}
