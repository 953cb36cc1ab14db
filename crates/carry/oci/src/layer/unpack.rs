//! Unpacks a layer into a directory that overlayfs can use as it is.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::decompressed;
use super::tar::{Attributes, Entry, Kind, TarReader};
use super::tree::Tree;
use crate::digest::{Digest, Hashing};
use crate::error::{During, Error, Result};

const WHITEOUT: &[u8] = b".wh.";
/// Marks of aufs: `.wh..wh..opq` hides all of the directory below, others mean nothing here.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// What one layer may cost the node. Beyond it, unpacking stops with an error.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes after decompression, headers included.
    pub bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 4_000_000 }
    }
}

/// What came out of a layer.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the decompressed stream.
    pub(crate) diff_id: Digest,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// Directories without an entry of their own.
    pub(crate) implied: Vec<PathBuf>,
}

/// Unpacks the layer file into the empty directory `root`.
pub(crate) fn unpack(layer: &Path, root: &Path, limits: Limits) -> Result<Unpacked> {
    let file = File::open(layer).during(|| format!("open {}", layer.display()))?;
    unpack_stream(BufReader::with_capacity(256 << 10, file), root, limits)
}

fn unpack_stream(layer: impl io::BufRead, root: &Path, limits: Limits) -> Result<Unpacked> {
    let bounded = Bounded { inner: decompressed(layer)?, left: limits.bytes, limit: limits.bytes };
    let mut reader = TarReader::new(Hashing::new(bounded));
    let mut tree = Tree::open(root)?;
    let (mut size, mut entries) = (0, 0);
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        if entries > limits.entries {
            return Err(Error::TooLarge { what: "layer".into(), limit: limits.entries, unit: "entries" });
        }
        size += entry.size;
        put(&mut tree, &entry, &mut reader)?;
    }
    tree.finish()?;
    let mut rest = reader.into_inner();
    io::copy(&mut rest, &mut io::sink()).during(|| "read layer".into())?;
    Ok(Unpacked { diff_id: rest.finish().0, size, implied: tree.implied().to_vec() })
}

/// Turns the names that mean whiteouts in layers into what means them in overlayfs.
fn put(tree: &mut Tree, entry: &Entry, content: &mut dyn Read) -> Result<()> {
    let name = entry.path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let parent = entry.path.parent().unwrap_or(Path::new(""));
    if name == WHITEOUT_OPAQUE {
        return tree.opaque(parent);
    }
    if name.starts_with(WHITEOUT_META) {
        return Ok(());
    }
    match name.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => {
            Err(Error::Layer { path: entry.path.display().to_string(), reason: "whiteout of nothing".into() })
        }
        Some(hidden) => tree.whiteout(&parent.join(OsStr::from_bytes(hidden))),
        None => tree.put(entry, content),
    }
}

/// Gives directories that a layer only implied the attributes that lower layers have for them.
///
/// `lower` lists the unpacked layers below, nearest first.
pub(crate) fn adopt_implied(root: &Path, implied: &[PathBuf], lower: &[PathBuf]) -> Result<()> {
    if implied.is_empty() || lower.is_empty() {
        return Ok(());
    }
    let lower = lower.iter().map(|path| Tree::open(path)).collect::<Result<Vec<_>>>()?;
    let mut tree = Tree::open(root)?;
    for path in implied {
        let Some(metadata) = lower.iter().find_map(|layer| directory_metadata(layer, path)) else { continue };
        let attributes = Attributes {
            mode: metadata.permissions().mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs: Vec::new(),
        };
        let entry = Entry { path: path.clone(), kind: Kind::Directory, attributes, size: 0 };
        tree.put(&entry, &mut io::empty())?;
    }
    tree.finish()
}

fn directory_metadata(layer: &Tree, path: &Path) -> Option<fs::Metadata> {
    let file = File::from(layer.resolve(path).ok()??);
    file.metadata().ok().filter(fs::Metadata::is_dir)
}

/// Fails when more than the limit is read, where `take` would end silently.
struct Bounded<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(Error::TooLarge {
                what: "unpacked layer".into(),
                limit: self.limit,
                unit: "bytes",
            })
        })?;
        Ok(count)
    }
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
