//! What an operator may ask for beyond the defaults: plugins, encryption and an audit log.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::audit::AuditOptions;
use crate::server::StartError;

/// Admission plugins, encryption at rest and the audit log; the default is upstream's.
#[derive(Clone, Debug, Default)]
pub struct Safeguards {
    /// Which admission plugins are on and how they are configured.
    pub admission: AdmissionOptions,
    /// Encryption of stored values; none: they are stored as they are.
    pub encryption: Option<EncryptionOptions>,
    /// What is recorded of requests.
    pub audit: AuditOptions,
}

/// Which admission plugins are on and how they are configured.
#[derive(Clone, Debug, Default)]
pub struct AdmissionOptions {
    /// Plugins that are on beside the default ones.
    pub enable: Vec<String>,
    /// Default plugins that are off.
    pub disable: Vec<String>,
    /// An `AdmissionConfiguration`.
    pub configuration: Option<PathBuf>,
}

/// Encryption of stored values.
#[derive(Clone, Debug)]
pub struct EncryptionOptions {
    /// An `EncryptionConfiguration`.
    pub configuration: PathBuf,
    /// Whether changes of the file count at once or at the next start.
    pub reload: Reload,
}

/// When changes of a file count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// At the next start.
    #[default]
    AtStart,
    /// When they are made.
    Automatic,
}

/// Reads a file of YAML or JSON.
pub(crate) fn document(path: &Path) -> Result<Value, StartError> {
    let text = std::fs::read_to_string(path).map_err(|error| wrong(path, error))?;
    serde_saphyr::from_str(&text).map_err(|error| wrong(path, error))
}

/// A file that means nothing.
pub(crate) fn wrong(path: &Path, cause: impl std::fmt::Display) -> StartError {
    StartError::Configuration { path: path.to_owned(), cause: cause.to_string() }
}
