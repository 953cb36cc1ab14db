//! Memory and processor time that visitors ask for.

use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const MEBIBYTE: usize = 1 << 20;
/// Memory becomes real when it is written to: once a page.
const PAGE: usize = 4096;

/// What is held by now.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    held: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Load {
    /// Takes and touches so many more MiB and keeps them. Returns what is held in all, as an
    /// error when there is no more to be had.
    pub(super) async fn hold(&self, mebibytes: u64) -> Result<usize, usize> {
        let load = self.clone();
        let work = move || {
            // One at a time, so that the kernel's verdict can come at any of them.
            let taken = (0..mebibytes).try_for_each(|_| load.take());
            let held = load.held.lock().unwrap_or_else(PoisonError::into_inner).len();
            taken.map(|()| held).map_err(|()| held)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(0))
    }

    fn take(&self) -> Result<(), ()> {
        let mut block = Vec::new();
        block.try_reserve_exact(MEBIBYTE).map_err(drop)?;
        block.resize(MEBIBYTE, 0u8);
        block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(black_box(block));
        Ok(())
    }

    /// Keeps one processor busy for so long.
    pub(super) async fn burn(&self, time: Duration) {
        let work = move || {
            let end = Instant::now() + time;
            let mut number = 1u64;
            while Instant::now() < end {
                for _ in 0..1000 {
                    number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
            }
        };
        // If the process is about to end, nobody waits for it.
        let _ = tokio::task::spawn_blocking(work).await;
    }
}
