//! What is recorded, and where the records go.

use std::path::PathBuf;
use std::time::Duration;

/// The audit log; off by default.
#[derive(Clone, Debug, Default)]
pub struct AuditOptions {
    /// A `Policy` of audit.k8s.io/v1; nothing is recorded without one.
    pub policy: Option<PathBuf>,
    /// Events as lines of JSON in a file.
    pub log: Option<AuditLog>,
    /// Events for a server.
    pub webhook: Option<AuditWebhook>,
}

/// Whether requests wait until their events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMode {
    /// No: events wait in a buffer, and are lost when it is full.
    Batch,
    /// For some seconds at most; an event that cannot be kept is lost.
    Blocking,
    /// For some seconds at most; a request whose first event cannot be kept is refused.
    BlockingStrict,
}

/// Whether old files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// They stay as they are.
    #[default]
    None,
    /// With gzip.
    Gzip,
}

/// What becomes of events that are large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Bytes of an event; one that is larger loses the bodies, and is lost if it is larger still.
    pub event: usize,
    /// Bytes of events that are sent together.
    pub batch: usize,
}

/// Events as lines of JSON in a file.
#[derive(Clone, Debug)]
pub struct AuditLog {
    /// The file; `-` is standard output.
    pub path: PathBuf,
    /// Whether requests wait.
    pub mode: AuditMode,
    /// How many events may wait.
    pub buffer: usize,
    /// Megabytes after which a new file is begun; 0 means 100.
    pub max_size: u64,
    /// Days after which old files are deleted; 0 means never.
    pub max_age: u64,
    /// How many old files are kept; 0 means all.
    pub max_backups: usize,
    /// Whether old files are compressed.
    pub compression: Compression,
    /// Nothing: events are as large as they are.
    pub truncation: Option<Truncation>,
}

/// Events for a server.
#[derive(Clone, Debug)]
pub struct AuditWebhook {
    /// The file, in the format of kubeconfig, that tells where it is.
    pub configuration: PathBuf,
    /// Whether requests wait.
    pub mode: AuditMode,
    /// How many events may wait.
    pub buffer: usize,
    /// How many events are sent together at most.
    pub batch_size: usize,
    /// How long an event waits for company at most.
    pub batch_wait: Duration,
    /// How long to wait before the second attempt; later waits are longer by half.
    pub initial_backoff: Duration,
    /// Lists in a second on average, and at once after a pause; nothing: as many as there are.
    pub throttle: Option<(f64, f64)>,
    /// Nothing: events are as large as they are.
    pub truncation: Option<Truncation>,
}
