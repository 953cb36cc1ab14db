//! Durable keys with revisions, used in process.
//!
//! What enters: conditional writes of encoded objects. What leaves: entries, consistent
//! pages of a prefix now or at an older revision, and watches without gaps. The order of
//! things is decided by `plimsoll-mvcc`; here are the disk (a log in files, indexed by
//! revision), the threads, and the queues of watchers.
//!
//! A write travels so: [`Store::commit`] hands it to the writer thread, which takes whatever
//! waits as one group, orders it, appends it to the log with one sync (`log`), makes it visible,
//! and has another thread answer the writers and tell the watchers (`teller`). Nobody sees a revision
//! before it is durable.
//!
//! Every current value lives in memory once, shared by index, watchers and readers. Older
//! versions are in the log until compaction passes them.
//!
//! What a power cut left of the newest file is cut off before anything is read (`log`); what older versions wrote is
//! written anew (`older`). What all rows
//! take is bounded (`space`); a copy of them is a file (`snapshot`), and a store at rest can be held against its
//! checksums (`check`).
//!
//! A cluster of etcd can take the place of the log (`cluster`): memory, readers and watchers are the same then.
//!
//! It never interprets a value, and never polls: an idle store runs no instruction, except
//! eight times in a compaction interval.

mod bolt;
mod check;
mod client;
mod cluster;
mod disk;
mod draft;
mod error;
pub mod etcd;
mod exposed;
mod hub;
mod log;
mod older;
mod options;
mod page;
mod row;
mod shared;
mod snapshot;
mod space;
mod stats;
mod store;
mod teller;
mod transform;
mod upkeep;
mod watch;
mod writer;

pub use bolt::{Membership, MembershipError};
pub use check::{Checked, check};
pub use client::{Answered, Listed};
pub use cluster::{Cluster, Place, examine};
pub use draft::Draft;
pub use error::{StoreError, WatchEnd};
pub use options::Options;
pub use page::Page;
pub use plimsoll_mvcc::members::Member;
pub use plimsoll_mvcc::{
    Body, Bytes, Change, Entry, Event, EventKind, Expect, Lease, LeaseTally, Limits, Operation, Put, Query,
    Revision, Span, Txn, Value,
};
pub use snapshot::{Owner, Summary, cluster_of, restore, restore_etcd, status as snapshot_status};
pub use space::Alarm;
pub use stats::{Stats, Timings};
pub use store::Store;
pub use transform::{Opened, Transform};
pub use watch::{Watch, WatchItem};
