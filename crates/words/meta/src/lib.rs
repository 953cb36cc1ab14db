//! The words that every part of the system uses: quantities, durations, selectors, names, JSON paths,
//! field paths and the errors that clients see.
//!
//! What enters is text or JSON, what leaves are checked values or upstream's messages.
//! Nothing here does I/O, reads a clock or knows a single kind.

pub mod duration;
pub mod expression;
pub mod field;
pub mod go;
pub mod json_path;
mod label_text;
pub mod name;
pub mod page_token;
pub mod quantity;
pub mod selector;
pub mod status;
