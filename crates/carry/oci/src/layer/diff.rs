//! Writes the upper directory of an overlay as a layer: only what changed.
//!
//! The same tree always gives the same bytes: names are sorted, times are cut
//! to seconds, nothing else of this machine enters.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tar::{EntryType, Header};
use xattr::FileExt;

use crate::error::{During, Result};

const OPAQUE: &str = "trusted.overlay.opaque";
const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";

/// Writes the tree below `root` as a tar stream and returns the bytes of its files.
pub(crate) fn write_diff(root: &Path, writer: impl Write) -> Result<u64> {
    let mut diff = Diff { writer: TarWriter::new(writer), root, links: HashMap::new(), size: 0 };
    diff.directory(Path::new(""))?;
    diff.writer.finish().during(|| "write layer".into())?;
    Ok(diff.size)
}

struct Diff<'a, W> {
    writer: TarWriter<W>,
    root: &'a Path,
    /// Where the first name of a file with several was written.
    links: HashMap<(u64, u64), PathBuf>,
    size: u64,
}

impl<W: Write> Diff<'_, W> {
    fn directory(&mut self, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        let mut names: Vec<OsString> = fs::read_dir(&full)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect())
            .during(|| format!("list {}", full.display()))?;
        names.sort();
        names.into_iter().try_for_each(|name| self.entry(&path.join(name)))
    }

    fn entry(&mut self, path: &Path) -> Result<()> {
        let full = self.root.join(path);
        let metadata = full.symlink_metadata().during(|| format!("stat {}", full.display()))?;
        let kind = metadata.file_type();
        let record = |member: Member| member.with(&metadata, xattrs(&full));
        if kind.is_dir() {
            let member = record(Member::new(path, EntryType::Directory));
            self.member(&member, &mut io::empty())?;
            if is_opaque(&full) {
                self.whiteout(path, WHITEOUT_OPAQUE, &metadata)?;
            }
            return self.directory(path);
        }
        if kind.is_char_device() && metadata.rdev() == 0 {
            let name = path.file_name().unwrap_or_default();
            let marked = [WHITEOUT, name.as_bytes()].concat();
            return self.whiteout(path.parent().unwrap_or(Path::new("")), &marked, &metadata);
        }
        if kind.is_socket() {
            return Ok(());
        }
        if metadata.nlink() > 1
            && let Some(first) = self.links.get(&(metadata.dev(), metadata.ino()))
        {
            let mut member = record(Member::new(path, EntryType::Link));
            member.link = first.as_os_str().as_bytes().to_vec();
            member.xattrs.clear();
            return self.member(&member, &mut io::empty());
        }
        self.links.insert((metadata.dev(), metadata.ino()), path.to_owned());
        self.leaf(path, &full, &metadata)
    }

    fn leaf(&mut self, path: &Path, full: &Path, metadata: &Metadata) -> Result<()> {
        let kind = metadata.file_type();
        let mut member = Member::new(path, EntryType::Regular).with(metadata, xattrs(full));
        if kind.is_file() {
            let mut file = File::open(full).during(|| format!("open {}", full.display()))?;
            member.size = metadata.len();
            self.size += member.size;
            return self.member(&member, &mut file);
        }
        if kind.is_symlink() {
            member.kind = EntryType::Symlink;
            let target = fs::read_link(full).during(|| format!("read link {}", full.display()))?;
            member.link = target.into_os_string().into_vec();
        } else if kind.is_fifo() {
            member.kind = EntryType::Fifo;
        } else {
            member.kind = if kind.is_block_device() { EntryType::Block } else { EntryType::Char };
            member.device = (nix::sys::stat::major(metadata.rdev()), nix::sys::stat::minor(metadata.rdev()));
        }
        self.member(&member, &mut io::empty())
    }

    fn whiteout(&mut self, dir: &Path, name: &[u8], metadata: &Metadata) -> Result<()> {
        let path = dir.join(OsStr::from_bytes(name));
        let mut member = Member::new(&path, EntryType::Regular).with(metadata, Vec::new());
        (member.mode, member.uid, member.gid) = (0o600, 0, 0);
        self.member(&member, &mut io::empty())
    }

    fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        self.writer.append(member, content).during(|| format!("write layer entry {}", member.shown()))
    }
}

fn is_opaque(path: &Path) -> bool {
    matches!(xattr::get(path, OPAQUE), Ok(Some(value)) if value == b"y")
}

/// Attributes that belong to the file, not to overlayfs or this machine.
fn xattrs(path: &Path) -> Vec<(OsString, Vec<u8>)> {
    let Ok(names) = xattr::list(path) else { return Vec::new() };
    wanted(names, |name| xattr::get(path, name))
}

/// Like [`xattrs`], of a file that is open for reading.
pub(crate) fn xattrs_of_open(file: &File) -> Vec<(OsString, Vec<u8>)> {
    let Ok(names) = file.list_xattr() else { return Vec::new() };
    wanted(names, |name| file.get_xattr(name))
}

fn wanted(
    names: xattr::XAttrs,
    get: impl Fn(&OsStr) -> io::Result<Option<Vec<u8>>>,
) -> Vec<(OsString, Vec<u8>)> {
    let belongs = |name: &OsString| {
        name == "security.capability"
            || name.as_bytes().starts_with(b"user.") && !name.as_bytes().starts_with(b"user.overlay.")
    };
    let mut found: Vec<_> =
        names.filter(belongs).filter_map(|name| Some((name.clone(), get(&name).ok()??))).collect();
    found.sort();
    found
}

