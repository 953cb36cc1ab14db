//! What memory has not, because this server came later, and etcd still has: pages of lists that were begun before.

use bytes::Bytes;
use plimsoll_mvcc::Revision;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Etcd, feed};
use crate::{Page, StoreError};

impl Etcd {
    /// Asks for the first `limit` keys (0: all) with `prefix` behind `after`, as of a revision. It waits for the answer
    /// as others wait for a disk: few ask for what is so old.
    pub(crate) fn past(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        at: Revision,
    ) -> Result<Page, StoreError> {
        let from: Bytes = match after {
            Some(after) if after >= prefix => [after.as_bytes(), &[0]].concat().into(),
            _ => Bytes::copy_from_slice(prefix.as_bytes()),
        };
        let limit = if limit == 0 { usize::MAX } else { limit };
        let forgotten = || StoreError::Compacted { compacted: at.next(), current: *self.reached.borrow() };
        let threads = |handle: &Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
        let handle = Handle::try_current().ok().filter(threads).ok_or_else(forgotten)?;
        let read = feed::read(&self.members, &self.form, from, feed::end(prefix), limit, at.0);
        let found = tokio::task::block_in_place(|| handle.block_on(read)).map_err(|error| match error {
            StoreError::Cluster(message) if message.contains("revision has been compacted") => forgotten(),
            other => other,
        })?;
        let entries = found.entries.into_iter().map(Arc::new).collect();
        Ok(Page { entries, revision: at, more: found.left > 0, remaining: found.left })
    }
}
