//! Questions over real sockets, in a network namespace because of port 53. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

mod configuration;
mod figures;
mod names;
mod searches;
mod storms;
mod support;
mod upstreams;
