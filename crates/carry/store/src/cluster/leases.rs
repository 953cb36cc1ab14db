//! Leases of what deletes itself: keys that go at about the same time share one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use plimsoll_etcd::etcdserverpb::LeaseGrantRequest;
use plimsoll_etcd::etcdserverpb::lease_client::LeaseClient;
use plimsoll_mvcc::Step;
use tonic::Status;

use super::connection::{Members, Repeat};
use super::transaction::lifetime;

/// How many keys share a lease at most, as upstream's.
const KEYS: usize = 1000;
/// A lease is used for this part of the lifetime it was made for, and lasts as much longer.
const PART: i64 = 20;
/// At most.
const LONGEST: i64 = 60;

/// The leases in use, by lifetimes in seconds.
#[derive(Default)]
pub(super) struct Leases {
    leases: Mutex<HashMap<i64, Lease>>,
}

#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    until: Instant,
    keys: usize,
}

impl Leases {
    /// Leases for all lifetimes of a transaction.
    pub(super) async fn of(&self, members: &Members, steps: &[Step]) -> Result<HashMap<i64, i64>, Status> {
        let mut found = HashMap::new();
        for seconds in steps.iter().filter_map(lifetime) {
            let id = match self.known(seconds) {
                Some(id) => id,
                None => self.grant(members, seconds).await?,
            };
            found.insert(seconds, id);
        }
        Ok(found)
    }

    /// A lease is gone; others are made.
    pub(super) fn forget(&self) {
        self.leases().clear();
    }

    fn known(&self, seconds: i64) -> Option<i64> {
        let mut leases = self.leases();
        let lease = leases.get_mut(&seconds)?;
        lease.keys += 1;
        (lease.keys <= KEYS && Instant::now() < lease.until).then_some(lease.id)
    }

    async fn grant(&self, members: &Members, seconds: i64) -> Result<i64, Status> {
        let longer = (seconds / PART).clamp(1, LONGEST);
        let request = LeaseGrantRequest { ttl: seconds.saturating_add(longer), id: 0 };
        let grant = |wire| async move { LeaseClient::new(wire).lease_grant(request).await };
        // One that was granted in vain ends by itself.
        let id = members.ask(Repeat::Always, grant).await?.id;
        let until = Instant::now() + Duration::from_secs(longer.unsigned_abs());
        self.leases().insert(seconds, Lease { id, until, keys: 1 });
        Ok(id)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<i64, Lease>> {
        self.leases.lock().expect("nothing panics while it holds the leases")
    }
}
