//! Parts of moments and spans of time.

use jiff::tz::{Offset, TimeZone};

use super::fail;
use crate::evaluate::Evaluated;
use crate::types::{Duration, Timestamp, Value};

pub(super) const TABLE: &str = "
timestamp_to_year getFullYear member timestamp int
timestamp_to_year_with_tz getFullYear member timestamp,string int
timestamp_to_month getMonth member timestamp int
timestamp_to_month_with_tz getMonth member timestamp,string int
timestamp_to_day_of_year getDayOfYear member timestamp int
timestamp_to_day_of_year_with_tz getDayOfYear member timestamp,string int
timestamp_to_day_of_month getDayOfMonth member timestamp int
timestamp_to_day_of_month_with_tz getDayOfMonth member timestamp,string int
timestamp_to_day_of_month_1_based getDate member timestamp int
timestamp_to_day_of_month_1_based_with_tz getDate member timestamp,string int
timestamp_to_day_of_week getDayOfWeek member timestamp int
timestamp_to_day_of_week_with_tz getDayOfWeek member timestamp,string int
timestamp_to_hours getHours member timestamp int
timestamp_to_hours_with_tz getHours member timestamp,string int
duration_to_hours getHours member duration int
timestamp_to_minutes getMinutes member timestamp int
timestamp_to_minutes_with_tz getMinutes member timestamp,string int
duration_to_minutes getMinutes member duration int
timestamp_to_seconds getSeconds member timestamp int
timestamp_to_seconds_tz getSeconds member timestamp,string int
duration_to_seconds getSeconds member duration int
timestamp_to_milliseconds getMilliseconds member timestamp int
timestamp_to_milliseconds_with_tz getMilliseconds member timestamp,string int
duration_to_milliseconds getMilliseconds member duration int
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    match args {
        [Value::Duration(span)] => of_duration(function, *span).map(|part| Ok(Value::Int(part))),
        [Value::Timestamp(at)] => of_timestamp(function, *at, TimeZone::UTC).map(|part| Ok(Value::Int(part))),
        [Value::Timestamp(at), Value::String(zone)] => match zone_named(zone) {
            Some(zone) => of_timestamp(function, *at, zone).map(|part| Ok(Value::Int(part))),
            None => Some(fail(format!("unknown time zone {}", &**zone))),
        },
        _ => None,
    }
}

fn of_duration(function: &str, span: Duration) -> Option<i64> {
    Some(match function {
        "getHours" => span.0 / 3_600_000_000_000,
        "getMinutes" => span.0 / 60_000_000_000,
        "getSeconds" => span.0 / 1_000_000_000,
        "getMilliseconds" => span.0 / 1_000_000,
        _ => return None,
    })
}

fn of_timestamp(function: &str, at: Timestamp, zone: TimeZone) -> Option<i64> {
    let at = at.0.to_zoned(zone);
    Some(match function {
        "getFullYear" => at.year().into(),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => at.day().into(),
        "getDayOfWeek" => at.weekday().to_sunday_zero_offset().into(),
        "getHours" => at.hour().into(),
        "getMinutes" => at.minute().into(),
        "getSeconds" => at.second().into(),
        "getMilliseconds" => i64::from(at.subsec_nanosecond()) / 1_000_000,
        _ => return None,
    })
}

/// A zone by its name, or by its offset `+01:30`.
fn zone_named(name: &str) -> Option<TimeZone> {
    if name.is_empty() || name == "UTC" {
        return Some(TimeZone::UTC);
    }
    let Some((hours, minutes)) = name.split_once(':') else { return TimeZone::get(name).ok() };
    let negative = hours.starts_with('-');
    let hours: i32 = hours.parse().ok()?;
    let minutes: i32 = minutes.parse().ok()?;
    let seconds = hours * 3600 + if negative { -minutes } else { minutes } * 60;
    Offset::from_seconds(seconds).ok().map(TimeZone::fixed)
}
