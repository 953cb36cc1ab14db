//! How many seats a request takes, and for how long after its end.

use std::time::Duration;

/// A list of this many objects takes one seat.
const OBJECTS_PER_SEAT: u64 = 100;
/// This many watchers of a change take one seat.
const WATCHES_PER_SEAT: u64 = 10;
/// The most seats of one request.
const MOST: u32 = 10;
/// How long a change keeps its watchers busy.
const EVENT_TIME: Duration = Duration::from_millis(5);

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Width {
    /// Seats while it runs.
    pub seats: u32,
    /// Seats after its end.
    pub after: u32,
    /// How long those are taken.
    pub lasting: Duration,
}

impl Width {
    /// What nearly all requests take.
    pub const ONE: Self = Self { seats: 1, after: 0, lasting: Duration::ZERO };
}

/// How a list is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All objects are looked at.
    Whole,
    /// A page, of objects that are selected.
    Selected(u64),
    /// A page of all objects; zero is no limit.
    Page(u64),
}

/// The most seats of one request on a level (upstream: 15 percent of the nominal seats, and no more than lets
/// all queues of a hand be served at once).
pub fn most(nominal: u32, hand: Option<usize>) -> u32 {
    let Some(hand) = hand else { return MOST };
    let share = u64::from(nominal) * 15;
    let share = u32::try_from(share.div_ceil(100)).unwrap_or(MOST);
    share.min(nominal / u32::try_from(hand.max(1)).unwrap_or(1)).clamp(1, MOST)
}

/// A list, or the objects that a watch begins with.
pub fn list(stored: u64, reading: Reading, most: u32) -> Width {
    let page = |limit: u64| if limit > 0 { limit.min(stored) } else { stored };
    let seen = match reading {
        Reading::Whole => stored,
        Reading::Selected(limit) => stored + page(limit),
        Reading::Page(limit) => 2 * page(limit),
    };
    let seats = u32::try_from(seen.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(MOST);
    Width { seats: seats.clamp(1, most.max(1)), ..Width::ONE }
}

/// A change that `watchers` hear of.
pub fn change(watchers: u64, most: u32) -> Width {
    if watchers < WATCHES_PER_SEAT {
        return Width::ONE;
    }
    let seats = u32::try_from(watchers.div_ceil(WATCHES_PER_SEAT)).unwrap_or(u32::MAX);
    let after = seats.min(most.max(1));
    Width { seats: 1, after, lasting: EVENT_TIME * seats / after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_wide_as_their_work() {
        for (stored, reading, seats) in [
            (0, Reading::Whole, 1),
            (100, Reading::Whole, 1),
            (101, Reading::Whole, 2),
            (5000, Reading::Whole, 10),
            (5000, Reading::Page(100), 2),
            (300, Reading::Page(500), 6),
            (300, Reading::Selected(100), 4),
        ] {
            assert_eq!(list(stored, reading, 10).seats, seats, "{stored} {reading:?}");
        }
        for (watchers, most, expected) in [
            (9, 10, Width::ONE),
            (10, 10, Width { seats: 1, after: 1, lasting: Duration::from_millis(5) }),
            (25, 10, Width { seats: 1, after: 3, lasting: Duration::from_millis(5) }),
            (200, 10, Width { seats: 1, after: 10, lasting: Duration::from_millis(10) }),
        ] {
            assert_eq!(change(watchers, most), expected);
        }
        for (nominal, hand, expected) in
            [(245, Some(6), 10), (30, Some(6), 5), (3, Some(6), 1), (13, None, 10)]
        {
            assert_eq!(most(nominal, hand), expected, "{nominal} {hand:?}");
        }
    }
}
