//! Answers of pods in HTTP/1.1: their head, and where their body ends (RFC 9112, section 6.3).
//!
//! What two readers could take for two different lengths is refused, as nginx refuses it: the client behind would be one
//! of the two.

use std::fmt;
use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::{EMPTY_HEADER, ParserConfig, Response, Status, parse_chunk_size};

/// Most header lines of a head, or trailers of a body.
const LINES: usize = 100;

/// The longest head, and the longest trailers, in bytes.
const LONGEST: usize = 64 << 10;

/// The longest line before a chunk.
const LONGEST_LINE: usize = 4 << 10;

/// What nobody should send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the pod's answer is malformed")
    }
}

impl std::error::Error for Malformed {}

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// What is said about it, where that is not the usual text.
    pub reason: Option<Bytes>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Whether another request may follow by the same connection.
    pub stays: bool,
}

/// The rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Known(u64),
    /// All until the connection is closed.
    Open,
    /// Chunks, from the line on that tells the size of one.
    Chunks,
    /// So many bytes of a chunk, then others.
    Chunk(u64),
    /// What comes after the last chunk.
    Trailers,
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// Headers at the end.
    Trailers(HeaderMap),
}

/// Takes the head of the answer to a request off what came in, as soon as it is there. What comes before the answer
/// proper is passed over.
pub fn head(buffer: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    while let Some(head) = one(buffer, method)? {
        match head.status {
            // Nobody asked for another protocol.
            StatusCode::SWITCHING_PROTOCOLS => return Err(Malformed),
            status if status.is_informational() => {}
            _ => return Ok(Some(head)),
        }
    }
    Ok(None)
}

fn one(buffer: &mut BytesMut, method: &Method) -> Result<Option<Head>, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut response = Response::new(&mut []);
    let config = ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, buffer, &mut lines);
    let Status::Complete(length) = parsed.map_err(|_| Malformed)? else {
        return if buffer.len() > LONGEST { Err(Malformed) } else { Ok(None) };
    };
    // Where a part is that is not empty.
    let place = |part: &[u8]| {
        let start = part.as_ptr().addr() - buffer.as_ptr().addr();
        start..start + part.len()
    };
    let status = StatusCode::from_u16(response.code.ok_or(Malformed)?).map_err(|_| Malformed)?;
    let newer = response.version == Some(1);
    let reason = response.reason.filter(|text| !text.is_empty() && Some(*text) != status.canonical_reason());
    let reason = reason.map(|text| place(text.as_bytes()));
    let mut places: Vec<(HeaderName, Range<usize>)> = Vec::with_capacity(response.headers.len());
    for line in &*response.headers {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        places.push((name, if line.value.is_empty() { 0..0 } else { place(line.value) }));
    }
    let bytes = buffer.split_to(length).freeze();
    let mut headers = HeaderMap::with_capacity(places.len());
    for (name, place) in places {
        headers.append(name, HeaderValue::from_maybe_shared(bytes.slice(place)).map_err(|_| Malformed)?);
    }
    let body = body(status, &headers, newer, method)?;
    let stays = newer && body != Body::Open && !closes(&headers);
    let reason = reason.map(|place| bytes.slice(place));
    Ok(Some(Head { status, reason, headers, body, stays }))
}

/// Where the body ends.
fn body(status: StatusCode, headers: &HeaderMap, newer: bool, method: &Method) -> Result<Body, Malformed> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map(known).transpose()?;
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = match codings.next() {
        None => false,
        Some(coding) if newer && coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err(Malformed),
    };
    if lengths.next().is_some() || codings.next().is_some() || chunked && length.is_some() {
        return Err(Malformed);
    }
    let none = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(match length {
        _ if none || status.is_informational() || method == Method::HEAD => Body::Known(0),
        _ if chunked => Body::Chunks,
        Some(length) => Body::Known(length),
        None => Body::Open,
    })
}

fn known(length: &HeaderValue) -> Result<u64, Malformed> {
    let digits = length.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    length.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

fn closes(headers: &HeaderMap) -> bool {
    let words =
        headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(b"close"))
}

impl Body {
    /// Whether nothing of it is to come.
    pub fn is_over(self) -> bool {
        self == Self::Known(0)
    }

    /// How many bytes are to come, where that is known.
    pub fn length(self) -> Option<u64> {
        if let Self::Known(length) = self { Some(length) } else { None }
    }

    /// The connection was closed: whether the body ends there.
    pub fn close(&mut self) -> bool {
        let ends = *self == Self::Open;
        if ends {
            *self = Self::Known(0);
        }
        ends
    }

