//! What each controller does next.
//!
//! What enters is the observed state of a few objects and the present time; what leaves is a list of
//! [`Action`](action::Action)s. Nothing here reads a clock, a cache or the network: `run/controllers`
//! observes, calls and acts, so every decision can be written down as a table.

pub mod account_secret;
pub mod action;
pub mod attachment;
pub mod autoscale;
pub mod bootstrap_signer;
pub mod bootstrap_token;
pub mod certificates;
pub mod cluster_role_aggregation;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod device_taint_eviction;
pub mod disruption;
pub mod endpoint_slice_mirroring;
pub mod endpoint_slices;
pub mod endpoints;
pub mod ephemeral_volume;
pub mod expectation;
pub mod fingerprint;
pub mod garbage;
pub mod history;
pub mod ipam;
pub mod job;
pub mod leftover;
pub mod legacy_tokens;
pub mod load_balancer;
pub mod local_volume;
pub mod namespace;
pub mod node;
pub mod node_affinity;
pub mod node_lifecycle;
pub mod node_ttl;
pub mod owner;
pub mod persistent_volume;
pub mod pod;
pub mod pod_gc;
pub mod proportional;
pub mod protection;
pub mod replicas;
pub mod resource_claim;
pub mod service;
pub mod service_account;
pub mod service_address;
pub mod service_cidr;
pub mod share;
pub mod stateful_set;
pub mod storage_migration;
pub mod taint_eviction;
pub mod template;
#[cfg(test)]
mod testing;
pub mod trigger_time;
pub mod ttl_after_finished;
pub mod volume_expansion;
