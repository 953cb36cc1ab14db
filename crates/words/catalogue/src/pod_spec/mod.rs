//! The pod specification, which pods and all workload templates share.

mod containers;
pub(crate) mod default;
mod dns;
mod environment;
pub(crate) mod placement;
mod probes;
pub mod qos;
pub(crate) mod resize;
pub(crate) mod resources;
mod security;
pub(crate) mod update;
pub(crate) mod validate;
pub(crate) mod volumes;
