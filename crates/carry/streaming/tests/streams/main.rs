//! Clients written by hand against a server that upgrades for real, over connections in memory.
#![expect(clippy::unwrap_used, reason = "tests")]

mod channels;
mod command;
mod forward;
mod server;
mod spdy;
