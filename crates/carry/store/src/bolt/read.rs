//! What a snapshot of etcd holds, as rows of a store.
//!
//! Whoever restores it compacts all before, so only what exists at the end is handed out, and the leases.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use plimsoll_etcd::mvccpb::KeyValue;
use plimsoll_mvcc::{Entry, Event, EventKind, Memo, Revision};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{BRANCH, BUCKET, CLUSTER, COMPACTED, ELEMENT, HEAD, LEAF, LeaseRecord, MAGIC, VERSION, fnv};
use crate::cluster::{PREFIX, Place, stamped};
use crate::snapshot::{Take, UNKNOWN, hex};
use crate::{StoreError, Summary, cluster_of, etcd, row};

/// How long the hash at the end is.
const HASH: u64 = 32;
/// Files are whole numbers of these.
const SECTOR: u64 = 512;
/// No tree is deeper.
const DEEPEST: usize = 32;
/// Values that begin so are encrypted.
const SEALED: &[u8] = b"k8s:enc:";

/// Takes a key, its value, and what it is.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8], u64) -> Result<(), StoreError>;

/// Whether this is how a file of bbolt begins.
pub(crate) fn is_one(start: &[u8]) -> bool {
    number::<4>(start, HEAD) == Some(u64::from(MAGIC))
}

/// Hands out the rows of what is there at the end, once the file is known to be whole. With `place`, only those of
/// API servers of this program, whose values have their revision there.
pub(crate) fn read(path: &Path, place: Option<Place>, take: Take<'_>) -> Result<Summary, StoreError> {
    let (book, hash) = Book::open(path)?;
    let mut summary = Summary {
        cluster: UNKNOWN.into(),
        revision: Revision::FIRST,
        rows: 0,
        bytes: book.bytes + HASH,
        hash: hex(&hash),
    };
    let mut marked = false;
    book.each(b"meta", |key, value| {
        if COMPACTED.contains(&key) {
            let (at, _) = revision(value).ok_or_else(|| book.altered())?;
            summary.revision = summary.revision.max(at);
        } else if key == CLUSTER {
            (summary.cluster, marked) = (String::from_utf8_lossy(value).into_owned(), true);
        }
        Ok(())
    })?;
    let mut newest: HashMap<Bytes, (Revision, u32)> = HashMap::new();
    book.each(b"key", |name, value| {
        let at = revision(name).ok_or_else(|| book.altered())?;
        let pair = KeyValue::decode(value).map_err(|_| book.altered())?;
        summary.revision = summary.revision.max(at.0);
        summary.rows += 1;
        if pair.key.starts_with(b"/registry/configmaps/")
            && pair.key.ends_with(b"/kube-root-ca.crt")
            && !marked
        {
            summary.cluster = authority(&pair.value).unwrap_or(std::mem::take(&mut summary.cluster));
        }
        match is_deletion(name) {
            true => drop(newest.remove(&pair.key)),
            false => drop(newest.insert(pair.key, at)),
        }
        Ok(())
    })?;
    book.each(b"lease", |_, value| {
        let LeaseRecord { id, ttl } = LeaseRecord::decode(value).map_err(|_| book.altered())?;
        take(row::lease_key(id), ttl.to_be_bytes().into())
    })?;
    book.each(b"key", |name, value| {
        let at = revision(name).ok_or_else(|| book.altered())?;
        let pair = KeyValue::decode(value).map_err(|_| book.altered())?;
        let ours = place.is_none() || pair.key.starts_with(PREFIX.as_bytes());
        if !ours || is_deletion(name) || newest.get(&pair.key) != Some(&at) {
            return Ok(());
        }
        let value = match place {
            Some(place) if !marked => book.stamped(&pair, place)?,
            _ => pair.value.clone(),
        };
        let event = event(&pair, value, at);
        take(row::row_key(at.0, &event.entry.key), row::row_value(&event, &event.entry.value))
    })?;
    Ok(summary)
}

