//! Runs one step of an image build: a command in a root of its own.
//!
//! The mounts live in a mount namespace that belongs to one thread. When the
//! thread or the whole process ends, however that happens, the kernel removes
//! them; the host never sees them. The command becomes process 1 of its own
//! process namespace, so nothing that it started outlives it.
#![expect(unsafe_code, reason = "the child mounts its /proc and changes its root between fork and exec")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgid, setgroups, sethostname, setuid};

/// Devices that programs expect; they are the host's own.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Parts of /proc that would change the host.
const READ_ONLY: [&std::ffi::CStr; 4] = [c"/proc/sys", c"/proc/sysrq-trigger", c"/proc/irq", c"/proc/bus"];
/// What a build may do as root: docker's set without raw packets, because it uses the host's network.
/// chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, sys_chroot,
/// mknod, audit_write, setfcap.
const CAPABILITIES: [u32; 13] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 27, 29, 31];
const LAST_CAPABILITY: u32 = 63;

/// A merged view of directories.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// Names of the layers below `base`, lowest first; at least one.
    pub layers: &'a [PathBuf],
    /// The directory that the names of layers are relative to, so that many fit into the mount options.
    pub base: &'a Path,
    /// Where changes go and overlayfs' scratch directory beside it; none for a read-only view.
    pub writable: Option<(&'a Path, &'a Path)>,
    /// An empty directory to mount it on.
    pub target: &'a Path,
}

/// A command and what it sees.
#[derive(Debug)]
pub struct Step<'a> {
    /// Program and arguments; the program is looked up in the environment's PATH.
    pub arguments: &'a [String],
    /// The whole environment.
    pub environment: &'a [(String, String)],
    /// Working directory in the root.
    pub directory: &'a str,
    /// User, group and further groups.
    pub user: (u32, u32, &'a [u32]),
    /// Name of the machine that it sees.
    pub hostname: &'a str,
    /// The root: where an overlay is mounted.
    pub root: &'a Path,
    /// Open directories in the root for /proc, /sys and /dev.
    pub places: [BorrowedFd<'a>; 3],
    /// An empty directory outside of the root, for /dev while it is prepared.
    pub scratch: &'a Path,
    /// Files of the host and the open files in the root where they appear.
    pub files: &'a [(PathBuf, OwnedFd)],
}

/// Mounts the overlays for the time in which `work` runs, for it alone.
///
/// # Errors
/// When the kernel refuses a mount. What `work` says is passed on.
pub fn in_overlays<T: Send>(overlays: &[Overlay<'_>], work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let thread = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
        for overlay in overlays {
            mount_overlay(overlay).map_err(|error| explain("mount overlay", &error))?;
        }
        let result = work();
        for overlay in overlays {
            umount2(overlay.target, MntFlags::MNT_DETACH)?;
        }
        Ok(result)
    };
    // The namespaces are those of the thread and end with it.
    std::thread::scope(|scope| scope.spawn(thread).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn mount_overlay(overlay: &Overlay<'_>) -> io::Result<()> {
    // Only this thread's working directory: unsharing mounts unshared it as well.
    chdir(overlay.base)?;
    let lower: Vec<&[u8]> = overlay.layers.iter().rev().map(|layer| layer.as_os_str().as_bytes()).collect();
    let mut options = b"lowerdir=".to_vec();
    options.extend(lower.join(&b':'));
    // Renames are copies and metadata is data, so that the upper directory alone is the difference.
    let mut flags = MsFlags::MS_NODEV;
    match overlay.writable {
        Some((upper, work)) => {
            options.extend(b",index=off,redirect_dir=off,metacopy=off,upperdir=");
            options.extend(upper.as_os_str().as_bytes());
            options.extend(b",workdir=");
            options.extend(work.as_os_str().as_bytes());
        }
        None => flags |= MsFlags::MS_RDONLY,
    }
    mount(Some("overlay"), overlay.target, Some("overlay"), flags, Some(options.as_slice()))?;
    Ok(chdir("/")?)
}

/// Runs the command to its end; to be called from the work of [`in_overlays`].
///
/// `output` gets what it writes, standard output and errors as they come.
///
/// # Errors
/// When the root cannot be prepared, or the program cannot be started (`NotFound`).
pub fn run(step: &Step<'_>, output: &mut dyn FnMut(&[u8])) -> io::Result<ExitStatus> {
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)?;
    sethostname(step.hostname)?;
    prepare_devices(step.scratch).map_err(|error| explain("prepare /dev", &error))?;
    let [proc, sys, dev] = step.places;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    attach(step.scratch, &descriptor(&dev), bind).map_err(|error| explain("mount /dev", &error))?;
    let fixed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), &descriptor(&sys), Some("sysfs"), fixed | MsFlags::MS_RDONLY, None::<&str>)
        .map_err(|error| explain("mount /sys", &error.into()))?;
    for (source, target) in step.files {
        attach(source, &descriptor(target), MsFlags::MS_BIND)
            .map_err(|error| explain(&format!("bind {}", source.display()), &error))?;
    }
    let (mut reader, writer) = io::pipe()?;
    let mut child = command(step, proc, writer)?.spawn()?;
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => break,
            count => output(&buffer[..count]),
        }
    }
    child.wait()
}

