//! The data plane with played pods and clients on loopback.

#![expect(clippy::unwrap_used, reason = "tests")]

mod gateways;
mod limits;
mod metrics;
mod passing;
mod stage;
mod swapping;
mod tls;
