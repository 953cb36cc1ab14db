//! Which endpoint takes the next request.

use std::time::Duration;

/// Endpoints that were tried for a request already, by their place; further ones than 64 count as not tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried(u64);

impl Tried {
    /// Adds a place.
    pub fn add(&mut self, place: usize) {
        self.0 |= 1_u64.checked_shl(place as u32).unwrap_or(0);
    }

    /// Whether a place was tried.
    pub fn has(self, place: usize) -> bool {
        self.0 & 1_u64.checked_shl(place as u32).unwrap_or(0) != 0
    }
}

/// The next of `count` endpoints in turn, where `turn` counts requests: one that is neither tried nor ejected; if all
/// are ejected, one that is not tried. None when all were tried.
pub fn next(count: usize, turn: usize, tried: Tried, ejected: impl Fn(usize) -> bool) -> Option<usize> {
    let places = || (0..count).map(move |step| (turn % count + step) % count);
    let fresh = |place: &usize| !tried.has(*place);
    places().filter(fresh).find(|place| !ejected(*place)).or_else(|| places().find(fresh))
}

/// How long an endpoint is left alone after it could not be connected to so many times in a row.
pub fn ejection(failures: u32) -> Duration {
    Duration::from_millis(500 * (1 << failures.clamp(1, 6))).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_turn_without_those_that_fail() {
        // Endpoints, turn, tried, ejected, next.
        type Row<'a> = (usize, usize, &'a [usize], &'a [usize], Option<usize>);
        let table: &[Row<'_>] = &[
            (0, 3, &[], &[], None),
            (3, 0, &[], &[], Some(0)),
            (3, 4, &[], &[], Some(1)),
            (3, 1, &[], &[1], Some(2)),
            (3, 1, &[2], &[1], Some(0)),
            (3, 1, &[0, 2], &[1], Some(1)),
            (3, 1, &[], &[0, 1, 2], Some(1)),
            (3, 1, &[0, 1, 2], &[], None),
            (100, usize::MAX, &[], &[], Some(15)),
            (100, 80, &[80], &[], Some(80)),
        ];
        for (count, turn, tried, ejected, expected) in table {
            let mut seen = Tried::default();
            tried.iter().for_each(|place| seen.add(*place));
            let found = next(*count, *turn, seen, |place| ejected.contains(&place));
            assert_eq!(found, *expected, "{count} {turn} {tried:?} {ejected:?}");
        }
    }

    #[test]
    fn ejections_grow_to_half_a_minute() {
        let told: Vec<u64> = [0, 1, 2, 5, 6, 40].map(|failures| ejection(failures).as_secs()).to_vec();
        assert_eq!(told, [1, 1, 2, 16, 30, 30]);
    }
}
