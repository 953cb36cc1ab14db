//! RUN: a command in the root of a stage.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use plimsoll_kernel::build_step::{self, Overlay, in_overlays};

use super::account;
use crate::error::{During, Error, Result};
use crate::layer::tree::Tree;

/// The file system of a step: layers below, changes above.
#[derive(Clone, Copy, Debug)]
pub struct Rootfs<'a> {
    /// The directory that relative layers are in.
    pub base: &'a Path,
    /// Lower directories, lowest first; at least one.
    pub layers: &'a [PathBuf],
    /// Where the changes go. They become the layer.
    pub upper: &'a Path,
    /// Overlayfs' own directory, beside the upper one.
    pub work: &'a Path,
    /// An empty directory to mount the root on.
    pub target: &'a Path,
    /// An empty directory for other mounts.
    pub scratch: &'a Path,
}

/// What a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunSpec {
    /// Program and arguments.
    pub arguments: Vec<String>,
    /// The whole environment, PATH included.
    pub environment: Vec<(String, String)>,
    /// `user[:group]`, names of the image or numbers; empty for root.
    pub user: String,
    /// Working directory; it exists.
    pub directory: String,
}

/// Runs the RUN steps of builds.
pub trait RunStep: Sync {
    /// Runs the command and returns its exit code. What it changes must be in `rootfs.upper`
    /// afterwards, and nothing else.
    ///
    /// # Errors
    /// When the command cannot be started.
    fn run(&self, rootfs: &Rootfs<'_>, spec: &RunSpec, output: &mut (dyn FnMut(&[u8]) + Send))
    -> Result<i32>;
}

/// The default: mount, process, host name and IPC namespaces of its own, the host's
/// network, and few capabilities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Namespaces;

/// Host files that a step needs to reach others by name.
const FILES: [&str; 2] = ["etc/hosts", "etc/resolv.conf"];
const HOSTNAME: &str = "build";

impl RunStep for Namespaces {
    fn run(
        &self,
        rootfs: &Rootfs<'_>,
        spec: &RunSpec,
        output: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<i32> {
        let (status, stubs) = in_root(rootfs, |root| run_in(root, rootfs, spec, output))??;
        stubs.remove(rootfs.upper)?;
        let status = status?;
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        Ok(status.code().unwrap_or(128 + signal.unwrap_or(0)))
    }
}

/// Shows the root to `work`, writable.
pub(super) fn in_root<T: Send>(rootfs: &Rootfs<'_>, work: impl FnOnce(&Path) -> T + Send) -> Result<T> {
    in_overlays(&[overlay(rootfs)], || work(rootfs.target))
        .during(|| "mount the root of the build step".into())
}

/// Shows the root, and other layers read-only beside it.
pub(super) fn in_root_beside<T: Send>(
    rootfs: &Rootfs<'_>,
    other: &[PathBuf],
    work: impl FnOnce(&Path, &Path) -> T + Send,
) -> Result<T> {
    let beside = Overlay { layers: other, base: rootfs.base, writable: None, target: rootfs.scratch };
    in_overlays(&[overlay(rootfs), beside], || work(rootfs.target, rootfs.scratch))
        .during(|| "mount the roots of the build step".into())
}

fn overlay<'a>(rootfs: &Rootfs<'a>) -> Overlay<'a> {
    Overlay {
        layers: rootfs.layers,
        base: rootfs.base,
        writable: Some((rootfs.upper, rootfs.work)),
        target: rootfs.target,
    }
}

type Ended = Result<std::process::ExitStatus>;

