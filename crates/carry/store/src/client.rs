//! What clients of etcd ask of a store, beside what the API server does: spans of keys, transactions of several
//! operations at one revision, and leases.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_mvcc::{Done, Entry, Lease, LeaseTally, Operation, Query, Revision, Span, Txn, TxnDone};

use crate::shared::Shared;
use crate::writer::{Answer, Work, now};
use crate::{Store, StoreError, Watch, bolt};

/// The keys of a span that were asked for.
#[derive(Debug)]
pub struct Listed {
    /// They, in their order.
    pub entries: Vec<Arc<Entry>>,
    /// The limit left out others.
    pub more: bool,
    /// How many keys the span has.
    pub count: usize,
}

/// What an operation led to.
#[derive(Debug)]
pub enum Answered {
    /// What was read.
    Range(Listed),
    /// The version that was replaced.
    Put(Option<Arc<Entry>>),
    /// What is gone.
    Delete(Vec<Arc<Entry>>),
    /// A transaction within the transaction: whether its comparisons held, and its operations.
    Txn(bool, Vec<(Revision, Answered)>),
}

impl Store {
    /// Reads keys; the revision of the store as well.
    ///
    /// # Errors
    /// When the revision that is asked for was compacted or lies in the future, or the disk fails.
    pub fn query(&self, query: &Query) -> Result<(Revision, Listed), StoreError> {
        let shared = self.shared();
        let (revision, found) = {
            let state = shared.read();
            (state.revision(), state.find(&query.span, query.reach(), query.at)?)
        };
        Ok((revision, list(shared, query, found, revision)?))
    }

    /// How many keys a span has, and the revision of the store.
    ///
    /// # Errors
    /// When the revision that is asked for was compacted or lies in the future.
    pub fn query_count(&self, query: &Query) -> Result<(Revision, usize), StoreError> {
        let state = self.shared().read();
        Ok((state.revision(), state.find(&query.span, 0, query.at)?.count))
    }

    /// Does all operations of a transaction at one revision, or none. It is durable when this returns; cancelling
    /// does not undo it. Which branch was taken, and the revision behind it and behind each operation.
    ///
    /// # Errors
    /// When an operation is not possible, or there is no room.
    pub async fn transact(&self, txn: Txn) -> Result<(Revision, Answered), StoreError> {
        match self.ask(Work::Txn(txn)).await? {
            Answer::Txn(done) => {
                let revision = done.revision;
                Ok((revision, self.answer(done)?))
            }
            _ => Err(StoreError::Closed),
        }
    }

    fn answer(&self, done: TxnDone) -> Result<Answered, StoreError> {
        let each = done.done.into_iter().map(|(revision, done)| {
            let answered = match done {
                Done::Range(query, found) => Answered::Range(list(self.shared(), &query, found, revision)?),
                Done::Put(previous) => Answered::Put(previous),
                Done::Delete(gone) => Answered::Delete(gone),
                Done::Txn(inner) => self.answer(inner)?,
            };
            Ok((revision, answered))
        });
        Ok(Answered::Txn(done.succeeded, each.collect::<Result<_, StoreError>>()?))
    }

    /// Does one operation; see [`Store::transact`].
    ///
    /// # Errors
    /// When it is not possible, or there is no room.
    pub async fn operate(&self, operation: Operation) -> Result<(Revision, Answered), StoreError> {
        match self.transact(Txn::of(operation)).await? {
            (_, Answered::Txn(_, mut answers)) => answers.pop().ok_or(StoreError::Closed),
            other => Ok(other),
        }
    }

    /// The changes of a span from a revision on, or from now on. From the revision that history was compacted to,
    /// what is left of it.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when some of them are gone.
    pub fn follow(&self, span: Span, from: Option<Revision>) -> Result<Watch, StoreError> {
        match from {
            Some(from) if from == self.compacted() => Watch::start_at_compacted(self.shared(), span, from),
            from => Watch::start(self.shared(), span, from.map(|from| Revision(from.0 - 1))),
        }
    }

