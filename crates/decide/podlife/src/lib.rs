//! The life of a pod as a state machine.
//!
//! What enters is what happened ([`Input`]): the pod as the API wants it, what the container engine
//! says there is, the ends of things that were begun, probe results, time. What leaves is what to do
//! next ([`Effect`]) and the status to show ([`Life::status`]). The node agent carries both to and fro.
//!
//! Beside the machine stand the pure questions of a pod's life: quality of service ([`qos`]), cgroup
//! names and values ([`cgroup`]), node pressure and eviction ([`eviction`]), unused images ([`collection`]),
//! environment ([`env`]), names ([`names`]), what volumes are ([`volume`]) and their files ([`projection`]),
//! security ([`security`]), what a node takes at all ([`acceptance`]), user ids ([`user_range`]), resources that
//! change ([`resize`]), processors of one's own ([`placement`]), restarts ([`restart`]), traffic at the end
//! ([`traffic`]), rotation of logs ([`rotation`]), static pods ([`static_pod`]), the end of a node ([`shutdown`]),
//! the settings of the agent ([`configuration`]), and nodes and pods that are only told of ([`simulated`]).
//!
//! Nothing here reads a clock, a file or a socket: time is an argument.

pub mod acceptance;
pub mod certificate;
pub mod cgroup;
pub mod claim;
pub mod collection;
mod conditions;
pub mod configuration;
pub mod device;
mod effect;
pub mod env;
mod env_file;
pub mod eviction;
#[cfg(test)]
mod fault_tests;
pub mod few;
pub mod field;
mod hash;
pub mod image;
pub mod kernel_flags;
mod life;
pub mod names;
pub mod node_log;
pub mod observed;
pub mod oom;
mod patch;
pub mod placement;
mod plan;
pub mod preemption;
pub mod probe;
pub mod projection;
pub mod qos;
pub mod rate;
pub mod resize;
pub mod restart;
pub mod rotation;
pub mod security;
mod service_links;
pub mod shutdown;
pub mod simulated;
pub mod spec;
pub mod static_pod;
mod status;
pub mod sysctl;
#[cfg(test)]
mod tests;
pub mod traffic;
mod trust;
pub mod user_range;
pub mod volume;

pub use effect::{Effect, Event, ImageError, Input, Signal, StartError, Verdict};
pub use hash::hash;
pub use life::{Life, Node};
pub use patch::status_patch;
pub use service_links::service_links;
