//! Starts clusters for tests and looks at them as users do.
//!
//! What enters: the program `plimsoll`, built beside the tests, and the real `kubectl` in `PATH`.
//! What leaves: a [`Cluster`] in a directory of its own, [`Namespace`]s in it, and [`Machine`]
//! inventories that show what a cluster left behind. Whoever drops a cluster stops it.
//!
//! Nothing here sleeps for luck: every wait names a condition and a deadline, and tells what it saw.

mod cluster;
mod command;
mod http;
mod machine;
mod namespace;
mod runner;

pub use cluster::{Cluster, built, program};
pub use command::{Background, Outcome, found, run};
pub use http::{Response, get, get_from};
pub use machine::Machine;
pub use namespace::Namespace;
pub use runner::{Case, main, skip};
