//! Carrying a container's output into its log and to whoever is attached.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::log::{Log, Stream};
use crate::clock;

/// What is kept of the words of a container that waits for its first client: as much as goes into an empty pipe.
const EARLY_LIMIT: usize = 64 * 1024;

/// A client that reads slower than the container writes is let go when this much waits for it.
const BACKLOG_LIMIT: usize = 1024 * 1024;

/// One output stream of a container.
#[derive(Debug)]
pub(crate) struct Pump {
    from: OwnedFd,
    stream: Stream,
    /// The unfinished line.
    rest: Vec<u8>,
    sinks: Vec<Sink>,
    /// What the first client is to be told of what came before it; none if nobody waits for one.
    early: Option<Vec<u8>>,
}

/// An attached client's end of a pipe.
#[derive(Debug)]
struct Sink {
    to: OwnedFd,
    backlog: Vec<u8>,
}

/// Whether more may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    More,
    Empty,
    Ended,
}

impl Pump {
    /// `waits` for a first client, who is told what came before it, too.
    pub(crate) fn new(from: OwnedFd, stream: Stream, waits: bool) -> io::Result<Self> {
        unblock(&from)?;
        Ok(Self { from, stream, rest: Vec::new(), sinks: Vec::new(), early: waits.then(Vec::new) })
    }

    pub(crate) fn stream(&self) -> Stream {
        self.stream
    }

    /// Copies output to `to` from now on, and to the first client what came before.
    pub(crate) fn attach(&mut self, to: OwnedFd) -> io::Result<()> {
        unblock(&to)?;
        let mut sink = Sink { to, backlog: Vec::new() };
        if sink.push(&self.early.take().unwrap_or_default()) {
            self.sinks.push(sink);
        }
        Ok(())
    }

    /// Whether something waits for the first client.
    pub(crate) fn waits(&self) -> bool {
        self.early.as_ref().is_some_and(|early| !early.is_empty())
    }

    /// Moves what is there, at most one buffer full.
    pub(crate) fn carry(&mut self, buffer: &mut [u8], log: Option<&mut Log>) -> Flow {
        match nix::unistd::read(&self.from, buffer) {
            Ok(0) => Flow::Ended,
            Ok(length) => {
                let chunk = &buffer[..length];
                if let Some(log) = log {
                    log.write(self.stream, &mut self.rest, chunk, &clock::log_time());
                }
                self.sinks.retain_mut(|sink| sink.push(chunk));
                if let Some(early) = &mut self.early {
                    early.extend_from_slice(chunk);
                    early.drain(..early.len().saturating_sub(EARLY_LIMIT));
                }
                Flow::More
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Flow::Empty,
            // A terminal's master says so when the other side is gone.
            Err(_) => Flow::Ended,
        }
    }

    /// Moves everything that is there, and the unfinished line with it.
    pub(crate) fn finish(&mut self, buffer: &mut [u8], mut log: Option<&mut Log>) {
        while self.carry(buffer, log.as_deref_mut()) == Flow::More {}
        if let Some(log) = log {
            log.end(self.stream, &mut self.rest, &clock::log_time());
        }
    }

    /// Sends what had to wait for slow clients.
    pub(crate) fn relieve(&mut self) {
        self.sinks.retain_mut(|sink| sink.push(&[]));
    }

    /// The clients that have something waiting.
    pub(crate) fn blocked(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sinks.iter().filter(|sink| !sink.backlog.is_empty()).map(|sink| sink.to.as_fd())
    }
}

impl AsFd for Pump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }
}

impl Sink {
    /// Whether the client is still there.
    fn push(&mut self, chunk: &[u8]) -> bool {
        if !self.backlog.is_empty() {
            self.backlog.extend_from_slice(chunk);
            let waiting = std::mem::take(&mut self.backlog);
            return self.write(&waiting);
        }
        self.write(chunk)
    }

    fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            match nix::unistd::write(&self.to, bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.backlog.extend_from_slice(bytes);
                    return self.backlog.len() <= BACKLOG_LIMIT;
                }
                Err(_) => return false,
            }
        }
        true
    }
}

fn unblock(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
