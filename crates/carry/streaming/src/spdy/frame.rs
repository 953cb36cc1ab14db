//! Frames on the wire (SPDY protocol draft 3.1, section 2.6).

use bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

use super::headers::{EmptyHeaders, HeaderReader, Headers};
use crate::pipe::{Outgoing, StreamId};

/// How long a control frame may be. Data frames may be as long as they like: they are passed on in parts.
const LONGEST: usize = 64 << 10;
/// The two words before the payload of every frame.
const HEAD: usize = 8;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FLAG_FIN: u8 = 1;
/// Status of RST_STREAM: we refuse it before any processing.
const REFUSED_STREAM: u32 = 3;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    /// Something is longer than anybody needs.
    #[error("{0} are too long")]
    TooLong(&'static str),
    /// Something cannot be taken apart.
    #[error("{0} are malformed")]
    Malformed(&'static str),
    /// Headers are not compressed as they should be.
    #[error("headers cannot be decompressed")]
    Compression,
    /// Another version of the protocol.
    #[error("version {0} is not SPDY/3")]
    Version(u16),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a client sends, as far as it matters to us.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    Open {
        /// Its number.
        stream: StreamId,
        /// Names in lower case, and their values.
        headers: Headers,
        /// Nothing more will come from the client.
        fin: bool,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        stream: StreamId,
        /// The bytes.
        bytes: Bytes,
        /// Nothing more will come from the client.
        fin: bool,
    },
    /// A stream is broken off.
    Reset(StreamId),
    /// A question whether we are there.
    Ping(u32),
    /// The connection ends.
    GoAway,
    /// Settings, windows, replies to streams we never open, and what is unknown.
    Other,
}

/// Reads frames. Long data frames come in parts, as they arrive.
#[derive(Default)]
pub struct FrameReader {
    headers: HeaderReader,
    /// A data frame of which a part is missing.
    data: Option<Data>,
}

#[derive(Clone, Copy)]
struct Data {
    stream: StreamId,
    left: usize,
    fin: bool,
}

impl std::fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameReader").finish_non_exhaustive()
    }
}

impl Decoder for FrameReader {
    type Item = Frame;
    type Error = SpdyError;

    fn decode(&mut self, from: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if let Some(data) = self.data {
            return Ok(self.more(data, from));
        }
        let Some(head) = from.first_chunk::<HEAD>() else { return Ok(None) };
        let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (flags, length) =
            (head[4], usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]));
        if first >> 31 == 0 {
            if first == 0 {
                return Err(SpdyError::Malformed("data"));
            }
            from.advance(HEAD);
            let data = Data { stream: first, left: length, fin: flags & FLAG_FIN != 0 };
            return Ok(self.more(data, from));
        }
        if length > LONGEST {
            return Err(SpdyError::TooLong("control frames"));
        }
        if from.len() < HEAD + length {
            from.reserve(HEAD + length - from.len());
            return Ok(None);
        }
        let version = u16::from_be_bytes([head[0] & 0x7f, head[1]]);
        let kind = u16::from_be_bytes([head[2], head[3]]);
        let frame = from.split_to(HEAD + length);
        if version != 3 {
            return Err(SpdyError::Version(version));
        }
        self.control(kind, flags, &frame[HEAD..]).map(Some)
    }
}

impl FrameReader {
    /// As much of a data frame as is there; none when that is nothing.
    fn more(&mut self, data: Data, from: &mut BytesMut) -> Option<Frame> {
        let bytes = from.split_to(data.left.min(from.len())).freeze();
        let left = data.left - bytes.len();
        self.data = (left > 0).then_some(Data { left, ..data });
        let fin = data.fin && left == 0;
        (left == 0 || !bytes.is_empty()).then_some(Frame::Data { stream: data.stream, bytes, fin })
    }

    fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> Result<Frame, SpdyError> {
        Ok(match kind {
            SYN_STREAM => {
                let stream = stream_of(payload)?;
                let block = payload.get(10..).ok_or(SpdyError::Malformed("streams"))?;
                Frame::Open { stream, headers: self.headers.read(block)?, fin: flags & FLAG_FIN != 0 }
            }
            // Their headers are of no interest, but belong to the one zlib stream.
            SYN_REPLY | HEADERS => {
                self.headers.read(payload.get(4..).ok_or(SpdyError::Malformed("headers"))?)?;
                Frame::Other
            }
            RST_STREAM => Frame::Reset(stream_of(payload)?),
            PING => Frame::Ping(word(payload).ok_or(SpdyError::Malformed("pings"))?),
            GOAWAY => Frame::GoAway,
            _ => Frame::Other,
        })
    }
}

