//! COPY and ADD: files into the root of a stage.

use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::{Found, Source};
use crate::error::{During, Error, Result};
use crate::layer::tar::{Attributes, Entry, Kind, TarReader};
use crate::layer::tree::Tree;
use crate::layer::{Compression, decompressed};

/// A copy whose words are all known.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Below the root.
    pub(super) path: PathBuf,
    /// It ends with a slash or takes several sources.
    pub(super) is_directory: bool,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// Whether archives are unpacked.
    pub(super) unpack: bool,
    /// Files whose content stands in the Dockerfile.
    pub(super) inline: Vec<(String, String)>,
}

/// Copies what was found into the tree.
pub(super) fn copy(tree: &mut Tree, source: &Source, found: &[Vec<Found>], target: &Target) -> Result<()> {
    let mut copier = Copier { tree, source, target };
    for items in found {
        let (first, rest) = items.split_first().expect("what is found holds itself");
        if first.metadata.is_dir() {
            copier.directory(first, rest)?;
        } else if target.unpack && copier.is_archive(first)? {
            copier.unpack(first)?;
        } else {
            copier.file(first)?;
        }
    }
    for (name, content) in &target.inline {
        copier.inline(name, content)?;
    }
    copier.tree.finish()
}

/// Makes directories whose attributes do not depend on when the build runs; those that
/// are there keep theirs.
pub(super) fn make_directories(tree: &mut Tree, path: &Path, owner: (u32, u32), mtime: i64) -> Result<()> {
    path.ancestors().try_for_each(|dir| tree.keep_time(dir))?;
    tree.make_directories(path)?;
    for path in tree.implied().to_vec() {
        let (uid, gid) = owner;
        let attributes = Attributes { mode: 0o755, uid, gid, mtime: (mtime, 0), xattrs: Vec::new() };
        tree.put(&Entry { path, kind: Kind::Directory, attributes, size: 0 }, &mut std::io::empty())?;
    }
    Ok(())
}

struct Copier<'a> {
    tree: &'a mut Tree,
    source: &'a Source,
    target: &'a Target,
}

impl Copier<'_> {
    /// The content of a directory goes into the target, which is made like it.
    fn directory(&mut self, dir: &Found, below: &[Found]) -> Result<()> {
        let target = self.target.path.clone();
        self.parents(&target, dir)?;
        if !self.tree.is_directory(&target) {
            self.put(&target, dir)?;
        }
        for item in below {
            let path = target.join(&item.below);
            // A directory that is there, also behind a link, stays as it is.
            if !(item.metadata.is_dir() && self.tree.is_directory(&path)) {
                self.put(&path, item)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Found) -> Result<()> {
        let path = self.place(file.path.file_name().map(PathBuf::from).unwrap_or_default());
        self.parents(&path, file)?;
        self.put(&path, file)
    }

    fn inline(&mut self, name: &str, content: &str) -> Result<()> {
        let path = self.place(PathBuf::from(name));
        let (uid, gid) = self.target.owner.unwrap_or((0, 0));
        make_directories(self.tree, path.parent().unwrap_or(Path::new("")), (uid, gid), 0)?;
        let attributes =
            Attributes { mode: self.target.mode.unwrap_or(0o644), uid, gid, ..Attributes::default() };
        let entry = Entry { path, kind: Kind::File, attributes, size: content.len() as u64 };
        self.tree.put(&entry, &mut content.as_bytes())
    }

    /// A file goes into a directory, or becomes the target.
    fn place(&self, name: PathBuf) -> PathBuf {
        match self.target.is_directory || self.tree.is_directory(&self.target.path) {
            true => self.target.path.join(name),
            false => self.target.path.clone(),
        }
    }

    /// Makes the directories above a path, as old as what is copied.
    fn parents(&mut self, path: &Path, like: &Found) -> Result<()> {
        let owner = self.target.owner.unwrap_or((0, 0));
        make_directories(self.tree, path.parent().unwrap_or(Path::new("")), owner, like.metadata.mtime())
    }

    fn put(&mut self, path: &Path, item: &Found) -> Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        self.tree.keep_time(path.parent().unwrap_or(Path::new("")))?;
        let metadata = &item.metadata;
        let kind = match metadata.mode() & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o120_000 => Kind::Symlink(item.link.clone()),
            0o100_000 => Kind::File,
            0o010_000 => Kind::Fifo,
            kind @ (0o020_000 | 0o060_000) => {
                let part = |number: u64| u32::try_from(number).unwrap_or(0);
                let (major, minor) = (
                    part(nix::sys::stat::major(metadata.rdev())),
                    part(nix::sys::stat::minor(metadata.rdev())),
                );
                if kind == 0o020_000 { Kind::Char { major, minor } } else { Kind::Block { major, minor } }
            }
            // Sockets do not travel.
            _ => return Ok(()),
        };
        let own = if self.source.keep_owner { (metadata.uid(), metadata.gid()) } else { (0, 0) };
        let (uid, gid) = self.target.owner.unwrap_or(own);
        let attributes = Attributes {
            mode: self.target.mode.unwrap_or(metadata.mode() & 0o7777),
            uid,
            gid,
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs: if kind == Kind::File { self.source.xattrs(item) } else { Vec::new() },
        };
        let size = if kind == Kind::File { metadata.len() } else { 0 };
        let entry = Entry { path: path.to_owned(), kind, attributes, size };
        match entry.kind {
            Kind::File => self.tree.put(&entry, &mut self.source.open(item)?),
            _ => self.tree.put(&entry, &mut std::io::empty()),
        }
    }

    /// Docker decides by the content, not by the name.
    fn is_archive(&self, file: &Found) -> Result<bool> {
        if !file.metadata.is_file() {
            return Ok(false);
        }
        let mut head = Vec::new();
        let opened = self.source.open(file)?;
        opened.take(6).read_to_end(&mut head).during(|| format!("read {}", file.path.display()))?;
        if head.starts_with(b"BZh") || head.starts_with(b"\xfd7zXZ\0") {
            let reason =
                "bzip2 and xz archives are not supported: unpack them in a RUN step, or use gzip or zstd";
            return Err(Error::Step { step: format!("add {}", file.path.display()), reason: reason.into() });
        }
        let first = |reader: &mut dyn Read| matches!(TarReader::new(reader).next_entry(), Ok(Some(_)));
        let opened = BufReader::new(self.source.open(file)?);
        match Compression::of(&head) {
            Compression::None => Ok(first(&mut { opened })),
            _ => Ok(decompressed(opened).is_ok_and(|mut plain| first(&mut plain))),
        }
    }

    fn unpack(&mut self, file: &Found) -> Result<()> {
        let target = self.target.path.clone();
        self.parents(&target.join("x"), file)?;
        let opened = BufReader::with_capacity(256 << 10, self.source.open(file)?);
        let mut reader = TarReader::new(decompressed(opened)?);
        while let Some(mut entry) = reader.next_entry()? {
            if entry.path.as_os_str().is_empty() {
                continue;
            }
            entry.path = target.join(entry.path);
            if let Kind::Hardlink(link) = &mut entry.kind {
                *link = target.join(&*link);
            }
            if let Some((uid, gid)) = self.target.owner {
                (entry.attributes.uid, entry.attributes.gid) = (uid, gid);
            }
            if entry.kind == Kind::Directory && self.tree.is_directory(&entry.path) {
                continue;
            }
            self.tree.keep_time(entry.path.parent().unwrap_or(Path::new("")))?;
            self.tree.put(&entry, &mut reader)?;
        }
        Ok(())
    }
}
