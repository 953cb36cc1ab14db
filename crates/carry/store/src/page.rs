//! Part of a consistent list.

use std::sync::Arc;

use plimsoll_mvcc::{Entry, Revision};

/// Part of a consistent list, in key order.
#[derive(Debug)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
    /// The revision of the snapshot. Ask for the next page at this revision.
    pub revision: Revision,
    /// True when more keys follow the last entry.
    pub more: bool,
    /// How many follow. For a page of the past it is counted among today's keys.
    pub remaining: usize,
}
