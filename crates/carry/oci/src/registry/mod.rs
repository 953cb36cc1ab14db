//! Registries: pulling and pushing over the distribution protocol.

mod auth;
mod blob;
mod pull;
mod push;
mod remote;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use auth::Auth;

use crate::digest::Digest;

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// `host[:port]` of registries without TLS; those on this machine need not be named.
    pub plain_http: Vec<String>,
    /// Registries to try before the one that a name says, as `docker.io` → `mirror:5000`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Certificates to trust besides the system's, in PEM.
    pub certificates: Vec<Vec<u8>>,
}

/// What happens to a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is already where it should go.
    Exists,
    /// Bytes are on the way.
    Transfer,
    /// It is being unpacked.
    Unpacking,
    /// It is complete.
    Done,
}

/// One step of a pull or push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The blob.
    pub digest: Digest,
    /// What happens to it.
    pub phase: Phase,
    /// Bytes there by now.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Told about progress, from any thread.
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;
