//! Documents as values.
//!
//! What enters are the bytes of bodies and files in JSON, YAML or CBOR. What leaves are JSON values, with
//! the fields that a text gives twice, or what is wrong with the bytes. Nothing here knows a kind.

pub mod cbor;
mod complaint;
mod mended;
mod text;

pub use complaint::complaint;
pub use text::{Document, Duplicates};
