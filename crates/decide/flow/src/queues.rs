//! Fair queuing within one level.
//!
//! Each queue has a virtual time at which its next request would start if all queues were served at once, each
//! with the same number of seats. The queue whose next request would end first is served next, so a flow with
//! a thousand requests gets no more seats than one with two.

use std::collections::VecDeque;
use std::time::Duration;

use crate::deal::deal;
use crate::demand::Demand;
use crate::level::Response;
use crate::occupancy::{Load, Usage};

/// How long a request is thought to run before it is known, in seconds.
const GUESS: f64 = 0.003;

/// The queues of a level; `T` is what wakes somebody who waits.
#[derive(Debug)]
pub struct Queues<T> {
    response: Response,
    nominal: u32,
    limit: u32,
    list: Vec<Queue<T>>,
    /// Virtual time, in seconds of one seat.
    virtual_time: f64,
    advanced: Duration,
    /// How many queues have something that waits or runs.
    active: u32,
    in_use: u32,
    waiting_seats: u32,
    counts: Counts,
    /// Where to look first, so that equal queues take turns.
    first: usize,
    next_id: u64,
    demand: Demand,
    usage: Usage,
}

/// How many requests there are and were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Now in queues.
    pub waiting: usize,
    /// Now running.
    pub executing: usize,
    /// Ever started.
    pub dispatched: u64,
    /// Ever turned away.
    pub rejected: u64,
    /// Ever waited too long.
    pub timed_out: u64,
    /// Ever gone before their turn.
    pub cancelled: u64,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    executing: usize,
    seats: u32,
    waiting_seats: u32,
    next_start: f64,
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    width: u32,
    payload: T,
}

/// The seats that a running request has.
#[derive(Debug, PartialEq)]
pub struct Seat {
    queue: Option<usize>,
    width: u32,
    started: Duration,
}

/// What becomes of a request.
#[derive(Debug, PartialEq)]
pub enum Arrival {
    /// It runs.
    Run(Seat),
    /// It waits, under this number.
    Wait(u64),
    /// It is turned away.
    Refused(Refusal),
}

/// Why a request does not run, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The level has no queues and no free seat.
    ConcurrencyLimit,
    /// Its queue is full.
    QueueFull,
    /// It waited too long.
    TimeOut,
    /// Its client went away.
    Cancelled,
}

impl Refusal {
    /// The `reason` label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A queue as people look at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueState {
    /// Requests that wait.
    pub waiting: usize,
    /// Requests that run.
    pub executing: usize,
    /// Seats that those have.
    pub seats: u32,
    /// Seats that those want which wait.
    pub waiting_seats: u32,
    /// Virtual time of the next start, in seat-seconds.
    pub next_start: f64,
}

impl<T> Queues<T> {
    /// Empty queues with `limit` seats.
    pub fn new(response: Response, limit: u32, now: Duration) -> Self {
        let mut queues = Self {
            response,
            nominal: limit,
            limit,
            list: Vec::new(),
            virtual_time: 0.0,
            advanced: now,
            active: 0,
            in_use: 0,
            waiting_seats: 0,
            counts: Counts::default(),
            first: 0,
            next_id: 0,
            demand: Demand::default(),
            usage: Usage::new(now),
        };
        queues.grow();
        queues
    }

    /// Changes the configuration. Requests that wait stay where they are; queues that are too many are dealt
    /// no more.
    pub fn reshape(&mut self, response: Response, nominal: u32) {
        self.response = response;
        self.nominal = nominal;
        self.grow();
    }

    fn grow(&mut self) {
        if let Response::Queue { queues, .. } = self.response
            && self.list.len() < queues
        {
            self.list.resize_with(queues, || Queue {
                waiting: VecDeque::new(),
                executing: 0,
                seats: 0,
                waiting_seats: 0,
                next_start: 0.0,
            });
        }
    }

    /// Changes the number of seats; look for what can start now with [`Queues::dispatch`].
    pub fn set_limit(&mut self, now: Duration, limit: u32) {
        self.advance(now);
        self.limit = limit;
    }