/// How snapshots name the cluster whose pods are told of this authority.
fn authority(map: &[u8]) -> Option<String> {
    let map: serde_json::Value = serde_json::from_slice(map).ok()?;
    Some(cluster_of(map.pointer("/data/ca.crt")?.as_str()?.as_bytes()))
}

fn event(pair: &KeyValue, value: Bytes, (modified, sub): (Revision, u32)) -> Event {
    let entry = Entry {
        key: etcd::key_text(&pair.key).into(),
        value,
        create: Revision(pair.create_revision),
        modified,
        version: u64::try_from(pair.version).unwrap_or_default(),
        expires: None,
        lease: pair.lease,
        memo: OnceLock::new(),
    };
    let memo = Memo::default();
    Event { kind: EventKind::Put, entry: Arc::new(entry), previous: None, sub, last: true, memo }
}

/// The revision of a version, and its place among those of the same.
fn revision(name: &[u8]) -> Option<(Revision, u32)> {
    let (main, rest) = name.split_first_chunk::<8>()?;
    let sub = rest.strip_prefix(b"_")?.first_chunk::<8>()?;
    Some((Revision(i64::from_be_bytes(*main)), i64::from_be_bytes(*sub).try_into().ok()?))
}

fn is_deletion(name: &[u8]) -> bool {
    name.get(17) == Some(&b't')
}

/// A file of bbolt that has the hash that stands behind it.
struct Book<'a> {
    path: &'a Path,
    file: File,
    /// Without the hash.
    bytes: u64,
    page: u64,
    root: u64,
    /// How many pages may be read yet: trees have each page once, whatever a file says.
    left: Cell<u64>,
}

impl<'a> Book<'a> {
    fn open(path: &'a Path) -> Result<(Self, Vec<u8>), StoreError> {
        let failed = |source| StoreError::Directory { path: path.into(), source };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut book =
            Self { path, file, bytes: length.saturating_sub(HASH), page: 0, root: 0, left: Cell::new(0) };
        if length % SECTOR != HASH {
            return Err(book.bad(
                "ends without a hash: it is cut off, or a copy of a member's file; use one of `etcdctl snapshot save`",
            ));
        }
        let hash = book.hash().map_err(failed)?;
        let mut told = vec![0; hash.len()];
        book.file.read_exact_at(&mut told, book.bytes).map_err(failed)?;
        if told != hash {
            return Err(book.altered());
        }
        (book.page, book.root) = book.meta().ok_or_else(|| book.altered())?;
        Ok((book, hash))
    }

    fn hash(&self) -> io::Result<Vec<u8>> {
        let mut hash = Sha256::new();
        let mut reader = (&self.file).take(self.bytes);
        let mut piece = vec![0; 1 << 20];
        loop {
            match reader.read(&mut piece)? {
                0 => return Ok(hash.finalize().to_vec()),
                read => hash.update(&piece[..read]),
            }
        }
    }

    /// How large pages are and where the tree of buckets begins: by that of both first pages which was written last.
    fn meta(&self) -> Option<(u64, u64)> {
        const LENGTH: usize = 64;
        let one = |at: u64| {
            let mut bytes = [0; LENGTH];
            self.file.read_exact_at(&mut bytes, at + HEAD as u64).ok()?;
            let known = number::<4>(&bytes, 0) == Some(u64::from(MAGIC))
                && number::<4>(&bytes, 4) == Some(u64::from(VERSION))
                && number::<8>(&bytes, 56) == Some(fnv(&bytes[..56]));
            let page = number::<4>(&bytes, 8).filter(|page| page.is_power_of_two() && *page >= SECTOR)?;
            known.then_some((number::<8>(&bytes, 48)?, page, number::<8>(&bytes, 16)?))
        };
        let first = one(0);
        let sizes = first.map_or_else(|| (12..17).map(|bits| 1 << bits).collect(), |(_, page, _)| vec![page]);
        let both = sizes.into_iter().filter_map(one).chain(first);
        both.max().map(|(_, page, root)| (page, root))
    }

