//! Makes files below a root directory that the writer of the paths does not control.
//!
//! Each path is resolved by the kernel with the root as `/` (openat2 with
//! `RESOLVE_IN_ROOT`): symbolic links, absolute or with `..`, stay inside. The
//! last component is never followed. Layers and build contexts are written
//! with this, and with nothing else.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use super::tar::{Attributes, Entry, Kind};
use crate::error::{During, Error, Result};

const OPAQUE: &str = "trusted.overlay.opaque";
/// Links followed when missing directories are made, as the kernel's own limit.
const MAX_LINKS: u32 = 40;
const CHUNK: usize = 128 << 10;

/// A directory that files are made in.
pub(crate) struct Tree {
    root: Arc<OwnedFd>,
    /// The directory of the last entry: archives list neighbours together.
    last: Option<(PathBuf, Arc<OwnedFd>)>,
    /// Directories that no entry described.
    implied: Vec<PathBuf>,
    /// Modification times of directories, set when nothing is written into them any more.
    times: Vec<(PathBuf, (i64, i64))>,
    buffer: Vec<u8>,
}

impl Tree {
    /// Opens the directory that becomes the root.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
        let root =
            nix::fcntl::open(root, flags, Mode::empty()).during(|| format!("open {}", root.display()))?;
        Ok(Self {
            root: Arc::new(root),
            last: None,
            implied: Vec::new(),
            times: Vec::new(),
            buffer: vec![0; CHUNK],
        })
    }

    /// Makes what the entry describes, replacing what is there; `content` is a file's bytes.
    pub(crate) fn put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.try_put(entry, content).map_err(|error| match error {
            Error::Io { source, .. } if source.raw_os_error() != Some(libc_enospc()) => {
                Error::Layer { path: entry.path.display().to_string(), reason: source.to_string() }
            }
            other => other,
        })
    }

    fn try_put(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        if entry.path.as_os_str().is_empty() {
            return self.root_attributes(entry);
        }
        let (dir, name) = self.place(&entry.path)?;
        let old = stat(&dir, &name)?;
        if let (Kind::Directory, Some(old)) = (&entry.kind, &old)
            && is(old, SFlag::S_IFDIR)
        {
            return self.directory_attributes(&dir, &name, entry);
        }
        let whiteout = old.as_ref().is_some_and(is_whiteout);
        if old.is_some() {
            self.remove(&dir, &name)?;
        }
        let during = || format!("make {}", entry.path.display());
        match &entry.kind {
            Kind::Directory => {
                mkdirat(&dir, name.as_os_str(), Mode::from_bits_truncate(0o700)).during(during)?;
                if whiteout {
                    set_opaque(&dir, &name)?;
                }
                return self.directory_attributes(&dir, &name, entry);
            }
            Kind::File => return self.file(&dir, &name, entry, content),
            Kind::Symlink(target) => symlinkat(target, &dir, name.as_os_str()).during(during)?,
            Kind::Hardlink(target) => return self.hardlink(target, &dir, &name),
            Kind::Char { major, minor } => make_node(&dir, &name, SFlag::S_IFCHR, *major, *minor)?,
            Kind::Block { major, minor } => make_node(&dir, &name, SFlag::S_IFBLK, *major, *minor)?,
            Kind::Fifo => make_node(&dir, &name, SFlag::S_IFIFO, 0, 0)?,
        }
        let symlink = matches!(entry.kind, Kind::Symlink(_));
        set_attributes(&dir, &name, &entry.attributes, symlink)?;
        set_time(&dir, &name, entry.attributes.mtime)
    }

    /// Hides the path of lower layers, unless this layer has it itself.
    pub(crate) fn whiteout(&mut self, path: &Path) -> Result<()> {
        let (dir, name) = self.place(path)?;
        match stat(&dir, &name)? {
            None => make_node(&dir, &name, SFlag::S_IFCHR, 0, 0),
            Some(old) if is(&old, SFlag::S_IFDIR) => set_opaque(&dir, &name),
            Some(_) => Ok(()),
        }
    }

    /// Hides what lower layers have in the directory.
    pub(crate) fn opaque(&mut self, path: &Path) -> Result<()> {
        let dir = self.directory(path)?;
        set_opaque(&dir, OsStr::new("."))
    }

    /// Makes the directory and those above it if they are missing.
    pub(crate) fn make_directories(&mut self, path: &Path) -> Result<()> {
        self.directory(path).map(drop)
    }

    /// Gives the directory, if there is one, its present time back when everything is written.
    pub(crate) fn keep_time(&mut self, path: &Path) -> Result<()> {
        if self.times.iter().any(|(known, _)| known == path) {
            return Ok(());
        }
        if let Some(dir) = self.resolve(path)? {
            let now = nix::sys::stat::fstat(&dir).during(|| format!("stat {}", path.display()))?;
            if is(&now, SFlag::S_IFDIR) {
                self.times.push((path.to_owned(), (now.st_mtime, now.st_mtime_nsec)));
            }
        }
        Ok(())
    }

    /// Whether the path leads to a directory.
    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        self.lookup(path, OFlag::O_PATH | OFlag::O_DIRECTORY).is_ok()
    }

    /// Opens a file, making an empty one if there is none; links are followed inside the root.
    pub(crate) fn open_or_make(&self, path: &Path) -> Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_CLOEXEC)
            .mode(Mode::from_bits_truncate(0o644))
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        loop {
            match openat2(&*self.root, path, how) {
                Err(Errno::EAGAIN) => {}
                other => return other.during(|| format!("open {}", path.display())),
            }
        }
    }

    /// Directories that were made without an entry of their own, parents first.
    pub(crate) fn implied(&self) -> &[PathBuf] {
        &self.implied
    }

    /// Opens the file or directory that the path leads to inside the root, following links.
    pub(crate) fn resolve(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.lookup(path, OFlag::O_PATH) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(error).during(|| format!("open {}", path.display())),
        }
    }

    /// Opens a file for reading, following links inside the root.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<File>> {
        match self.lookup(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(found) => Ok(Some(File::from(found))),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(error) => Err(error).during(|| format!("open {}", path.display())),
        }
    }

    /// Sets the directories' times: the last step.
    pub(crate) fn finish(&mut self) -> Result<()> {
        for (path, mtime) in std::mem::take(&mut self.times).into_iter().rev() {
            // A later entry may have replaced the directory.
            if let Some(dir) = self.resolve(&path)? {
                set_time(&dir, OsStr::new("."), mtime).or_else(|error| match error {
                    Error::Io { source, .. } if source.raw_os_error() == Some(Errno::ENOTDIR as i32) => {
                        Ok(())
                    }
                    other => Err(other),
                })?;
            }
        }
        Ok(())
    }

    fn lookup(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        loop {
            match openat2(&*self.root, path, how) {
                // A rename elsewhere made the kernel unsure about `..`: ask again.
                Err(Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// The open parent directory and the last component.
    fn place(&mut self, path: &Path) -> Result<(Arc<OwnedFd>, OsString)> {
        let name = path.file_name().ok_or_else(|| Error::Layer {
            path: path.display().to_string(),
            reason: "the path has no name".into(),
        })?;
        let parent = path.parent().unwrap_or(Path::new(""));
        Ok((self.directory(parent)?, name.to_owned()))
    }

    fn directory(&mut self, path: &Path) -> Result<Arc<OwnedFd>> {
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(dir.clone());
        }
        let dir = Arc::new(self.make_all(path, MAX_LINKS)?);
        self.last = Some((path.to_owned(), dir.clone()));
        Ok(dir)
    }

    /// Opens the directory, making what is missing on the way.
    fn make_all(&mut self, path: &Path, links: u32) -> Result<OwnedFd> {
        let during = || format!("open directory {}", path.display());
        match self.lookup(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(dir) => return Ok(dir),
            Err(Errno::ENOENT) => {}
            // A whiteout in the way: this layer goes on below a directory it hid.
            Err(Errno::ENOTDIR) => {}
            Err(error) => return Err(error).during(during),
        }
        let (Some(name), Some(parent_path)) = (path.file_name(), path.parent()) else {
            return Err(Errno::ENOENT).during(during);
        };
        let parent = self.make_all(parent_path, links)?;
        match stat(&parent, name)? {
            None => self.make_implied(&parent, name, path)?,
            Some(old) if is_whiteout(&old) => {
                unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir).during(during)?;
                self.make_implied(&parent, name, path)?;
                set_opaque(&parent, name)?;
            }
            // A link to a directory that this layer does not have (yet).
            Some(old) if is(&old, SFlag::S_IFLNK) && links > 0 => {
                let target = readlinkat(&parent, name).during(during)?;
                let target = resolve_link(parent_path, Path::new(&target));
                self.make_all(&target, links - 1)?;
            }
            Some(_) => return Err(Errno::ENOTDIR).during(during),
        }
        self.lookup(path, OFlag::O_PATH | OFlag::O_DIRECTORY).during(during)
    }

    fn make_implied(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
        let during = || format!("make directory {}", path.display());
        mkdirat(parent, name, Mode::from_bits_truncate(0o755)).during(during)?;
        // The process's umask must not decide.
        chmod(parent, name, 0o755)?;
        self.implied.push(path.to_owned());
        Ok(())
    }

    fn file(&mut self, dir: &OwnedFd, name: &OsStr, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let during = || format!("write {}", entry.path.display());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(dir, name, flags, Mode::from_bits_truncate(0o600)).during(during)?;
        let mut file = File::from(file);
        let written = copy_sparse(content, &mut file, &mut self.buffer).during(during)?;
        if written != entry.size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).during(during);
        }
        set_attributes(dir, name, &entry.attributes, false)?;
        set_time(dir, name, entry.attributes.mtime)
    }

    fn hardlink(&mut self, target: &Path, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        let (target_dir, target_name) = self.place(target)?;
        linkat(&*target_dir, target_name.as_os_str(), dir, name, AtFlags::empty())
            .during(|| format!("link to {}", target.display()))
    }

    fn directory_attributes(&mut self, dir: &OwnedFd, name: &OsStr, entry: &Entry) -> Result<()> {
        self.implied.retain(|implied| *implied != entry.path);
        set_attributes(dir, name, &entry.attributes, false)?;
        self.times.push((entry.path.clone(), entry.attributes.mtime));
        Ok(())
    }

    fn root_attributes(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(Error::Layer { path: "/".into(), reason: "the root must be a directory".into() });
        }
        let root = self.root.clone();
        set_attributes(&root, OsStr::new("."), &entry.attributes, false)?;
        self.times.push((PathBuf::new(), entry.attributes.mtime));
        Ok(())
    }

    /// Removes a file or a whole directory; the entry that replaces it decides what is there.
    fn remove(&mut self, dir: &OwnedFd, name: &OsStr) -> Result<()> {
        self.last = None;
        let during = || format!("replace {}", name.display());
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => std::fs::remove_dir_all(proc_path(dir, name)).during(during),
            other => other.during(during),
        }
    }
}

