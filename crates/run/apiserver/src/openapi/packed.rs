//! A document as it is kept: compressed, because most clients take it so and few ask twice.

use std::io::{Read, Write};
use std::sync::OnceLock;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha512};

use super::{Style, gnostic};

/// Which encoding of a document is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

/// A document in its encodings, the second made when somebody first asks for it.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) style: Style,
    /// Hash of the JSON text, as upstream writes it: it stands for all encodings.
    pub(crate) tag: String,
    pub(super) made: Timestamp,
    json: Bytes,
    protobuf: OnceLock<Bytes>,
}

impl Packed {
    pub(crate) fn new(style: Style, json: &[u8], made: Timestamp) -> Self {
        Self { style, tag: tag(json), made, json: compress(json), protobuf: OnceLock::new() }
    }

    /// The document, compressed, if it has been made.
    pub(super) fn ready(&self, encoding: Encoding) -> Option<&Bytes> {
        match encoding {
            Encoding::Json => Some(&self.json),
            Encoding::Protobuf => self.protobuf.get(),
        }
    }

    /// The document, compressed. The first time in protobuf this is work for some milliseconds.
    pub(super) fn get(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Json => &self.json,
            Encoding::Protobuf => self.protobuf.get_or_init(|| {
                let document: Value = serde_json::from_slice(&unpack(&self.json)).unwrap_or_default();
                compress(&gnostic::encode(&document, self.style))
            }),
        }
    }
}

/// The hash that stands for a text.
pub(crate) fn tag(text: &[u8]) -> String {
    use std::fmt::Write;
    Sha512::digest(text).iter().fold(String::with_capacity(128), |mut all, byte| {
        // Writing to memory does not fail.
        let _ = write!(all, "{byte:02X}");
        all
    })
}

fn compress(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("writing to memory does not fail").into()
}

/// The text for those who do not take it compressed.
pub(super) fn unpack(compressed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    GzDecoder::new(compressed).read_to_end(&mut text).expect("what was compressed here is whole");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_kept_small_and_comes_back() {
        let text = format!(r#"{{"openapi":"{}"}}"#, "3.0.0 ".repeat(1000));
        let packed = Packed::new(Style::V3, text.as_bytes(), Timestamp::UNIX_EPOCH);
        assert!(packed.get(Encoding::Json).len() < 200);
        assert_eq!(unpack(packed.get(Encoding::Json)), text.as_bytes());
        assert_eq!((packed.tag.len(), &packed.tag[..8]), (128, &tag(text.as_bytes())[..8]));
        assert!(packed.ready(Encoding::Protobuf).is_none());
        assert!(unpack(packed.get(Encoding::Protobuf)).starts_with(b"\x0a"));
        assert!(packed.ready(Encoding::Protobuf).is_some());
    }

    #[test]
    fn tags_are_hashes_in_capitals() {
        assert!(tag(b"").starts_with("CF83E1357EEFB8BD"));
    }
}
