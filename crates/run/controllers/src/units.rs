//! How each controller is wired: what it looks at, and which decision it calls.

pub(crate) mod access;
pub(crate) mod attachment;
pub(crate) mod autoscale;
pub(crate) mod certificates;
pub(crate) mod cron_job;
pub(crate) mod daemon_set;
pub(crate) mod deployment;
pub(crate) mod disruption;
pub(crate) mod endpoints;
pub(crate) mod garbage;
pub(crate) mod indexes;
pub(crate) mod job;
pub(crate) mod local_volume;
mod metrics;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod persistent_volume;
pub(crate) mod proportional;
pub(crate) mod protection;
pub(crate) mod replicaset;
pub(crate) mod replication;
pub(crate) mod resource_claim;
mod scale;
pub(crate) mod service_account;
pub(crate) mod service_range;
pub(crate) mod stateful_set;
pub(crate) mod storage_migration;
