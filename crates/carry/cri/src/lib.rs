//! The container runtime interface (CRI v1): messages, client and server.
//!
//! What enters: the path of a Unix socket. What leaves: a channel to an engine behind it, or an
//! engine served on it. The messages and services are compiled from `proto/runtime.proto` and speak
//! with containerd, CRI-O and crictl. This crate never decides when a call is made.

mod label;
mod socket;

pub use label::*;
pub use socket::{Error, connect, listen, serve};

/// The messages and services of package `runtime.v1`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description, where the explanations stand"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// The largest message either side accepts, in bytes: a list of every container of a full node fits.
pub const MESSAGE_LIMIT: usize = 16 * 1024 * 1024;