/// The path below the root that a link's text means.
fn resolve_link(parent: &Path, target: &Path) -> PathBuf {
    let mut path = if target.is_absolute() { PathBuf::new() } else { parent.to_owned() };
    for component in target.components() {
        match component {
            std::path::Component::Normal(name) => path.push(name),
            std::path::Component::ParentDir => {
                path.pop();
            }
            _ => {}
        }
    }
    path
}

/// Copies all bytes, leaving holes where whole chunks are zero, so that long
/// runs of zeros cost time but no space.
fn copy_sparse(from: &mut dyn Read, to: &mut File, buffer: &mut [u8]) -> io::Result<u64> {
    let mut total = 0;
    let mut hole = false;
    loop {
        let count = fill(from, buffer)?;
        if count == 0 {
            break;
        }
        hole = count == buffer.len() && buffer.iter().all(|byte| *byte == 0);
        match hole {
            true => to.seek(SeekFrom::Current(count as i64)).map(drop)?,
            false => to.write_all(&buffer[..count])?,
        }
        total += count as u64;
    }
    if hole {
        to.set_len(total)?;
    }
    Ok(total)
}

fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A path that leads through the open directory, for calls that take no descriptor.
/// They must not follow the last component.
fn proc_path(dir: &OwnedFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name)
}

