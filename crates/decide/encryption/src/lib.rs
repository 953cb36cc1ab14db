//! Encryption of stored values.
//!
//! What enters: an `EncryptionConfiguration` (apiserver.config.k8s.io/v1), the path of a value, the
//! value and random bytes. What leaves: the value as it is stored, or a stored value as it was, both
//! in upstream's format (`k8s:enc:aesgcm:v1:key1:…`). Nothing here reads a file or makes randomness.

mod cipher;
mod config;
mod provider;
mod rules;

pub use config::ConfigError;
pub use provider::{OpenError, Opened};
pub use rules::{Chain, Rules};
