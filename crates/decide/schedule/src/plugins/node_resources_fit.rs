//! A pod goes only where what it requests is free, and rather where more is free (or less, as its profile says).

use super::MAX_SCORE;
use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::profile::{Fit, Resource, Strategy};
use crate::requests::Requests;
use crate::snapshot::Row;

pub(super) fn fits(fit: &Fit, needs: &Needs, row: &Row, node: &Node) -> bool {
    let (requests, all, used) = (&needs.requests, &node.allocatable, &row.used);
    used.pods < all.pods
        && (requests.cpu == 0 || requests.cpu <= all.cpu - used.cpu)
        && (requests.memory == 0 || requests.memory <= all.memory - used.memory)
        && (requests.storage == 0 || requests.storage <= all.storage - used.storage)
        && requests.extended.iter().all(|(name, amount)| {
            *amount <= node.extended(name) - row.extended(name) || is_elsewhere(fit, needs, node, name)
        })
}

/// Somebody else looks after the resource: an extender, or on this node a driver of devices.
fn is_elsewhere(fit: &Fit, needs: &Needs, node: &Node, name: &str) -> bool {
    fit.ignores(name) || (needs.of_devices.contains(name) && node.extended(name) == 0)
}

/// Everything that is short, in upstream's order.
pub(super) fn shortfalls<'a>(fit: &Fit, needs: &'a Needs, row: &Row, node: &Node) -> Vec<Reason<'a>> {
    let (requests, all, used) = (&needs.requests, &node.allocatable, &row.used);
    let named = [
        ("cpu", requests.cpu, all.cpu, used.cpu),
        ("memory", requests.memory, all.memory, used.memory),
        ("ephemeral-storage", requests.storage, all.storage, used.storage),
    ];
    let extended = requests
        .extended
        .iter()
        .filter(|(name, _)| !is_elsewhere(fit, needs, node, name))
        .map(|(name, amount)| (name.as_str(), *amount, node.extended(name), row.extended(name)));
    let short = named
        .into_iter()
        .chain(extended)
        .filter(|(_, amount, all, used)| *amount > 0 && *amount > all - used)
        .map(|(name, amount, all, _)| match amount > all {
            true => Reason::Beyond(name),
            false => Reason::Insufficient(name),
        });
    let crowded = (used.pods >= all.pods).then_some(Reason::TooManyPods);
    crowded.into_iter().chain(short).collect()
}

/// The mean of what each resource's use is worth.
pub(super) fn score(fit: &Fit, requests: &Requests, row: &Row, node: &Node) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for resource in &fit.resources {
        let capacity = node.capacity(&resource.resource);
        let (request, used) = match &resource.resource {
            Resource::Cpu => (requests.scored_cpu, row.scored_cpu),
            Resource::Memory => (requests.scored_memory, row.scored_memory),
            other => (requests.plain(other), row.used(other)),
        };
        // Extended resources that the pod does not ask for do not count.
        if capacity == 0 || (request == 0 && resource.resource.is_extended()) {
            continue;
        }
        let worth = worth(&fit.strategy, used + request, capacity);
        // Upstream leaves out what is worth nothing by this strategy.
        if matches!(fit.strategy, Strategy::RequestedToCapacityRatio(_)) && worth == 0 {
            continue;
        }
        sum += worth * resource.weight;
        weights += resource.weight;
    }
    match (&fit.strategy, weights) {
        (_, 0) => 0,
        (Strategy::RequestedToCapacityRatio(_), _) => (sum as f64 / weights as f64).round() as i64,
        _ => sum / weights,
    }
}

fn worth(strategy: &Strategy, used: i64, capacity: i64) -> i64 {
    match strategy {
        Strategy::LeastAllocated if used > capacity => 0,
        Strategy::LeastAllocated => (capacity - used) * MAX_SCORE / capacity,
        Strategy::MostAllocated => used.min(capacity) * MAX_SCORE / capacity,
        Strategy::RequestedToCapacityRatio(shape) if used > capacity => at(shape, 100),
        Strategy::RequestedToCapacityRatio(shape) => at(shape, used * 100 / capacity),
    }
}

/// The value of a broken line.
fn at(shape: &[(i64, i64)], x: i64) -> i64 {
    let next = shape.partition_point(|(utilization, _)| *utilization < x);
    match (next.checked_sub(1).and_then(|before| shape.get(before)), shape.get(next)) {
        (Some((x0, y0)), Some((x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
        (Some((_, y)), None) | (None, Some((_, y))) => *y,
        (None, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Profile, Weighed};

    #[test]
    fn strategies() {
        let shape = |points: &[(i64, i64)]| Strategy::RequestedToCapacityRatio(points.to_vec());
        let table = [
            // (used, capacity) of CPU and memory, as upstream's tests have them.
            (Strategy::LeastAllocated, [(3000, 4000), (5000, 10000)], 37),
            (Strategy::LeastAllocated, [(6000, 4000), (0, 10000)], 50),
            (Strategy::LeastAllocated, [(3000, 6000), (5000, 10000)], 50),
            (Strategy::MostAllocated, [(3000, 4000), (5000, 10000)], 62),
            (Strategy::MostAllocated, [(6000, 4000), (5000, 10000)], 75),
            (shape(&[(0, 100), (100, 0)]), [(3000, 4000), (5000, 10000)], 38),
            (shape(&[(0, 0), (100, 100)]), [(3000, 4000), (5000, 10000)], 63),
            (shape(&[(0, 0), (100, 100)]), [(0, 4000), (5000, 10000)], 50),
        ];
        for (strategy, [cpu, memory], expected) in table {
            let said = format!("{strategy:?} {cpu:?} {memory:?}");
            let fit = Fit { strategy, ..Profile::default().fit };
            let mut node = Node::default();
            (node.allocatable.cpu, node.allocatable.memory) = (cpu.1, memory.1);
            let mut row = Row::default();
            (row.scored_cpu, row.scored_memory) = (cpu.0, memory.0);
            assert_eq!(score(&fit, &Requests::default(), &row, &node), expected, "{said}");
        }
    }

    #[test]
    fn other_resources_count_where_the_pod_asks() {
        let resources = vec![Weighed { resource: Resource::named("x.io/gpu"), weight: 5 }];
        let fit = Fit { strategy: Strategy::MostAllocated, resources, ..Profile::default().fit };
        let mut node = Node::default();
        node.extended.insert("x.io/gpu".to_owned(), 8);
        let mut requests = Requests::default();
        assert_eq!(score(&fit, &requests, &Row::default(), &node), 0);
        requests.extended.insert("x.io/gpu".to_owned(), 2);
        assert_eq!(score(&fit, &requests, &Row::default(), &node), 25);
    }

    #[test]
    fn broken_lines() {
        let shape = [(10, 1), (90, 9)];
        for (x, y) in [
            (-10, 1),
            (0, 1),
            (9, 1),
            (10, 1),
            (15, 1),
            (19, 1),
            (20, 2),
            (89, 8),
            (90, 9),
            (99, 9),
            (110, 9),
        ] {
            assert_eq!(at(&shape, x), y, "{x}");
        }
    }
}