    /// A sum of everything.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn hash(&self) -> Result<u32, StoreError> {
        let shared = Arc::clone(self.shared());
        tokio::task::spawn_blocking(move || shared.disk().hash()).await.map_err(|_| StoreError::Closed)?
    }

    /// The sum of all versions up to a revision, or the newest, that etcd has of the same; the revision, and up to
    /// where history is gone.
    ///
    /// # Errors
    /// When the revision was compacted or lies in the future, or the disk fails.
    pub async fn hash_versions(
        &self,
        upto: Option<Revision>,
    ) -> Result<(u32, Revision, Revision), StoreError> {
        let shared = Arc::clone(self.shared());
        let hash = move || {
            let (upto, compacted) = {
                let state = shared.read();
                state.find(&Span::key(""), 0, upto)?;
                (upto.unwrap_or(state.revision()), state.compacted())
            };
            Ok((bolt::sum(shared.disk(), compacted, upto)?, upto, compacted))
        };
        tokio::task::spawn_blocking(hash).await.map_err(|_| StoreError::Closed)?
    }

    /// Writes everything that is there at this moment to a file of the form of etcd, and returns how long it is.
    /// Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// When a disk fails.
    pub async fn save_for_etcd(&self, path: &Path, cluster: &str) -> Result<u64, StoreError> {
        let (shared, path, cluster) = (Arc::clone(self.shared()), path.to_owned(), cluster.to_owned());
        let save = move || bolt::save(shared.disk(), &path, &cluster);
        tokio::task::spawn_blocking(save).await.map_err(|_| StoreError::Closed)?
    }

    /// A name for a file of this store, on its disk, that nobody else has.
    pub(crate) fn scratch(&self, what: &str) -> PathBuf {
        self.shared().disk().scratch(what)
    }

    /// Makes a lease; what it became, because too short a time is made longer.
    ///
    /// # Errors
    /// When there is one of this number, or no room.
    pub async fn grant(&self, id: i64, ttl: i64) -> Result<Lease, StoreError> {
        match self.ask(Work::Grant(id, ttl)).await? {
            Answer::Granted(lease) => Ok(lease),
            _ => Err(StoreError::Closed),
        }
    }

    /// Ends a lease; what hangs on it is deleted. The revision behind it.
    ///
    /// # Errors
    /// When there is none of this number.
    pub async fn revoke(&self, id: i64) -> Result<Revision, StoreError> {
        match self.ask(Work::Revoke(id)).await? {
            Answer::Revoked(revision) => Ok(revision),
            _ => Err(StoreError::Closed),
        }
    }

    /// Lets a lease live its whole time from now on: so many seconds, if there is such a lease.
    #[must_use]
    pub fn renew(&self, id: i64) -> Option<i64> {
        self.shared().write().leases_mut().renew(id, now())
    }

    /// A lease, and how many seconds it has left.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<(Lease, i64)> {
        let lease = self.shared().read().leases().get(id).cloned()?;
        let remaining = lease.remaining(now());
        Some((lease, remaining))
    }

    /// How many leases came and went since the store was opened.
    #[must_use]
    pub fn lease_tally(&self) -> LeaseTally {
        self.shared().read().leases().tally()
    }

    /// The numbers of all leases, as etcd lists them: those that end first come first.
    #[must_use]
    pub fn leases(&self) -> Vec<i64> {
        self.shared().read().leases().due(u64::MAX, usize::MAX)
    }
}

fn list(
    shared: &Shared,
    query: &Query,
    found: plimsoll_mvcc::Found,
    revision: Revision,
) -> Result<Listed, StoreError> {
    let count = found.count;
    let entries = shared.read_found(found, query.at.unwrap_or(revision))?;
    let (entries, more) = query.arrange(entries);
    Ok(Listed { entries, more, count })
}
