//! Shuffle sharding: each flow is dealt a hand of queues.
//!
//! Two flows that share one queue most likely do not share the others, so a flow that fills all its queues
//! leaves nearly everybody else one that is free.

/// A number that stands for a flow: the name of its schema and its distinguisher (FNV-1a).
pub fn hash(schema: &str, distinguisher: &str) -> u64 {
    let bytes = schema.bytes().chain([0]).chain(distinguisher.bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The upper bits of FNV mix well; the digits of a hand are taken from below.
    let mixed = (sum ^ (sum >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Deals `hand` different cards of a deck of `deck`.
pub(crate) fn deal(mut hash: u64, deck: usize, hand: usize, mut take: impl FnMut(usize)) {
    let hand = hand.min(deck);
    // The cards dealt so far in ascending order; a hand has at most ten cards or so.
    let mut dealt: [usize; 16] = [0; 16];
    let hand = hand.min(dealt.len());
    for count in 0..hand {
        let left = deck - count;
        let mut card = usize::try_from(hash % left as u64).unwrap_or_default();
        hash /= left as u64;
        // The n-th of the cards that are left.
        let mut at = 0;
        while at < count && dealt[at] <= card {
            card += 1;
            at += 1;
        }
        dealt.copy_within(at..count, at + 1);
        dealt[at] = card;
        take(card);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_have_different_cards_of_the_deck() {
        for (deck, hand) in [(1, 1), (3, 3), (16, 4), (64, 6), (128, 6), (512, 10), (2, 6)] {
            for flow in 0..500 {
                let mut cards = Vec::new();
                deal(hash("s", &format!("u{flow}")), deck, hand, |card| cards.push(card));
                let mut sorted = cards.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), hand.min(deck), "{cards:?}");
                assert!(sorted.iter().all(|card| *card < deck));
            }
        }
    }

    #[test]
    fn cards_are_dealt_evenly() {
        let mut counts = [0_u32; 64];
        for flow in 0..10_000 {
            deal(hash("s", &format!("user-{flow}")), 64, 6, |card| counts[card] += 1);
        }
        let expected = 10_000 * 6 / 64;
        assert!(counts.iter().all(|count| count.abs_diff(expected) < expected / 5), "{counts:?}");
    }

    #[test]
    fn hardly_anybody_shares_the_whole_hand_of_a_flood() {
        let mut flood = [false; 128];
        deal(hash("s", "flood"), 128, 6, |card| flood[card] = true);
        let covered = (0..10_000)
            .filter(|flow| {
                let mut free = false;
                deal(hash("s", &format!("u{flow}")), 128, 6, |card| free |= !flood[card]);
                !free
            })
            .count();
        assert_eq!(covered, 0);
    }
}
