//! What makes a request wait that is not the server's own work: webhooks, and the queue in front of its level.

use std::cell::Cell;
use std::time::{Duration, Instant};

tokio::task_local! {
    static WAITED: Cell<Duration>;
}

/// What a request waited for others, and its outcome.
pub(crate) async fn measured<T>(work: impl Future<Output = T>) -> (T, Duration) {
    WAITED
        .scope(Cell::new(Duration::ZERO), async {
            let outcome = work.await;
            (outcome, WAITED.with(Cell::get))
        })
        .await
}

/// Waits for somebody else.
pub(crate) async fn waiting<T>(other: impl Future<Output = T>) -> T {
    let since = Instant::now();
    let outcome = other.await;
    // Work that belongs to no request waits for itself.
    let _ = WAITED.try_with(|waited| waited.set(waited.get() + since.elapsed()));
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_others_take_is_told_apart() {
        let pause = || tokio::time::sleep(Duration::from_millis(5));
        let (outcome, waited) = measured(async {
            waiting(pause()).await;
            pause().await;
            7
        })
        .await;
        assert_eq!(outcome, 7);
        assert!(waited >= Duration::from_millis(5), "{waited:?}");
        waiting(pause()).await;
    }
}
