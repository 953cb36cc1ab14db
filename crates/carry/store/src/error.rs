//! What can go wrong.

use std::path::PathBuf;
use std::sync::Arc;

use plimsoll_mvcc::{Denial, Entry, Refusal, Revision, Unreadable};

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The key was not as expected. A deletion of nothing ends here too, with `current` empty.
    #[error("key is not at the expected revision")]
    Precondition {
        /// What it was.
        current: Option<Arc<Entry>>,
    },
    /// The same for one step of [`crate::Store::commit_many`]; nothing of it happened.
    #[error("key of step {step} is not at the expected revision")]
    PreconditionAt {
        /// Which step, counted from zero.
        step: usize,
        /// What its key was.
        current: Option<Arc<Entry>>,
    },
    /// The history of the revision is gone.
    #[error("revision is older than the last compaction, {compacted}")]
    Compacted {
        /// The oldest revision that can be read.
        compacted: Revision,
        /// The newest.
        current: Revision,
    },
    /// The revision has not happened yet.
    #[error("revision is newer than the current one, {current}")]
    Future {
        /// The newest revision.
        current: Revision,
    },
    /// The key or value is beyond the store's limits.
    #[error("{what} of {size} bytes is larger than {limit}")]
    TooLarge {
        /// "key", "value" or "transaction".
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The quota is used up; deletions are accepted. etcd's words.
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    /// A transaction of a client of etcd, or a lease, is not possible.
    #[error(transparent)]
    Denied(Denial),
    /// Another process has the directory.
    #[error("store {path} is in use by another process: stop that first")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by a newer version.
    #[error(
        "store {path} has format {found:?}, and this version reads up to {known}: use the version that wrote it"
    )]
    UnknownFormat {
        /// The directory.
        path: PathBuf,
        /// What its format file says.
        found: String,
        /// What this version knows.
        known: u32,
    },
    /// A part of the directory is gone.
    #[error(
        "store {path} has lost its file {file}: put that back, or restore a snapshot where no store is \
         (plimsoll store snapshot restore); without it, what the rest holds would be given up"
    )]
    Missing {
        /// The directory.
        path: PathBuf,
        /// The file, from there.
        file: PathBuf,
    },
    /// There is no store.
    #[error(
        "{path} holds no state: is that the directory, and is the state not that of a cluster of etcd (--datastore-endpoint)?"
    )]
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// The database cannot be opened.
    #[error(
        "store {path} cannot be opened ({source}): unless the disk refuses it, a file in it is damaged; restore a \
         snapshot where no store is (plimsoll store snapshot restore)"
    )]
    Unopened {
        /// The directory.
        path: PathBuf,
        /// What fjall said.
        source: fjall::Error,
    },
    /// The directory cannot be made or read.
    #[error("store {path}: {source}")]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row of the log is not what was written.
    #[error(
        "row of revision {revision} in the log is damaged or missing: restore a snapshot (plimsoll store snapshot restore)"
    )]
    Damaged {
        /// Its revision.
        revision: Revision,
    },
    /// A file of the log is damaged in a place that a power cut cannot explain.
    #[error(
        "{path} is damaged behind revision {revision}, where acknowledged writes were: restore a snapshot \
         (plimsoll store snapshot restore), or look at what is left with plimsoll store check"
    )]
    Torn {
        /// The file.
        path: PathBuf,
        /// The last revision before the damage.
        revision: Revision,
    },
    /// A snapshot cannot be used.
    #[error("snapshot {path} {what}")]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A store is to be made where something is.
    #[error("{path} is not empty: a snapshot is restored into a directory that is empty or not there yet")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A value of the log is in a form that nothing reads.
    #[error("unable to transform key {key:?}: {cause}")]
    Sealed {
        /// Its key.
        key: Arc<str>,
        /// What is wrong.
        cause: String,
    },
    /// A cluster of etcd cannot be the store, or refuses.
    #[error("{0}")]
    Cluster(String),
    /// The cluster does not answer now; what was asked may have happened.
    #[error("etcd does not answer: {0}")]
    Unavailable(Arc<str>),
    /// The cluster holds something that was not written by this program.
    #[error(
        "etcd has a key {key:?} that Plimsoll did not write: use a cluster of its own, or move the objects with kubectl"
    )]
    Foreign {
        /// Its key.
        key: String,
    },
    /// The disk failed in a read.
    #[error(
        "log on the disk cannot be read ({0}): look at the disk, or restore a snapshot (plimsoll store snapshot restore)"
    )]
    Disk(#[from] std::io::Error),
    /// The disk failed in a write. Nothing more is accepted until the store is opened again.
    #[error("log cannot be written: {0}")]
    Broken(Arc<str>),
    /// The store was closed.
    #[error("store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn refused(refusal: Refusal, steps: usize) -> Self {
        match steps {
            1 => Self::Precondition { current: refusal.current },
            _ => Self::PreconditionAt { step: refusal.step, current: refusal.current },
        }
    }
}

impl From<Denial> for StoreError {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Unreadable(unreadable) => unreadable.into(),
            other => Self::Denied(other),
        }
    }
}

impl From<Unreadable> for StoreError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Compacted { compacted, current } => Self::Compacted { compacted, current },
            Unreadable::Future { current } => Self::Future { current },
        }
    }
}

/// Why a watch delivers nothing more.
#[derive(Debug, thiserror::Error)]
pub enum WatchEnd {
    /// It fell so far behind that compaction passed it: list again.
    #[error("watch fell behind the last compaction")]
    Lagged,
    /// The store was closed.
    #[error("store is closed")]
    Closed,
    /// History could not be read.
    #[error("watch cannot read history: {0}")]
    Failed(StoreError),
}

impl From<StoreError> for WatchEnd {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Compacted { .. } => Self::Lagged,
            StoreError::Closed => Self::Closed,
            other => Self::Failed(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_one_step_needs_no_number() {
        let refusal = || Refusal { step: 0, current: None };
        assert!(matches!(StoreError::refused(refusal(), 1), StoreError::Precondition { current: None }));
        assert!(matches!(StoreError::refused(refusal(), 2), StoreError::PreconditionAt { step: 0, .. }));
    }
}
