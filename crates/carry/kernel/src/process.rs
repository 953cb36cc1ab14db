//! Processes: birth, identity, waiting, and who is killed first.
#![expect(unsafe_code, reason = "clone3, prctl and capset have no safe wrapper")]

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use serde::{Deserialize, Serialize};

/// A process that is not mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Process number.
    pub pid: i32,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

impl Identity {
    /// The identity of a living process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: start_time(pid)? })
    }

    /// Whether this very process lives (a zombie does not).
    #[must_use]
    pub fn alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && !matches!(stat.state, 'Z' | 'X'))
    }

    /// A descriptor that becomes readable when the process ends.
    ///
    /// # Errors
    /// `NotFound` when the process is gone.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let fd = pidfd(self.pid)?;
        // Between reading the number and opening it the process may have been replaced.
        if self.alive() { Ok(fd) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Sends a signal, unless the number belongs to another process by now.
    ///
    /// # Errors
    /// `NotFound` when the process is gone.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let fd = self.open()?;
        // SAFETY: plain numbers and a null pointer, which means no further information.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

struct Stat {
    state: char,
    started: u64,
}

/// The name in parentheses may hold anything, so fields are counted from its end.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat { state: fields.first()?.chars().next()?, started: fields.get(19)?.parse().ok()? })
}

/// Clock ticks from boot to the start of a process.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    stat(pid).map(|stat| stat.started)
}

/// A descriptor of a process, which becomes readable when it ends.
///
/// # Errors
/// When there is no such process.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor to us, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sets who is killed first when memory runs out (-1000 last, 1000 first).
///
/// Without the capability to go lower the nearest value that is allowed is set. Returns what was set.
///
/// # Errors
/// When the process is gone.
pub fn set_oom_score(pid: i32, score: i32) -> io::Result<i32> {
    let path = format!("/proc/{pid}/oom_score_adj");
    match fs::write(&path, score.to_string()) {
        Ok(()) => return Ok(score),
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        Err(_) => {}
    }
    // The kernel refuses to go below the lowest value that a privileged process ever set, which it
    // shows nowhere; the present value and zero are the usual ones.
    let now: i32 = fs::read_to_string(&path)?.trim().parse().unwrap_or(0);
    for nearest in [0, now] {
        if nearest >= score && nearest <= now && fs::write(&path, nearest.to_string()).is_ok() {
            return Ok(nearest);
        }
    }
    Ok(now)
}

/// Makes a child that runs `work` and ends with its result, in new namespaces of `flags`.
///
/// Only for processes with one thread: the child has a copy of memory as it was.
///
/// # Errors
/// When the kernel refuses.
pub fn clone_child(flags: CloneFlags, work: impl FnOnce() -> i32) -> io::Result<i32> {
    let mut request = libc::clone_args {
        flags: flags.bits() as u32 as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    // SAFETY: without a stack this is a fork; the caller has one thread, so no lock is held elsewhere.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut request, size_of::<libc::clone_args>()) };
    match result {
        0 => {
            let code = work();
            // SAFETY: ends the process; handlers of the parent must not run here.
            unsafe { libc::_exit(code) }
        }
        pid if pid > 0 => Ok(pid as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes orphans below this process its children, so that it learns how they end.
///
/// # Errors
/// When the kernel refuses.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Gives signals their usual meaning again and lets all of them in, for programs about to be run.
///
/// # Errors
/// When the kernel refuses.
pub fn reset_signals() -> io::Result<()> {
    let usual = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGPIPE, Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: the usual meaning runs no code of ours.
        unsafe { sigaction(signal, &usual)? };
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// When the kernel refuses.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller is about to end or to run a loop that owns no other descriptor.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives up every capability of this process.
///
/// # Errors
/// When the kernel refuses.
pub fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: version 3 reads two triples of effective, permitted and inheritable.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the process show as `title` in process lists, in place of its command line.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn set_title(title: &str) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let address = |index: usize| fields.get(index).and_then(|field| field.trim().parse::<u64>().ok());
    if let (Some(start), Some(end)) = (address(45), address(46)) {
        let length = end.saturating_sub(start) as usize;
        let mut line = vec![0; length];
        let shown = title.len().min(length.saturating_sub(1));
        line[..shown].copy_from_slice(&title.as_bytes()[..shown]);
        fs::OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&line, start)?;
    }
    let short = title.rsplit('/').next().unwrap_or(title);
    let name = std::ffi::CString::new(short).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(nix::sys::prctl::set_name(&name)?)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn this_process_lives_and_its_successor_would_not_be_mistaken() {
        let own = Identity::of(std::process::id() as i32).unwrap();
        assert!(own.alive());
        assert!(own.open().is_ok());
        let other = Identity { started: own.started + 1, ..own };
        assert!(!other.alive());
        assert!(other.signal(0).is_err());
    }
}