    /// Takes the next piece off what came in; none if more has to come in first, or if it [is over](Self::is_over).
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Piece>, Malformed> {
        loop {
            match self {
                Self::Known(left) => return Ok(take(left, buffer).map(Piece::Data)),
                Self::Open => {
                    let mut all = u64::MAX;
                    return Ok(take(&mut all, buffer).map(Piece::Data));
                }
                Self::Chunks => match size(buffer)? {
                    None => return Ok(None),
                    Some(0) => *self = Self::Trailers,
                    Some(size) => *self = Self::Chunk(size),
                },
                Self::Chunk(0) => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        *self = Self::Chunks;
                    }
                    [] | [b'\r'] => return Ok(None),
                    _ => return Err(Malformed),
                },
                Self::Chunk(left) => return Ok(take(left, buffer).map(Piece::Data)),
                Self::Trailers => {
                    let Some(trailers) = trailers(buffer)? else { return Ok(None) };
                    *self = Self::Known(0);
                    return Ok((!trailers.is_empty()).then_some(Piece::Trailers(trailers)));
                }
            }
        }
    }
}

/// As much as there is, and no more than may be taken.
fn take(left: &mut u64, buffer: &mut BytesMut) -> Option<Bytes> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= count as u64;
    (count > 0).then(|| buffer.split_to(count).freeze())
}

/// The size of a chunk.
fn size(buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    match buffer.first() {
        None => return Ok(None),
        Some(digit) if digit.is_ascii_hexdigit() => {}
        Some(_) => return Err(Malformed),
    }
    match parse_chunk_size(buffer).map_err(|_| Malformed)? {
        Status::Complete((length, size)) => {
            buffer.advance(length);
            Ok(Some(size))
        }
        Status::Partial if buffer.len() > LONGEST_LINE => Err(Malformed),
        Status::Partial => Ok(None),
    }
}

