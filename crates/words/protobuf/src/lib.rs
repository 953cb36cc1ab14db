//! The protobuf encoding of the built-in kinds, `application/vnd.kubernetes.protobuf`.
//!
//! What enters and leaves are JSON objects and bytes: [`decode`] and [`encode`] turn one into the
//! other ([`encode_list`] without holding all items), [`watch_frame`] and [`watch_event`] do so for the frames of a watch. No code is written
//! or generated for a type: names and shapes come from `plimsoll-schema`, field numbers from the
//! table `fields.txt`, and both are joined once, at first use.
//!
//! Encoding gives the bytes that upstream's encoder gives: fields in order of their numbers, map
//! keys sorted, Go's zero values written wherever the Go field is not a pointer. Decoding gives
//! the JSON that upstream would print, without nulls (absent times, lists and maps are left out);
//! fields that the table does not know are skipped. Like upstream's messages, nested objects carry
//! neither `apiVersion` nor `kind`; only the envelope does.

mod decode;
mod encode;
mod envelope;
mod error;
#[cfg(test)]
mod laws;
mod table;
mod time;
mod watch;
mod wire;

pub use envelope::{decode, encode, encode_list, encodes};
pub use error::ProtobufError;
pub use watch::{WatchEvent, watch_event, watch_frame};

/// The media type of single objects and lists.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of watches.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";
