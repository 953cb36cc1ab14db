//! Where COPY takes files from: the context, a stage, an image.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ignore::{Ignore, Pattern};
use crate::digest::Hasher;
use crate::error::{During, Error, Result};
use crate::layer::tree::Tree;

/// A directory whose links cannot lead out of it.
pub(super) struct Source {
    tree: Tree,
    ignore: Ignore,
    /// Files of the context belong to root in the image, whoever has them here.
    pub(super) keep_owner: bool,
}

/// A file or directory that is to be copied.
#[derive(Debug)]
pub(super) struct Found {
    /// Where it is, below the root of the source.
    pub(super) path: PathBuf,
    /// Where it is below what was named; empty for that itself.
    pub(super) below: PathBuf,
    pub(super) metadata: Metadata,
    /// Text of a symbolic link.
    pub(super) link: PathBuf,
}

impl Source {
    /// The build context, without what its `.dockerignore` leaves out.
    pub(super) fn context(root: &Path, ignore: Ignore) -> Result<Self> {
        Ok(Self { tree: Tree::open(root)?, ignore, keep_owner: false })
    }

    /// The file system of a stage or an image.
    pub(super) fn root(root: &Path) -> Result<Self> {
        Ok(Self { tree: Tree::open(root)?, ignore: Ignore::default(), keep_owner: true })
    }

    /// What each pattern names: for each match the thing itself and all below it, sorted.
    pub(super) fn find(&self, patterns: &[String]) -> Result<Vec<Vec<Found>>> {
        let mut found = Vec::new();
        for pattern in patterns {
            // `..` beyond the root stays at the root, as in docker.
            let cleaned = clamp(pattern);
            let matches = match Pattern::is_pattern(pattern) {
                true => self.glob(&cleaned)?,
                false => vec![cleaned],
            };
            for path in matches {
                let items = self.walk(&path)?;
                if items.is_empty() {
                    return Err(not_found(pattern));
                }
                found.push(items);
            }
        }
        match found.is_empty() {
            true => Err(not_found(&patterns.join(" "))),
            false => Ok(found),
        }
    }

    /// Like [`Self::find`], but an instruction with heredocs alone needs no file.
    pub(super) fn find_or_none(&self, patterns: &[String]) -> Result<Vec<Vec<Found>>> {
        if patterns.is_empty() { Ok(Vec::new()) } else { self.find(patterns) }
    }

    /// Opens a file's bytes.
    pub(super) fn open(&self, found: &Found) -> Result<File> {
        self.tree.read(&found.path)?.ok_or_else(|| not_found(&found.path.display().to_string()))
    }

    /// Attributes that travel with a file.
    pub(super) fn xattrs(&self, found: &Found) -> Vec<(std::ffi::OsString, Vec<u8>)> {
        if !self.keep_owner {
            return Vec::new();
        }
        let Ok(file) = self.open(found) else { return Vec::new() };
        crate::layer::xattrs_of_open(&file)
    }

    /// Adds everything to a digest that decides what is copied; times do not, as in docker.
    pub(super) fn hash(&self, found: &[Vec<Found>], hasher: &mut Hasher) -> Result<()> {
        for item in found.iter().flatten() {
            let kind = item.metadata.mode() & 0o170_000;
            let owner = if self.keep_owner { (item.metadata.uid(), item.metadata.gid()) } else { (0, 0) };
            let name = item.below.file_name().or(item.path.file_name()).unwrap_or_default();
            let head = format!(
                "{:?} {name:?} {kind:o} {:o} {owner:?} {:?} {}\0",
                item.below,
                item.metadata.permissions().mode(),
                item.link,
                item.metadata.rdev()
            );
            hasher.update(head.as_bytes());
            if item.metadata.is_file() {
                let mut file = self.open(item)?;
                let mut buffer = [0; 64 << 10];
                loop {
                    let count = file.read(&mut buffer).during(|| format!("read {}", item.path.display()))?;
                    if count == 0 {
                        break;
                    }
                    hasher.update(&buffer[..count]);
                }
            }
        }
        Ok(())
    }

    /// Paths that match, each component in its directory.
    fn glob(&self, pattern: &Path) -> Result<Vec<PathBuf>> {
        let mut paths = vec![PathBuf::new()];
        for component in pattern {
            let matcher = Pattern::new(&component.to_string_lossy());
            let mut next = Vec::new();
            for dir in &paths {
                for name in self.names(dir)? {
                    if matcher.matches(&name.to_string_lossy()) {
                        next.push(dir.join(name));
                    }
                }
            }
            paths = next;
        }
        paths.retain(|path| !self.ignore.ignores(&path.to_string_lossy()) || self.ignore.has_exceptions());
        Ok(paths)
    }

    /// Nothing if the path does not exist for the build.
    fn walk(&self, path: &Path) -> Result<Vec<Found>> {
        let Some(opened) = self.tree.resolve(path)? else { return Ok(Vec::new()) };
        let during = || format!("stat {}", path.display());
        // A link that is named itself is followed; links below are copied as links.
        let metadata = File::from(opened).metadata().during(during)?;
        let is_dir = metadata.is_dir();
        let mut found =
            vec![Found { path: path.to_owned(), below: PathBuf::new(), metadata, link: PathBuf::new() }];
        if is_dir {
            self.walk_into(path, Path::new(""), &mut found)?;
        }
        let ignored = !path.as_os_str().is_empty() && self.ignore.ignores(&path.to_string_lossy());
        // An ignored directory exists if something below it does.
        Ok(if ignored && found.len() == 1 { Vec::new() } else { found })
    }

    fn walk_into(&self, dir: &Path, below: &Path, found: &mut Vec<Found>) -> Result<()> {
        let opened = self.tree.resolve(dir)?.ok_or_else(|| not_found(&dir.display().to_string()))?;
        for name in self.names(dir)? {
            let (path, below) = (dir.join(&name), below.join(&name));
            let ignored = self.ignore.ignores(&path.to_string_lossy());
            if ignored && !self.ignore.has_exceptions() {
                continue;
            }
            let full = format!("/proc/self/fd/{}", opened.as_raw_fd());
            let full = Path::new(&full).join(&name);
            let metadata = full.symlink_metadata().during(|| format!("stat {}", path.display()))?;
            let link = match metadata.is_symlink() {
                true => fs::read_link(&full).during(|| format!("read link {}", path.display()))?,
                false => PathBuf::new(),
            };
            let is_dir = metadata.is_dir();
            let at = found.len();
            found.push(Found { path: path.clone(), below: below.clone(), metadata, link });
            if is_dir {
                self.walk_into(&path, &below, found)?;
            }
            if ignored && found.len() == at + 1 {
                found.pop();
            }
        }
        Ok(())
    }

    /// Sorted names in a directory; none if it is no directory.
    fn names(&self, dir: &Path) -> Result<Vec<std::ffi::OsString>> {
        let Some(opened) = self.tree.resolve(dir)? else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd())) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            other => other.during(|| format!("list {}", dir.display()))?,
        };
        let names: io::Result<Vec<_>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let mut names = names.during(|| format!("list {}", dir.display()))?;
        names.sort();
        Ok(names)
    }
}

/// The path below the root; what leads out of it stays at it.
pub(super) fn clamp(path: &str) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            std::path::Component::Normal(name) => cleaned.push(name),
            std::path::Component::ParentDir => {
                cleaned.pop();
            }
            _ => {}
        }
    }
    cleaned
}

fn not_found(what: &str) -> Error {
    Error::Step { step: "copy".into(), reason: format!("{what:?}: not found") }
}