fn trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    let mut lines = [EMPTY_HEADER; LINES];
    let Status::Complete((length, lines)) =
        httparse::parse_headers(buffer, &mut lines).map_err(|_| Malformed)?
    else {
        return if buffer.len() > LONGEST { Err(Malformed) } else { Ok(None) };
    };
    let mut trailers = HeaderMap::new();
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        trailers.append(name, HeaderValue::from_bytes(line.value).map_err(|_| Malformed)?);
    }
    buffer.advance(length);
    Ok(Some(trailers))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// An answer: its status, body and trailers, whether the connection stays, and what is behind it.
    type Read = (u16, String, Vec<String>, bool, String);

    /// Reads an answer that comes in pieces of this size, and whose connection is closed behind.
    fn read(method: &Method, bytes: &[u8], size: usize) -> Result<Read, Malformed> {
        let (mut buffer, mut pieces) = (BytesMut::new(), bytes.chunks(size));
        let mut head = loop {
            if let Some(head) = head(&mut buffer, method)? {
                break head;
            }
            buffer.extend_from_slice(pieces.next().ok_or(Malformed)?);
        };
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        while !head.body.is_over() {
            match head.body.next(&mut buffer)? {
                Some(Piece::Data(data)) => body.extend_from_slice(&data),
                Some(Piece::Trailers(all)) => {
                    trailers = all
                        .iter()
                        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
                        .collect();
                }
                None if head.body.is_over() => {}
                None => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None if head.body.close() => {}
                    None => return Err(Malformed),
                },
            }
        }
        pieces.for_each(|piece| buffer.extend_from_slice(piece));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok((head.status.as_u16(), text(&body), trailers, head.stays, text(&buffer)))
    }

    fn both(method: &Method, text: &str) -> Result<Read, Malformed> {
        let whole = read(method, text.as_bytes(), usize::MAX);
        for size in [1, 2, 7] {
            assert_eq!(read(method, text.as_bytes(), size), whole, "{text:?} in pieces of {size}");
        }
        whole
    }

    #[test]
    fn bodies_end_where_they_should() {
        // Method; status line and headers; what comes behind; status, body, trailers, whether it stays, and what is left.
        type Row = (
            &'static str,
            &'static str,
            &'static str,
            u16,
            &'static str,
            &'static [&'static str],
            bool,
            &'static str,
        );
        let table: [Row; 18] = [
            ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2", "okmore", 200, "ok", &[], true, "more"),
            ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0", "x", 200, "", &[], true, "x"),
            (
                "GET",
                "HTTP/1.1 404 No\r\ncontent-length: 2\r\nconnection: Close",
                "ok",
                404,
                "ok",
                &[],
                false,
                "",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: a, close",
                "ok",
                200,
                "ok",
                &[],
                false,
                "",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive",
                "ok",
                200,
                "ok",
                &[],
                true,
                "",
            ),
            (
                "GET",
                "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive",
                "ok",
                200,
                "ok",
                &[],
                false,
                "",
            ),
            ("GET", "HTTP/1.1 200", "all of it", 200, "all of it", &[], false, ""),
            ("POST", "HTTP/1.0 500 E\r\nx: y", "", 500, "", &[], false, ""),
            ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9", "x", 200, "", &[], true, "x"),
            ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "x", 200, "", &[], true, "x"),
            ("HEAD", "HTTP/1.1 200 OK", "x", 200, "", &[], true, "x"),
            ("GET", "HTTP/1.1 204 No Content", "x", 204, "", &[], true, "x"),
            ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9", "x", 304, "", &[], true, "x"),
            (
                "GET",
                "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2",
                "okx",
                200,
                "ok",
                &[],
                true,
                "x",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
                "2\r\nok\r\n0\r\n\r\nx",
                200,
                "ok",
                &[],
                true,
                "x",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked",
                "2;a=b\r\nok\r\n00B \r\nhello there\r\n0\r\n\r\n",
                200,
                "okhello there",
                &[],
                true,
                "",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked",
                "1\r\nx\r\n0\r\na: b\r\nc: d\r\n\r\nx",
                200,
                "x",
                &["a=b", "c=d"],
                true,
                "x",
            ),
            (
                "GET",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close",
                "0\r\n\r\n",
                200,
                "",
                &[],
                false,
                "",
            ),
        ];
        for (method, head, rest, status, body, trailers, stays, left) in table {
            let trailers = trailers.iter().map(ToString::to_string).collect();
            let expected = (status, body.to_owned(), trailers, stays, left.to_owned());
            let text = format!("{head}\r\n\r\n{rest}");
            assert_eq!(both(&method.parse().unwrap(), &text), Ok(expected), "{method} {text}");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3", "okk"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2", "ok"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2, 2", "ok"),
            ("HTTP/1.1 200 OK\r\ncontent-length: +2", "ok"),
            ("HTTP/1.1 200 OK\r\ncontent-length: -2", "ok"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0x2", "ok"),
            ("HTTP/1.1 200 OK\r\ncontent-length:", "ok"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616", "ok"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip", "ok"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked", "0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
            ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
            ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x", ""),
            ("HTTP/2 200 OK", ""),
            ("HTTP/1.1 20 OK", ""),
            ("HTTP/1.1 200 OK\r\na b: c", ""),
            ("HTTP/1.1 200 OK\r\na : c", ""),
            ("HTTP/1.1 200 OK\r\na: b\r\n c", ""),
            ("HTTP/1.1 200 OK\r\na: b\0", ""),
            // A length that the connection does not keep, and chunks that are none.
            ("HTTP/1.1 200 OK\r\ncontent-length: 3", "ok"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", ""),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "x\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "-1\r\nx"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", " 1\r\nx\r\n0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "1\nx\r\n0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "1\r\nxx\r\n0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "1\r\nx0\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "1\r\nx\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "0\r\na b\r\n\r\n"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", "10000000000000000\r\nx"),
        ];
        for (head, rest) in table {
            let text = format!("{head}\r\n\r\n{rest}");
            assert_eq!(both(&Method::GET, &text), Err(Malformed), "{text:?}");
        }
    }

    #[test]
    fn what_has_no_end_is_refused() {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        for (start, more) in [
            ("HTTP/1.1 200 OK\r\n".to_owned(), "a: b\r\n"),
            ("HTTP/1.1 200 OK\r\na: ".to_owned(), "b"),
            (format!("{chunked}1;"), "x"),
            (format!("{chunked}0\r\na: "), "x"),
        ] {
            let text = start + &more.repeat(LONGEST);
            let most = |size| read(&Method::GET, text.as_bytes(), size);
            assert_eq!(most(4096), Err(Malformed), "{more:?}");
        }
    }

    #[test]
    fn headers_and_words_pass() {
        let mut buffer =
            BytesMut::from("HTTP/1.1 299 My Word\r\nSet-Cookie: a\r\nset-cookie: b\r\nx-y:  z \r\n\r\n");
        let head = head(&mut buffer, &Method::GET).unwrap().unwrap();
        let headers: Vec<_> =
            head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(headers, [("set-cookie", &b"a"[..]), ("set-cookie", b"b"), ("x-y", b"z")]);
        assert_eq!((head.status.as_u16(), head.reason.unwrap()), (299, Bytes::from("My Word")));
    }
}
