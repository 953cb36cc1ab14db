//! What streaming connections send, and what their requests say.

use std::hint::black_box;

use bytes::BytesMut;
use http::Method;
use plimsoll_route::{answer, host_of, normal, proxy_protocol};
use plimsoll_streaming::{FrameReader, command, ports};
use tokio_util::codec::Decoder as _;

use crate::{Decoder, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "spdy_frames", examples: frames, read: read_frames },
    Decoder { name: "stream_query", examples: queries, read: read_query },
    Decoder { name: "proxy_protocol", examples: proxies, read: read_proxy },
    Decoder { name: "pod_answer", examples: answers, read: read_answer },
    Decoder { name: "request_target", examples: targets, read: read_target },
];

fn frames() -> Vec<Vec<u8>> {
    let open = [
        // SYN_STREAM 1 whose headers are one stored block: none.
        &[0x80, 3, 0, 1, 0, 0, 0, 31, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..],
        &[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0],
    ]
    .concat();
    let rest = [
        0, 0, 0, 5, 0, 0, 0, 2, b'h', b'i', 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9, 0x80, 3, 0, 3, 0, 0, 0, 8,
        0, 0, 0, 3, 0, 0, 0, 5, 0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    vec![[&open[..], &rest].concat(), rest.to_vec(), open]
}

/// All frames, as they come at once and byte by byte.
fn read_frames(bytes: &[u8]) {
    let (mut reader, mut from) = (FrameReader::default(), BytesMut::from(bytes));
    while let Ok(Some(_)) = reader.decode(&mut from) {}
    let (mut reader, mut from) = (FrameReader::default(), BytesMut::new());
    for byte in bytes {
        from.extend_from_slice(&[*byte]);
        match reader.decode(&mut from) {
            Ok(_) => {}
            Err(_) => break,
        }
    }
}

fn queries() -> Vec<Vec<u8>> {
    texts(&[
        "stdin=true&stdout=1&stderr=true&tty=false&container=c&command=sh&command=-c&command=%2Fbin",
        "ports=80&ports=443",
    ])
}

fn read_query(bytes: &[u8]) {
    let text = text(bytes);
    drop((command(&text), ports(&text)));
}

fn proxies() -> Vec<Vec<u8>> {
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend_from_slice(&[192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187]);
    vec![b"PROXY TCP4 192.0.2.1 192.0.2.2 80 443\r\nGET".to_vec(), second]
}

fn read_proxy(bytes: &[u8]) {
    black_box((proxy_protocol::parse(bytes), proxy_protocol::missing(bytes)));
}

fn answers() -> Vec<Vec<u8>> {
    texts(&[
        "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\nset-cookie: a=b\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\na: b\r\n\r\n",
        "HTTP/1.0 404 Not Found\r\nconnection: close\r\n\r\nall of it",
    ])
}

/// An answer that comes at once, and in many pieces.
fn read_answer(bytes: &[u8]) {
    for pieces in [1, 64] {
        let size = bytes.len().div_ceil(pieces).max(1);
        let (mut buffer, mut found) = (BytesMut::new(), None);
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            if found.is_none() {
                let Ok(head) = answer::head(&mut buffer, &Method::GET) else { return };
                found = head;
            }
            let Some(head) = &mut found else { continue };
            while let Ok(Some(_)) = head.body.next(&mut buffer) {}
        }
    }
}

fn targets() -> Vec<Vec<u8>> {
    texts(&["/a/./b/../%2e%2e/c%20d//e", "[::1]:80", "Example.ORG:443"])
}

fn read_target(bytes: &[u8]) {
    let text = text(bytes);
    black_box((normal(&text).map(|path| path.len()), host_of(&text).len()));
}
