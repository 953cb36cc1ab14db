//! A copy of a store in one file, and a store made of such a file, or of one of etcd's ([`bolt`]).
//!
//! The file: a line that says what it is, a header (its length, JSON), the rows of the log as they lie on disk
//! (lengths of key and value, both), a row without a key, how many rows there were, and the SHA-256 of all before.
//! Values stay in the form that they have on disk, so that what was encrypted there is in the copy, too.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use plimsoll_mvcc::Revision;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::disk::Disk;
use crate::draft::{Draft, sync_folder};
use crate::{Membership, Options, Place, StoreError, bolt, row};

/// With rows as [`crate::row`] has them; 1 had none with leases and places.
const TITLE: &[u8] = b"plimsoll snapshot 2\n";
const OLDER: &[u8] = b"plimsoll snapshot 1\n";
/// No key and no value is longer.
const LONGEST: u32 = 64 << 20;
/// The cluster of a snapshot that does not tell.
pub(crate) const UNKNOWN: &str = "unknown";
/// Rows of a restored store that are written at once.
const STEP: usize = 512;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    cluster: String,
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The cluster it is of, as whoever took it named it.
    pub cluster: String,
    /// The revision it shows.
    pub revision: Revision,
    /// How many versions of keys.
    pub rows: u64,
    /// How many bytes the file has.
    pub bytes: u64,
    /// The SHA-256 of all but itself, in hexadecimal.
    pub hash: String,
}

/// How snapshots name a cluster: by the certificate of its authority.
#[must_use]
pub fn cluster_of(certificate: &[u8]) -> String {
    let mut name = hex(&Sha256::digest(certificate));
    name.truncate(32);
    name
}

/// Writes everything that is there at this moment; others may go on writing.
pub(crate) fn save(disk: &Disk, path: &Path, cluster: &str) -> Result<Summary, StoreError> {
    let failed = |source| unwritten(path, &source);
    let draft = Draft::begin(path).map_err(failed)?;
    let mut sink = Sink { file: BufWriter::new(draft), hash: Sha256::new(), bytes: 0 };
    let header = serde_json::to_vec(&Header { cluster: cluster.into() }).map_err(io::Error::from);
    let header = header.map_err(failed)?;
    sink.put(&[TITLE, &length(&header), &header]).map_err(failed)?;
    let (mut rows, mut revision) = (0, Revision::FIRST);
    for row in disk.stored() {
        let (key, value) = row?;
        sink.put(&[&length(&key), &length(&value), &key, &value]).map_err(failed)?;
        revision = revision.max(row::reached(&key, &value));
        rows += 1;
    }
    sink.put(&[&[0; 8], &u64::to_le_bytes(rows)]).map_err(failed)?;
    sink.finish(cluster, revision, rows).map_err(failed)
}

