//! The end of a container that runs: its stop signal, then SIGKILL.

use std::convert::Infallible;
use std::fs;
use std::time::Duration;

use crate::clock;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::pods::{Container, Status};
use crate::protocol::Call;

/// A killed process may wait for a device; after this long there is something wrong.
const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// A program sets itself up within this time, in nanoseconds.
const YOUNG: i64 = 2_000_000_000;
/// How long it is left alone between two looks at how far it is.
const PAUSE: Duration = Duration::from_millis(20);

impl Engine {
    /// Ends a container: its stop signal, and SIGKILL after `grace`. One that has ended is no error.
    ///
    /// # Errors
    /// When it survives SIGKILL.
    pub async fn stop_container(&self, id: &str, grace: Duration) -> Result<()> {
        let container = match self.shared.pods.container(id) {
            Ok(container) => container,
            Err(_) => return Ok(()),
        };
        if !container.running() {
            return Ok(());
        }
        if !grace.is_zero() {
            let signal = signal_number(&container.record().stop_signal).unwrap_or(nix::libc::SIGTERM);
            let heard = hears(&container, signal);
            self.signal(&container, signal).await?;
            let ended = tokio::select! {
                ended = ended(&container, grace) => ended,
                never = self.repeat(&container, signal), if !heard => match never {},
            };
            if ended {
                return Ok(());
            }
        }
        self.signal(&container, nix::libc::SIGKILL).await?;
        if ended(&container, KILL_PATIENCE).await {
            return Ok(());
        }
        Err(Error::Timeout(format!("container {id} did not end after SIGKILL")))
    }

    async fn signal(&self, container: &Container, signal: i32) -> Result<()> {
        let call = Call::Signal { container: container.id.clone(), signal };
        match container.sandbox.shim()?.call(call, &[]).await {
            Ok(_) => Ok(()),
            // It ended in between.
            Err(_) if !container.running() => Ok(()),
            Err(Error::Shim(message)) if message.contains("entity not found") => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The kernel keeps a signal from the first process of a namespace that has not said yet what to do about it.
    /// One that has just begun, and says so soon, gets it again: else its pod would end only after all its grace.
    async fn repeat(&self, container: &Container, signal: i32) -> Infallible {
        while is_young(container) && !hears(container, signal) {
            tokio::time::sleep(PAUSE).await;
        }
        if hears(container, signal) {
            // One that has ended needs none.
            let _ = self.signal(container, signal).await;
        }
        std::future::pending().await
    }
}

/// Whether a container ends within `patience`.
async fn ended(container: &Container, patience: Duration) -> bool {
    let mut status = container.status.subscribe();
    let wait = status.wait_for(|status| matches!(status, Status::Exited { .. }));
    tokio::time::timeout(patience, wait).await.is_ok()
}

/// Whether it started a moment ago.
fn is_young(container: &Container) -> bool {
    matches!(container.status(), Status::Running { started_at, .. } if clock::now() < started_at + YOUNG)
}

/// Whether a container's first process catches, blocks or ignores a signal, or is not there to do so.
fn hears(container: &Container, signal: i32) -> bool {
    let Status::Running { pid, .. } = container.status() else { return true };
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut masks = status.lines().filter_map(|line| {
        let (name, mask) = line.split_once(':')?;
        ["SigBlk", "SigIgn", "SigCgt"].contains(&name).then(|| u64::from_str_radix(mask.trim(), 16).ok())?
    });
    status.is_empty() || masks.any(|mask| mask >> (signal - 1) & 1 == 1)
}

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` (or `SIGRTMINPLUS3`, as the interface spells it).
fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_uppercase();
    if let Ok(number) = upper.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let short = upper.strip_prefix("SIG").unwrap_or(&upper).replace("PLUS", "+").replace("MINUS", "-");
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() };
    // The lowest two belong to the C library, but users count from the kernel's 34.
    if let Some(rest) = short.strip_prefix("RTMIN") {
        return Some(34 + offset(rest)?);
    }
    if let Some(rest) = short.strip_prefix("RTMAX") {
        return Some(64 + offset(rest)?);
    }
    match short.as_str() {
        "CLD" => Some(nix::libc::SIGCHLD),
        "IOT" => Some(nix::libc::SIGABRT),
        "POLL" => Some(nix::libc::SIGIO),
        _ => format!("SIG{short}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_every_spelling() {
        let cases = [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGRTMINPLUS3", Some(37)),
            ("SIGRTMAXMINUS2", Some(62)),
            ("SIGPOLL", Some(29)),
            ("nonsense", None),
            ("99", None),
        ];
        for (name, number) in cases {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
