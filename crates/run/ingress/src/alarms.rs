//! Alarms that hardly ever ring.
//!
//! Each request sets some, and takes them back long before they are due. The runtime's own alarms cost more than that is
//! worth: here they stay set when they were taken back, and serve whoever sets the next one. What rings too early is set
//! again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::Timer;
use tokio::time::{Instant, Sleep, sleep_until};

/// Alarms that were taken back and are kept.
const MOST: usize = 1024;

/// The alarms of a worker.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    spare: Arc<Mutex<Vec<Pin<Box<Sleep>>>>>,
}

/// It rings at its time, unless it is dropped before.
pub(crate) struct Alarm {
    deadline: Instant,
    /// Set once somebody waits.
    sleep: Option<Pin<Box<Sleep>>>,
    clock: Clock,
}

impl Clock {
    pub(crate) fn after(&self, time: Duration) -> Alarm {
        self.at(Instant::now() + time)
    }

    fn at(&self, deadline: Instant) -> Alarm {
        Alarm { deadline, sleep: None, clock: self.clone() }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Pin<Box<Sleep>>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runtime's alarm, which rings at that time or before.
    fn take(&self, deadline: Instant) -> Pin<Box<Sleep>> {
        let spare = self.spare().pop();
        let mut sleep = spare.unwrap_or_else(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { deadline, sleep, clock } = self.get_mut();
        let sleep = sleep.get_or_insert_with(|| clock.take(*deadline));
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= *deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(*deadline);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(sleep) = self.sleep.take() {
            let mut spare = self.clock.spare();
            if spare.len() < MOST {
                spare.push(sleep);
            }
        }
    }
}

impl hyper::rt::Sleep for Alarm {}

impl Timer for Clock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(self.after(duration))
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(self.at(deadline.into()))
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_rings_at_its_time_whoever_had_it_before() {
        let (clock, start) = (Clock::default(), Instant::now());
        let rung = async |alarm: Alarm| {
            alarm.await;
            start.elapsed().as_secs()
        };
        assert_eq!(rung(clock.after(Duration::from_secs(5))).await, 5);
        for (other, own) in [(3, 60), (60, 3), (2, 2)] {
            // One that waits for a moment only.
            let other = clock.after(Duration::from_secs(other));
            let _ = tokio::time::timeout(Duration::from_secs(1), other).await;
            let begun = start.elapsed().as_secs();
            assert_eq!(rung(clock.after(Duration::from_secs(own))).await, begun + own, "{own}");
        }
        assert_eq!(clock.spare().len(), 1, "one has served them all");
    }
}
