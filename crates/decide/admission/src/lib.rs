//! Who may do what, and what the cluster adds to new objects.
//!
//! What enters: who asks, for what, and the objects that matter for the answer. What leaves: a
//! verdict with its reason, or a changed object; for webhooks, what they are asked and what their
//! answers mean. Nothing here does I/O or reads a clock.

pub mod bootstrap;
mod bootstrap_table;
pub mod claim;
pub mod defaults;
pub mod limit_range;
pub mod matching;
pub mod plugin_config;
pub mod plugins;
pub mod pod_security;
pub mod policy;
pub mod priority;
pub mod quota;
pub mod rbac;
pub mod reconciliation;
pub mod runtime_class;
pub mod service_account;
pub mod strict;
pub mod topology;
pub mod webhook;

/// `system:masters`: its members may do everything.
pub const MASTERS: &str = "system:masters";
