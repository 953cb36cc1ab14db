//! The pod specification, which pods and all workload templates share.

pub(crate) mod default;
pub mod qos;