/// One member to be written.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    path: Vec<u8>,
    kind: EntryType,
    link: Vec<u8>,
    pub(crate) mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    pub(crate) size: u64,
    device: (u64, u64),
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Member {
    /// A member owned by root, from 1970, without content.
    pub(crate) fn new(path: &Path, kind: EntryType) -> Self {
        let mut path = path.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory {
            path.push(b'/');
        }
        let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
        Self {
            path,
            kind,
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    fn with(mut self, metadata: &Metadata, xattrs: Vec<(OsString, Vec<u8>)>) -> Self {
        self.mode = metadata.mode() & 0o7777;
        (self.uid, self.gid) = (metadata.uid(), metadata.gid());
        self.mtime = metadata.mtime();
        self.xattrs = xattrs;
        self
    }

    #[cfg(test)]
    pub(crate) fn linking_to(mut self, link: &str) -> Self {
        self.link = link.into();
        self
    }

    #[cfg(test)]
    pub(crate) fn with_xattrs(mut self, xattrs: &[(&str, &[u8])]) -> Self {
        self.xattrs = xattrs.iter().map(|(name, value)| ((*name).into(), value.to_vec())).collect();
        self
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Writes tar members: ustar headers, with pax records for what does not fit.
pub(crate) struct TarWriter<W> {
    inner: W,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner }
    }

    pub(crate) fn append(&mut self, member: &Member, content: &mut dyn Read) -> io::Result<()> {
        let mut records = Vec::new();
        let mut header = Header::new_ustar();
        fill_header(&mut header, member, &mut records);
        if !records.is_empty() {
            let mut extension = Header::new_ustar();
            extension.set_entry_type(EntryType::XHeader);
            let name = OsStr::from_bytes(b"PaxHeaders/x");
            extension.set_path(Path::new(name))?;
            extension.set_size(records.len() as u64);
            extension.set_mode(0o644);
            extension.set_cksum();
            self.write(&extension, records.len() as u64, &mut records.as_slice())?;
        }
        header.set_cksum();
        self.write(&header, member.size, content)
    }

    /// Two blocks of zeros end the archive.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.inner.write_all(&[0; 1024])?;
        self.inner.flush()
    }

    fn write(&mut self, header: &Header, size: u64, content: &mut dyn Read) -> io::Result<()> {
        self.inner.write_all(header.as_bytes())?;
        let copied = io::copy(&mut content.take(size), &mut self.inner)?;
        if copied != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "file shrank while it was read"));
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).expect("less than a block");
        self.inner.write_all(&[0; 512][..padding])
    }
}

/// Fills the header and leaves to the records what it cannot hold.
fn fill_header(header: &mut Header, member: &Member, records: &mut Vec<u8>) {
    header.set_entry_type(member.kind);
    header.set_mode(member.mode);
    let bytes = header.as_mut_bytes();
    if !put_name(&mut bytes[..100], &member.path) {
        record(records, b"path", &member.path);
    }
    if !put_name(&mut bytes[157..257], &member.link) {
        record(records, b"linkpath", &member.link);
    }
    let octal7 = 0o7_777_777;
    for (id, key) in [(member.uid, b"uid"), (member.gid, b"gid")] {
        if id > octal7 {
            record(records, key, id.to_string().as_bytes());
        }
    }
    header.set_uid(u64::from(member.uid.min(octal7)));
    header.set_gid(u64::from(member.gid.min(octal7)));
    let octal11 = 0o77_777_777_777;
    if member.size > octal11 {
        record(records, b"size", member.size.to_string().as_bytes());
    }
    header.set_size(member.size.min(octal11));
    match u64::try_from(member.mtime) {
        Ok(mtime) if mtime <= octal11 => header.set_mtime(mtime),
        _ => {
            header.set_mtime(0);
            record(records, b"mtime", member.mtime.to_string().as_bytes());
        }
    }
    if matches!(member.kind, EntryType::Char | EntryType::Block) {
        // Numbers beyond seven octal digits do not exist in Linux.
        let part = |number: u64| u32::try_from(number).unwrap_or(0);
        let set = header.set_device_major(part(member.device.0));
        set.and_then(|()| header.set_device_minor(part(member.device.1)))
            .expect("a ustar header has devices");
    }
    for (name, value) in &member.xattrs {
        record(records, &[b"SCHILY.xattr.", name.as_bytes()].concat(), value);
    }
}

fn put_name(field: &mut [u8], name: &[u8]) -> bool {
    // Names that are not ASCII go into records, where they are UTF-8 by definition.
    if name.len() > field.len() || !name.is_ascii() {
        let cut = name.len().min(field.len());
        let ascii: Vec<u8> = name[..cut].iter().map(|b| if b.is_ascii() { *b } else { b'_' }).collect();
        field[..cut].copy_from_slice(&ascii);
        return false;
    }
    field[..name.len()].copy_from_slice(name);
    true
}

/// The number that starts a record counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let mut length = rest + digits(rest);
    if digits(length) > digits(rest) {
        length = rest + digits(length);
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Bytes of the files below a directory, several names of one file counted once.
pub(crate) fn tree_size(root: &Path) -> Result<u64> {
    write_diff(root, io::sink())
}
