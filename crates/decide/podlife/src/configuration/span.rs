//! Lengths of time as Go writes them, which may be negative.

use std::fmt;
use std::time::Duration;

use plimsoll_meta::duration;

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(i64);

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(count: i64) -> Self {
        Self(count * 1_000_000_000)
    }

    /// Reads `1h30m`, `-5s`, `0`.
    ///
    /// # Errors
    /// Go's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text),
        };
        let length = duration::parse(rest)
            .map_err(|error| error.replace(&format!("{rest:?}"), &format!("{text:?}")))?;
        let invalid = || format!("time: invalid duration {text:?}");
        Ok(Self(sign * i64::try_from(length.as_nanos()).map_err(|_| invalid())?))
    }

    /// The length where only lengths make sense: nothing for what is negative.
    #[must_use]
    pub fn length(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }

    /// In nanoseconds.
    #[must_use]
    pub const fn nanoseconds(self) -> i64 {
        self.0
    }

    /// Whether it is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Span {
    /// `1h0m0s`, `1.5s`, `100ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let part = |unit: u64| all as f64 / unit as f64;
        match all {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{all}ns"),
            1_000..1_000_000 => write!(f, "{}µs", part(1_000)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", part(1_000_000)),
            _ => {
                let (minutes, rest) = (all / 60_000_000_000, all % 60_000_000_000);
                let (hours, minutes) = (minutes / 60, minutes % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if hours > 0 || minutes > 0 {
                    write!(f, "{minutes}m")?;
                }
                write!(f, "{}s", rest as f64 / 1e9)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_and_written_as_go_does() {
        for (text, written) in [
            ("0", "0s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("-5s", "-5s"),
            ("100ms", "100ms"),
            ("1500ms", "1.5s"),
            ("2us", "2µs"),
        ] {
            assert_eq!(Span::parse(text).map(|span| span.to_string()).as_deref(), Ok(written), "{text}");
        }
        assert_eq!(Span::parse("-5"), Err("time: missing unit in duration \"-5\"".to_owned()));
    }
}