fn word(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn stream_of(payload: &[u8]) -> Result<StreamId, SpdyError> {
    let stream = word(payload).map(|word| word & 0x7fff_ffff);
    stream.filter(|stream| *stream != 0).ok_or(SpdyError::Malformed("streams"))
}

/// Writes frames.
#[derive(Default)]
pub(super) struct FrameWriter {
    headers: EmptyHeaders,
}

impl FrameWriter {
    /// `last`: the last stream that we accepted, for the farewell.
    pub(super) fn write(&mut self, item: &Outgoing, last: StreamId, to: &mut Vec<u8>) {
        match item {
            Outgoing::Data(stream, bytes) => data(*stream, bytes, 0, to),
            Outgoing::Finish(stream) => data(*stream, &[], FLAG_FIN, to),
            Outgoing::Reply(stream) => {
                let mut payload = stream.to_be_bytes().to_vec();
                self.headers.write(&mut payload);
                control(SYN_REPLY, &payload, to);
            }
            Outgoing::Refuse(stream) => {
                control(RST_STREAM, &[stream.to_be_bytes(), REFUSED_STREAM.to_be_bytes()].concat(), to);
            }
            Outgoing::Pong(ping) => control(PING, &ping.to_be_bytes(), to),
            // The second word is status 0: OK.
            Outgoing::Close => control(GOAWAY, &[last.to_be_bytes(), [0; 4]].concat(), to),
        }
    }
}

fn data(stream: StreamId, bytes: &[u8], flags: u8, to: &mut Vec<u8>) {
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(&flags_and_length(flags, bytes.len()));
    to.extend_from_slice(bytes);
}

fn control(kind: u16, payload: &[u8], to: &mut Vec<u8>) {
    to.extend_from_slice(&[0x80, 3]);
    to.extend_from_slice(&kind.to_be_bytes());
    to.extend_from_slice(&flags_and_length(0, payload.len()));
    to.extend_from_slice(payload);
}

fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24);
    (u32::from(flags) << 24 | length.expect("frames are made of small chunks")).to_be_bytes()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::headers::tests::HeaderWriter;
    use super::*;

    fn frame(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        control(kind, payload, &mut bytes);
        bytes[4] = flags;
        bytes
    }

    fn open(stream: u32) -> Vec<u8> {
        let block = HeaderWriter::new().write(&[("streamtype", "stdin")]);
        frame(SYN_STREAM, 0, &[&stream.to_be_bytes()[..], &[0; 6], &block].concat())
    }

    fn read(bytes: &[u8]) -> Result<Vec<Frame>, SpdyError> {
        let (mut reader, mut from, mut frames) = (FrameReader::default(), BytesMut::from(bytes), Vec::new());
        while let Some(frame) = reader.decode(&mut from)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn data_frame(stream: u32, bytes: &'static [u8], fin: bool) -> Frame {
        Frame::Data { stream, bytes: Bytes::from_static(bytes), fin }
    }

    #[test]
    fn frames_are_read() {
        let headers = vec![("streamtype".to_owned(), "stdin".to_owned())];
        for (bytes, expected) in [
            (open(1), Frame::Open { stream: 1, headers, fin: false }),
            (frame(RST_STREAM, 0, &[0, 0, 0, 3, 0, 0, 0, 5]), Frame::Reset(3)),
            (frame(PING, 0, &[0, 0, 0, 9]), Frame::Ping(9)),
            (frame(GOAWAY, 0, &[0; 8]), Frame::GoAway),
            (frame(4, 1, &[0; 4]), Frame::Other),
            (frame(9, 0, &[0; 8]), Frame::Other),
            (frame(77, 0, &[]), Frame::Other),
            (vec![0, 0, 0, 5, 0, 0, 0, 2, b'h', b'i'], data_frame(5, b"hi", false)),
            (vec![0, 0, 0, 5, 1, 0, 0, 0], data_frame(5, b"", true)),
        ] {
            assert_eq!(read(&bytes).unwrap(), [expected]);
        }
    }

    #[test]
    fn frames_come_in_any_pieces() {
        let stream =
            [open(1), vec![0, 0, 0, 1, 1, 0, 0, 5], b"hello".to_vec(), frame(PING, 0, &[0, 0, 0, 7])];
        let (mut reader, mut from, mut seen, mut text) =
            (FrameReader::default(), BytesMut::new(), 0, Vec::new());
        for byte in stream.concat() {
            from.extend_from_slice(&[byte]);
            while let Some(frame) = reader.decode(&mut from).unwrap() {
                seen += 1;
                if let Frame::Data { bytes, fin, .. } = frame {
                    text.extend_from_slice(&bytes);
                    assert_eq!(fin, text == b"hello");
                }
            }
        }
        assert_eq!((seen, &*text), (7, &b"hello"[..]));
    }

    #[test]
    fn malformed_frames_are_refused() {
        let other_version = [&[0x80, 2][..], &frame(PING, 0, &[0; 4])[2..]].concat();
        for (what, bytes) in [
            ("data of stream 0", vec![0, 0, 0, 0, 0, 0, 0, 0]),
            ("version", other_version),
            ("long control frame", vec![0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
            ("stream 0", open(0)),
            ("short stream", frame(SYN_STREAM, 0, &[0, 0, 0, 1, 0])),
            ("empty reset", frame(RST_STREAM, 0, &[])),
            ("empty ping", frame(PING, 0, &[1])),
            ("reply without stream", frame(SYN_REPLY, 0, &[1])),
            ("headers that are no zlib", frame(HEADERS, 0, &[1; 30])),
        ] {
            assert!(read(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let mut bytes = [0; 48];
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            // Half of them look like control frames of this version with a sane length.
            if state.is_multiple_of(2) {
                let head = [0x80, 3, 0, bytes[3] % 12, bytes[4], 0, 0, bytes[7] % 40];
                bytes[..8].copy_from_slice(&head);
            }
            let _ = read(&bytes);
        }
    }

    #[test]
    fn our_frames_are_what_we_read() {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::default();
        for item in [
            Outgoing::Reply(1),
            Outgoing::Reply(3),
            Outgoing::Data(1, Bytes::from_static(b"out")),
            Outgoing::Finish(1),
            Outgoing::Refuse(5),
            Outgoing::Pong(7),
            Outgoing::Close,
        ] {
            writer.write(&item, 3, &mut bytes);
        }
        let expected = [
            Frame::Other,
            Frame::Other,
            data_frame(1, b"out", false),
            data_frame(1, b"", true),
            Frame::Reset(5),
            Frame::Ping(7),
            Frame::GoAway,
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
    }
}
