//! The bytes of what is written at once.
//!
//! A frame is a head and rows. Numbers are little endian.
//!
//! | bytes of the head | what |
//! | --- | --- |
//! | 4 | a mark |
//! | 8 | the sum of everything behind it |
//! | 4 | how long the rows are |
//! | 8 | the frame's number: one more than that of the frame before |
//! | 8 | the oldest file that counts |
//!
//! | bytes of a row | what |
//! | --- | --- |
//! | 1 | 0: written, 1: moved here, 2: gone |
//! | 4, 4 | how long key and value are |
//! | 4 | the sum of both, for those who read the row alone |
//! | … | the key and the value |

use xxhash_rust::xxh3::xxh3_64;

const MARK: [u8; 4] = *b"PLF\x01";
/// Where the sum begins, and what it covers.
const SUM: usize = 4;
const SUMMED: usize = 12;
/// The length of a head.
pub(crate) const HEAD: usize = 32;
/// The length of what stands before the key of a row.
const BEFORE: usize = 13;

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is new.
    Written,
    /// It was elsewhere before: rows that it replaced may be further ahead.
    Moved,
    /// One that was moved is needed no more; the value is its place among the rows of its revision.
    Gone,
}

/// A row in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    /// Where it begins in the frame.
    pub(crate) at: usize,
    /// How long it is.
    pub(crate) size: usize,
}

/// A frame that is made.
#[derive(Debug)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
}

impl Default for Frame {
    fn default() -> Self {
        Self { bytes: vec![0; HEAD] }
    }
}

impl Frame {
    /// Begins again in the same memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(HEAD);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == HEAD
    }

    /// Adds a row, the value of which `value` appends.
    pub(crate) fn add(&mut self, kind: Kind, key: [&[u8]; 2], value: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; BEFORE]);
        self.bytes.extend_from_slice(key[0]);
        self.bytes.extend_from_slice(key[1]);
        let middle = self.bytes.len();
        value(&mut self.bytes);
        let (head, rest) = self.bytes[at..].split_at_mut(BEFORE);
        let key = middle - at - BEFORE;
        head[0] = kind as u8;
        head[1..5].copy_from_slice(&length(key));
        head[5..9].copy_from_slice(&length(rest.len() - key));
        head[9..].copy_from_slice(&(xxh3_64(rest) as u32).to_le_bytes());
    }

    /// The whole, ready to be written.
    pub(crate) fn seal(&mut self, number: u64, first: u32) -> &[u8] {
        let rows = length(self.bytes.len() - HEAD);
        self.bytes[..SUM].copy_from_slice(&MARK);
        self.bytes[SUMMED..16].copy_from_slice(&rows);
        self.bytes[16..24].copy_from_slice(&number.to_le_bytes());
        self.bytes[24..HEAD].copy_from_slice(&u64::from(first).to_le_bytes());
        let sum = xxh3_64(&self.bytes[SUMMED..]).to_le_bytes();
        self.bytes[SUM..SUMMED].copy_from_slice(&sum);
        &self.bytes
    }

    /// Its rows.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'_>> {
        items(&self.bytes)
    }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("what is written at once is bounded by groups of 24 MiB").to_le_bytes()
}

/// A frame that was read, and is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) number: u64,
    /// The oldest file that counts.
    pub(crate) first: u32,
}

impl<'a> Whole<'a> {
    /// The frame that begins here, if there is one.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(&MARK) {
            return None;
        }
        let rows = u32::from_le_bytes(*bytes.get(SUMMED..)?.first_chunk()?) as usize;
        let bytes = bytes.get(..HEAD.checked_add(rows)?)?;
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let whole = number(SUM)? == xxh3_64(&bytes[SUMMED..]);
        let first = u32::try_from(number(24)?).ok()?;
        whole.then_some(Self { bytes, number: number(16)?, first })
    }

    /// Its rows.
    pub(crate) fn items(self) -> impl Iterator<Item = Item<'a>> {
        items(self.bytes)
    }
}

fn items(frame: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut at = HEAD;
    std::iter::from_fn(move || {
        let mut item = Item::read(frame.get(at..)?)?;
        item.at = at;
        at += item.size;
        Some(item)
    })
}

impl<'a> Item<'a> {
    /// The row that begins here; its sum is not looked at.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let number = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let kind = match bytes.first()? {
            0 => Kind::Written,
            1 => Kind::Moved,
            2 => Kind::Gone,
            _ => return None,
        };
        let (key, value) = (number(1)? as usize, number(5)? as usize);
        let size = BEFORE.checked_add(key)?.checked_add(value)?;
        let (key, value) = bytes.get(BEFORE..size)?.split_at(key);
        Some(Self { kind, key, value, at: 0, size })
    }

    /// A row that was read alone, if it is what was written.
    pub(crate) fn alone(bytes: &'a [u8]) -> Option<Self> {
        let item = Self::read(bytes)?;
        let sum = u32::from_le_bytes(*bytes.get(9..)?.first_chunk()?);
        (sum == xxh3_64(bytes.get(BEFORE..item.size)?) as u32).then_some(item)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let mut frame = Frame::default();
        frame.add(Kind::Written, [b"k", b"ey"], |bytes| bytes.extend_from_slice(b"value"));
        frame.add(Kind::Gone, [b"", b""], |_| {});
        let mut bytes = frame.seal(7, 3).to_vec();
        bytes.extend_from_slice(b"more");
        let whole = Whole::read(&bytes).unwrap();
        assert_eq!((whole.number, whole.first, whole.bytes.len()), (7, 3, bytes.len() - 4));
        let items: Vec<_> = whole.items().map(|item| (item.kind, item.key, item.value)).collect();
        assert_eq!(items, [(Kind::Written, &b"key"[..], &b"value"[..]), (Kind::Gone, b"", b"")]);
        let first = whole.items().next().unwrap();
        assert_eq!(Item::alone(&bytes[first.at..]).unwrap().key, b"key");
        for at in 0..whole.bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            assert!(Whole::read(&bytes).is_none(), "byte {at}");
            let alone = Item::alone(&bytes[first.at..first.at + first.size]);
            let inside = (first.at..first.at + first.size).contains(&at);
            assert_eq!(alone.is_none(), inside, "byte {at}");
        }
        assert!(Whole::read(&bytes[..whole.bytes.len() - 1]).is_none());
    }
}
