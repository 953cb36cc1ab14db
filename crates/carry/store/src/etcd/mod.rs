//! The etcd v3 API over a store.
//!
//! What enters: requests of etcd's clients (etcdctl, a foreign API server). What leaves: etcd's answers, in etcd's
//! words. Keys of clients are bytes and those of the store text: each byte is the character of its number
//! (`key`), so keys of ASCII are themselves, and the order is the same.
//!
//! The store has one member, which is always its leader. Nobody but the owner of the files may have everything, so
//! connections over TCP show a certificate, unless whoever starts it says otherwise for this machine (`serve`).

mod auth;
mod authority;
mod cluster;
mod convert;
mod health;
mod http;
mod key;
mod kv;
mod lease;
mod maintenance;
mod metrics;
mod refusal;
mod serve;
mod txn;
mod watch;
mod watcher;

use std::sync::Arc;

use plimsoll_etcd::etcdserverpb::ResponseHeader;
use plimsoll_metrics::Histogram;
use plimsoll_mvcc::Revision;
use sha2::{Digest, Sha256};

use crate::Store;

pub(crate) use key::{bytes as key_bytes, text as key_text};
pub use serve::{Listen, ListenError, Tls};

/// The version of etcd whose API this is.
pub const VERSION: &str = "3.5.21";
/// The version that members of a cluster agree on.
const CLUSTER_VERSION: &str = "3.5.0";
/// Asks for a snapshot in the form of `plimsoll store` (metadata of the request, with any value); without it, it has
/// that of etcd.
pub const OWN_FORM: &str = "plimsoll-snapshot";
/// How often leaders changed: there is one, and was no other.
const TERM: u64 = 1;
/// How long a request may be, in bytes (etcd: `--max-request-bytes`).
const REQUEST: usize = 3 << 19;
/// How many operations a transaction may have (etcd: `--max-txn-ops`).
const OPERATIONS: usize = 128;

/// A store as the only member of a cluster of etcd. Clones are the same one.
#[derive(Clone)]
pub struct Etcd {
    pub(super) store: Store,
    pub(super) member: Arc<Member>,
}

/// What the member tells of itself.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) cluster: u64,
    pub(super) id: u64,
    pub(super) name: String,
    /// How snapshots name the cluster.
    pub(super) snapshots: String,
    pub(super) urls: Vec<String>,
    /// For how long leases were granted.
    pub(super) lifetimes: Histogram,
}

impl Etcd {
    /// A member called `name` of the cluster that snapshots call `cluster`, reached at `urls`.
    #[must_use]
    pub fn new(store: Store, name: &str, cluster: &str, urls: Vec<String>) -> Self {
        let number = |text: String| {
            let digest = Sha256::digest(text.as_bytes());
            digest.first_chunk::<8>().map_or(1, |bytes| u64::from_be_bytes(*bytes))
        };
        let member = Member {
            cluster: number(format!("cluster {cluster}")),
            id: number(format!("member {cluster}")),
            name: name.to_owned(),
            snapshots: cluster.to_owned(),
            urls,
            lifetimes: metrics::lifetimes(),
        };
        Self { store, member: Arc::new(member) }
    }

    fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: self.member.cluster,
            member_id: self.member.id,
            revision: revision.0,
            raft_term: TERM,
        })
    }

    fn header_now(&self) -> Option<ResponseHeader> {
        self.header(self.store.revision())
    }
}