    /// A request of a flow that takes `width` seats. `payload` is asked for when it has to wait.
    pub fn arrive(&mut self, now: Duration, flow: u64, width: u32, payload: impl FnOnce() -> T) -> Arrival {
        self.advance(now);
        let Response::Queue { queues, hand, length } = self.response else {
            return match self.fits(width) {
                true => Arrival::Run(self.start(now, None, width)),
                false => self.refuse(Refusal::ConcurrencyLimit),
            };
        };
        let (mut best, mut least) = (0, u64::MAX);
        deal(flow, queues, hand, |card| {
            let queue = &self.list[card];
            let work = u64::from(queue.seats) + u64::from(queue.waiting_seats);
            if work < least {
                (best, least) = (card, work);
            }
        });
        if self.counts.waiting == 0 && self.fits(width) {
            return Arrival::Run(self.start(now, Some(best), width));
        }
        if self.list[best].waiting.len() >= length {
            return self.refuse(Refusal::QueueFull);
        }
        self.activate(best);
        self.next_id += 1;
        let id = self.next_id;
        let queue = &mut self.list[best];
        queue.waiting.push_back(Waiting { id, width, payload: payload() });
        queue.waiting_seats += width;
        self.waiting_seats += width;
        self.counts.waiting += 1;
        self.note(now);
        Arrival::Wait(id)
    }

    /// The next of those that wait, if there is room for it. To be asked again until there is none.
    pub fn dispatch(&mut self, now: Duration) -> Option<(T, Seat)> {
        self.advance(now);
        if self.counts.waiting == 0 {
            return None;
        }
        let at = self.earliest()?;
        let width = self.list[at].waiting.front()?.width;
        if !self.fits(width) {
            return None;
        }
        let waiting = self.list[at].waiting.pop_front()?;
        self.forget(at, width);
        self.first = at + 1;
        // The queue stays active, because its request runs at once.
        let seat = self.occupy(now, Some(at), width);
        Some((waiting.payload, seat))
    }

    /// A running request needs fewer seats from now on.
    pub fn shrink(&mut self, now: Duration, seat: &mut Seat, width: u32) {
        self.advance(now);
        let fewer = seat.width.saturating_sub(width);
        self.settle(now, seat);
        seat.started = now;
        seat.width -= fewer;
        self.in_use -= fewer;
        if let Some(at) = seat.queue {
            self.list[at].seats -= fewer;
            // What is left counts as begun anew.
            self.list[at].next_start += GUESS * f64::from(seat.width);
        }
        self.note(now);
    }

    /// A running request has ended.
    pub fn finish(&mut self, now: Duration, seat: &Seat) {
        self.advance(now);
        self.settle(now, seat);
        self.in_use -= seat.width;
        self.counts.executing -= 1;
        if let Some(at) = seat.queue {
            let queue = &mut self.list[at];
            queue.executing -= 1;
            queue.seats -= seat.width;
            self.retire(at);
        }
        self.note(now);
    }

    /// Takes out a request that waits; `false` when it runs already.
    pub fn withdraw(&mut self, now: Duration, id: u64, why: Refusal) -> bool {
        self.advance(now);
        let found = self.list.iter().enumerate().find_map(|(at, queue)| {
            queue.waiting.iter().position(|waiting| waiting.id == id).map(|place| (at, place))
        });
        let Some((at, place)) = found else { return false };
        let width = self.list[at].waiting.remove(place).map_or(0, |waiting| waiting.width);
        self.forget(at, width);
        self.retire(at);
        match why {
            Refusal::Cancelled => self.counts.cancelled += 1,
            _ => self.counts.timed_out += 1,
        }
        self.note(now);
        true
    }

    /// Ends a period of demand.
    pub fn close_period(&mut self, now: Duration) -> Demand {
        self.demand.close(now);
        self.demand
    }

    /// The figures of the last period of demand.
    pub fn demand(&self) -> Demand {
        self.demand
    }

    /// What the level was occupied with until now.
    pub fn usage(&mut self, now: Duration) -> Usage {
        self.note(now);
        self.usage.clone()
    }

