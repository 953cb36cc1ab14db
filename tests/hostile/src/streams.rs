//! What streaming connections send, and what their requests say.

use bytes::BytesMut;
use plimsoll_streaming::{FrameReader, command, ports};
use tokio_util::codec::Decoder as _;

use crate::{Decoder, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "spdy_frames", examples: frames, read: read_frames },
    Decoder { name: "stream_query", examples: queries, read: read_query },
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
