//! How every loop of Plimsoll reaches the API: clients, informers, queues, events.
//!
//! What enters is a connection ([`connect_kubeconfig`] over HTTPS, [`from_service`] inside the
//! process). What leaves are shared caches ([`Informer`]) fed by one watch per type, [`WorkQueue`]s
//! that hand each key to one worker at a time, [`EventRecorder`]s that tell users what happened,
//! [`Election`]s by which one of several processes works, and [`Endpoint`]s, single addresses outside the
//! cluster that are asked for JSON.
//! Nothing here decides what a cluster should do.

mod backoff;
mod cache;
mod connect;
mod election;
mod endpoint;
mod events;
mod informer;
mod lines;
mod object;
mod progress;
mod queue;
mod reflector;
#[cfg(test)]
mod testing;

pub use backoff::Backoff;
pub use cache::Delta;
pub use connect::{ConnectError, connect_kubeconfig, connect_kubeconfig_text, from_service};
pub use election::{Election, ElectionError, Term};
pub use endpoint::{Endpoint, EndpointError};
pub use events::{EventRecorder, EventType};
pub use informer::{Filter, Informer, Informers};
pub use object::{MetadataObject, Object, Owner};
pub use progress::Progress;
pub use queue::{Tally, WorkQueue};
