//! API priority and fairness.
//!
//! What enters: the objects FlowSchema and PriorityLevelConfiguration (flowcontrol.apiserver.k8s.io/v1),
//! what is known of a request, and the time. What leaves: the schema and the level of the request
//! ([`Schema`], [`Level`]), how many seats it needs ([`width`]), how many each level has ([`seats`]), and
//! whether it runs, waits or is turned away ([`Queues`]). Nothing here waits, reads a clock or counts threads.

mod deal;
mod defaults;
mod demand;
mod level;
mod occupancy;
mod queues;
mod schema;
pub mod seats;
pub mod width;

pub use deal::hash;
pub use defaults::{AUTO_UPDATE, levels, maintained, mandatory, schemas};
pub use demand::Demand;
pub use level::{Level, LevelKind, Response};
pub use occupancy::{Occupancy, Usage};
pub use queues::{Arrival, Counts, QueueState, Queues, Refusal, Seat};
pub use schema::{Digest, Distinguisher, Schema};