fn command(step: &Step<'_>, proc: BorrowedFd<'_>, output: io::PipeWriter) -> io::Result<Command> {
    let (program, arguments) = step.arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(step.environment.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let entry = Entry {
        proc: text(&descriptor(&proc))?,
        root: text(step.root)?,
        directory: text(Path::new(step.directory))?,
        uid: Uid::from_raw(step.user.0),
        gid: Gid::from_raw(step.user.1),
        groups: step.user.2.iter().map(|group| Gid::from_raw(*group)).collect(),
    };
    // SAFETY: `enter` makes system calls with what was allocated before the fork, nothing else.
    unsafe { command.pre_exec(move || entry.enter()) };
    Ok(command)
}

/// What the child needs between fork and exec, allocated before.
struct Entry {
    proc: CString,
    root: CString,
    directory: CString,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Entry {
    fn enter(&self) -> io::Result<()> {
        let fixed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // Mounted by the child, so that it shows the child's process namespace.
        mount(Some(c"proc"), self.proc.as_c_str(), Some(c"proc"), fixed, None::<&std::ffi::CStr>)?;
        // The thread that waits keeps its root; this process gets another.
        unshare(CloneFlags::CLONE_NEWNS)?;
        chdir(self.root.as_c_str())?;
        pivot_root(c".", c".")?;
        umount2(c".", MntFlags::MNT_DETACH)?;
        chdir(c"/")?;
        for path in READ_ONLY {
            protect(path)?;
        }
        chdir(self.directory.as_c_str())?;
        drop_bounding_set()?;
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        // If this program is killed, so is the step.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        Ok(())
    }
}

fn protect(path: &std::ffi::CStr) -> io::Result<()> {
    let none = None::<&std::ffi::CStr>;
    match mount(Some(path), path, none, MsFlags::MS_BIND, none) {
        // Not every kernel has all of them.
        Err(nix::errno::Errno::ENOENT) => return Ok(()),
        other => other?,
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let kept = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(none, path, none, flags | kept, none)?)
}

/// Takes every other capability away for good: not even set-id programs get it back.
fn drop_bounding_set() -> io::Result<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|capability| !CAPABILITIES.contains(capability)) {
        // SAFETY: plain numbers.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        // Beyond the last capability of this kernel, it answers EINVAL.
        if result != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Devices are bound, not made: on a file system mounted with `nodev`, what the
/// step makes there itself opens nothing.
fn prepare_devices(dev: &Path) -> io::Result<()> {
    let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), dev, Some("tmpfs"), closed, Some("mode=755,size=64k"))?;
    for name in DEVICES {
        File::create(dev.join(name))?;
        attach(&Path::new("/dev").join(name), &dev.join(name), MsFlags::MS_BIND)?;
    }
    fs::create_dir(dev.join("pts"))?;
    let options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    let terminals = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), terminals, Some(options))?;
    fs::create_dir(dev.join("shm"))?;
    mount(Some("tmpfs"), &dev.join("shm"), Some("tmpfs"), closed, Some("mode=1777,size=64m"))?;
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    links.into_iter().try_for_each(|(name, target)| symlink(target, dev.join(name)))
}

fn attach(source: &Path, target: &Path, flags: MsFlags) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, flags, None::<&str>)?)
}

/// A path to what is open, whatever its name leads to meanwhile.
fn descriptor(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

fn explain(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn overlays_are_seen_by_the_work_alone() {
        if !Uid::effective().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = std::env::temp_dir().join(format!("plimsoll-overlay-{}", std::process::id()));
        for name in ["lower", "upper", "work", "target"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        fs::write(dir.join("lower/below"), "1").unwrap();
        let (upper, work, target) = (dir.join("upper"), dir.join("work"), dir.join("target"));
        let layers = [PathBuf::from("lower")];
        let overlay =
            Overlay { layers: &layers, base: &dir, writable: Some((&upper, &work)), target: &target };
        let seen = in_overlays(&[overlay], || {
            fs::write(target.join("above"), "2").unwrap();
            fs::read_to_string(target.join("below")).unwrap()
        });
        assert_eq!(seen.unwrap(), "1");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(upper.join("above")).unwrap(), "2");
        fs::remove_dir_all(&dir).unwrap();
    }
}
