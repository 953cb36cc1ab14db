//! What clients of etcd ask for: comparisons, and what is done when they hold or not.
//!
//! The rules are etcd's (server/etcdserver/apply): all comparisons look at the state before the transaction, those of
//! transactions within it, too; everything that is changed gets one revision; what is read sees what was changed
//! before it in the same transaction; no key is changed twice.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

use crate::query::{Found, Query, Target};
use crate::{Entry, Revision, Span, Unreadable};

/// Something to do at one revision.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Reads.
    Range(Query),
    /// Writes a key.
    Put(Put),
    /// Deletes keys; the answer names them.
    Delete(Span),
    /// A transaction within the transaction.
    Txn(Txn),
}

/// Writes a key.
#[derive(Clone, Debug)]
pub struct Put {
    /// Which.
    pub key: Arc<str>,
    /// What; none: the value it has.
    pub value: Option<Bytes>,
    /// The lease it hangs on from now on, 0: none; none: that it hangs on.
    pub lease: Option<i64>,
}

/// Comparisons, and what is done.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// What must hold, all of it.
    pub compare: Vec<Compare>,
    /// What is done then.
    pub success: Vec<Operation>,
    /// What is done otherwise.
    pub failure: Vec<Operation>,
}

/// What must hold of each key of a span; a key that is not there has zeros, and no value to compare.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Which keys.
    pub span: Span,
    /// How.
    pub relation: Relation,
    /// What of it, and with what.
    pub with: Operand,
}

/// How two things are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The same.
    Equal,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
    /// Not the same.
    Differs,
}

/// What a key is compared with.
#[derive(Clone, Debug)]
pub enum Operand {
    /// A number: version, create or modification revision, or lease.
    Number(Target, i64),
    /// A value.
    Value(Bytes),
}

/// What an operation led to.
#[derive(Debug)]
pub enum Done {
    /// What was read.
    Range(Query, Found),
    /// The version that was replaced.
    Put(Option<Arc<Entry>>),
    /// What is gone.
    Delete(Vec<Arc<Entry>>),
    /// A transaction within it.
    Txn(TxnDone),
}

/// What a transaction led to.
#[derive(Debug)]
pub struct TxnDone {
    /// Whether the comparisons held.
    pub succeeded: bool,
    /// The revision afterwards.
    pub revision: Revision,
    /// One for each operation, with the revision behind it.
    pub done: Vec<(Revision, Done)>,
}

/// Why nothing was done. etcd's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// A put that keeps value or lease needs a key.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// There is no such lease.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// There is such a lease already.
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    /// A key would change twice at one revision.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// A revision cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Operation {
    /// Whether it may write something.
    #[must_use]
    pub fn adds(&self) -> bool {
        match self {
            Self::Put(_) => true,
            Self::Txn(txn) => txn.adds(),
            Self::Range(_) | Self::Delete(_) => false,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Put(put) => put.key.len() + put.value.as_ref().map_or(0, Bytes::len),
            Self::Txn(txn) => txn.size(),
            Self::Range(_) | Self::Delete(_) => 0,
        }
    }
}

impl Txn {
    /// One operation, whatever is there.
    #[must_use]
    pub fn of(operation: Operation) -> Self {
        Self { success: vec![operation], ..Self::default() }
    }

    /// Whether it may write something.
    #[must_use]
    pub fn adds(&self) -> bool {
        self.success.iter().chain(&self.failure).any(Operation::adds)
    }

    /// How many bytes it may write.
    #[must_use]
    pub fn size(&self) -> usize {
        let sum = |operations: &[Operation]| operations.iter().map(Operation::size).sum::<usize>();
        sum(&self.success).max(sum(&self.failure))
    }
}

impl Compare {
    /// Whether it holds of what the keys of its span are.
    pub(crate) fn holds(&self, entries: &[Arc<Entry>]) -> bool {
        if entries.is_empty() {
            return match &self.with {
                Operand::Number(_, number) => self.relation.is(0.cmp(number)),
                Operand::Value(_) => false,
            };
        }
        entries.iter().all(|entry| {
            self.relation.is(match &self.with {
                Operand::Number(target, number) => number_of(*target, entry).cmp(number),
                Operand::Value(value) => entry.value.cmp(value),
            })
        })
    }
}

fn number_of(target: Target, entry: &Entry) -> i64 {
    match target {
        Target::Create => entry.create.0,
        Target::Modified => entry.modified.0,
        Target::Lease => entry.lease,
        Target::Version | Target::Key | Target::Value => i64::try_from(entry.version).unwrap_or(i64::MAX),
    }
}

impl Relation {
    fn is(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::Greater => ordering == Ordering::Greater,
            Self::Less => ordering == Ordering::Less,
            Self::Differs => ordering != Ordering::Equal,
        }
    }
}
