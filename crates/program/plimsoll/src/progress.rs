//! What `up` and `down` tell while they work.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Prints steps as they are done.
pub(crate) struct Progress {
    begun: Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn begin() -> Self {
        Self { begun: Instant::now(), terminal: std::io::stdout().is_terminal() }
    }

    /// A step is done.
    pub(crate) fn step(&self, text: &str) {
        let mark = if self.terminal { "\x1b[32m✓\x1b[0m" } else { "-" };
        self.line(&format!("{mark} {text} ({} ms)", self.begun.elapsed().as_millis()));
    }

    /// Everything is done.
    pub(crate) fn ready(&self) {
        self.line(&format!("ready in {} ms", self.begun.elapsed().as_millis()));
    }

    pub(crate) fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed pipe must not stop the cluster.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}
