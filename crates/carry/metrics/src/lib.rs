//! What programs tell Prometheus.
//!
//! What enters: registries of metrics, `/proc/self`. What leaves: their text as upstream's components write it, on a port of
//! its own for those who want one.
//! Which metrics there are, and what moves them, is the business of the programs.

mod exposition;
mod histogram;
mod process;
mod serve;

use prometheus_client::registry::Registry;

pub use exposition::write;
pub use histogram::{Histogram, Told};
pub use process::{register as register_process, register_start};
pub use serve::{Page, TEXT, serve};

/// A part of a program that has metrics.
pub trait Tells: Send + Sync {
    /// Its figures as they are now.
    fn registry(&self) -> &Registry;
}
