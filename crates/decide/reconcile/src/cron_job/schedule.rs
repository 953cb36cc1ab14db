//! Schedules such as `*/5 8-18 * * mon-fri`, as cron has them since 1987.

use k8s_openapi::jiff::civil::{Date, DateTime};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Days to look through for the next time: a leap day that falls on a given weekday comes within 40 years.
const HORIZON: usize = 366 * 41;

/// Times at which something is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// Whenever the calendar fits.
    Calendar(Calendar),
    /// Again and again after this long (`@every 1h30m`).
    Every(SignedDuration),
}

/// Sets of minutes, hours, days, months and weekdays, a bit for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Where both kinds of days are given, either is enough.
    either_day: bool,
}

/// Times of a schedule in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The last one.
    pub last: Option<Timestamp>,
    /// How many there were; counting stops above the limit.
    pub count: usize,
}

impl Schedule {
    /// Reads five fields, or one of the names that begin with `@`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(every) = fields.strip_prefix("@every ") {
            let every = plimsoll_meta::duration::parse(every.trim())?;
            let seconds = i64::try_from(every.as_secs()).unwrap_or(i64::MAX).max(1);
            return Ok(Self::Every(SignedDuration::from_secs(seconds)));
        }
        let parts: Vec<_> = fields.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = parts[..] else {
            return Err(format!("expected exactly 5 fields, found {}: {parts:?}", parts.len()));
        };
        let open = |field: &str| field.starts_with('*') || field.starts_with('?');
        let calendar = Calendar {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            weekdays: sundays(field(weekdays, 0, 7, &DAYS)?),
            either_day: !open(days) && !open(weekdays),
        };
        Ok(Self::Calendar(calendar))
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(every) => after.checked_add(*every).ok(),
            Self::Calendar(calendar) => calendar.next(after, zone),
        }
    }

    /// The times after `from` up to `now`.
    pub fn missed(&self, from: Timestamp, now: Timestamp, zone: &TimeZone, limit: usize) -> Missed {
        let mut missed = Missed { last: None, count: 0 };
        let mut at = from;
        while let Some(next) = self.next(at, zone).filter(|next| *next <= now) {
            missed = Missed { last: Some(next), count: missed.count + 1 };
            at = next;
            if missed.count > limit {
                missed.last = self.last(next, now, zone).or(missed.last);
                break;
            }
        }
        missed
    }

    /// The last time up to `now`, found from spans before it that double until one holds a time.
    fn last(&self, from: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if let Self::Every(every) = self {
            let rounds = now.duration_since(from).as_secs() / every.as_secs();
            return from.checked_add(SignedDuration::from_secs(rounds * every.as_secs())).ok();
        }
        let mut span = SignedDuration::from_mins(2);
        loop {
            let start = now.checked_sub(span).ok()?.max(from);
            let mut last = self.next(start, zone).filter(|next| *next <= now);
            while let Some(next) = last.and_then(|last| self.next(last, zone)).filter(|next| *next <= now) {
                last = Some(next);
            }
            if last.is_some() || start == from {
                return last;
            }
            span = span.checked_mul(2)?;
        }
    }
}

impl Calendar {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).datetime();
        let mut day = start.date();
        for _ in 0..HORIZON {
            if self.allows(day) {
                // A time that a clock change leaves out comes when the clock has moved on.
                let times = self.times(day);
                let mut stamps = times.filter_map(|time| zone.to_ambiguous_timestamp(time).compatible().ok());
                if let Some(next) = stamps.find(|stamp| *stamp > after) {
                    return Some(next);
                }
            }
            day = day.tomorrow().ok()?;
        }
        None
    }

    fn allows(&self, day: Date) -> bool {
        let has = |set: u64, number: i8| set & (1 << number) != 0;
        let by_day = has(self.days, day.day());
        let by_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let fits = if self.either_day { by_day || by_weekday } else { by_day && by_weekday };
        has(self.months, day.month()) && fits
    }

    fn times(&self, day: Date) -> impl Iterator<Item = DateTime> {
        let hours = (0..24).filter(|hour| self.hours & (1 << hour) != 0);
        let minutes = self.minutes;
        hours.flat_map(move |hour| {
            (0..60)
                .filter(move |minute| minutes & (1 << minute) != 0)
                .map(move |minute| day.at(hour, minute, 0, 0))
        })
    }
}

