//! Clusters in memory that live through a storm of changes and faults, from one seed each.
//!
//! The decisions are the real ones, and so is the rule that they wait for what was written. Around
//! them everything is chance: watches are late and each kind by itself, requests are lost or their
//! answers are, the process restarts in the middle of a list of actions, the clock jumps, nodes are
//! lost, pods fail, users change their minds. In some clusters nodes and pods do as they should, so that
//! what is amiss is the controllers' fault. Rules are checked after each step and when all is calm.
//!
//! `PLIMSOLL_SIMULATION_COUNT` says how many seeds to try, `PLIMSOLL_SIMULATION_SEED` which one is the
//! first; a failing seed alone, with its story, is had by its number and a count of 1.

mod api;
mod attaching;
mod autoscaling;
mod availability;
mod cache;
mod dice;
mod ends;
mod heartbeat;
mod judge;
mod kind;
mod nodes;
mod process;
mod rest;
mod storage;
mod users;
mod view;
mod wiring;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Seeds that are tried unless the environment says otherwise.
const COUNT: u64 = 2000;
/// The last lines of a story that are shown.
const SHOWN: usize = 150;

#[test]
fn clusters_come_to_rest_as_they_were_asked_to_be() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("PLIMSOLL_SIMULATION_SEED").unwrap_or(1);
    let count: u64 = number("PLIMSOLL_SIMULATION_COUNT").unwrap_or(COUNT);
    let next = AtomicU64::new(first);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(&next, first + count))).collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().expect("a worker that does not panic"))
            .collect()
    });
    if let Some((seed, what, story)) = failures.into_iter().min() {
        let shown = &story[story.len().saturating_sub(SHOWN)..];
        panic!("seed {seed}: {what}\n{}\nseed {seed}: {what}", shown.join("\n"));
    }
}

type Failed = (u64, String, Vec<String>);

/// Tries seeds until there are no more, or one fails.
fn work(next: &AtomicU64, end: u64) -> Option<Failed> {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return None;
        }
        let mut world = World::new(seed);
        if let Err(what) = world.live() {
            next.store(end, Ordering::Relaxed);
            return Some((seed, what, world.story));
        }
    }
}
