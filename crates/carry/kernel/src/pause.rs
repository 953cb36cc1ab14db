//! The process that holds the namespaces of a pod: it sleeps, and reaps what is left to it.
#![expect(unsafe_code, reason = "bringing up a link is an ioctl")]

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgroups, sethostname, setresgid, setresuid, setsid};
use serde::{Deserialize, Serialize};

use crate::mount::{self, Propagation};
use crate::process;

/// How a pod's namespaces are to be set up.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// Namespaces to make; the mount namespace is added always.
    pub namespaces: CloneFlags,
    /// Name of the machine inside, when there is a UTS namespace.
    pub hostname: &'a str,
    /// Kernel parameters and values (`net.ipv4.ip_unprivileged_port_start`, `0`).
    pub sysctls: &'a [(String, String)],
    /// An empty folder that the process gets as its root.
    pub root: &'a Path,
    /// The users of a user namespace of its own.
    pub users: Option<Users>,
}

/// A range of users and groups, which begin with root inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Who is root outside.
    pub first: u32,
    /// How many there are.
    pub length: u32,
}

/// Starts the process and waits until its namespaces are ready. Returns its number.
///
/// It dies with the caller, which must have one thread only.
///
/// # Errors
/// When a namespace cannot be made or set up; the text names the step.
pub fn start(setup: &Setup<'_>) -> io::Result<i32> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (go_reader, go_writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut flags = setup.namespaces | CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWUSER, setup.users.is_some());
    let pid = process::clone_child(flags, || child(setup, writer, &go_reader))?;
    if let Err(error) = release(pid, setup.users, &go_writer) {
        let pid = nix::unistd::Pid::from_raw(pid);
        // It waits for a word that does not come.
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        let _ = waitpid(pid, None);
        return Err(error);
    }
    let mut answer = [0; 512];
    // The writing end lives in the child alone, which drops it when it sleeps.
    let length = nix::unistd::read(&reader, &mut answer)?;
    if length == 0 {
        return Ok(pid);
    }
    // The child ends after its last words; it is ours to reap.
    let _ = waitpid(nix::unistd::Pid::from_raw(pid), None);
    Err(io::Error::other(String::from_utf8_lossy(&answer[..length]).into_owned()))
}

/// Tells the kernel who the users of the new namespace are, and the process that it may go on.
fn release(pid: i32, users: Option<Users>, go: &OwnedFd) -> io::Result<()> {
    if let Some(users) = users {
        let map = format!("0 {} {}\n", users.first, users.length);
        for kind in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{kind}"), &map)?;
        }
    }
    nix::unistd::write(go, b"g")?;
    Ok(())
}

fn child(setup: &Setup<'_>, writer: OwnedFd, go: &OwnedFd) -> i32 {
    match prepare(setup, go) {
        Ok(()) => {}
        Err((step, error)) => {
            // If nobody hears it, the exit code still tells.
            let _ = nix::unistd::write(&writer, format!("{step}: {error}").as_bytes());
            return 1;
        }
    }
    // This also closes the writer, which is the word that all went well.
    if process::close_from(0).is_err() {
        return 1;
    }
    sleep()
}

fn prepare(setup: &Setup<'_>, go: &OwnedFd) -> Result<(), (String, io::Error)> {
    let step = |name: &str| {
        let name = name.to_owned();
        move |error: io::Error| (name, error)
    };
    let nix = |name: &str| {
        let name = name.to_owned();
        move |errno: nix::errno::Errno| (name, io::Error::from(errno))
    };
    process::set_title("/pause").map_err(step("showing as pause"))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(nix("dying with the shim"))?;
    if setup.users.is_some() {
        become_root(go).map_err(step("becoming root of the user namespace"))?;
    }
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(nix("dying with the shim"))?;
    setsid().map_err(nix("starting a session"))?;
    if setup.namespaces.contains(CloneFlags::CLONE_NEWUTS) && !setup.hostname.is_empty() {
        sethostname(setup.hostname).map_err(nix("setting the host name"))?;
    }
    if setup.namespaces.contains(CloneFlags::CLONE_NEWNET) {
        loopback_up().map_err(step("bringing up the loopback link"))?;
    }
    for (name, value) in setup.sysctls {
        let path = format!("/proc/sys/{}", parameter_path(name));
        fs::write(path, value).map_err(step(&format!("kernel parameter {name}={value}")))?;
    }
    match setup.users {
        None => leave_root(setup.root),
        Some(_) => leave_root_as_other(),
    }
    .map_err(step("leaving the root file system"))?;
    process::drop_capabilities().map_err(step("giving up capabilities"))?;
    nix::sys::prctl::set_dumpable(false).map_err(nix("hiding memory"))
}

/// Dots part the words of a parameter, and a slash stands for a dot inside of one (`eth0/100`).
fn parameter_path(name: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// Waits until the users are known, and is root among them.
fn become_root(go: &OwnedFd) -> io::Result<()> {
    if nix::unistd::read(go, &mut [0])? == 0 {
        return Err(io::Error::other("the users are not known"));
    }
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    Ok(setresuid(user, user, user)?)
}

/// The same where the folders that lead to an empty one may be closed to this user.
fn leave_root_as_other() -> io::Result<()> {
    let over = Path::new("/sys");
    mount::propagate(Path::new("/"), Propagation::Private).map_err(io::Error::other)?;
    mount::tmpfs(over, "size=4k,mode=755").map_err(io::Error::other)?;
    chdir(over)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

/// Nothing of the host can be reached through this process.
fn leave_root(root: &Path) -> io::Result<()> {
    mount::propagate(Path::new("/"), Propagation::Private).map_err(io::Error::other)?;
    mount::bind(root, root).map_err(io::Error::other)?;
    chdir(root)?;
    // The old root comes to lie on the new one, from where it can be taken away.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    Ok(chdir("/")?)
}

fn loopback_up() -> io::Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: a structure of plain numbers may be all zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the structure is filled in and lives until the call returns.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits for signals: reaps the dead, ends on SIGTERM and SIGINT.
fn sleep() -> i32 {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    if signals.thread_set_mask().is_err() {
        return 1;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return 0,
            Err(_) => return 1,
        }
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// The whole of a program named `pause`: what runs in the image of that name.
pub fn pause_main() -> ! {
    // A name that cannot be set is no reason to fail: it is only for people.
    if let Ok(name) = CString::new("pause") {
        let _ = nix::sys::prctl::set_name(&name);
    }
    std::process::exit(sleep())
}
