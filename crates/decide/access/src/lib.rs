//! Who asks, and what nodes and remote authorizers let him do.
//!
//! What enters: credentials as they were sent (tokens, headers, verified claims), configuration
//! documents, and the objects that matter for an answer. What leaves: a [`User`], a [`Decision`]
//! with its reason, or a refusal. Nothing here does I/O, checks a signature or reads a clock;
//! roles and bindings are decided in `plimsoll-admission`.

pub mod access_review;
pub mod account_token;
pub mod authentication_config;
pub mod authorization_config;
pub mod bootstrap_token;
mod document;
pub mod expression;
pub mod front_proxy;
pub mod impersonation;
pub mod issuer;
mod jwt_authenticator;
pub mod node;
pub mod token_file;
pub mod token_review;
mod user;

pub use document::seconds;
pub use user::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

/// What one authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may be done, for this reason.
    Allow(String),
    /// It must not be done, whatever other authorizers say.
    Deny(String),
    /// Others may decide; why this one did not.
    NoOpinion(String),
}
