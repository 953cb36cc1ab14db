//! How far those who follow an informer have carried out what it tells.
//!
//! What enters: how many changes there were, and how many of them each such follower has carried out. What leaves: the
//! end of a wait for all of them.

use std::sync::Mutex;

use tokio::sync::watch;

const POISON: &str = "no code under the lock panics";

/// Says how far its owner is; who drops it is waited for no more.
#[derive(Debug)]
pub struct Progress {
    carried_out: watch::Sender<u64>,
}

impl Progress {
    /// All changes up to this one are carried out.
    pub fn reached(&self, change: u64) {
        self.carried_out.send_replace(change);
    }
}

/// All who say how far they are.
#[derive(Debug, Default)]
pub(crate) struct Followers(Mutex<Vec<watch::Receiver<u64>>>);

impl Followers {
    pub(crate) fn add(&self) -> Progress {
        let (carried_out, told) = watch::channel(0);
        self.0.lock().expect(POISON).push(told);
        Progress { carried_out }
    }

    /// Waits until all have carried out the changes up to this one.
    pub(crate) async fn reached(&self, change: u64) {
        let all = self.0.lock().expect(POISON).clone();
        for mut follower in all {
            if follower.wait_for(|done| *done >= change).await.is_err() {
                self.0.lock().expect(POISON).retain(|known| !known.same_channel(&follower));
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn all_who_say_how_far_they_are_are_waited_for() {
        let followers = Followers::default();
        followers.reached(7).await;
        let (one, other) = (followers.add(), followers.add());
        let mut waiting = pin!(followers.reached(3));
        assert!(poll!(&mut waiting).is_pending());
        one.reached(3);
        other.reached(2);
        assert!(poll!(&mut waiting).is_pending(), "one is late");
        drop(other);
        assert!(poll!(&mut waiting).is_ready(), "it follows no more");
        assert_eq!(followers.0.lock().unwrap().len(), 1);
    }
}
