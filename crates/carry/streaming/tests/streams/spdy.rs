//! A SPDY client by hand. Its header blocks are stored, not compressed, so it needs no dictionary.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use crate::server::connect;

/// What the server sent on one stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) text: String,
    pub(crate) replied: bool,
    pub(crate) finished: bool,
    pub(crate) refused: bool,
}

pub(crate) struct Client<S> {
    pub(crate) stream: S,
    begun: bool,
    next: u32,
    pub(crate) received: BTreeMap<u32, Received>,
    pub(crate) pongs: Vec<u32>,
}

/// Sends a request with these header lines; returns the connection and the response's head.
pub(crate) async fn request(path: &str, headers: &[&str]) -> (DuplexStream, String) {
    let mut stream = connect();
    let lines = headers.join("\r\n");
    stream.write_all(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

/// A connection upgraded to SPDY.
pub(crate) async fn upgraded(path: &str, protocol: &str) -> Client<DuplexStream> {
    let wish = format!("X-Stream-Protocol-Version: {protocol}");
    let (stream, head) = request(path, &["Connection: Upgrade", "Upgrade: SPDY/3.1", &wish]).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_lowercase().contains(&format!("x-stream-protocol-version: {protocol}\r\n")), "{head}");
    Client::new(stream)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, begun: false, next: 1, received: BTreeMap::new(), pongs: Vec::new() }
    }

    /// Opens a stream and returns its number.
    pub(crate) async fn open(&mut self, headers: &[(&str, &str)]) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut payload = [&stream.to_be_bytes()[..], &[0; 6]].concat();
        if !self.begun {
            self.begun = true;
            payload.extend_from_slice(&[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
        }
        let mut plain = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&number(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        let length = u16::try_from(plain.len()).unwrap();
        payload.push(0);
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&(!length).to_le_bytes());
        payload.extend_from_slice(&plain);
        payload.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
        self.control(1, &payload).await;
        stream
    }

    pub(crate) async fn control(&mut self, kind: u8, payload: &[u8]) {
        let head = [&[0x80, 3, 0, kind][..], &number(payload.len())].concat();
        self.write(&[&head, payload].concat()).await;
    }

    pub(crate) async fn send(&mut self, stream: u32, text: &str, fin: bool) {
        let mut head = [stream.to_be_bytes(), number(text.len())].concat();
        head[4] = u8::from(fin);
        self.write(&[&head, text.as_bytes()].concat()).await;
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads a frame; false when the server said goodbye or hung up.
    pub(crate) async fn read(&mut self) -> bool {
        let mut head = [0; 8];
        if self.stream.read_exact(&mut head).await.is_err() {
            return false;
        }
        let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.unwrap();
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        if head[0] & 0x80 == 0 {
            let stream = self.received.entry(word(&head)).or_default();
            assert!(stream.replied && !stream.finished, "data only between reply and end");
            stream.text.push_str(std::str::from_utf8(&payload).unwrap());
            stream.finished = head[4] == 1;
            return true;
        }
        match head[3] {
            2 => self.received.entry(word(&payload)).or_default().replied = true,
            3 => self.received.entry(word(&payload)).or_default().refused = true,
            6 => self.pongs.push(word(&payload)),
            7 => return false,
            other => panic!("frame of type {other}"),
        }
        true
    }

    /// Reads until a condition holds.
    pub(crate) async fn read_until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(self.read().await, "the server went away: {:?}", self.received);
        }
    }

    /// Reads until the server says goodbye.
    pub(crate) async fn read_all(&mut self) {
        while self.read().await {}
    }

    pub(crate) fn text(&self, stream: u32) -> &str {
        self.received.get(&stream).map_or("", |received| &received.text)
    }

    pub(crate) fn finished(&self, stream: u32) -> bool {
        self.received.get(&stream).is_some_and(|received| received.finished)
    }
}

fn number(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap().to_be_bytes()
}
