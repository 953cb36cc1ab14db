//! Writes it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use plimsoll_etcd::mvccpb::KeyValue;
use plimsoll_mvcc::{Entry, EventKind, Lease, Revision};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    BRANCH, BUCKET, CLUSTER, COMPACTED, ELEMENT, HEAD, LEAF, LeaseRecord, MAGIC, VERSION, fnv, revision_name,
};
use crate::disk::Disk;
use crate::row::{self, LogRow};
use crate::writer::now;
use crate::{StoreError, etcd};

const PAGE: usize = 4096;
const META: u16 = 4;
const FREE: u16 = 16;
/// The list of free pages, of which there are none.
const FREE_PAGE: u64 = 2;
/// Buckets that etcd expects, empty ones as well, in order.
const BUCKETS: [&str; 10] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
    "meta",
];

/// Keys that expire within as much time share a lease, in milliseconds.
const SHARED: u64 = 10 * 60 * 1000;

/// Key and value of an element; what it is.
type Item = (Vec<u8>, Vec<u8>, u32);

/// What the log of a member has done to its database.
pub(super) struct Raft {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) voters: String,
    /// Numbers and descriptions of all members, in the order of the former.
    pub(super) members: Vec<(String, String)>,
}

/// Writes everything that is there at this moment, and the sum behind it; others may go on writing. How long it is.
pub(crate) fn save(disk: &Disk, path: &Path, cluster: &str) -> Result<u64, StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    seal(&write(disk, path, cluster, None)?).map_err(failed)
}

/// The same without the sum. etcd has no keys that expire by themselves, so they get leases.
pub(super) fn write(
    disk: &Disk,
    path: &Path,
    cluster: &str,
    raft: Option<&Raft>,
) -> Result<File, StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut book = Book { file: BufWriter::new(file.map_err(failed)?), next: 0 };
    for page in [META, META, FREE] {
        book.page(page, &[]).map_err(failed)?;
    }
    let compacted = disk.compacted()?;
    let mut leases: BTreeMap<i64, i64> =
        disk.leases(0)?.into_iter().map(|Lease { id, ttl, .. }| (id, ttl)).collect();
    let now = now();
    let mut roots = Vec::new();
    for name in BUCKETS {
        let root = match name {
            "key" => {
                let item = |row: Result<LogRow, StoreError>| {
                    let mut row = row?;
                    lend(&mut row.entry, &mut leases, now);
                    Ok(item(row))
                };
                book.tree(rows(disk).map(item), failed)?
            }
            "lease" => book.tree(leases.iter().map(|(id, ttl)| Ok(lease_item(*id, *ttl))), failed)?,
            "meta" => book.tree(meta(compacted, cluster, raft).into_iter().map(Ok), failed)?,
            "members" => {
                let members = raft.into_iter().flat_map(|raft| &raft.members);
                book.tree(members.map(|(id, text)| Ok((id.clone().into(), text.clone().into(), 0))), failed)?
            }
            _ => book.tree(std::iter::empty(), failed)?,
        };
        let value = [root.to_le_bytes(), [0; 8]].concat();
        roots.push((name.as_bytes().to_vec(), value, BUCKET));
    }
    let root = book.tree(roots.into_iter().map(Ok), failed)?;
    book.finish(root).map_err(failed)
}

/// All versions in the order of revisions; those of one revision in that of their places.
pub(super) fn rows(disk: &Disk) -> impl Iterator<Item = Result<LogRow, StoreError>> {
    let damaged = |key: &[u8]| StoreError::Damaged { revision: row::revision_of(key) };
    let mut rows = disk
        .stored()
        .skip_while(|row| row.as_ref().is_ok_and(|(key, _)| row::revision_of(key).0 == 0))
        .map(move |row| {
            let (key, value) = row?;
            row::decode(&key, &value).ok_or_else(|| damaged(&key))
        })
        .peekable();
    let mut revision: Vec<LogRow> = Vec::new();
    std::iter::from_fn(move || {
        if revision.is_empty() {
            match rows.next()? {
                Ok(first) => revision.push(first),
                Err(error) => return Some(Err(error)),
            }
            let at = revision[0].entry.modified;
            while let Some(Ok(row)) =
                rows.next_if(|row| row.as_ref().is_ok_and(|row| row.entry.modified == at))
            {
                revision.push(row);
            }
            // The first is taken from the end.
            revision.sort_by_key(|row| std::cmp::Reverse(row.sub));
        }
        revision.pop().map(Ok)
    })
}

