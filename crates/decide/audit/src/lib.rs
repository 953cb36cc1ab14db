//! The audit log (upstream: staging/src/k8s.io/apiserver/pkg/audit, v1.37).
//!
//! What enters: a `Policy` of audit.k8s.io/v1 and what a request is about. What leaves: how much of the
//! request is recorded at which stages, and the record as an `Event` of the same group. Nothing here
//! reads a clock or writes anywhere.

mod event;
mod policy;

pub use event::{
    AuthenticationMetadata, Event, ObjectReference, UserInfo, user_agent, without_managed_fields,
};
pub use policy::{Attributes, Decision, Level, Policy, PolicyError, Stage};
