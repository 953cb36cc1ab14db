//! Progress of pulls and pushes on standard error.
//!
//! A terminal shows a line for each blob, drawn anew as it changes; a log gets one line for
//! each blob that is complete.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plimsoll_oci::{Digest, Phase, Progress, ProgressFn};

use super::table::size;

const WIDTH: usize = 30;
/// Terminals need no more pictures than this.
const PAUSE: Duration = Duration::from_millis(80);

/// The blobs of one pull or push.
#[derive(Clone, Default)]
pub(super) struct Bars {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    terminal: bool,
    /// In the order in which they appeared.
    order: Vec<Digest>,
    blobs: BTreeMap<Digest, Progress>,
    /// Lines on the screen.
    drawn: usize,
    last: Option<Instant>,
}

impl Bars {
    pub(super) fn new() -> Self {
        let bars = Self::default();
        bars.with(|state| state.terminal = io::stderr().is_terminal());
        bars
    }

    /// What pulls and pushes call.
    pub(super) fn progress(&self) -> ProgressFn {
        let bars = self.clone();
        Arc::new(move |progress| bars.with(|state| state.tell(progress)))
    }

    /// Draws the last picture.
    pub(super) fn finish(&self) {
        self.with(|state| {
            if state.terminal {
                state.draw();
            }
        });
    }

    fn with(&self, work: impl FnOnce(&mut State)) {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl State {
    fn tell(&mut self, progress: Progress) {
        let before = self.blobs.insert(progress.digest, progress).map(|before| before.phase);
        if before.is_none() {
            self.order.push(progress.digest);
        }
        if !self.terminal {
            let complete = matches!(progress.phase, Phase::Done | Phase::Exists);
            if complete && matches!(before, None | Some(Phase::Transfer)) {
                // A closed pipe must not stop the transfer.
                let _ = writeln!(io::stderr(), "{}", line(&progress));
            }
            return;
        }
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE) {
            self.draw();
        }
    }

    fn draw(&mut self) {
        let mut picture = String::new();
        if self.drawn > 0 {
            picture.push_str(&format!("\x1b[{}A", self.drawn));
        }
        for digest in &self.order {
            picture.push_str(&format!("\x1b[2K{}\n", line(&self.blobs[digest])));
        }
        let _ = io::stderr().write_all(picture.as_bytes());
        self.drawn = self.order.len();
        self.last = Some(Instant::now());
    }
}

fn line(progress: &Progress) -> String {
    let name = &progress.digest.hex()[..12];
    match progress.phase {
        Phase::Exists => format!("{name}: already there"),
        Phase::Done => format!("{name}: complete {}", size(progress.total)),
        Phase::Unpacking => format!("{name}: unpacking {}", size(progress.total)),
        Phase::Transfer => {
            let filled =
                (progress.done.min(progress.total) as usize * WIDTH) / (progress.total.max(1) as usize);
            let bar = format!("{}>{}", "=".repeat(filled), " ".repeat(WIDTH - filled));
            format!("{name}: [{bar}] {}/{}", size(progress.done), size(progress.total))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_fill() {
        let digest = Digest::of(b"x");
        let at = |phase, done| line(&Progress { digest, phase, done, total: 2000 });
        assert!(at(Phase::Transfer, 0).contains(&format!("[>{}] 0B/2kB", " ".repeat(30))));
        assert!(at(Phase::Transfer, 1000).contains(&format!(
            "[{}>{}] 1kB/2kB",
            "=".repeat(15),
            " ".repeat(15)
        )));
        assert!(at(Phase::Transfer, 9000).contains(&format!("[{}>] ", "=".repeat(30))));
        assert!(at(Phase::Done, 2000).ends_with("complete 2kB"));
    }
}