    /// How many requests there are and were.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Seats in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Seats there are now.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// The queues as they are.
    pub fn states(&self) -> impl Iterator<Item = QueueState> {
        self.list.iter().map(|queue| QueueState {
            waiting: queue.waiting.len(),
            executing: queue.executing,
            seats: queue.seats,
            waiting_seats: queue.waiting_seats,
            next_start: queue.next_start,
        })
    }

    /// Those that wait: queue, place in the queue, seats, payload.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, usize, u32, &T)> {
        self.list.iter().enumerate().flat_map(|(at, queue)| {
            queue
                .waiting
                .iter()
                .enumerate()
                .map(move |(place, waiting)| (at, place, waiting.width, &waiting.payload))
        })
    }

    /// A request wider than the limit runs alone.
    fn fits(&self, width: u32) -> bool {
        self.in_use == 0 || self.in_use.saturating_add(width) <= self.limit
    }

    fn refuse(&mut self, why: Refusal) -> Arrival {
        self.counts.rejected += 1;
        Arrival::Refused(why)
    }

    fn start(&mut self, now: Duration, queue: Option<usize>, width: u32) -> Seat {
        if let Some(at) = queue {
            self.activate(at);
        }
        self.occupy(now, queue, width)
    }

    fn occupy(&mut self, now: Duration, queue: Option<usize>, width: u32) -> Seat {
        self.in_use += width;
        self.counts.executing += 1;
        self.counts.dispatched += 1;
        if let Some(at) = queue {
            let queue = &mut self.list[at];
            queue.executing += 1;
            queue.seats += width;
            queue.next_start += GUESS * f64::from(width);
        }
        self.note(now);
        Seat { queue, width, started: now }
    }

    /// Replaces the guess at a request's work by what it was.
    fn settle(&mut self, now: Duration, seat: &Seat) {
        if let Some(at) = seat.queue {
            let took = now.saturating_sub(seat.started).as_secs_f64();
            self.list[at].next_start += (took - GUESS) * f64::from(seat.width);
        }
    }

    fn is_idle(&self, at: usize) -> bool {
        self.list[at].waiting.is_empty() && self.list[at].executing == 0
    }

    /// A queue that had nothing begins now: it has not saved up anything.
    fn activate(&mut self, at: usize) {
        if self.is_idle(at) {
            self.list[at].next_start = self.virtual_time;
            self.active += 1;
        }
    }

    fn retire(&mut self, at: usize) {
        if self.is_idle(at) {
            self.active -= 1;
        }
    }

    fn forget(&mut self, at: usize, width: u32) {
        self.list[at].waiting_seats -= width;
        self.waiting_seats -= width;
        self.counts.waiting -= 1;
    }

    /// The queue whose next request would end first.
    fn earliest(&self) -> Option<usize> {
        let count = self.list.len();
        let mut best: Option<(usize, f64)> = None;
        for at in (0..count).map(|step| (self.first + step) % count) {
            let Some(next) = self.list[at].waiting.front() else { continue };
            let end = self.list[at].next_start + GUESS * f64::from(next.width);
            if best.is_none_or(|(_, earliest)| end < earliest) {
                best = Some((at, end));
            }
        }
        best.map(|(at, _)| at)
    }

    fn advance(&mut self, now: Duration) {
        let time = now.saturating_sub(self.advanced).as_secs_f64();
        self.advanced = now.max(self.advanced);
        if self.active > 0 {
            let served = self.in_use.saturating_add(self.waiting_seats).min(self.limit);
            self.virtual_time += time * f64::from(served) / f64::from(self.active);
        }
    }

    fn note(&mut self, now: Duration) {
        let wanted = self.in_use + self.waiting_seats;
        self.demand.set(now, wanted);
        let places = match self.response {
            Response::Queue { queues, length, .. } => queues * length,
            Response::Reject => 0,
        };
        let load = Load {
            seats: self.in_use,
            executing: self.counts.executing,
            waiting: self.counts.waiting,
            wanted,
            limit: self.limit,
            nominal: self.nominal,
            places,
        };
        self.usage.set(now, load);
    }
}