pub(crate) fn stat(dir: impl AsFd, name: &OsStr) -> Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error).during(|| format!("stat {}", name.display())),
    }
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn is_whiteout(stat: &FileStat) -> bool {
    is(stat, SFlag::S_IFCHR) && stat.st_rdev == 0
}

fn make_node(dir: &OwnedFd, name: &OsStr, kind: SFlag, major: u32, minor: u32) -> Result<()> {
    let device = makedev(major.into(), minor.into());
    mknodat(dir, name, kind, Mode::from_bits_truncate(0o600), device)
        .during(|| format!("make node {}", name.display()))
}

fn set_opaque(dir: &OwnedFd, name: &OsStr) -> Result<()> {
    xattr::set(proc_path(dir, name), OPAQUE, b"y").during(|| format!("mark {} opaque", name.display()))
}

/// Owner first: changing it clears set-id bits and file capabilities.
fn set_attributes(dir: &OwnedFd, name: &OsStr, attributes: &Attributes, symlink: bool) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fchownat(dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        .during(|| format!("chown {}", name.display()))?;
    if !symlink {
        chmod(dir, name, attributes.mode)?;
    }
    for (key, value) in attributes.xattrs.iter().filter(|(key, _)| is_wanted_xattr(key)) {
        match xattr::set(proc_path(dir, name), key, value) {
            // The file system cannot keep it: as with docker, only capabilities must not get lost.
            Err(error) if key != "security.capability" && !is_space_error(&error) => {
                tracing::debug!(file = ?name, attribute = ?key, %error, "extended attribute left out");
            }
            other => other.during(|| format!("set {} of {}", key.display(), name.display()))?,
        }
    }
    Ok(())
}

/// Attributes of overlayfs itself would let a layer redirect or hide files of others.
fn is_wanted_xattr(key: &OsStr) -> bool {
    let key = key.as_encoded_bytes();
    key == b"security.capability" || key.starts_with(b"user.") && !key.starts_with(b"user.overlay.")
}

fn is_space_error(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc_enospc())
}

fn libc_enospc() -> i32 {
    Errno::ENOSPC as i32
}

/// The name is no symbolic link: the caller has just made or checked it in a tree of its own.
fn chmod(dir: &OwnedFd, name: &OsStr, mode: u32) -> Result<()> {
    fchmodat(dir, name, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
        .during(|| format!("chmod {}", name.display()))
}

fn set_time(dir: impl AsFd, name: &OsStr, mtime: (i64, i64)) -> Result<()> {
    let time = TimeSpec::new(mtime.0, mtime.1);
    utimensat(dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .during(|| format!("set time of {}", name.display()))
}