    /// Each key of a bucket with its value, in order.
    fn each(
        &self,
        name: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.left.set(2 * self.bytes / self.page);
        let mut bucket = None;
        self.walk(&self.page(self.root)?, DEEPEST, &mut |key, value, kind| {
            if key == name && kind == u64::from(BUCKET) {
                bucket = Some(value.to_vec());
            }
            Ok(())
        })?;
        let Some(bucket) = bucket else { return Ok(()) };
        // A small one is behind its own head.
        let page = match number::<8>(&bucket, 0) {
            Some(0) => bucket.get(16..).unwrap_or_default().to_vec(),
            Some(root) => self.page(root)?,
            None => return Err(self.altered()),
        };
        self.walk(&page, DEEPEST, &mut |key, value, _| visit(key, value))
    }

    fn walk(&self, page: &[u8], deeper: usize, visit: Visit<'_>) -> Result<(), StoreError> {
        let altered = || self.altered();
        let deeper = deeper.checked_sub(1).ok_or_else(altered)?;
        let kind = number::<2>(page, 8).ok_or_else(altered)?;
        let count = number::<2>(page, 10).ok_or_else(altered)?;
        let count = usize::try_from(count).unwrap_or_default();
        for at in (HEAD..).step_by(ELEMENT).take(count) {
            let part = |from: u64, length: u64| {
                let start = at.checked_add(usize::try_from(from).ok()?)?;
                page.get(start..start.checked_add(usize::try_from(length).ok()?)?)
            };
            let word = |index: usize| number::<4>(page, at + 4 * index).ok_or_else(altered);
            if kind == u64::from(LEAF) {
                let (from, key, value) = (word(1)?, word(2)?, word(3)?);
                let found = part(from, key).zip(part(from + key, value));
                let (key, value) = found.ok_or_else(altered)?;
                visit(key, value, word(0)?)?;
            } else if kind == u64::from(BRANCH) {
                let below = number::<8>(page, at + 8).ok_or_else(altered)?;
                self.walk(&self.page(below)?, deeper, visit)?;
            } else {
                return Err(altered());
            }
        }
        Ok(())
    }

    /// A page with those that it runs over into.
    fn page(&self, at: u64) -> Result<Vec<u8>, StoreError> {
        let failed = |source| StoreError::Directory { path: self.path.into(), source };
        let start = at.checked_mul(self.page).filter(|start| start + self.page <= self.bytes);
        let left = self.left.get().checked_sub(1);
        let (start, left) = start.zip(left).ok_or_else(|| self.altered())?;
        self.left.set(left);
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, start).map_err(failed)?;
        let length = (number::<4>(&head, 12).unwrap_or_default() + 1) * self.page;
        if start + length > self.bytes {
            return Err(self.altered());
        }
        let mut page = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.read_exact_at(&mut page, start).map_err(failed)?;
        Ok(page)
    }

    /// A value as the store has it: with its revision.
    fn stamped(&self, pair: &KeyValue, place: Place) -> Result<Bytes, StoreError> {
        let key = String::from_utf8_lossy(&pair.key);
        if pair.value.starts_with(SEALED) {
            return Err(self.bad(&format!(
                "has encrypted values ({key}), which stay in etcd: restore it with `etcdctl snapshot restore`, and use that \
                 etcd with --datastore-endpoint and the same keys"
            )));
        }
        stamped(place, &pair.value, Revision(pair.mod_revision)).ok_or_else(|| {
            self.bad(&format!(
                "has a key {key:?} that Plimsoll did not write: restore it with `etcdctl snapshot restore`, or for \
                 `plimsoll store serve` into a directory without a cluster"
            ))
        })
    }

    fn altered(&self) -> StoreError {
        self.bad("was altered, or the disk changed it: use another one")
    }

    fn bad(&self, what: &str) -> StoreError {
        StoreError::Snapshot { path: self.path.into(), what: what.into() }
    }
}

/// A little-endian number.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut number = [0; 8];
    number[..N].copy_from_slice(bytes.get(at..at + N)?);
    Some(u64::from_le_bytes(number))
}
