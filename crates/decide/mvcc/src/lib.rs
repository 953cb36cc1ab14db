//! Multi-version keys without a disk.
//!
//! What enters: transactions of concurrent writers, and rows read back from a log.
//! What leaves: the order of commits (each at the next revision), the events that
//! watchers see, snapshots of a prefix now or at an older revision, and the rows
//! that nobody can ask for any more.
//! What never happens here: a file, a clock, a lock, a thread. `plimsoll-store`
//! supplies those.
//!
//! The life of a write: [`Draft`] orders a group of transactions into
//! events, the store makes the events durable, [`Mvcc::apply`] makes them visible.

pub mod advice;
mod change;
mod compaction;
mod draft;
mod entry;
mod expiry;
mod group;
mod history;
mod keys;
mod lease;
pub mod members;
mod query;
mod revision;
mod span;
mod state;
mod txn;
mod window;

pub use change::{Body, Change, Expect, Step, Value};
pub use compaction::Compaction;
pub use entry::{Entry, Event, EventKind, Memo};
pub use expiry::Expiry;
pub use group::{Changes, Draft, Group, Outcome, Refusal, sequence};
pub use history::Row;
pub use lease::{Lease, LeaseTally, Leases};
pub use query::{Bounds, Found, Order, Query, Target};
pub use revision::Revision;
pub use span::Span;
pub use state::{Bytes, Mvcc, Pick, Selection, Unreadable};
pub use txn::{Compare, Denial, Done, Operand, Operation, Put, Relation, Txn, TxnDone};
pub use window::Limits;
