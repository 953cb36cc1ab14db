//! Which processors containers get for themselves, and on which memory nodes
//! (kubelet: pkg/kubelet/cm/cpumanager, pkg/kubelet/cm/topologymanager).
//!
//! What enters: how the machine's processors hang together ([`Topology`]), pods that are admitted and pods that
//! are gone. What leaves: processors of each container ([`Static`]), or why a pod is not taken ([`Refused`]).
//! Before processors are given, all who have something to give say where it could be ([`hints`]).

mod choice;
mod cpuset;
mod exclusive;
pub mod hints;
mod state;
#[cfg(test)]
mod tests;
mod topology;

pub use cpuset::CpuSet;
pub use exclusive::{Options, Static};
pub use state::{Corrupt, State};
pub use topology::{Place, Topology};

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
    /// What is asked for cannot be had close together.
    #[error("Resources cannot be allocated with Topology locality")]
    Apart,
}

impl Refused {
    /// The reason in the pod's status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooFew { .. } => "UnexpectedAdmissionError",
            Self::PartOfCore { .. } | Self::TooFewCores { .. } => "SMTAlignmentError",
            Self::Apart => "TopologyAffinityError",
        }
    }

    /// The message in the pod's status.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::TooFew { .. } => format!("Allocate failed due to {self}, which is unexpected"),
            _ => self.to_string(),
        }
    }
}
