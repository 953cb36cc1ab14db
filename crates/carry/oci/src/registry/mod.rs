//! Registries: pulling and pushing over the distribution protocol.

mod blob;
mod pull;
mod push;
mod remote;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::Digest;

/// Who asks a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    #[default]
    Anonymous,
    /// A user with a password.
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: String,
    },
    /// A token of the registry's own.
    Bearer(String),
}

impl std::fmt::Debug for Auth {
    /// Secrets do not reach the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Basic { user, .. } => write!(f, "Basic({user})"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

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
