//! Follows the kernel's log and tells users when the machine had no memory left.
//!
//! Which records mean that is decided in podlife. Where the log may not be read nothing is told.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use plimsoll_podlife::oom::{Reader, Victim};
use tokio::io::Interest;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;

/// The kernel cuts no record longer than this.
const LONGEST: usize = 8192;

/// Watches until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, stop: CancellationToken) {
    let path = &agent.config.kernel_log;
    let told = |victim: Victim| agent.warn_node(Victim::REASON, victim.message());
    tokio::select! {
        () = stop.cancelled() => {}
        result = follow(path, told) => match result {
            Ok(()) => tracing::info!(path = %path.display(), "the kernel's log has ended"),
            Err(error) => tracing::info!(path = %path.display(), %error, "the kernel's log is not read"),
        }
    }
}

/// Reads what comes from now on, until there is no more.
async fn follow(path: &Path, mut told: impl FnMut(Victim)) -> io::Result<()> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
    let mut log = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    // What was before an agent before this one has told. Pipes have no end to go to.
    let _ = log.seek(SeekFrom::End(0));
    let events = plimsoll_kernel::readiness::register(log.as_fd().try_clone_to_owned()?, Interest::READABLE)?;
    let (mut reader, mut buffer) = (Reader::default(), vec![0; LONGEST]);
    loop {
        let mut ready = events.readable().await?;
        loop {
            match next(&mut log, &mut buffer) {
                Ok("") => return Ok(()),
                Ok(records) => records.lines().filter_map(|record| reader.read(record)).for_each(&mut told),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        ready.clear_ready();
    }
}

/// The next record, or several of them.
fn next<'a>(log: &mut File, buffer: &'a mut [u8]) -> io::Result<&'a str> {
    loop {
        match log.read(buffer) {
            // Records were written over before they were read.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            read => return Ok(std::str::from_utf8(&buffer[..read?]).unwrap_or("?")),
        }
    }
}
