//! What a power cut left of the newest journal.
//!
//! What enters: the folder of the database, before fjall opens it. What leaves: a journal that is whole, or
//! the place where it is damaged. fjall itself refuses a batch whose middle never reached the disk, although
//! that is an ordinary end of a journal: a disk writes the sectors of an unfinished sync in any order.
//!
//! Every group of writes is synced before the next one is written, and removals of compacted rows lie between
//! them without a sync of their own. So of what is not whole there may be: the last group, which nobody was told
//! of, and removals, which are made again at the next start. Groups on both sides of a damaged place must
//! follow each other without a missing revision, and without a missing number: groups of leases have no revisions.
//! Otherwise the damage is not a power cut's. Where nothing tells what came before, two groups behind it do: the first of
//! them was not written before what is damaged was synced. Batches have ascending numbers, which no sum guards.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use plimsoll_mvcc::Revision;
use xxhash_rust::xxh3::xxh3_64;

use crate::StoreError;

/// The row of a group's number.
const GROUP: &str = "group";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const PUT: u8 = 0;
const MAGIC: &[u8] = b"FJL\x03";

/// The key of the row of a group's number.
pub(crate) fn group_key() -> Vec<u8> {
    [&[0; 8], GROUP.as_bytes()].concat()
}

/// A batch that is whole.
struct Batch {
    end: usize,
    number: u64,
    /// The first and last revision of the rows that it adds.
    revisions: Option<(i64, i64)>,
    /// The number of the group; none: removals, or a group of an older version.
    group: Option<u64>,
}

/// The last batch, revision and group before a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Last {
    number: Option<u64>,
    revision: Option<i64>,
    group: Option<u64>,
}

/// What a journal holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Contents {
    /// Where there are batches that are whole: one piece, unless something between them is damaged.
    whole: Vec<Range<usize>>,
    /// Something that was written is not whole.
    torn: bool,
    /// Revisions are missing behind this one.
    gap: Option<Revision>,
    /// How many batches are whole.
    batches: usize,
    last: Last,
    /// Nothing tells what came before the first group.
    adrift: bool,
}

/// Looks at the newest journal below `db` and cuts off what is not whole.
pub(crate) fn repair(db: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Directory { path: db.into(), source };
    let mut journals = journals(db).map_err(failed)?;
    let Some(path) = journals.pop() else { return Ok(()) };
    let bytes = fs::read(&path).map_err(failed)?;
    let mut contents = Contents::read(&bytes, Last::default());
    if let (true, Some(before)) = (contents.torn, journals.pop()) {
        // What is damaged may be the first group of this one.
        let last = Contents::read(&fs::read(before).map_err(failed)?, Last::default()).last;
        contents = Contents::read(&bytes, last);
    }
    if let Some(revision) = contents.gap {
        return Err(StoreError::Torn { path, revision });
    }
    if !contents.torn {
        return Ok(());
    }
    tracing::warn!(journal = %path.display(), "journal ends in a write that was cut off; that part is dropped");
    rewrite(&path, &bytes, &contents.whole).map_err(failed)
}

/// Looks at every journal and changes nothing: how many batches there are, and what is damaged.
pub(crate) fn verify(db: &Path) -> Result<usize, StoreError> {
    let failed = |source| StoreError::Directory { path: db.into(), source };
    let journals = journals(db).map_err(failed)?;
    let (mut batches, mut last) = (0, Last::default());
    for (number, path) in journals.iter().enumerate() {
        let contents = Contents::read(&fs::read(path).map_err(failed)?, last);
        let sealed = number + 1 < journals.len();
        if contents.gap.is_some() || (sealed && contents.torn) {
            let revision = contents.gap.unwrap_or_default();
            return Err(StoreError::Torn { path: path.clone(), revision });
        }
        batches += contents.batches;
        last = contents.last;
    }
    Ok(batches)
}

