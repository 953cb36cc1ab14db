//! Values may have another form on disk than in memory.

use std::fmt;

/// Turns values into the form in which they lie on disk, and back. Which form depends on the key.
///
/// Only what is written to the log goes through it: memory, watchers and readers have the values as
/// they were committed.
pub trait Transform: fmt::Debug + Send + Sync {
    /// The form of a value on disk; none: as it is.
    fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>>;

    /// The value that has this form on disk.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn open(&self, key: &str, stored: &[u8]) -> Result<Opened, String>;
}

/// A value that was read from disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The value; none when it lies there as it is.
    pub value: Option<Vec<u8>>,
    /// It would be written in another form today.
    pub stale: bool,
}
