//! Moments and spans of time with the bounds of the language.

use jiff::tz::TimeZone;

/// A span of time in nanoseconds, as Go counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub i64);

/// A moment between the years 1 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub jiff::Timestamp);

const NANOS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Duration {
    /// Reads Go's form: `1h30m`, `-1.5s`, `0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            total += part(&mut rest)?;
        }
        i64::try_from(if negative { -total } else { total }).ok().map(Self)
    }

    /// The form of conversions to text: seconds with a fraction, `90s`.
    pub(crate) fn in_seconds(self) -> String {
        let seconds = self.0 as f64 / 1e9;
        if self.0 % 1_000_000_000 == 0 {
            format!("{}s", self.0 / 1_000_000_000)
        } else {
            format!("{seconds}s")
        }
    }
}

/// One number with its unit, in nanoseconds.
fn part(rest: &mut &str) -> Option<i128> {
    let whole_end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (whole, mut tail) = rest.split_at(whole_end);
    let mut fraction = "";
    if let Some(after) = tail.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        (fraction, tail) = after.split_at(end);
    }
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
    let (unit, after) = tail.split_at(end);
    let nanos = i128::from(NANOS.iter().find(|(name, _)| *name == unit)?.1);
    *rest = after;
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.into() };
    let digits = &fraction[..fraction.len().min(18)];
    let fraction: i128 = if digits.is_empty() { 0 } else { digits.parse::<i64>().ok()?.into() };
    Some(whole * nanos + fraction * nanos / 10i128.pow(digits.len() as u32))
}

impl Timestamp {
    /// From seconds and nanoseconds, if within the language's bounds.
    pub fn new(seconds: i64, nanos: i32) -> Option<Self> {
        Self::checked(jiff::Timestamp::new(seconds, nanos).ok()?)
    }

    fn checked(at: jiff::Timestamp) -> Option<Self> {
        let year = at.to_zoned(TimeZone::UTC).year();
        (1..=9999).contains(&year).then_some(Self(at))
    }

    /// Reads RFC 3339: `2023-01-02T03:04:05.6Z`.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shape = bytes.len() >= 20
            && bytes[10] == b'T'
            && bytes[4] == b'-'
            && bytes[13] == b':'
            && bytes[16] == b':';
        if !shape {
            return None;
        }
        Self::checked(text.parse().ok()?)
    }

    pub(crate) fn plus(self, duration: Duration) -> Option<Self> {
        let nanos = self.0.as_nanosecond().checked_add(i128::from(duration.0))?;
        Self::checked(jiff::Timestamp::from_nanosecond(nanos).ok()?)
    }

    pub(crate) fn minus(self, duration: Duration) -> Option<Self> {
        let nanos = self.0.as_nanosecond().checked_sub(i128::from(duration.0))?;
        Self::checked(jiff::Timestamp::from_nanosecond(nanos).ok()?)
    }

    pub(crate) fn since(self, other: Self) -> Option<Duration> {
        i64::try_from(self.0.as_nanosecond() - other.0.as_nanosecond()).ok().map(Duration)
    }
}
