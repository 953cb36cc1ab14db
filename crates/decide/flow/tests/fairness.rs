//! Simulated clients: one that floods never starves the others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use plimsoll_flow::{Arrival, Digest, Queues, Refusal, Response, Schema, Seat, hash, schemas};

const QUEUES: Response = Response::Queue { queues: 64, hand: 6, length: 50 };

/// A client that always has `outstanding` requests of `width` seats and `service` milliseconds each.
struct Client {
    outstanding: usize,
    width: u32,
    service: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    done: u64,
    seat_time: u64,
    refused: u64,
}

/// Runs the clients on `limit` seats for some milliseconds.
fn simulate(clients: &[Client], limit: u32, until: u64) -> Vec<Outcome> {
    let at = Duration::from_millis;
    let mut queues: Queues<usize> = Queues::new(QUEUES, limit, at(0));
    let mut outcomes = vec![Outcome::default(); clients.len()];
    let mut running: Vec<Option<Seat>> = Vec::new();
    // (time, client, running request or none for a new one)
    let mut events: BinaryHeap<Reverse<(u64, usize, Option<usize>)>> = BinaryHeap::new();
    for (client, one) in clients.iter().enumerate() {
        for _ in 0..one.outstanding {
            events.push(Reverse((0, client, None)));
        }
    }
    while let Some(Reverse((now, client, ended))) = events.pop() {
        if now > until {
            break;
        }
        if let Some(slot) = ended {
            let seat = running[slot].take().expect("it runs");
            queues.finish(at(now), &seat);
            outcomes[client].done += 1;
            outcomes[client].seat_time += clients[client].service * u64::from(clients[client].width);
            events.push(Reverse((now, client, None)));
        } else {
            match queues.arrive(at(now), hash("s", &client.to_string()), clients[client].width, || client) {
                Arrival::Run(seat) => {
                    running.push(Some(seat));
                    events.push(Reverse((now + clients[client].service, client, Some(running.len() - 1))));
                }
                Arrival::Wait(_) => {}
                Arrival::Refused(_) => {
                    outcomes[client].refused += 1;
                    events.push(Reverse((now + 1000, client, None)));
                }
            }
        }
        while let Some((client, seat)) = queues.dispatch(at(now)) {
            running.push(Some(seat));
            events.push(Reverse((now + clients[client].service, client, Some(running.len() - 1))));
        }
        assert!(queues.in_use() <= limit.max(clients.iter().map(|one| one.width).max().unwrap_or(1)));
    }
    outcomes
}

fn modest(outstanding: usize) -> Client {
    Client { outstanding, width: 1, service: 10 }
}

#[test]
fn a_flood_does_not_starve_others() {
    let clients = [Client { outstanding: 1000, width: 1, service: 10 }, modest(2), modest(2), modest(2)];
    let outcomes = simulate(&clients, 10, 10_000);
    for one in &outcomes[1..] {
        // Two at a time, ten milliseconds each: at best 2000 in ten seconds, and half of that for waiting.
        assert!(one.done >= 900, "{outcomes:?}");
        assert_eq!(one.refused, 0, "{outcomes:?}");
    }
    assert!(outcomes[0].refused > 0, "the flood is turned away: {outcomes:?}");
    let all: u64 = outcomes.iter().map(|one| one.done).sum();
    assert!(all >= 9_900, "no seat stays empty: {outcomes:?}");
}

#[test]
fn slow_and_wide_requests_get_no_more_than_their_part() {
    let clients = [
        Client { outstanding: 20, width: 1, service: 10 },
        Client { outstanding: 20, width: 1, service: 100 },
        Client { outstanding: 20, width: 4, service: 10 },
    ];
    let outcomes = simulate(&clients, 8, 20_000);
    let total: u64 = outcomes.iter().map(|one| one.seat_time).sum();
    for one in &outcomes {
        let part = one.seat_time as f64 / total as f64;
        assert!((0.2..=0.47).contains(&part), "{outcomes:?}");
    }
}

#[test]
fn levels_without_queues_turn_away() {
    let now = Duration::ZERO;
    let mut queues: Queues<()> = Queues::new(Response::Reject, 1, now);
    let Arrival::Run(seat) = queues.arrive(now, 1, 1, || ()) else { panic!("there is a seat") };
    assert_eq!(queues.arrive(now, 2, 1, || ()), Arrival::Refused(Refusal::ConcurrencyLimit));
    queues.finish(now, &seat);
    assert!(matches!(queues.arrive(now, 2, 1, || ()), Arrival::Run(_)));
}

#[test]
fn who_goes_away_or_waits_too_long_is_forgotten() {
    let now = Duration::ZERO;
    let mut queues: Queues<&str> = Queues::new(QUEUES, 1, now);
    let Arrival::Run(mut seat) = queues.arrive(now, 1, 1, || "first") else { panic!("there is a seat") };
    let Arrival::Wait(second) = queues.arrive(now, 1, 1, || "second") else { panic!("it waits") };
    assert!(matches!(queues.arrive(now, 1, 1, || "third"), Arrival::Wait(_)));
    assert!(queues.withdraw(now, second, Refusal::Cancelled));
    assert!(!queues.withdraw(now, second, Refusal::Cancelled));
    assert_eq!(queues.dispatch(now), None);
    queues.shrink(now, &mut seat, 0);
    let (third, seat_of_third) = queues.dispatch(now).expect("there is room");
    assert_eq!(third, "third");
    queues.finish(now, &seat);
    queues.finish(now, &seat_of_third);
    let counts = queues.counts();
    assert_eq!((counts.waiting, counts.executing, counts.dispatched, counts.cancelled), (0, 0, 2, 1));
    assert_eq!(queues.in_use(), 0);
}

/// What a request costs that waits for nobody: the look at the default schemas, one lock, a seat and its return.
/// Prints the figure (`cargo test --release -p plimsoll-flow -- --nocapture`), which should stay below 2 µs.
#[test]
fn a_free_pass_is_cheap() {
    let mut all: Vec<Schema> = schemas().iter().map(Schema::read).collect();
    all.sort_by(Schema::order);
    let groups = ["people".to_owned(), "system:authenticated".to_owned()];
    let digest = Digest {
        user: "ann",
        groups: &groups,
        verb: "get",
        resource: "configmaps",
        namespace: "default",
        path: "/api/v1/namespaces/default/configmaps/a",
        ..Digest::default()
    };
    let start = Instant::now();
    let queues = Mutex::new(Queues::<()>::new(QUEUES, 245, Duration::ZERO));
    let rounds = 100_000;
    for _ in 0..rounds {
        let schema = all.iter().find(|schema| schema.matches(&digest)).expect("everybody belongs to one");
        let key = hash(&schema.name, schema.flow(&digest));
        let arrival = queues.lock().expect("no panic").arrive(start.elapsed(), key, 1, || ());
        let Arrival::Run(seat) = arrival else { panic!("there is room") };
        queues.lock().expect("no panic").finish(start.elapsed(), &seat);
    }
    let each = start.elapsed() / rounds;
    println!("a free pass takes {each:?}");
    assert!(each < Duration::from_micros(200), "{each:?}");
}
