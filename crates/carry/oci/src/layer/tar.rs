//! Reads tar streams without trusting them.
//!
//! Extended headers are limited before they are read, so that a stream of a few
//! bytes cannot fill the memory. Formats: ustar, GNU long names, pax (with
//! SCHILY.xattr). Sparse members are refused: no image builder writes them.

use std::ffi::OsString;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use tar::{EntryType, Header};

use crate::error::{Error, Result};

const BLOCK: u64 = 512;
/// Largest extended header (long name, pax records with file attributes).
const MAX_EXTENSION: u64 = 1 << 20;

const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;

/// What kind of file an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// The link's text, as it is.
    Symlink(PathBuf),
    /// Another entry of the same archive, cleaned.
    Hardlink(PathBuf),
    Char {
        major: u32,
        minor: u32,
    },
    Block {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Owner, permissions and times of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub(crate) mtime: (i64, i64),
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
}

/// One member of the archive; its bytes are read from the [`TarReader`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Relative to the root of the archive and without `.` and `..`; empty for the root.
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) attributes: Attributes,
    pub(crate) size: u64,
}

/// Iterates over the members of a tar stream; reading it yields the current member's bytes.
pub(crate) struct TarReader<R> {
    inner: R,
    left: u64,
    padding: u64,
    global: Extension,
}

