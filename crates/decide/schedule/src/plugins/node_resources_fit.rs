//! A pod goes only where what it requests is free, and rather where more is free
//! (LeastAllocated over CPU and memory).

use super::MAX_SCORE;
use crate::diagnosis::Reason;
use crate::node::Node;
use crate::requests::Requests;
use crate::snapshot::Row;

pub(super) fn fits(requests: &Requests, row: &Row, node: &Node) -> bool {
    let (free, used) = (&node.allocatable, &row.used);
    used.pods < free.pods
        && (requests.cpu == 0 || requests.cpu <= free.cpu - used.cpu)
        && (requests.memory == 0 || requests.memory <= free.memory - used.memory)
        && (requests.storage == 0 || requests.storage <= free.storage - used.storage)
        && requests.extended.iter().all(|(name, amount)| *amount <= free_extended(name, row, node))
}

/// Everything that is short, in upstream's order.
pub(super) fn shortfalls<'a>(requests: &'a Requests, row: &Row, node: &Node) -> Vec<Reason<'a>> {
    let (free, used) = (&node.allocatable, &row.used);
    let named = [
        ("cpu", requests.cpu, free.cpu - used.cpu),
        ("memory", requests.memory, free.memory - used.memory),
        ("ephemeral-storage", requests.storage, free.storage - used.storage),
    ];
    let extended = requests
        .extended
        .iter()
        .map(|(name, amount)| (name.as_str(), *amount, free_extended(name, row, node)));
    let short = named.into_iter().chain(extended).filter(|(_, amount, free)| *amount > 0 && amount > free);
    let crowded = (used.pods >= free.pods).then_some(Reason::TooManyPods);
    crowded.into_iter().chain(short.map(|(name, _, _)| Reason::Insufficient(name))).collect()
}

fn free_extended(name: &str, row: &Row, node: &Node) -> i64 {
    node.extended.get(name).copied().unwrap_or(0) - row.used_extended.get(name).copied().unwrap_or(0)
}

/// LeastAllocated: the mean of the free shares of CPU and memory.
pub(super) fn score(requests: &Requests, row: &Row, node: &Node) -> i64 {
    let parts = [
        (node.allocatable.cpu, row.scored_cpu + requests.scored_cpu),
        (node.allocatable.memory, row.scored_memory + requests.scored_memory),
    ];
    let (mut sum, mut count) = (0, 0);
    for (capacity, used) in parts.into_iter().filter(|(capacity, _)| *capacity > 0) {
        sum += if used > capacity { 0 } else { (capacity - used) * MAX_SCORE / capacity };
        count += 1;
    }
    if count == 0 { 0 } else { sum / count }
}
