//! Which processors containers get for themselves, and on which memory nodes
//! (kubelet: pkg/kubelet/cm/cpumanager, pkg/kubelet/cm/memorymanager, pkg/kubelet/cm/topologymanager).
//!
//! What enters: how the machine's processors hang together ([`Topology`]) and what its memory nodes have
//! ([`memory::Banks`]), pods that are admitted and pods that are gone. What leaves: processors and memory of each
//! container ([`Static`], [`memory::Memory`]), or why a pod is not taken ([`Refused`]). Before anything is given,
//! all who have something to give say where it could be ([`hints`]); [`Allocator`] goes from one to the other.

mod allocator;
mod balance;
mod choice;
#[cfg(test)]
mod choice_tests;
mod cpuset;
mod exclusive;
pub mod hints;
pub mod memory;
mod state;
#[cfg(test)]
mod tests;
mod topology;

pub use allocator::{Allocator, Tally};
pub(crate) use choice::combinations;
pub use cpuset::CpuSet;
pub use exclusive::{Options, Static, whole_cpus};
pub use state::{Corrupt, State};
pub use topology::{Place, Topology};

use k8s_openapi::api::core::v1::PodSpec;

use crate::qos::{Class, class};

/// Why a pod does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Processors are given away.
    #[error("not enough cpus available to satisfy request: requested={requested}, available={available}")]
    TooFew {
        /// How many were asked for.
        requested: usize,
        /// How many are free.
        available: usize,
    },
    /// Only whole cores are given, and parts of one are asked for.
    #[error("SMT Alignment Error: requested {requested} cpus not multiple cpus per core = {per_core}")]
    PartOfCore {
        /// How many were asked for.
        requested: usize,
        /// How many a core has.
        per_core: usize,
    },
    /// Not as many whole cores are free.
    #[error(
        "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = {available}, \
         requested CPUs = {requested}, CPUs per core = {per_core}"
    )]
    TooFewCores {
        /// How many are free in whole cores.
        available: usize,
        /// How many were asked for.
        requested: usize,
        /// How many a core has.
        per_core: usize,
    },
    /// Memory cannot be given.
    #[error("{0}")]
    Memory(String),
    /// What is asked for cannot be had close together.
    #[error("Resources cannot be allocated with Topology locality")]
    Apart,
}

impl Refused {
    /// The reason in the pod's status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooFew { .. } | Self::Memory(_) => "UnexpectedAdmissionError",
            Self::PartOfCore { .. } | Self::TooFewCores { .. } => "SMTAlignmentError",
            Self::Apart => "TopologyAffinityError",
        }
    }

    /// The message in the pod's status.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::TooFew { .. } | Self::Memory(_) => {
                format!("Allocate failed due to {self}, which is unexpected")
            }
            _ => self.to_string(),
        }
    }
}

/// Whether containers of a pod get things for themselves: what is set for a pod as a whole belongs to nobody alone.
fn pinned(spec: &PodSpec) -> bool {
    let resources = spec.resources.as_ref();
    let of_all = resources.is_some_and(|it| it.requests.is_some() || it.limits.is_some());
    !of_all && class(spec) == Class::Guaranteed
}

/// Reads the value of an option as Go does.
fn truth(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!(
            "bad value for option {name:?}: strconv.ParseBool: parsing {value:?}: invalid syntax"
        )),
    }
}
