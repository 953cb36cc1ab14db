//! The host that a client names.
//!
//! etcdctl 3.4 names the endpoint as its user wrote it, the path of a socket or a whole address with its scheme, and
//! our HTTP/2 refuses what is no host. What is named there means nothing to us: in the first request of a connection
//! it becomes a plain word of the same length, in place; later requests refer to that one.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame's length, type, flags and stream (RFC 9113, section 4.1).
const HEAD: usize = 9;
const HEADERS: u8 = 1;
/// The fields are whole in this frame.
const END_HEADERS: u8 = 4;
/// Padding or priority stand before the fields.
const MORE: u8 = 0x28;
/// The number of `:authority` among the names that are known beforehand (RFC 7541, appendix A).
const AUTHORITY: usize = 1;
/// The value is in Huffman's code.
const CODED: u8 = 0x80;
/// No client sends so much before its first request (bytes).
const MOST: usize = 64 << 10;

/// A connection whose first request names no other host.
pub(super) struct Unnamed<S> {
    stream: S,
    /// What came and was not given on; None when all passes.
    held: Option<Held>,
}

#[derive(Default)]
struct Held {
    bytes: Vec<u8>,
    /// The preface is given on; frames follow.
    begun: bool,
    /// What was looked at and can be given on.
    ready: usize,
    /// The first request, or the end of looking for one, is in what is ready.
    last: bool,
}

impl<S> Unnamed<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, held: Some(Held::default()) }
    }
}

impl Held {
    /// Looks at what came. Clients wait for an answer to what they send before their first request: that is ready.
    fn look(&mut self, ended: bool) {
        let mut at = self.ready;
        if !self.begun {
            let shown = self.bytes.len().min(PREFACE.len());
            if self.bytes[..shown] != PREFACE[..shown] {
                return self.give_all();
            }
            self.begun = shown == PREFACE.len();
            at = shown;
        }
        if ended || self.bytes.len() > MOST {
            return self.give_all();
        }
        if !self.begun {
            return;
        }
        while let Some(frame) = self.bytes.get(at..at + HEAD) {
            let end = at
                + HEAD
                + usize::from(frame[0]) * 65_536
                + usize::from(frame[1]) * 256
                + usize::from(frame[2]);
            let (kind, flags) = (frame[3], frame[4]);
            let Some(fields) = self.bytes.get_mut(at + HEAD..end) else { break };
            if kind == HEADERS {
                if flags & END_HEADERS != 0 && flags & MORE == 0 {
                    blot(fields);
                }
                return self.give_all();
            }
            at = end;
        }
        self.ready = at;
    }

    fn give_all(&mut self) {
        self.ready = self.bytes.len();
        self.last = true;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unnamed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while let Some(held) = &mut this.held {
            if held.ready > 0 {
                let part = held.ready.min(buffer.remaining());
                buffer.put_slice(&held.bytes[..part]);
                held.bytes.drain(..part);
                held.ready -= part;
                if held.last && held.ready == 0 {
                    this.held = None;
                }
                return Poll::Ready(Ok(()));
            }
            if held.last {
                this.held = None;
                break;
            }
            let mut room = [0; 4096];
            let mut room = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut room))?;
            held.bytes.extend_from_slice(room.filled());
            held.look(room.filled().is_empty());
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unnamed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Writes a plain word over the host that these fields name, if they do.
fn blot(fields: &mut [u8]) {
    if let Some((mark, value)) = value_of(fields, AUTHORITY) {
        fields[mark] &= !CODED;
        fields[value].fill(b'x');
    }
}

/// Where the length of a field's value begins and where the value stands, if it is spelled out (RFC 7541, section 6).
fn value_of(fields: &[u8], wanted: usize) -> Option<(usize, Range<usize>)> {
    let mut at = 0;
    while let Some(first) = fields.get(at) {
        // What is known from before, then a value to remember, then the size of what is remembered.
        let bits = match first {
            0x80.. => 7,
            0x40..0x80 => 6,
            0x20..0x40 => 5,
            _ => 4,
        };
        let (name, after) = number(fields, at, bits)?;
        at = after;
        if matches!(bits, 7 | 5) {
            continue;
        }
        if name == 0 {
            let (length, start) = number(fields, at, 7)?;
            at = start.checked_add(length)?;
        }
        let (length, start) = number(fields, at, 7)?;
        let end = start.checked_add(length).filter(|end| *end <= fields.len())?;
        if name == wanted {
            return Some((at, start..end));
        }
        at = end;
    }
    None
}

/// A number whose first byte has `bits` of it (section 5.1), and where it ends.
fn number(fields: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let full = (1_usize << bits) - 1;
    let mut number = usize::from(*fields.get(at)?) & full;
    if number < full {
        return Some((number, at + 1));
    }
    for place in 0..4 {
        let byte = *fields.get(at + 1 + place)?;
        number += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, at + 2 + place));
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, END_HEADERS, 0, 0, 0, 1], payload].concat()
    }

    /// `:method: POST`, `:scheme: http`, a path, the host, a field of its own name.
    fn head(coded: u8, host: &[u8]) -> Vec<u8> {
        let length = u8::try_from(host.len()).unwrap();
        [&[0x83, 0x86, 0x44, 4], &b"/x/Y"[..], &[0x41, coded | length], host, b"\x40\x01a\x01b"].concat()
    }

    /// The beginning of a connection as clients send it, and what follows.
    fn begun(coded: u8, host: &[u8]) -> Vec<u8> {
        [PREFACE, &frame(4, &[0; 6]), &frame(HEADERS, &head(coded, host)), b"what follows"].concat()
    }

    #[tokio::test]
    async fn the_first_request_names_no_other_host() {
        let plain = b"GET /health HTTP/1.1\r\n\r\n".to_vec();
        let long = [&frame(4, &[0; 6])[..], &[b'y'; 9000]].concat();
        let cases = [
            (begun(0, b"/run/etcd.sock"), begun(0, b"xxxxxxxxxxxxxx")),
            (begun(CODED, b"\x9d\x29\xae"), begun(0, b"xxx")),
            (begun(0, b""), begun(0, b"")),
            (plain.clone(), plain),
            (PREFACE[..9].to_vec(), PREFACE[..9].to_vec()),
            (PREFACE.to_vec(), PREFACE.to_vec()),
            (long.clone(), long),
        ];
        for (sent, read) in cases {
            for piece in [1, 7, 4096] {
                let (mut client, server) = tokio::io::duplex(piece);
                let sent = sent.clone();
                tokio::spawn(async move { client.write_all(&sent).await.unwrap() });
                let mut found = Vec::new();
                Unnamed::new(server).read_to_end(&mut found).await.unwrap();
                assert_eq!(found, read, "in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_comes_before_a_request_is_not_held_back() {
        let (mut client, server) = tokio::io::duplex(4096);
        let settings = [PREFACE, &frame(4, &[0; 6])].concat();
        client.write_all(&settings).await.unwrap();
        let mut found = vec![0; settings.len()];
        Unnamed::new(server).read_exact(&mut found).await.unwrap();
        assert_eq!(found, settings);
    }

    #[test]
    fn damaged_fields_are_left_alone() {
        for fields in
            [&b"\x41\x7f"[..], b"\x41\xff\xff\xff\xff\xff", b"\x40", b"\x41\x05abc", b"\xff\xff\xff"]
        {
            assert_eq!(value_of(fields, AUTHORITY), None, "{fields:?}");
        }
    }
}
