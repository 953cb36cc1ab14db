//! Every decoder of bytes from outside, as one table.
//!
//! What enters are arbitrary bytes. What leaves is nothing: whatever a decoder makes of them is dropped, but
//! none may panic, overflow the stack or take longer than the bytes are worth. The test of this crate feeds
//! each decoder with seeded mutations of its examples; the targets below `fuzz/` feed the same functions with
//! what a fuzzer finds.

mod configurations;
mod credentials;
mod definitions;
mod encodings;
mod expressions;
mod mutate;
mod names;
mod objects;
mod patches;
mod streams;

pub use mutate::Mutator;

/// Something that reads bytes from outside.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The name of its fuzz target.
    pub name: &'static str,
    /// Bytes that it reads, to begin with.
    pub examples: fn() -> Vec<Vec<u8>>,
    /// Reads bytes, whatever comes of it.
    pub read: fn(&[u8]),
}

/// All decoders.
pub fn decoders() -> Vec<Decoder> {
    [
        patches::DECODERS,
        encodings::DECODERS,
        objects::DECODERS,
        definitions::DECODERS,
        expressions::DECODERS,
        credentials::DECODERS,
        configurations::DECODERS,
        names::DECODERS,
        streams::DECODERS,
    ]
    .concat()
}

/// Reads `bytes` with the decoder `name`, if there is one.
pub fn read(name: &str, bytes: &[u8]) {
    if let Some(decoder) = decoders().into_iter().find(|decoder| decoder.name == name) {
        (decoder.read)(bytes);
    }
}

/// Examples that are text.
fn texts(examples: &[&str]) -> Vec<Vec<u8>> {
    examples.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The text of bytes that are meant to be some; what is none becomes replacement characters.
fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The lines of an input that has several parts, as JSON; null for what is none.
fn parts<const N: usize>(bytes: &[u8]) -> [serde_json::Value; N] {
    let mut lines = bytes.splitn(N, |byte| *byte == b'\n');
    std::array::from_fn(|_| {
        lines.next().and_then(|line| serde_json::from_slice(line).ok()).unwrap_or_default()
    })
}
