//! Starts clusters for tests and looks at them as users do.
//!
//! What enters: the program `plimsoll`, built beside the tests, and the real `kubectl` in `PATH`.
//! What leaves: a [`Cluster`] in a directory of its own, [`Namespace`]s in it, and [`Machine`]
//! inventories that show what a cluster left behind. Whoever drops a cluster stops it. A node can also be an
//! [`Agent`] of its own on a [`Containerd`], or a [`Worker`] on one of several machines ([`Hosts`]).
//!
//! Nothing here sleeps for luck: every wait names a condition and a deadline, and tells what it saw.

mod agent;
mod cluster;
mod command;
mod containerd;
mod hosts;
mod http;
mod load;
mod machine;
mod namespace;
mod ranges;
mod runner;

pub use agent::Agent;
pub use cluster::{Cluster, built, program};
pub use command::{Background, Outcome, found, run};
pub use containerd::Containerd;
pub use hosts::{Host, Hosts, Worker};
pub use http::{Response, get, get_from};
pub use load::{Pace, Tally, asked_while};
pub use machine::Machine;
pub use namespace::Namespace;
pub use ranges::Block;
pub use runner::{Case, main, skip};
