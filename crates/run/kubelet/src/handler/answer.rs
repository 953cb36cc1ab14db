//! Answers over HTTP/1.1, as much of them as probes read: the head, and the beginning of the body.
//!
//! What enters is a connection on which a request was sent; what leaves is one answer, or why there is none in
//! Go's words. A whole client costs a multiple of the exchange itself, and a node asks a thousand times a second.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use httparse::{EMPTY_HEADER, Response, Status, parse_chunk_size};
use plimsoll_podlife::probe::Outcome;
use tokio::io::{AsyncRead, AsyncReadExt};
use url::Url;

use super::ANSWER;
use super::http::{Failure, RESET};

/// Most header lines.
const LINES: usize = 100;
/// The longest head, and the longest body before its chunks are joined, in bytes.
const LONGEST: usize = 256 * 1024;
/// Usual answers fit in.
const USUAL: usize = 1024;
const MALFORMED: &str = "net/http: HTTP/1.x transport connection broken: malformed HTTP response";
const SHORT: &str = "unexpected EOF";

/// The last answer of a page.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u16,
    location: Option<String>,
    body: Bytes,
}

/// How the end of a body is found.
#[derive(Clone, Copy)]
enum Length {
    Known(usize),
    Chunks,
    Open,
}

impl Answer {
    /// What it means to a probe (kubelet: pkg/probe/http, `DoHTTPProbe`).
    pub(crate) fn outcome(self) -> Outcome {
        match self.status {
            200..300 => Outcome::Success,
            300..400 => {
                let body = String::from_utf8_lossy(&self.body);
                Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
            }
            // The body may hold secrets of the container.
            status => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
        }
    }

    /// Where it leads as its header has it, and in full.
    pub(super) fn next(&self, from: &Url) -> Option<(&str, Url)> {
        let follows = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        let location = self.location.as_deref().filter(|_| follows)?;
        Some((location, from.join(location).ok()?))
    }

    /// Reads an answer. `headed` becomes true when its body begins.
    pub(super) async fn read(
        stream: &mut (impl AsyncRead + Unpin),
        headed: &AtomicBool,
    ) -> Result<Self, Failure> {
        let mut bytes = BytesMut::with_capacity(USUAL);
        let (mut answer, length) = loop {
            match head(&mut bytes).map_err(Failure::Request)? {
                // What comes before the answer proper is passed over.
                Some((interim, _)) if interim.status < 200 && interim.status != 101 => {}
                Some(found) => break found,
                None => {
                    let none = bytes.is_empty();
                    let end = if none { "EOF" } else { SHORT };
                    more(stream, &mut bytes, end).await.map_err(Failure::Request)?;
                }
            }
        };
        headed.store(true, Ordering::Relaxed);
        answer.body = loop {
            if let Some(body) = body(&bytes, length).map_err(Failure::Body)? {
                break body;
            }
            match (more(stream, &mut bytes, SHORT).await, length) {
                (Err(why), Length::Open) if why == SHORT => break bytes.freeze(),
                (read, _) => read.map_err(Failure::Body)?,
            }
        };
        Ok(answer)
    }
}

/// Reads what has come; when nothing comes any more, that is `end`.
async fn more(stream: &mut (impl AsyncRead + Unpin), bytes: &mut BytesMut, end: &str) -> Result<(), String> {
    bytes.reserve(USUAL);
    match stream.read_buf(bytes).await {
        Ok(0) => Err(end.to_owned()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(RESET.to_owned()),
        // A peer that ends TLS without a word.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(end.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes the head off what was read, once it is all there.
fn head(bytes: &mut BytesMut) -> Result<Option<(Answer, Length)>, String> {
    let mut lines = [EMPTY_HEADER; LINES];
    let mut response = Response::new(&mut lines);
    let size = match response.parse(bytes) {
        Ok(Status::Complete(size)) => size,
        Ok(Status::Partial) if bytes.len() < LONGEST => return Ok(None),
        _ => return Err(MALFORMED.to_owned()),
    };
    let line = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let status = response.code.unwrap_or_default();
    let is_in_chunks = line("transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"));
    let length = match line("content-length") {
        _ if status < 200 || matches!(status, 204 | 304) => Length::Known(0),
        _ if is_in_chunks => Length::Chunks,
        Some(text) => Length::Known(text.parse().map_err(|_| format!("bad Content-Length \"{text}\""))?),
        None => Length::Open,
    };
    let answer = Answer { status, location: line("location").map(str::to_owned), body: Bytes::new() };
    bytes.advance(size);
    Ok(Some((answer, length)))
}

/// The body, once enough of it is there.
fn body(bytes: &[u8], length: Length) -> Result<Option<Bytes>, String> {
    let most = match length {
        Length::Known(length) => length.min(ANSWER),
        Length::Open => ANSWER,
        Length::Chunks => return joined(bytes),
    };
    Ok((bytes.len() >= most).then(|| Bytes::copy_from_slice(&bytes[..most])))
}

/// The body of which these are the chunks.
fn joined(mut bytes: &[u8]) -> Result<Option<Bytes>, String> {
    let too_long = bytes.len() > LONGEST;
    let mut body = BytesMut::new();
    loop {
        let (start, size) = match parse_chunk_size(bytes) {
            Ok(Status::Complete((start, size))) => (start, usize::try_from(size).unwrap_or(usize::MAX)),
            Ok(Status::Partial) if !too_long => return Ok(None),
            _ => return Err("malformed chunked encoding".to_owned()),
        };
        bytes = &bytes[start..];
        body.extend_from_slice(&bytes[..size.min(bytes.len()).min(ANSWER - body.len())]);
        if size == 0 || body.len() == ANSWER {
            return Ok(Some(body.freeze()));
        }
        // Each chunk ends a line.
        match bytes.split_at_checked(size.saturating_add(2)) {
            Some((_, rest)) => bytes = rest,
            None => return Ok(None),
        }
    }
}
