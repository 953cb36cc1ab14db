//! The group `apps`.

mod controller_revision;
mod daemon_set;
mod deployment;
mod replica_set;
mod stateful_set;
pub(crate) mod workload;

use crate::kind::{Kind, Storage};

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    controller_revision::CONTROLLER_REVISION,
    daemon_set::DAEMON_SET,
    deployment::DEPLOYMENT,
    replica_set::REPLICA_SET,
    stateful_set::STATEFUL_SET,
];

const BASE: Kind = Kind { group: "apps", ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "apps", version: "v1" }
}
