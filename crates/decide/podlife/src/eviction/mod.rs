//! Node pressure: when the node runs short of something, what is done about it and who goes first
//! (kubelet: pkg/kubelet/eviction).
//!
//! What enters: thresholds as users write them ([`threshold`]), what was measured ([`Figures`],
//! [`PodUse`]), time. What leaves: the node's conditions and the resource that is to be reclaimed
//! ([`pressure`]), pods in the order of their eviction ([`rank`]), pods above their own limits
//! ([`limits`]), what an evicted pod is told ([`message`]) and which pods a node under pressure takes
//! ([`admission`]).

pub mod admission;
pub mod limits;
pub mod message;
pub mod pressure;
pub mod rank;
mod signal;
pub mod threshold;
mod usage;

pub use signal::{Condition, Resource, Signal};
pub use usage::{ContainerUse, DiskUse, Figure, Figures, PodUse};

/// The reason of evicted pods and of their events.
pub const REASON: &str = "Evicted";
/// Seconds that a pod has to end when a hard threshold or a limit of its own is crossed.
pub const IMMEDIATE: i64 = 1;
