//! How two versions of an object become one.
//!
//! What enters: JSON values, the shape of their kind and, for server-side apply, who writes.
//! What leaves: the changed value with up-to-date `metadata.managedFields`, or an error that
//! becomes an API `Status`. It never does I/O, reads no clock and knows no single kind.
//!
//! - [`json_patch`]: RFC 6902, operations one after the other;
//! - [`merge_patch`]: RFC 7386, objects merged, everything else replaced;
//! - [`strategic_merge`]: lists merged by the keys that the API types declare;
//! - [`apply::apply`]: server-side apply: merge, prune, conflicts, ownership;
//! - [`overlay`]: the same merge for policies, which own nothing;
//! - [`managed::track`]: ownership after every other write.

pub mod apply;
mod check;
mod combine;
mod compare;
mod error;
mod fields;
mod go;
mod json_patch;
pub mod managed;
mod merge_patch;
mod overlay;
pub mod paths;
mod remove;
mod strategic;
mod typed;

pub use error::{ApplyError, Conflict, PatchError};
pub use go::go_text;
pub use json_patch::{MAX_OPERATIONS, json_patch};
pub use merge_patch::merge_patch;
pub use overlay::overlay;
pub use strategic::strategic_merge;
pub use typed::Typed;
