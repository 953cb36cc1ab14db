//! Clients that ask all the time, and what came of it.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::get;

/// One request may take this long; a lost packet is sent again within it.
const REQUEST: Duration = Duration::from_secs(10);

/// How clients ask.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Clients that ask at once.
    pub clients: u32,
    /// Requests a second of all together; without it as many as are answered.
    pub rate: Option<u32>,
}

/// What came of requests so far.
#[derive(Debug)]
pub struct Tally {
    /// For each address.
    answered: Vec<AtomicUsize>,
    lost: Mutex<Vec<String>>,
}

impl Tally {
    fn of(addresses: &[SocketAddr]) -> Self {
        Self { answered: addresses.iter().map(|_| AtomicUsize::new(0)).collect(), lost: Mutex::default() }
    }

    /// How many were answered well.
    pub fn answered(&self) -> usize {
        self.answered_each().iter().sum()
    }

    /// How many of each address.
    pub fn answered_each(&self) -> Vec<usize> {
        self.answered.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// What came instead of a good answer.
    pub fn lost(&self) -> Vec<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask(&self, (number, address): (usize, &SocketAddr), since: Instant) {
        match get(*address, "/", REQUEST) {
            Ok(answer) if answer.status == 200 => drop(self.answered[number].fetch_add(1, Ordering::Relaxed)),
            other => {
                let what = format!("{:.3} s, {address}: {other:?}", since.elapsed().as_secs_f64());
                self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            }
        }
    }
}

/// Asks the addresses in turn, each time by a new connection, while `work` is done.
pub fn asked_while(addresses: &[SocketAddr], pace: Pace, work: impl FnOnce(&Tally)) -> Tally {
    let (tally, stop, begun) = (Tally::of(addresses), AtomicBool::new(false), Instant::now());
    let client = |number: u32| {
        let between = pace.rate.map(|rate| Duration::from_secs(pace.clients.into()) / rate);
        let mut due = begun + between.unwrap_or_default() * number / pace.clients;
        for address in addresses.iter().enumerate().cycle().skip(number as usize) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            tally.ask(address, begun);
            due += between.unwrap_or_default();
        }
    };
    let client = &client;
    thread::scope(|scope| {
        for number in 0..pace.clients {
            scope.spawn(move || client(number));
        }
        let worked = catch_unwind(AssertUnwindSafe(|| work(&tally)));
        stop.store(true, Ordering::Relaxed);
        worked.unwrap_or_else(|panic| resume_unwind(panic));
    });
    tally
}