/// The journals, oldest first.
pub(crate) fn journals(db: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    let entries = match fs::read_dir(db) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        let number = path.extension().filter(|end| *end == "jnl").and(path.file_stem());
        let number = number.and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        found.extend(number.map(|number| (number, path)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Replaces a journal by its pieces: in place when it only gets shorter.
fn rewrite(path: &Path, bytes: &[u8], pieces: &[Range<usize>]) -> io::Result<()> {
    if let [] | [Range { start: 0, .. }] = pieces {
        let file = File::options().write(true).open(path)?;
        file.set_len(pieces.first().map_or(0, |piece| piece.end) as u64)?;
        return file.sync_all();
    }
    let draft = path.with_extension("draft");
    let mut file = File::create(&draft)?;
    for piece in pieces {
        file.write_all(bytes.get(piece.clone()).unwrap_or_default())?;
    }
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

impl Contents {
    /// Reads a journal to its end, also behind damaged places; `last` is what the one before it ends with.
    fn read(bytes: &[u8], last: Last) -> Self {
        let mut found = Self { last, ..Self::default() };
        let mut at = 0;
        let used = used(bytes);
        while at < used {
            let Some(batch) = batch(bytes, at) else {
                found.torn = true;
                at += 1;
                continue;
            };
            found.add(at, &batch);
            at = batch.end;
        }
        found
    }

    fn add(&mut self, at: usize, batch: &Batch) {
        let group = batch.group.is_some() || batch.revisions.is_some();
        let missing = (self.adrift && group)
            || batch.revisions.zip(self.last.revision).is_some_and(|((first, _), last)| first > last + 1)
            || batch.group.zip(self.last.group).is_some_and(|(group, last)| group > last + 1);
        let astray = self.last.number.is_some_and(|last| batch.number <= last);
        if ((self.torn && missing) || astray) && self.gap.is_none() {
            self.gap = Some(self.last.revision.map_or(Revision::FIRST, Revision));
        }
        self.adrift = self.torn && group && (self.last.revision, self.last.group) == (None, None);
        self.last.number = Some(batch.number);
        self.last.revision = batch.revisions.map(|(_, newest)| newest).or(self.last.revision);
        self.last.group = batch.group.or(self.last.group);
        match self.whole.last_mut().filter(|piece| piece.end == at) {
            Some(piece) => piece.end = batch.end,
            None => self.whole.push(at..batch.end),
        }
        self.batches += 1;
    }
}

/// Where the zeros begin that a journal has ahead.
fn used(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let zeros = [0; BLOCK];
    let empty = bytes.rchunks(BLOCK).take_while(|block| *block == &zeros[..block.len()]).count();
    let rest = &bytes[..bytes.len().saturating_sub(empty * BLOCK)];
    rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The batch that starts here, if it is whole.
///
/// A start (tag, count, number), items (tag, kind, compression, keyspace, lengths, key, value), and an end
/// (tag, sum of the items, magic); numbers are little endian.
fn batch(bytes: &[u8], at: usize) -> Option<Batch> {
    let mut reader = Reader { bytes, at };
    reader.tag(START)?;
    let count = reader.number::<4>()?;
    let number = reader.number::<8>()?;
    let items = reader.at;
    let mut revisions: Option<(i64, i64)> = None;
    let mut group = None;
    for _ in 0..count {
        match reader.item()? {
            Item::Row(revision) => {
                revisions = Some((revisions.map_or(revision, |(first, _)| first), revision))
            }
            Item::Group(number) => group = Some(number),
            Item::Other => {}
        }
    }
    let sum = xxh3_64(bytes.get(items..reader.at)?);
    reader.tag(END)?;
    let whole = reader.number::<8>()? == sum && reader.take(MAGIC.len())? == MAGIC && count > 0;
    whole.then_some(Batch { end: reader.at, number, revisions, group })
}

/// What an item does.
enum Item {
    /// It adds a row of this revision.
    Row(i64),
    /// It is the number of the group.
    Group(u64),
    /// It removes a row, or is another one about the store.
    Other,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn tag(&mut self, tag: u8) -> Option<()> {
        (self.take(1)? == [tag]).then_some(())
    }

    fn number<const N: usize>(&mut self) -> Option<u64> {
        let mut number = [0; 8];
        number[..N].copy_from_slice(self.take(N)?);
        Some(u64::from_le_bytes(number))
    }

    fn item(&mut self) -> Option<Item> {
        self.tag(ITEM)?;
        let kind = self.number::<1>()?;
        let compression = self.number::<1>()?;
        self.number::<8>()?;
        let key = self.number::<2>()? as usize;
        self.number::<4>()?;
        let value = usize::try_from(self.number::<4>()?).ok()?;
        let (key, value) = (self.take(key)?, self.take(value)?);
        let item = match (key.split_first_chunk::<8>(), value.first_chunk::<8>()) {
            _ if kind != u64::from(PUT) => Item::Other,
            (Some(([0, 0, 0, 0, 0, 0, 0, 0], name)), Some(number)) if name == GROUP.as_bytes() => {
                Item::Group(u64::from_be_bytes(*number))
            }
            (Some((revision, _)), _) if *revision != [0; 8] => Item::Row(i64::from_be_bytes(*revision)),
            _ => Item::Other,
        };
        (kind <= 4 && compression <= 1).then_some(item)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn item(kind: u8, revision: i64, value: &[u8]) -> Vec<u8> {
        let key = [&revision.to_be_bytes()[..], b"/key"].concat();
        let length = (value.len() as u32).to_le_bytes();
        let head = [&[ITEM, kind, 0][..], &1_u64.to_le_bytes(), &(key.len() as u16).to_le_bytes()].concat();
        [&head[..], &length, &length, &key, value].concat()
    }

    fn framed(items: &[Vec<u8>]) -> Vec<u8> {
        let body = items.concat();
        static NUMBER: AtomicU64 = AtomicU64::new(7);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let head = [&[START][..], &(items.len() as u32).to_le_bytes(), &number].concat();
        [&head[..], &body, &[END], &xxh3_64(&body).to_le_bytes(), MAGIC].concat()
    }

    fn group(revisions: Range<i64>) -> Vec<u8> {
        framed(&revisions.map(|revision| item(PUT, revision, &[9; 700])).collect::<Vec<_>>())
    }

    fn removal(revision: i64) -> Vec<u8> {
        framed(&[item(1, revision, b""), item(PUT, 0, b"compacted")])
    }

    /// A group that changes leases alone.
    fn leases(number: u64) -> Vec<u8> {
        let key = group_key();
        let value = number.to_be_bytes();
        let length = (value.len() as u32).to_le_bytes();
        let head = [&[ITEM, PUT, 0][..], &1_u64.to_le_bytes(), &(key.len() as u16).to_le_bytes()].concat();
        let item = [&head[..], &length, &length, &key, &value].concat();
        framed(&[item, super::tests::item(PUT, 0, &[7; 30])])
    }

    /// The same bytes with zeros in the middle.
    fn hollow(mut batch: Vec<u8>) -> Vec<u8> {
        let middle = batch.len() / 2;
        batch[middle..middle + 8].fill(0);
        batch
    }

    #[test]
    fn what_is_not_whole_is_told_from_what_is_missing() {
        let zeros = vec![0; 4096];
        let cut = || group(4..6)[..900].to_vec();
        // Nothing else tells of it.
        let (early, late) = (group(4..5), group(5..6));
        let cases = [
            ("nothing", vec![], false, None, 0),
            ("room ahead", vec![zeros.clone()], false, None, 0),
            ("whole", vec![group(2..4), removal(2), group(4..5), zeros.clone()], false, None, 3),
            ("cut", vec![group(2..4), cut()], true, None, 1),
            (
                "a sector of the last group",
                vec![group(2..4), hollow(group(4..6)), zeros.clone()],
                true,
                None,
                1,
            ),
            ("its start", vec![group(2..4), vec![0; 512], group(4..6)[512..].to_vec()], true, None, 1),
            ("a removal before it", vec![group(2..4), hollow(removal(2)), group(4..6)], true, None, 2),
            ("a group among others", vec![group(2..4), hollow(group(4..6)), group(6..7)], true, Some(3), 2),
            ("the last leases", vec![group(2..4), leases(1), hollow(leases(2))], true, None, 2),
            ("leases", vec![group(2..4), leases(1), hollow(leases(2)), leases(3)], true, Some(3), 3),
            ("a batch out of turn", vec![late, early], false, Some(5), 2),
            ("the first leases", vec![hollow(leases(1)), leases(2)], true, None, 1),
            ("the first leases of several", vec![hollow(leases(1)), leases(2), leases(3)], true, Some(1), 2),
            ("a removal among leases", vec![leases(1), hollow(removal(2)), leases(2)], true, None, 2),
        ];
        for (name, parts, torn, gap, batches) in cases {
            let found = Contents::read(&parts.concat(), Last::default());
            assert_eq!((found.torn, found.gap, found.batches), (torn, gap.map(Revision), batches), "{name}");
        }
    }

    #[test]
    #[expect(clippy::unwrap_used, reason = "a test")]
    fn the_newest_journal_keeps_what_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("10.jnl");
        fs::write(folder.path().join("9.jnl"), hollow(group(2..9))).unwrap();
        let kept = [group(9..10), group(10..11)];
        fs::write(&path, [&kept[0][..], &hollow(removal(2)), &kept[1], &group(11..12)[..100]].concat())
            .unwrap();
        repair(folder.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), kept.concat());
        assert!(matches!(verify(folder.path()), Err(StoreError::Torn { .. })), "the older one stays damaged");
        fs::write(&path, [&group(9..10)[..], &hollow(group(10..11)), &group(11..12)].concat()).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(repair(folder.path()), Err(StoreError::Torn { revision: Revision(9), .. })));
        assert_eq!(fs::read(&path).unwrap(), before, "nothing was changed");
        // The journal before it tells that its first group is missing.
        fs::write(folder.path().join("9.jnl"), [group(2..9), leases(4)].concat()).unwrap();
        for parts in [[hollow(leases(5)), leases(6)], [hollow(group(9..10)), group(10..11)]] {
            fs::write(&path, parts.concat()).unwrap();
            assert!(matches!(repair(folder.path()), Err(StoreError::Torn { revision: Revision(8), .. })));
        }
    }
}
