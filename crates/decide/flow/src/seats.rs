//! How the server's concurrency is divided: what each level has, lends and borrows.

use crate::level::{Level, LevelKind};

/// The seats of a level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seats {
    /// By its shares.
    pub nominal: u32,
    /// What nobody can borrow from it.
    pub least: u32,
    /// With all that it may borrow.
    pub most: u32,
}

/// What a level wants in the next period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Want {
    /// Its seats.
    pub seats: Seats,
    /// The most seats that it wanted in the last period.
    pub high: f64,
    /// What it is likely to want.
    pub smoothed: f64,
}

/// Divides `total` among the levels by their shares.
pub fn nominal(total: u32, levels: &[&Level]) -> Vec<Seats> {
    let shares: u64 = levels.iter().map(|level| u64::from(level.shares)).sum();
    let part = |level: &Level| match shares {
        0 => 0,
        _ => (u64::from(total) * u64::from(level.shares)).div_ceil(shares),
    };
    let nominals: Vec<u64> = levels.iter().map(|level| part(level)).collect();
    let all: u64 = nominals.iter().sum();
    levels
        .iter()
        .zip(nominals)
        .map(|(level, nominal)| {
            let percent = |of: u32| (nominal * u64::from(of) + 50) / 100;
            let most = match level.kind {
                LevelKind::Limited { borrowing: Some(limit), .. } => nominal + percent(limit),
                _ => all,
            };
            Seats {
                nominal: narrow(nominal),
                least: narrow(nominal - percent(level.lendable)),
                most: narrow(most),
            }
        })
        .collect()
}

/// Divides the sum of the nominal seats by what the levels want: each gets the same fraction of what it is
/// likely to want, within its bounds.
pub fn adjusted(wants: &[Want]) -> Vec<u32> {
    let total: f64 = wants.iter().map(|want| f64::from(want.seats.nominal)).sum();
    let bounds: Vec<(f64, f64, f64)> = wants
        .iter()
        .map(|want| {
            let least = f64::from(want.seats.least).max(f64::from(want.seats.nominal).min(want.high));
            (least, f64::from(want.seats.most).max(least), least.max(want.smoothed).max(0.001))
        })
        .collect();
    let given = |fraction: f64| -> Vec<f64> {
        bounds.iter().map(|(least, most, target)| (target * fraction).clamp(*least, *most)).collect()
    };
    // The sum grows with the fraction: halve the interval until it is as narrow as floats are.
    let (mut low, mut high) = (0.0, 1e9);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if given(middle).iter().sum::<f64>() < total { low = middle } else { high = middle }
    }
    given(high).into_iter().map(|seats| narrow(seats.round().max(0.0) as u64)).collect()
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_levels_have_their_parts() {
        let levels: Vec<Level> = crate::levels().iter().map(Level::read).collect();
        let levels: Vec<&Level> = levels.iter().collect();
        let named = |name: &str| {
            let at = levels.iter().position(|level| level.name == name).expect("a level");
            nominal(600, &levels)[at]
        };
        // Of 245 shares: workload-low has 100 and lends 90 percent.
        assert_eq!(named("workload-low"), Seats { nominal: 245, least: 24, most: 602 });
        assert_eq!(named("catch-all"), Seats { nominal: 13, least: 13, most: 602 });
        assert_eq!(named("exempt"), Seats { nominal: 0, least: 0, most: 602 });
    }

    #[test]
    fn seats_go_where_they_are_wanted() {
        let seats = |nominal, least| Seats { nominal, least, most: 200 };
        let want = |seats, high, smoothed| Want { seats, high, smoothed };
        // Nobody wants anything: all stay within their bounds and nothing is lost.
        let idle = adjusted(&[want(seats(100, 10), 0.0, 0.0), want(seats(100, 100), 0.0, 0.0)]);
        assert_eq!(idle.iter().sum::<u32>(), 200);
        // One is flooded, the other lends all but its part.
        assert_eq!(
            adjusted(&[want(seats(100, 10), 500.0, 500.0), want(seats(100, 10), 5.0, 5.0)]),
            [190, 10]
        );
        // The lender wants its own back.
        assert_eq!(
            adjusted(&[want(seats(100, 10), 500.0, 500.0), want(seats(100, 10), 100.0, 90.0)]),
            [100, 100]
        );
    }
}
