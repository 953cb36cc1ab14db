//! The data plane with played pods and clients on loopback.

#![expect(clippy::unwrap_used, reason = "tests")]

mod affinity;
mod bytes;
mod following;
mod framing;
mod gateways;
mod grpc;
mod limits;
/// The API in memory of the controllers' tests.
#[expect(dead_code, reason = "clients are made of what is put in front of it")]
#[path = "../../../controllers/src/testing.rs"]
mod memory;
mod metrics;
mod passing;
mod stage;
mod swapping;
mod tls;
