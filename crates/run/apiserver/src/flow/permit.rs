//! Those who run, and those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plimsoll_flow::width::Width;
use plimsoll_flow::{Arrival, Queues, Refusal, Seat};
use tokio::sync::oneshot;

use super::Flow;
use super::plan::Running;

/// There is no room.
#[derive(Debug)]
pub(super) struct Refused;

/// Somebody who waits.
pub(super) struct Ticket {
    pub(super) wake: oneshot::Sender<Seat>,
    pub(super) schema: String,
    pub(super) flow: String,
    pub(super) arrived: Timestamp,
    pub(super) width: Width,
}

/// Starts everybody for whom there is room.
pub(super) fn drain(queues: &mut Queues<Ticket>, now: Duration) {
    while let Some((ticket, seat)) = queues.dispatch(now) {
        if let Err(seat) = ticket.wake.send(seat) {
            queues.finish(now, &seat);
        }
    }
}

/// The right to run, until it is dropped.
pub(crate) struct Permit(Held);

enum Held {
    Nothing,
    Exempt(Arc<Running>),
    Counted(Arc<AtomicUsize>),
    Seat { level: Arc<Running>, seat: Seat, width: Width, start: Instant },
}

impl Permit {
    /// What is not counted.
    pub(super) fn free() -> Self {
        Self(Held::Nothing)
    }

    pub(super) fn exempt(level: Arc<Running>) -> Self {
        level.exempt.fetch_add(1, Ordering::Relaxed);
        level.dispatched.fetch_add(1, Ordering::Relaxed);
        Self(Held::Exempt(level))
    }

    /// What a number has been increased for.
    pub(super) fn counted(count: Arc<AtomicUsize>) -> Self {
        Self(Held::Counted(count))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Held::Nothing) {
            Held::Nothing => {}
            Held::Exempt(level) => {
                level.exempt.fetch_sub(1, Ordering::Relaxed);
            }
            Held::Counted(count) => {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            Held::Seat { level, mut seat, width, start } if width.after > 0 => {
                // Its watchers are busy for a while.
                let now = start.elapsed();
                let mut queues = level.lock();
                queues.shrink(now, &mut seat, width.after);
                drain(&mut queues, now);
                drop(queues);
                let rest = Width { after: 0, ..width };
                let permit = Self(Held::Seat { level, seat, width: rest, start });
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move {
                        tokio::time::sleep(width.lasting).await;
                        drop(permit);
                    });
                }
            }
            Held::Seat { level, seat, start, .. } => {
                let now = start.elapsed();
                let mut queues = level.lock();
                queues.finish(now, &seat);
                drain(&mut queues, now);
            }
        }
    }
}

/// A seat, at once or when the turn comes.
pub(super) async fn wait(
    flow: &Flow,
    level: &Arc<Running>,
    key: u64,
    width: Width,
    patience: Duration,
    ticket: impl FnOnce(oneshot::Sender<Seat>) -> Ticket,
) -> Result<Permit, Refused> {
    let held = |seat| Permit(Held::Seat { level: Arc::clone(level), seat, width, start: flow.start });
    let mut turn = None;
    let arrival = level.lock().arrive(flow.now(), key, width.seats.max(width.after), || {
        let (wake, receiver) = oneshot::channel();
        turn = Some(receiver);
        ticket(wake)
    });
    let id = match arrival {
        Arrival::Run(seat) => return Ok(held(seat)),
        Arrival::Refused(_) => return Err(Refused),
        Arrival::Wait(id) => id,
    };
    let Some(turn) = turn else { return Err(Refused) };
    let mut waiting = Waiting { level, id, turn: Some(turn), start: flow.start };
    let ended = match &mut waiting.turn {
        Some(turn) => tokio::time::timeout(patience, turn).await,
        None => return Err(Refused),
    };
    match ended {
        Ok(Ok(seat)) => {
            waiting.turn = None;
            Ok(held(seat))
        }
        Ok(Err(_)) => Err(Refused),
        Err(_) => waiting.leave(Refusal::TimeOut).map(held).ok_or(Refused),
    }
}

/// A place in a queue, given up when this is dropped.
struct Waiting<'l> {
    level: &'l Arc<Running>,
    id: u64,
    turn: Option<oneshot::Receiver<Seat>>,
    start: Instant,
}

impl Waiting<'_> {
    /// Leaves the queue; there is a seat if the turn came just now.
    fn leave(&mut self, why: Refusal) -> Option<Seat> {
        let mut turn = self.turn.take()?;
        let now = self.start.elapsed();
        let mut queues = self.level.lock();
        if queues.withdraw(now, self.id, why) {
            drain(&mut queues, now);
            return None;
        }
        turn.try_recv().ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.leave(Refusal::Cancelled) {
            let now = self.start.elapsed();
            let mut queues = self.level.lock();
            queues.finish(now, &seat);
            drain(&mut queues, now);
        }
    }
}
