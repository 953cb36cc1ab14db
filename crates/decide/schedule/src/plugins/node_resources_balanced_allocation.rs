//! A pod rather goes where CPU and memory (or other resources) would be used in equal shares, so that none is left
//! over without the others.

use super::MAX_SCORE;
use crate::node::Node;
use crate::profile::Weighed;
use crate::requests::Requests;
use crate::snapshot::Row;

pub(super) fn score(resources: &[Weighed], requests: &Requests, row: &Row, node: &Node) -> i64 {
    // Pods without requests would not change the balance.
    if resources.iter().all(|weighed| requests.plain(&weighed.resource) == 0) {
        return 0;
    }
    let share = |weighed: &Weighed| {
        let (resource, request) = (&weighed.resource, requests.plain(&weighed.resource));
        let capacity = node.capacity(resource);
        // Extended resources that the pod does not ask for do not count.
        let counts = capacity > 0 && (request > 0 || !resource.is_extended());
        counts.then(|| ((row.used(resource) + request) as f64 / capacity as f64).min(1.0))
    };
    let deviation = deviation(|| resources.iter().filter_map(share));
    ((1.0 - deviation) * MAX_SCORE as f64) as i64
}

fn deviation<I: Iterator<Item = f64>>(shares: impl Fn() -> I) -> f64 {
    let (mut first, mut count, mut sum) = ([0.0; 2], 0, 0.0);
    for share in shares() {
        if let Some(place) = first.get_mut(count) {
            *place = share;
        }
        (count, sum) = (count + 1, sum + share);
    }
    match count {
        0 | 1 => 0.0,
        2 => ((first[0] - first[1]) / 2.0f64).abs(),
        _ => {
            let mean = sum / count as f64;
            let squares: f64 = shares().map(|share| (share - mean) * (share - mean)).sum();
            (squares / count as f64).sqrt()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations() {
        let of = |shares: &[f64]| deviation(|| shares.iter().copied());
        for (shares, expected) in [
            (&[][..], 0.0),
            (&[0.7], 0.0),
            (&[0.75, 0.5], 0.125),
            (&[0.0, 0.0, 0.75], 0.353_553),
            (&[0.5; 4], 0.0),
        ] {
            assert!((of(shares) - expected).abs() < 1e-6, "{shares:?}");
        }
    }
}
