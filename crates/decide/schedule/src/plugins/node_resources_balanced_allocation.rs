//! A pod rather goes where CPU and memory would be used in equal shares, so that neither is left
//! over without the other.

use super::MAX_SCORE;
use crate::node::Node;
use crate::requests::Requests;
use crate::snapshot::Row;

pub(super) fn score(requests: &Requests, row: &Row, node: &Node) -> i64 {
    // Pods without requests would not change the balance.
    if requests.cpu == 0 && requests.memory == 0 {
        return 0;
    }
    let share = |used: i64, capacity: i64| (capacity > 0).then(|| (used as f64 / capacity as f64).min(1.0));
    let cpu = share(row.used.cpu + requests.cpu, node.allocatable.cpu);
    let memory = share(row.used.memory + requests.memory, node.allocatable.memory);
    let deviation = cpu.zip(memory).map_or(0.0, |(cpu, memory)| ((cpu - memory) / 2.0).abs());
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}
