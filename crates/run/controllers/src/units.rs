//! How each controller is wired: what it looks at, and which decision it calls.

pub(crate) mod deployment;
pub(crate) mod indexes;
pub(crate) mod replicaset;
pub(crate) mod replication;
