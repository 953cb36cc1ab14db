//! Removes the links of gone pods, many at a time.
//!
//! The kernel waits tens of milliseconds for readers whenever it removes a
//! link, and lets nobody change links meanwhile. Links that are doomed together
//! cost one such wait.

use std::time::Duration;

use plimsoll_kernel::link::Links;
use tokio::sync::mpsc;

/// How long doomed links are gathered.
const GATHERING: Duration = Duration::from_millis(100);

/// Tells the reaper that there is work.
#[derive(Debug)]
pub(crate) struct Reaper {
    wake: mpsc::Sender<()>,
}

impl Reaper {
    /// Starts removing the links of `group`, until this value is dropped.
    pub(crate) fn start(group: u32) -> Self {
        let (wake, mut woken) = mpsc::channel(1);
        tokio::spawn(async move {
            while woken.recv().await.is_some() {
                tokio::time::sleep(GATHERING).await;
                let removed = tokio::task::spawn_blocking(move || Links::open()?.remove_group(group)).await;
                if let Ok(Err(error)) = removed {
                    tracing::warn!(%error, "links of gone pods stay until the next start");
                }
            }
        });
        Self { wake }
    }

    /// Tells that a link was moved into the group.
    pub(crate) fn wake(&self) {
        // A full channel means that the reaper is about to look anyway.
        let _ = self.wake.try_send(());
    }
}
