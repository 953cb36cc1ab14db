//! Frames of a watch: four bytes of length, then a `WatchEvent` without envelope.

use serde_json::Value;

use crate::envelope;
use crate::error::ProtobufError;
use crate::wire::{Reader, Writer};

/// A change that a watch tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK` or `ERROR`.
    pub event: String,
    /// The object, or the `Status` of an error.
    pub object: Value,
}

/// One frame; `object` is what [`crate::encode`] made.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(object.len() + event.len() + 24);
    let open = writer.open();
    writer.bytes(1, object);
    writer.close(2, open);
    writer.bytes(1, event.as_bytes());
    let length = u32::try_from(writer.open()).expect("an object is smaller than 4 GiB");
    writer.raw(&length.to_be_bytes());
    writer.finish()
}

/// Takes the first frame off `bytes`; `None` when it is not complete yet.
///
/// # Errors
/// When the frame is malformed.
pub fn watch_event(bytes: &mut &[u8]) -> Result<Option<WatchEvent>, ProtobufError> {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    let Some((frame, rest)) = rest.split_at_checked(length) else { return Ok(None) };
    *bytes = rest;
    let (mut event, mut object) = ("", Value::Null);
    let mut reader = Reader::new(frame);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => event = wire.text()?,
            2 => object = raw_object(wire.bytes()?)?,
            _ => {}
        }
    }
    Ok(Some(WatchEvent { event: event.to_owned(), object }))
}

fn raw_object(extension: &[u8]) -> Result<Value, ProtobufError> {
    let mut reader = Reader::new(extension);
    while let Some((number, wire)) = reader.field()? {
        if number == 1 {
            return envelope::decode(wire.bytes()?);
        }
    }
    Ok(Value::Null)
}
