//! Who may do what, and what the cluster adds to new objects.
//!
//! What enters: who asks, for what, and the objects that matter for the answer. What leaves: a
//! verdict with its reason, or a changed object. Nothing here does I/O or reads a clock.

pub mod bootstrap;
mod bootstrap_table;
pub mod defaults;
pub mod pod_security;
pub mod priority;
pub mod rbac;
pub mod service_account;

/// `system:masters`: its members may do everything.
pub const MASTERS: &str = "system:masters";
