//! Webhooks: programs that change requests or have the last word about them.
//!
//! What enters: webhook configurations, requests, answers as bytes. What leaves: [`Hook`]s in the
//! order of their calls, the bytes that a webhook is sent ([`Review`]), and what its answer comes to
//! ([`Verdict`]) in upstream's words (apiserver: pkg/admission/plugin/webhook, v1.37). Calling is
//! the API server's part.

mod failure;
mod hook;
mod location;
mod reinvocation;
mod review;
mod verdict;

pub use failure::{Failure, no_dry_run, server_answer};
pub use hook::{Condition, FailurePolicy, Hook, SideEffects, hooks};
pub use location::{Location, Place};
pub use reinvocation::Reinvocation;
pub use review::{Asker, Review, ReviewVersion, Versioned};
pub use verdict::{Mutation, Verdict};