/// A snapshot that cannot be written.
pub(crate) fn unwritten(path: &Path, cause: &io::Error) -> StoreError {
    StoreError::Snapshot { path: path.into(), what: format!("cannot be written: {cause}") }
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

struct Sink {
    file: BufWriter<Draft>,
    hash: Sha256,
    bytes: u64,
}

impl Sink {
    fn put(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        for part in parts {
            self.hash.update(part);
            self.bytes += part.len() as u64;
            self.file.write_all(part)?;
        }
        Ok(())
    }

    fn finish(mut self, cluster: &str, revision: Revision, rows: u64) -> io::Result<Summary> {
        let hash = self.hash.finalize();
        self.file.write_all(&hash)?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
        let bytes = self.bytes + hash.len() as u64;
        Ok(Summary { cluster: cluster.into(), revision, rows, bytes, hash: hex(&hash) })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a snapshot, ours or one of etcd, through and holds it against its hash.
///
/// # Errors
/// When it is not one, is cut off, or was altered.
pub fn status(path: &Path) -> Result<Summary, StoreError> {
    read(path, None, &mut |_, _| Ok(()))
}

/// Whose state a snapshot is to be.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The cluster, as snapshots name it.
    pub cluster: &'a str,
    /// Where its values have their revision: those of etcd get theirs.
    pub place: Place,
}

/// Makes a store of a snapshot, ours or one of etcd, in a directory that is not there yet or empty.
///
/// The revision goes on `bump` behind the snapshot's, and all before is compacted: whoever knew a later state of
/// the cluster is told to list again.
///
/// # Errors
/// When the snapshot is not whole or not of the owner, or the directory is not empty. Nothing is changed then.
pub fn restore(path: &Path, to: &Path, owner: Option<Owner<'_>>, bump: i64) -> Result<Summary, StoreError> {
    restore_by(path, to, owner, bump, |draft, _| Ok(draft.to_owned()))
}

/// Makes a member of a new cluster of etcd of a snapshot, ours or one of etcd, in a directory that is not there yet or
/// empty; see [`restore`].
///
/// # Errors
/// When the snapshot is not whole, or the directory is not empty. Nothing is changed then.
pub fn restore_etcd(
    path: &Path,
    to: &Path,
    membership: &Membership,
    bump: i64,
) -> Result<Summary, StoreError> {
    restore_by(path, to, None, bump, |draft, summary| {
        let member = draft.join("etcd");
        let disk = Disk::open(draft, &Options::default())?;
        bolt::make(&disk, &member, membership, &summary.cluster)?;
        Ok(member)
    })
}

/// Restores a store into a draft; `finish` says what of that is to be where the store was asked for.
fn restore_by(
    path: &Path,
    to: &Path,
    owner: Option<Owner<'_>>,
    bump: i64,
    finish: impl FnOnce(&Path, &Summary) -> Result<PathBuf, StoreError>,
) -> Result<Summary, StoreError> {
    let place = owner.map(|owner| owner.place);
    let summary = read(path, place, &mut |_, _| Ok(()))?;
    let found = &summary.cluster;
    if let Some(Owner { cluster, .. }) = owner.filter(|owner| found != owner.cluster && found != UNKNOWN) {
        return Err(StoreError::Snapshot {
            path: path.into(),
            what: format!("is of cluster {found}, and this directory is of {cluster}"),
        });
    }
    let failed = |source| StoreError::Directory { path: to.into(), source };
    match fs::read_dir(to).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(StoreError::NotEmpty { path: to.into() }),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let draft = to.with_extension("restoring");
    let _ = fs::remove_dir_all(&draft);
    let reached = Revision(summary.revision.0.saturating_add(bump));
    let made = fill(path, place, &draft, reached)
        .and_then(|()| finish(&draft, &summary))
        .and_then(|made| fs::rename(made, to).and_then(|()| sync_folder(to)).map_err(failed));
    // What is left of it.
    let _ = fs::remove_dir_all(&draft);
    made.map(|()| summary)
}

fn fill(path: &Path, place: Option<Place>, to: &Path, reached: Revision) -> Result<(), StoreError> {
    let disk = Disk::open(to, &Options::default())?;
    let mut rows = Vec::new();
    read(path, place, &mut |key, value| {
        rows.push((key, value));
        if rows.len() == STEP { disk.store(std::mem::take(&mut rows)) } else { Ok(()) }
    })?;
    disk.store(rows)?;
    disk.set_compacted(reached)
}

/// What takes rows.
pub(crate) type Take<'a> = &'a mut dyn FnMut(Vec<u8>, Vec<u8>) -> Result<(), StoreError>;

/// Hands out the rows, and says afterwards whether they were right.
fn read(path: &Path, place: Option<Place>, take: Take<'_>) -> Result<Summary, StoreError> {
    let bad = |what: &str| StoreError::Snapshot { path: PathBuf::from(path), what: what.to_owned() };
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => bad("is cut off: use another one"),
        _ => bad(&format!("cannot be read: {source}")),
    };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(64).read_to_end(&mut start)).map_err(failed)?;
    if bolt::is_one(&start) {
        return bolt::read(path, place, take);
    }
    let file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut source = Source { file: BufReader::new(file), hash: Sha256::new() };
    let title = source.take(TITLE.len()).map_err(failed)?;
    if title != TITLE && title != OLDER {
        return Err(match title.starts_with(b"plimsoll snapshot ") {
            true => bad("is of a newer version of plimsoll: restore it with that"),
            false => bad("is no snapshot, neither of plimsoll nor of etcd"),
        });
    }
    let altered = || bad("was altered, or the disk changed it: use another one");
    let header = source.counted().map_err(failed)?.ok_or_else(altered)?;
    let Header { cluster } = serde_json::from_slice(&header).map_err(|_| altered())?;
    let (mut rows, mut revision) = (0_u64, Revision::FIRST);
    loop {
        let key = source.number().map_err(failed)?;
        let value = source.number().map_err(failed)?;
        if key == 0 {
            break;
        }
        if key > LONGEST || value > LONGEST {
            return Err(altered());
        }
        let key = source.take(key as usize).map_err(failed)?;
        let value = source.take(value as usize).map_err(failed)?;
        revision = revision.max(row::reached(&key, &value));
        rows += 1;
        take(key, value)?;
    }
    let counted = source.take(8).map_err(failed)?;
    let hash = source.hash.finalize();
    let mut told = Vec::new();
    source.file.read_to_end(&mut told).map_err(failed)?;
    match told.len().cmp(&hash.len()) {
        std::cmp::Ordering::Less => Err(bad("is cut off: use another one")),
        _ if counted != rows.to_le_bytes() || *told != *hash => Err(altered()),
        _ => Ok(Summary { cluster, revision, rows, bytes, hash: hex(&hash) }),
    }
}

struct Source {
    file: BufReader<File>,
    hash: Sha256,
}

impl Source {
    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact(&mut bytes)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// Bytes behind their length; none when that cannot be.
    fn counted(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = self.number()?;
        if length > LONGEST { Ok(None) } else { self.take(length as usize).map(Some) }
    }
}