/// What extended headers say about the next member.
#[derive(Clone, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, global: Extension::default() }
    }

    /// The next member; what was not read of the last one is skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extension = self.global.clone();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = size_of(&header)?;
            match header.entry_type() {
                EntryType::XHeader => extension.read_pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => {
                    let records = self.extension(size)?;
                    self.global.read_pax(&records)?;
                    extension.read_pax(&records)?;
                }
                EntryType::GNULongName => extension.path = Some(until_nul(self.extension(size)?)),
                EntryType::GNULongLink => extension.link = Some(until_nul(self.extension(size)?)),
                _ => return self.member(&header, extension).map(Some),
            }
        }
    }

    /// The underlying stream, to read what follows the end of the archive.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn member(&mut self, header: &Header, extension: Extension) -> Result<Entry> {
        let raw = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = clean(&raw)?;
        let invalid = |reason: &str| layer(&path.display().to_string(), reason);
        let link = extension.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
        let kind = match header.entry_type() {
            // In the oldest format a directory is a file whose name ends with a slash.
            EntryType::Regular | EntryType::Continuous if raw.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(os_path(link.unwrap_or_default())),
            EntryType::Link => Kind::Hardlink(clean(&link.unwrap_or_default())?),
            EntryType::Char => device(header).map(|(major, minor)| Kind::Char { major, minor })?,
            EntryType::Block => device(header).map(|(major, minor)| Kind::Block { major, minor })?,
            EntryType::Fifo => Kind::Fifo,
            EntryType::GNUSparse => return Err(invalid("sparse members are not supported")),
            other => return Err(invalid(&format!("members of type {other:?} are not supported"))),
        };
        let size = extension.size.map_or_else(|| size_of(header), Ok)?;
        // Only files have content; some writers leave a size on links and directories.
        let size = if kind == Kind::File { size } else { 0 };
        let id = |given: Option<u64>, field| {
            let id = given.and_then(|id| i64::try_from(id).ok()).map_or_else(|| number(header, field), Ok)?;
            u32::try_from(id).map_err(|_| invalid("owner id is out of range"))
        };
        let attributes = Attributes {
            mode: u32::try_from(number(header, MODE)? & 0o7777).expect("twelve bits"),
            uid: id(extension.uid, UID)?,
            gid: id(extension.gid, GID)?,
            mtime: extension.mtime.map_or_else(|| number(header, MTIME).map(|seconds| (seconds, 0)), Ok)?,
            xattrs: extension.xattrs,
        };
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        Ok(Entry { path, kind, attributes, size })
    }

    /// A header block, or nothing at the end: a block of zeros or of the stream.
    fn header(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(layer("", "the archive ends within a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken("", error)),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        match header.cksum() {
            Ok(sum) if sum == checksum(&block) => Ok(Some(header)),
            _ => Err(layer("", "not a tar archive: a header's checksum is wrong")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(Error::TooLarge {
                what: "extended header of a layer".into(),
                limit: MAX_EXTENSION,
                unit: "bytes",
            });
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK) - size;
        let mut bytes = vec![0; usize::try_from(size).expect("at most a mebibyte")];
        self.read_exact(&mut bytes).map_err(|error| broken("", error))?;
        Ok(bytes)
    }

    fn skip_rest(&mut self) -> Result<()> {
        let count = self.left + self.padding;
        let skipped = io::copy(&mut (&mut self.inner).take(count), &mut io::sink())
            .map_err(|error| broken("", error))?;
        if skipped < count {
            return Err(layer("", "the archive ends within a member"));
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

impl Extension {
    /// Records look like `27 path=a/long/name\n`, the number counting the whole record.
    fn read_pax(&mut self, mut records: &[u8]) -> Result<()> {
        let invalid = || layer("", "malformed pax record");
        while !records.is_empty() {
            let space = records.iter().position(|b| *b == b' ').ok_or_else(invalid)?;
            let length: usize = parse(&records[..space]).ok_or_else(invalid)?;
            let record = records.get(space + 1..length).ok_or_else(invalid)?;
            let record = record.strip_suffix(b"\n").ok_or_else(invalid)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(invalid)?;
            self.apply(&record[..equals], &record[equals + 1..]).ok_or_else(invalid)?;
            records = &records[length..];
        }
        Ok(())
    }

    fn apply(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(parse(value)?),
            b"uid" => self.uid = Some(parse(value)?),
            b"gid" => self.gid = Some(parse(value)?),
            b"mtime" => self.mtime = Some(parse_time(value)?),
            _ if key.starts_with(b"GNU.sparse.") => return None,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

/// The path below the root that a name means; leaving the root is an error.
pub(crate) fn clean(raw: &[u8]) -> Result<PathBuf> {
    if raw.contains(&0) {
        return Err(layer(&String::from_utf8_lossy(raw), "the name contains a zero byte"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(std::ffi::OsStr::from_bytes(raw)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if !path.pop() => {
                return Err(layer(&String::from_utf8_lossy(raw), "the path leads out of the root"));
            }
            _ => {}
        }
    }
    Ok(path)
}

fn os_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

fn device(header: &Header) -> Result<(u32, u32)> {
    let part = |field| Ok(u32::try_from(number(header, field)?).unwrap_or(0));
    Ok((part(MAJOR)?, part(MINOR)?))
}

fn size_of(header: &Header) -> Result<u64> {
    u64::try_from(number(header, SIZE)?).map_err(|_| layer("", "negative size"))
}

/// A numeric field: octal digits between spaces and zero bytes, nothing for 0, or
/// with the highest bit set a binary number in two's complement.
fn number(header: &Header, field: Range<usize>) -> Result<i64> {
    let bytes = &header.as_bytes()[field];
    let wrong = || layer("", "a numeric field of a header is not a number");
    if bytes[0] & 0x80 != 0 {
        // The marking bit is not part of the number; the next one is its sign.
        let first = i128::from((bytes[0] << 1) as i8 >> 1);
        let value = bytes[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte));
        return i64::try_from(value).map_err(|_| wrong());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    match text.trim_matches([' ', '\0']) {
        "" => Ok(0),
        digits => i64::from_str_radix(digits.split('\0').next().unwrap_or_default(), 8).map_err(|_| wrong()),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

fn parse<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `1350244992.023960108` and `-1.5`, in seconds since 1970.
fn parse_time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i64 =
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok()? } else { return None };
    match whole.starts_with('-') && nanos > 0 {
        true => Some((seconds - 1, 1_000_000_000 - nanos)),
        false => Some((seconds, nanos)),
    }
}

/// The sum of all bytes of the block, its own field counted as spaces.
fn checksum(block: &[u8; BLOCK as usize]) -> u32 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..])
}

fn layer(path: &str, reason: &str) -> Error {
    Error::Layer { path: path.into(), reason: reason.into() }
}

/// Errors of our own readers below keep their meaning.
fn broken(path: &str, error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| layer(path, &error.to_string()))
}

#[cfg(test)]
#[path = "tar_tests.rs"]
mod tests;