/// Sunday is 0 and 7.
fn sundays(set: u64) -> u64 {
    (set | (set >> 7)) & 0x7f
}

/// Reads `1,5-9/2,*/3` as a set.
fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let step: u32 = match step {
            None => 1,
            Some(text) => text.parse().map_err(|_| format!("failed to parse int from {text}"))?,
        };
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        let stepped = part.contains('/');
        let (first, last) = match range {
            "*" | "?" => (low, if names == DAYS { 6 } else { high }),
            _ => match range.split_once('-') {
                Some((first, last)) => (number(first, names, low)?, number(last, names, low)?),
                None => {
                    let only = number(range, names, low)?;
                    (only, if stepped { high } else { only })
                }
            },
        };
        if first < low {
            return Err(format!("beginning of range ({first}) below minimum ({low}): {part}"));
        }
        if last > high {
            return Err(format!("end of range ({last}) above maximum ({high}): {part}"));
        }
        if first > last {
            return Err(format!("beginning of range ({first}) beyond end of range ({last}): {part}"));
        }
        let mut at = first;
        while at <= last {
            set |= 1 << at;
            at += step;
        }
    }
    Ok(set)
}

fn number(text: &str, names: &[&str], low: u32) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(at) = names.iter().position(|name| *name == lower) {
        return Ok(low + u32::try_from(at).unwrap_or_default());
    }
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn next_times_are_those_of_the_calendar() {
        let cases = [
            ("*/15 * * * *", "2024-05-06T10:07:12Z", "2024-05-06T10:15:00Z"),
            ("*/15 * * * *", "2024-05-06T10:15:00Z", "2024-05-06T10:30:00Z"),
            ("0 0 * * *", "2024-05-06T00:00:00Z", "2024-05-07T00:00:00Z"),
            ("30 8-10/2 * * mon-fri", "2024-05-03T10:30:00Z", "2024-05-06T08:30:00Z"),
            ("0 12 29 feb *", "2024-03-01T00:00:00Z", "2028-02-29T12:00:00Z"),
            ("0 0 13 * 5", "2024-05-06T00:00:00Z", "2024-05-10T00:00:00Z"),
            ("0 0 * * 7", "2024-05-06T00:00:00Z", "2024-05-12T00:00:00Z"),
            ("@hourly", "2024-05-06T10:59:59Z", "2024-05-06T11:00:00Z"),
            ("@every 90s", "2024-05-06T10:00:00Z", "2024-05-06T10:01:30Z"),
            ("1,2 5 * * ?", "2024-05-06T05:01:00Z", "2024-05-06T05:02:00Z"),
        ];
        for (text, after, expected) in cases {
            let schedule = Schedule::parse(text).unwrap();
            let next = schedule.next(after.parse().unwrap(), &TimeZone::UTC).unwrap();
            assert_eq!(next, expected.parse().unwrap(), "{text} after {after}");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn bad_schedules_are_refused() {
        for text in
            ["", "* * * *", "60 * * * *", "* 5-3 * * *", "*/0 * * * *", "x * * * *", "* * 0 * *", "@every x"]
        {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_of_many_missed_times_is_found() {
        let schedule = Schedule::parse("* * * * *").unwrap();
        let (from, now) = ("2024-01-01T00:00:00Z".parse().unwrap(), "2024-05-06T10:00:30Z".parse().unwrap());
        let missed = schedule.missed(from, now, &TimeZone::UTC, 100);
        assert_eq!((missed.last, missed.count), (Some("2024-05-06T10:00:00Z".parse().unwrap()), 101));
        let every = Schedule::parse("@every 1h").unwrap().missed(from, now, &TimeZone::UTC, 100);
        assert_eq!(every.last, Some("2024-05-06T10:00:00Z".parse().unwrap()));
    }
}
