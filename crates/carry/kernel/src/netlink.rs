//! A blocking netlink conversation: requests in, the kernel's verdicts out.
//!
//! The kernel handles the requests of one `send` before that call returns, so
//! a conversation never waits: what it has to say is queued by then.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::sys::{Socket, SocketAddr};

const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const FLAG_DUMP_INTERRUPTED: u16 = 0x10;
const FLAG_CAPPED: u16 = 0x100;
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
const ATTRIBUTE_TEXT: u16 = 1;

/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_REPLACE`
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`
pub(crate) const APPEND: u16 = 0x800;
/// `NLM_F_ROOT | NLM_F_MATCH`
pub(crate) const DUMP: u16 = 0x300;

/// One message of a conversation, seen in a buffer the kernel filled.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The number of the conversation that it is about.
    pub(crate) sender: u32,
    pub(crate) body: &'a [u8],
}

/// A refusal by the kernel.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Sequence number of the request.
    pub(crate) sequence: u32,
    /// The error number.
    pub(crate) error: Errno,
    /// What the kernel says about it, if it does.
    text: Option<String>,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let error = Self::from(refusal.error);
        match refusal.text {
            Some(text) => Self::new(error.kind(), format!("{text} ({error})")),
            None => error,
        }
    }
}

/// A socket of one netlink family, bound to the namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Conversation {
    socket: Socket,
    sequence: u32,
    /// Which tells this conversation from others in its namespace.
    pub(crate) number: u32,
}

impl Conversation {
    pub(crate) fn open(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        let number = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 1, number })
    }

    /// Makes room for single requests of up to `bytes`.
    pub(crate) fn allow_requests_of(&self, bytes: usize) -> io::Result<()> {
        let fd = self.socket.as_fd();
        // The unprivileged limit suffices for small ones, and a namespace may not grant more.
        setsockopt(&fd, sockopt::SndBufForce, &bytes)
            .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &bytes))?;
        Ok(())
    }

    /// The next free sequence number.
    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends requests that were written to `requests`, answers with what the kernel refused.
    pub(crate) fn send(&mut self, requests: &[u8]) -> io::Result<Vec<Refusal>> {
        let mut refused = Vec::new();
        if requests.is_empty() {
            return Ok(refused);
        }
        self.socket.send(requests, 0)?;
        loop {
            let buffer = match self.receive(nix::libc::MSG_DONTWAIT) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(refused),
                received => received?,
            };
            for message in messages(&buffer) {
                if let Some(refusal) = message.refusal() {
                    refused.push(refusal);
                }
            }
        }
    }

    /// Sends one dump request, hands each answer to `take`.
    ///
    /// Answers with `Interrupted` when the dumped table changed meanwhile: what
    /// was taken is then inconsistent.
    pub(crate) fn dump(&mut self, request: &[u8], mut take: impl FnMut(&Message<'_>)) -> io::Result<()> {
        self.socket.send(request, 0)?;
        let mut interrupted = false;
        loop {
            let buffer = self.receive(0)?;
            for message in messages(&buffer) {
                interrupted |= message.flags & FLAG_DUMP_INTERRUPTED != 0;
                match message.kind {
                    DONE if interrupted => return Err(io::ErrorKind::Interrupted.into()),
                    DONE => return Ok(()),
                    ERROR => match message.refusal() {
                        Some(refusal) => return Err(refusal.into()),
                        None => return Ok(()),
                    },
                    _ => take(&message),
                }
            }
        }
    }

    fn receive(&self, flags: i32) -> io::Result<Vec<u8>> {
        // The kernel fills dumps up to 32 KiB when the reader offers that much.
        let mut buffer = Vec::with_capacity(32 * 1024);
        let length = self.socket.recv(&mut buffer, flags | nix::libc::MSG_TRUNC)?;
        if length > buffer.len() {
            return Err(io::Error::other(format!("netlink answer of {length} bytes is too long")));
        }
        Ok(buffer)
    }
}

impl Message<'_> {
    /// The error this message tells, if it is one and not an acknowledgement.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.kind != ERROR {
            return None;
        }
        let code = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        if code == 0 {
            return None;
        }
        let sequence = self.body.get(12..16).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
        Some(Refusal {
            sequence: sequence.unwrap_or(self.sequence),
            error: Errno::from_raw(-code),
            text: self.text().map(str::to_owned),
        })
    }

    /// The kernel's explanation, which follows the capped copy of the request's header.
    fn text(&self) -> Option<&str> {
        if self.flags & FLAG_ACK_ATTRIBUTES == 0 || self.flags & FLAG_CAPPED == 0 {
            return None;
        }
        let (_, value) =
            attributes(self.body.get(4 + HEADER..)?).find(|(kind, _)| *kind == ATTRIBUTE_TEXT)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }
}

/// The messages in a buffer; ends at the first malformed one.
pub(crate) fn messages(buffer: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER)?;
        let length = u32::from_ne_bytes(header[0..4].try_into().expect("four bytes")) as usize;
        let message = Message {
            kind: u16::from_ne_bytes(header[4..6].try_into().expect("two bytes")),
            flags: u16::from_ne_bytes(header[6..8].try_into().expect("two bytes")),
            sequence: u32::from_ne_bytes(header[8..12].try_into().expect("four bytes")),
            sender: u32::from_ne_bytes(header[12..16].try_into().expect("four bytes")),
            body: rest.get(HEADER..length)?,
        };
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in a body: kind without its flags, and value.
pub(crate) fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let header = rest.get(..4)?;
        let length = usize::from(u16::from_ne_bytes(header[0..2].try_into().expect("two bytes")));
        let kind = u16::from_ne_bytes(header[2..4].try_into().expect("two bytes")) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The length rounded up to where the next message or attribute starts.
pub(crate) fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_answers_end_the_iteration() {
        for bytes in [&[][..], &[1, 2, 3], &[255; 16], &[8, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
        }
        for bytes in [&[][..], &[4], &[2, 0, 1, 0], &[9, 0, 1, 0, 1]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn attributes_are_read_without_their_flags_and_padding() {
        let bytes = [5, 0, 1, 0x80, 7, 0, 0, 0, 6, 0, 2, 0, 8, 9];
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(1, &[7][..]), (2, &[8, 9][..])]);
    }
}
