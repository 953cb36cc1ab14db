//! Numbers given as a count or as a percentage.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a broken share is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To the next whole number above.
    Up,
    /// To the next whole number below.
    Down,
}

/// `value` as a count, percentages being of `total`. Text that is no percentage counts as nothing:
/// validation does not let it in.
pub fn of(value: Option<&IntOrString>, total: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(count)) => *count,
        Some(IntOrString::String(text)) => {
            let percent: i64 =
                text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or_default();
            let hundredfold = percent * i64::from(total);
            let share = match round {
                Round::Up => (hundredfold + 99).div_euclid(100),
                Round::Down => hundredfold.div_euclid(100),
            };
            i32::try_from(share).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let cases =
            [("25%", 10, 3, 2), ("25%", 4, 1, 1), ("0%", 7, 0, 0), ("100%", 7, 7, 7), ("1%", 1, 1, 0)];
        for (text, total, up, down) in cases {
            let value = IntOrString::String(text.to_owned());
            assert_eq!(of(Some(&value), total, Round::Up), up, "{text} of {total}");
            assert_eq!(of(Some(&value), total, Round::Down), down, "{text} of {total}");
        }
        assert_eq!(of(Some(&IntOrString::Int(3)), 10, Round::Up), 3);
        assert_eq!(of(None, 10, Round::Up), 0);
    }
}
