//! What can go wrong, in the words of people who work with images.

use std::io;

use crate::digest::Digest;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on images failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not an image name.
    #[error("invalid reference format: {reason}: {name:?}")]
    Name {
        /// The text that was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The text is not a SHA-256 digest.
    #[error("invalid digest {text:?}: want sha256: and 64 hexadecimal digits")]
    Digest {
        /// The text that was given.
        text: String,
    },
    /// No image in this store has that name or id.
    #[error("no such image: {0}")]
    NotFound(String),
    /// Several images start with these digits.
    #[error("image id {0} is ambiguous: give more digits")]
    Ambiguous(String),
    /// The image may not be removed.
    #[error("cannot remove image {name}: {reason}")]
    InUse {
        /// The name or id that was given.
        name: String,
        /// Who holds it.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// Bytes are not what their address says.
    #[error("{what}: content has digest {actual}, expected {expected}")]
    Mismatch {
        /// What was read.
        what: String,
        /// The address it was asked by.
        expected: Digest,
        /// The address of what came.
        actual: Digest,
    },
    /// A document (manifest, configuration, index) does not follow its format.
    #[error("invalid {what}: {reason}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer cannot be unpacked.
    #[error("layer entry {path:?}: {reason}")]
    Layer {
        /// Path of the entry in the layer.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is larger than the limit that protects the node.
    #[error("{what} exceeds the limit of {limit} {unit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The limit.
        limit: u64,
        /// What the limit counts.
        unit: &'static str,
    },
    /// An archive holds no image that can be used here.
    #[error("archive {0}")]
    Archive(String),
    /// The registry does not know the manifest.
    #[error("manifest for {0} not found: manifest unknown")]
    ManifestUnknown(String),
    /// The registry wants other credentials.
    #[error("access to {name} denied: unauthorized: {reason}")]
    Unauthorized {
        /// The image asked for.
        name: String,
        /// What the registry answered.
        reason: String,
    },
    /// The registry cannot be reached.
    #[error("registry {registry} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        registry: String,
        /// Why, such as `connection refused`.
        reason: String,
    },
    /// The registry answered with an error.
    #[error("registry {registry}: {reason}")]
    Registry {
        /// Host and port.
        registry: String,
        /// What it answered.
        reason: String,
    },
    /// No entry of a multi-platform image fits this machine.
    #[error("no matching manifest for {wanted} in {name}: it offers {offered}")]
    Platform {
        /// The image asked for.
        name: String,
        /// This machine's platform.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// A Dockerfile cannot be understood.
    #[error("dockerfile line {line}: {reason}")]
    Dockerfile {
        /// Line of the instruction, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A step of a build failed.
    #[error("step {step}: {reason}")]
    Step {
        /// The instruction.
        step: String,
        /// What went wrong.
        reason: String,
    },
}

impl Error {
    pub(crate) fn document(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Document { what: what.into(), reason: reason.to_string() }
    }
}

/// Adds what was being done to an answer of the operating system.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            unwrap_own(error.into()).unwrap_or_else(|source| Error::Io { what: what(), source })
        })
    }
}

/// Readers may only fail with `io::Error`: an [`Error`] inside one is taken out again.
fn unwrap_own(error: io::Error) -> std::result::Result<Error, io::Error> {
    error.downcast::<Error>()
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        }
    }
}
