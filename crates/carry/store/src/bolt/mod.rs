//! A copy of a store as etcd keeps its own state, so that etcd's tools read it and an etcd can be restored from it, and
//! the way back.
//!
//! The file is a database of bbolt: pages of 4 KiB, of which the first two say where the tree of buckets begins
//! (go.etcd.io/bbolt: page.go, db.go); behind it are 32 bytes of SHA-256. The buckets are etcd's: `key` has all
//! versions by revision, `lease` the leases, `meta` how far history is compacted, and of which cluster of ours it is.

mod member;
mod read;
mod sum;
mod write;

use plimsoll_mvcc::Revision;

pub(crate) use member::make;
pub use member::{Membership, MembershipError};
pub(crate) use read::{is_one, read};
pub(crate) use sum::sum;
pub(crate) use write::save;

/// What stands before the elements of a page, and what each element takes beside key and value.
const HEAD: usize = 16;
const ELEMENT: usize = 16;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// An element of a leaf that is a bucket.
const BUCKET: u32 = 1;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Where `meta` names the cluster; etcd leaves alone what it does not know.
const CLUSTER: &[u8] = b"plimsoll";
/// Where `meta` has how far history is compacted.
const COMPACTED: [&[u8]; 2] = [b"finishedCompactRev", b"scheduledCompactRev"];

/// etcd's own record of a lease.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

/// The key of a version in `key`; that of a deletion has a `t` behind it.
fn revision_name(revision: Revision, sub: u32) -> Vec<u8> {
    [&revision.0.to_be_bytes()[..], b"_", &i64::from(sub).to_be_bytes()].concat()
}

/// FNV-1a, 64 bits.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
