//! Those who run, and those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use plimsoll_flow::width::Width;
use plimsoll_flow::{Arrival, Queues, Refusal, Seat};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::oneshot;

use super::Flow;
use super::plan::{Matched, Running};
use super::runs::Row;
use crate::metrics::waiting as waiting_for;

/// There is no room.
#[derive(Debug)]
pub(super) struct Refused;

/// For how long a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// Until its answer has ended.
    Whole,
    /// It is a watch: until it has begun.
    Beginning,
}

/// A request that runs, as metrics know it.
struct Run {
    matched: Arc<Matched>,
    seats: i64,
    since: Instant,
    stretch: Stretch,
    number: u64,
}

impl Run {
    fn begin(
        matched: &Arc<Matched>,
        flow: &str,
        arrived: Instant,
        (width, stretch): (Width, Stretch),
    ) -> Self {
        let (metrics, since) = (&matched.metrics, Instant::now());
        let seats = width.seats.max(width.after);
        let (schema, flow) = (matched.schema.name.clone(), flow.to_owned());
        let number = matched.level.runs.begin(Row { schema, flow, width, arrived, started: since });
        metrics.dispatched.inc();
        metrics.executing.inc();
        metrics.executing_seats.inc_by(i64::from(seats));
        Self { matched: Arc::clone(matched), seats: i64::from(seats), since, stretch, number }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let metrics = &self.matched.metrics;
        self.matched.level.runs.end(self.number);
        metrics.executing.dec();
        metrics.executing_seats.dec_by(self.seats);
        let took = match self.stretch {
            Stretch::Whole => &metrics.ran,
            Stretch::Beginning => &metrics.began,
        };
        took.observe(self.since.elapsed().as_secs_f64());
    }
}

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
pub(crate) struct Permit {
    held: Held,
    run: Option<Run>,
}

enum Held {
    Nothing,
    Exempt(Arc<Running>),
    Counted(Arc<AtomicUsize>),
    Seat { level: Arc<Running>, seat: Seat, width: Width, start: Instant },
}

impl Permit {
    /// What is not counted.
    pub(super) fn free() -> Self {
        Self { held: Held::Nothing, run: None }
    }

    pub(super) fn exempt(matched: &Arc<Matched>, flow: &str, stretch: Stretch) -> Self {
        let level = Arc::clone(&matched.level);
        level.exempt.fetch_add(1, Ordering::Relaxed);
        level.dispatched.fetch_add(1, Ordering::Relaxed);
        Self {
            held: Held::Exempt(level),
            run: Some(Run::begin(matched, flow, Instant::now(), (Width::ONE, stretch))),
        }
    }

    /// What a number has been increased for.
    pub(super) fn counted(count: Arc<AtomicUsize>) -> Self {
        Self { held: Held::Counted(count), run: None }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
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
                let permit =
                    Self { held: Held::Seat { level, seat, width: rest, start }, run: self.run.take() };
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
    matched: &Arc<Matched>,
    (key, distinguisher): (u64, &str),
    (width, stretch): (Width, Stretch),
    (queued, ticket): (&Gauge, impl FnOnce(oneshot::Sender<Seat>) -> Ticket),
) -> Result<Permit, Refused> {
    let (level, metrics) = (&matched.level, &matched.metrics);
    let (seats, arrived) = (width.seats.max(width.after), Instant::now());
    metrics.seats.observe(f64::from(seats));
    let held = |seat| Permit {
        held: Held::Seat { level: Arc::clone(level), seat, width, start: flow.start },
        run: Some(Run::begin(matched, distinguisher, arrived, (width, stretch))),
    };
    let mut turn = None;
    let arrival = level.lock().arrive(flow.now(), key, seats, || {
        let (wake, receiver) = oneshot::channel();
        turn = Some(receiver);
        ticket(wake)
    });
    let id = match arrival {
        Arrival::Run(seat) => {
            metrics.waited.observe(0.0);
            return Ok(held(seat));
        }
        Arrival::Refused(why) => {
            metrics.refused(why.reason(), None);
            return Err(Refused);
        }
        Arrival::Wait(id) => id,
    };
    let Some(turn) = turn else { return Err(Refused) };
    let mut waiting = Waiting::begin((matched, queued), id, turn, seats, flow.start);
    let ended = match &mut waiting.turn {
        Some(turn) => waiting_for(tokio::time::timeout(flow.patience(), turn)).await,
        None => return Err(Refused),
    };
    match ended {
        Ok(Ok(seat)) => {
            waiting.turn = None;
            metrics.waited.observe(waiting.since.elapsed().as_secs_f64());
            Ok(held(seat))
        }
        Ok(Err(_)) => Err(Refused),
        Err(_) => waiting.leave(Refusal::TimeOut).map(held).ok_or(Refused),
    }
}

/// A place in a queue, given up when this is dropped.
struct Waiting<'l> {
    matched: &'l Arc<Matched>,
    queued: &'l Gauge,
    id: u64,
    turn: Option<oneshot::Receiver<Seat>>,
    seats: i64,
    since: Instant,
    start: Instant,
}

impl<'l> Waiting<'l> {
    fn begin(
        (matched, queued): (&'l Arc<Matched>, &'l Gauge),
        id: u64,
        turn: oneshot::Receiver<Seat>,
        seats: u32,
        start: Instant,
    ) -> Self {
        let (metrics, seats) = (&matched.metrics, i64::from(seats));
        metrics.waiting_seats.inc_by(seats);
        queued.inc();
        metrics.lengths.observe(metrics.waiting.inc() as f64 + 1.0);
        Self { matched, queued, id, turn: Some(turn), seats, since: Instant::now(), start }
    }

    /// Leaves the queue; there is a seat if the turn came just now.
    fn leave(&mut self, why: Refusal) -> Option<Seat> {
        let mut turn = self.turn.take()?;
        let now = self.start.elapsed();
        let mut queues = self.matched.level.lock();
        if queues.withdraw(now, self.id, why) {
            drain(&mut queues, now);
            drop(queues);
            self.matched.metrics.refused(why.reason(), Some(self.since.elapsed().as_secs_f64()));
            return None;
        }
        turn.try_recv().ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.leave(Refusal::Cancelled) {
            let now = self.start.elapsed();
            let mut queues = self.matched.level.lock();
            queues.finish(now, &seat);
            drain(&mut queues, now);
        }
        self.queued.dec();
        self.matched.metrics.waiting.dec();
        self.matched.metrics.waiting_seats.dec_by(self.seats);
    }
}
