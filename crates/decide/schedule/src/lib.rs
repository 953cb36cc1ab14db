//! Which node a pod runs on.
//!
//! What enters: nodes, bound pods, namespaces and storage as they change ([`Snapshot`]), and one pending
//! pod after the other ([`PodInfo`]). What leaves: a node's name, or a [`Diagnosis`] that says in
//! upstream's words which nodes failed which check, and a [`Preemption`] where the end of others makes room. [`Queue`] says which pod is next. Nothing here
//! does I/O or reads a clock.
//!
//! Two ideas make it quick. Pods with equal [`Needs`] form a class whose verdict on each node is
//! kept, and only nodes that changed since are looked at again. Affinity and spread count pods per
//! node as they come and go, so that a decision adds numbers instead of looking at pods.

mod budget;
mod class;
pub mod configuration;
mod devices;
mod diagnosis;
pub mod extender;
mod hint;
mod mounts;
mod needs;
mod node;
mod plugin;
mod plugins;
mod pod;
mod preemption;
mod profile;
mod queue;
mod requests;
mod reservation;
mod residents;
mod scheduler;
mod selectors;
mod snapshot;
mod storage;
mod terms;
mod tolerate;
mod topology;
mod volumes;
mod why;

pub use budget::Budget;
pub use devices::Devices;
pub use diagnosis::{Attempt, Diagnosis, Freed};
pub use hint::Change;
pub use needs::{HostPort, Needs};
pub use plugin::{Plugin, Point};
pub use plugins::dynamic_resources::Booking;
pub use pod::PodInfo;
pub use preemption::Preemption;
pub use profile::{DEFAULT_SCHEDULER, Plugins, Profile};
pub use queue::{Backoff, Queue};
pub use requests::Requests;
pub use reservation::{Progress, Reservation};
pub use residents::{Misfit, Residents, Source};
pub use scheduler::{Decision, Scheduler};
pub use selectors::Selectors;
pub use snapshot::Snapshot;
pub use storage::Storage;
pub use why::{Cause, Explanation, Verdict};
