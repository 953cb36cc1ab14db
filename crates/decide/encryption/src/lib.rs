//! Encryption of stored values.
//!
//! What enters: an `EncryptionConfiguration` (apiserver.config.k8s.io/v1), the path of a value, the
//! value and random bytes. What leaves: the value as it is stored, or a stored value as it was, both
//! in upstream's format (`k8s:enc:aesgcm:v1:key1:…`). Nothing here reads a file, makes randomness or asks a key
//! management service: what services know is asked of [`kms::Seeds`].

mod cipher;
mod config;
pub mod kms;
mod provider;
mod rules;

pub use config::{ConfigError, Connect};
pub use provider::{OpenError, Opened};
pub use rules::{Chain, Rules};