fn run_in(
    root: &Path,
    rootfs: &Rootfs<'_>,
    spec: &RunSpec,
    output: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(Ended, Stubs)> {
    let mut tree = Tree::open(root)?;
    let account = account::look_up(&tree, &spec.user)?;
    let mut stubs = Stubs::default();
    let places = [
        stubs.directory(&mut tree, "proc")?,
        stubs.directory(&mut tree, "sys")?,
        stubs.directory(&mut tree, "dev")?,
    ];
    let files = stubs.files(&mut tree, root)?;
    let mut environment = spec.environment.clone();
    if !environment.iter().any(|(key, _)| key == "HOME") {
        environment.push(("HOME".into(), account.home));
    }
    let step = build_step::Step {
        arguments: &spec.arguments,
        environment: &environment,
        directory: &spec.directory,
        user: (account.uid, account.gid, &account.groups),
        hostname: HOSTNAME,
        root,
        places: places.each_ref().map(|place| place.as_fd()),
        scratch: rootfs.scratch,
        files: &files,
    };
    let status = build_step::run(&step, output).map_err(|error| start_error(&error, spec));
    Ok((status, stubs))
}

fn start_error(error: &std::io::Error, spec: &RunSpec) -> Error {
    let program = spec.arguments.first().map(String::as_str).unwrap_or_default();
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => format!("exec {program:?}: executable file not found in the image"),
        _ => format!("exec {program:?}: {error}"),
    };
    Error::Step { step: spec.arguments.join(" "), reason }
}

/// Files and directories that exist only to mount something on them.
#[derive(Default)]
struct Stubs {
    /// Made for the step, below the root.
    made: Vec<PathBuf>,
    /// Directories that were there, with mode and owner: writing into them copied them up.
    touched: Vec<(PathBuf, (u32, u32, u32))>,
}

impl Stubs {
    fn directory(&mut self, tree: &mut Tree, name: &str) -> Result<OwnedFd> {
        let path = Path::new(name);
        if !tree.is_directory(path) {
            self.touch(tree, Path::new(""))?;
            tree.make_directories(path)?;
            self.made.push(path.to_owned());
        }
        tree.resolve(path)?
            .ok_or_else(|| Error::Step { step: "run".into(), reason: format!("/{name} is missing") })
    }

    fn files(&mut self, tree: &mut Tree, root: &Path) -> Result<Vec<(PathBuf, OwnedFd)>> {
        let mut files = Vec::new();
        for name in FILES {
            let (host, path) = (Path::new("/").join(name), Path::new(name));
            if !host.exists() {
                continue;
            }
            let existed = tree.resolve(path)?.is_some();
            if !existed {
                self.parent(tree, path)?;
            }
            // A link of the image may lead to a directory that is not there: then it stays as it is.
            let Ok(file) = tree.open_or_make(path) else { continue };
            if !existed {
                let full = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
                self.made.extend(full.strip_prefix(root).map(Path::to_owned));
            }
            files.push((host, file));
        }
        Ok(files)
    }

    fn parent(&mut self, tree: &mut Tree, path: &Path) -> Result<()> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if tree.is_directory(parent) {
            return self.touch(tree, parent);
        }
        tree.make_directories(parent)?;
        self.made.push(parent.to_owned());
        Ok(())
    }

    fn touch(&mut self, tree: &Tree, path: &Path) -> Result<()> {
        if let Some(dir) = tree.resolve(path)? {
            let metadata = File::from(dir).metadata().during(|| format!("stat {}", path.display()))?;
            self.touched.push((path.to_owned(), identity(&metadata)));
        }
        Ok(())
    }

    /// Takes them out of the changes again, unless the step has made something of them.
    fn remove(&self, upper: &Path) -> Result<()> {
        let made: BTreeSet<&PathBuf> = self.made.iter().collect();
        for path in made.into_iter().rev() {
            let full = upper.join(path);
            let Ok(metadata) = full.symlink_metadata() else { continue };
            if metadata.is_dir() {
                // Fails if something is in it: then the step wanted it.
                let _ = fs::remove_dir(&full);
            } else if metadata.is_file() && metadata.len() == 0 {
                fs::remove_file(&full).during(|| format!("remove {}", full.display()))?;
            }
        }
        for (path, identity_before) in &self.touched {
            let full = upper.join(path);
            let unchanged =
                full.symlink_metadata().is_ok_and(|now| now.is_dir() && identity(&now) == *identity_before);
            let opaque = matches!(xattr::get(&full, "trusted.overlay.opaque"), Ok(Some(_)));
            if !path.as_os_str().is_empty() && unchanged && !opaque {
                let _ = fs::remove_dir(&full);
            }
        }
        Ok(())
    }
}

fn identity(metadata: &fs::Metadata) -> (u32, u32, u32) {
    (metadata.permissions().mode(), metadata.uid(), metadata.gid())
}