/// Gives a key that expires a lease, if it has none.
fn lend(entry: &mut Entry, leases: &mut BTreeMap<i64, i64>, now: u64) {
    let Some(expires) = entry.expires.filter(|_| entry.lease == 0) else { return };
    // Numbers that nobody draws: those of clients are larger by far.
    let turn = expires / SHARED + 1;
    let left = (turn * SHARED).saturating_sub(now) / 1000;
    entry.lease = i64::try_from(turn).unwrap_or(i64::MAX);
    leases.entry(entry.lease).or_insert(i64::try_from(left).unwrap_or(i64::MAX).max(1));
}

/// As etcd has its key and value.
pub(super) fn item(row: LogRow) -> Item {
    let entry = row.entry;
    let key = etcd::key_bytes(&entry.key);
    let mut name = revision_name(entry.modified, row.sub);
    let value = match row.kind {
        EventKind::Delete => {
            name.push(b't');
            KeyValue { key, ..Default::default() }
        }
        EventKind::Put => KeyValue {
            key,
            create_revision: entry.create.0,
            mod_revision: entry.modified.0,
            version: i64::try_from(entry.version).unwrap_or(i64::MAX),
            value: entry.value,
            lease: entry.lease,
        },
    };
    (name, value.encode_to_vec(), 0)
}

fn lease_item(id: i64, ttl: i64) -> Item {
    (id.to_be_bytes().to_vec(), LeaseRecord { id, ttl }.encode_to_vec(), 0)
}

fn meta(compacted: Revision, cluster: &str, raft: Option<&Raft>) -> Vec<Item> {
    let index = raft.map_or(1, |raft| raft.index);
    let mut items = vec![
        (b"consistent_index".to_vec(), index.to_be_bytes().to_vec(), 0),
        (CLUSTER.to_vec(), cluster.as_bytes().to_vec(), 0),
    ];
    if let Some(Raft { term, voters, .. }) = raft {
        items.push((b"term".to_vec(), term.to_be_bytes().to_vec(), 0));
        items.push((b"confState".to_vec(), voters.clone().into(), 0));
    }
    if compacted > Revision::FIRST {
        items.extend(COMPACTED.map(|name| (name.to_vec(), revision_name(compacted, 0), 0)));
    }
    // Keys lie in order.
    items.sort();
    items
}

/// The file: pages that are written one behind the other.
struct Book {
    file: BufWriter<File>,
    next: u64,
}

impl Book {
    /// Writes the elements of a bucket, and the pages that lead to them. The number of the first one.
    fn tree(
        &mut self,
        items: impl Iterator<Item = Result<Item, StoreError>>,
        failed: impl Fn(io::Error) -> StoreError,
    ) -> Result<u64, StoreError> {
        let mut level = Vec::new();
        let (mut page, mut size) = (Vec::new(), HEAD);
        for item in items {
            let item = item?;
            let more = ELEMENT + item.0.len() + item.1.len();
            if size + more > PAGE && !page.is_empty() {
                level.push(self.leaf(&std::mem::take(&mut page)).map_err(&failed)?);
                size = HEAD;
            }
            size += more;
            page.push(item);
        }
        if !page.is_empty() || level.is_empty() {
            level.push(self.leaf(&page).map_err(&failed)?);
        }
        while level.len() > 1 {
            level = self.branches(&level).map_err(&failed)?;
        }
        Ok(level[0].1)
    }

    fn leaf(&mut self, items: &[Item]) -> io::Result<(Vec<u8>, u64)> {
        let elements = items.iter().map(|(key, value, kind)| {
            let lengths = [length(key), length(value)];
            (lengths, *kind, [&key[..], &value[..]].concat())
        });
        let body = body(elements, |at, ([key, value], kind)| {
            [kind.to_le_bytes(), at.to_le_bytes(), key.to_le_bytes(), value.to_le_bytes()].concat()
        });
        let first = items.first().map_or_else(Vec::new, |(key, ..)| key.clone());
        Ok((first, self.numbered(LEAF, items.len(), &body)?))
    }

    fn branches(&mut self, below: &[(Vec<u8>, u64)]) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let longest = below.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
        // Two at least, or there would be no end.
        let fit = ((PAGE - HEAD) / (ELEMENT + longest)).max(2);
        let mut level = Vec::new();
        for part in below.chunks(fit) {
            let elements = part.iter().map(|(key, page)| (length(key), *page, key.clone()));
            let body = body(elements, |at, (key, page)| {
                [&at.to_le_bytes()[..], &key.to_le_bytes(), &page.to_le_bytes()].concat()
            });
            level.push((part[0].0.clone(), self.numbered(BRANCH, part.len(), &body)?));
        }
        Ok(level)
    }

    fn page(&mut self, kind: u16, body: &[u8]) -> io::Result<u64> {
        self.numbered(kind, 0, body)
    }

    fn numbered(&mut self, kind: u16, count: usize, body: &[u8]) -> io::Result<u64> {
        let number = self.next;
        let pages = (HEAD + body.len()).div_ceil(PAGE).max(1);
        let overflow = u32::try_from(pages - 1).map_err(io::Error::other)?;
        self.file.write_all(&number.to_le_bytes())?;
        self.file.write_all(&kind.to_le_bytes())?;
        self.file.write_all(&u16::try_from(count).map_err(io::Error::other)?.to_le_bytes())?;
        self.file.write_all(&overflow.to_le_bytes())?;
        self.file.write_all(body)?;
        self.file.write_all(&vec![0; pages * PAGE - HEAD - body.len()])?;
        self.next += pages as u64;
        Ok(number)
    }

    /// Writes where the tree begins.
    fn finish(self, root: u64) -> io::Result<File> {
        let end = self.next;
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        for number in [0, 1] {
            let mut meta = Vec::new();
            for word in [MAGIC, VERSION, PAGE as u32, 0] {
                meta.extend_from_slice(&word.to_le_bytes());
            }
            // The tree and its sequence, the list of free pages, how many pages, the transaction.
            for word in [root, 0, FREE_PAGE, end, number] {
                meta.extend_from_slice(&word.to_le_bytes());
            }
            meta.extend_from_slice(&fnv(&meta).to_le_bytes());
            file.seek(SeekFrom::Start(number * PAGE as u64 + HEAD as u64))?;
            file.write_all(&meta)?;
        }
        Ok(file)
    }
}

/// Writes the sum behind a file. The length of both.
fn seal(mut file: &File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::Start(0)).and_then(|_| file.metadata())?.len();
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    let hash = hash.finalize();
    file.write_all(&hash)?;
    Ok(length + hash.len() as u64)
}

/// Elements, then what they point at: `element` gets how far that is from itself.
fn body<L, K>(
    elements: impl ExactSizeIterator<Item = (L, K, Vec<u8>)>,
    element: impl Fn(u32, (L, K)) -> Vec<u8>,
) -> Vec<u8> {
    let mut left = elements.len() * ELEMENT;
    let (mut heads, mut data) = (Vec::with_capacity(left), Vec::new());
    for (lengths, kind, bytes) in elements {
        let at = u32::try_from(left + data.len()).unwrap_or(u32::MAX);
        heads.extend_from_slice(&element(at, (lengths, kind)));
        data.extend_from_slice(&bytes);
        left -= ELEMENT;
    }
    heads.extend_from_slice(&data);
    heads
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
