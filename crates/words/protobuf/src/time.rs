//! Times: RFC 3339 text in JSON, seconds and nanoseconds in protobuf.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde_json::Value;

use crate::ProtobufError;
use crate::wire::{Reader, Writer};

/// How exact a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Seconds,
    Microseconds,
}

/// Go's zero time, the first second of year 1: written as an empty message.
const ZERO: i64 = -62_135_596_800;

/// The text of a time message; null for Go's zero time.
pub(crate) fn decode(bytes: &[u8], precision: Precision) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (mut seconds, mut nanoseconds) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.field()? {
        match number {
            1 => seconds = wire.varint()?.cast_signed(),
            2 => nanoseconds = wire.varint()? as i32,
            _ => {}
        }
    }
    let (nanoseconds, digits) = match precision {
        Precision::Seconds => (0, None),
        Precision::Microseconds => (nanoseconds / 1000 * 1000, Some(6)),
    };
    let time = Timestamp::new(seconds, nanoseconds)
        .map_err(|_| ProtobufError::value(format!("time out of range: {seconds} s")))?;
    Ok(Value::String(DateTimePrinter::new().precision(digits).timestamp_to_string(&time)))
}

/// Writes the fields of a time message; none for Go's zero time.
pub(crate) fn encode(text: &str, precision: Precision, writer: &mut Writer) -> Result<(), ProtobufError> {
    let time: Timestamp =
        text.parse().map_err(|_| ProtobufError::value(format!("{text:?} is not a time in RFC 3339")))?;
    // Seconds are rounded down and the rest counts upwards from there, also before 1970.
    let seconds = time.as_nanosecond().div_euclid(1_000_000_000) as i64;
    let nanoseconds = match precision {
        Precision::Seconds => 0,
        Precision::Microseconds => time.as_nanosecond().rem_euclid(1_000_000_000) as u64 / 1000 * 1000,
    };
    if (seconds, nanoseconds) != (ZERO, 0) {
        writer.number(2, nanoseconds);
        writer.number(1, seconds.cast_unsigned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        for (text, precision, bytes) in [
            ("1970-01-01T00:00:01Z", Precision::Seconds, &[0x08, 1, 0x10, 0][..]),
            ("1970-01-01T00:00:00.000002Z", Precision::Microseconds, &[0x08, 0, 0x10, 0xd0, 0x0f]),
            (
                "1969-12-31T23:59:59.999999Z",
                Precision::Microseconds,
                &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x10, 0x98, 0x8c, 0xeb, 0xdc, 3],
            ),
            ("1970-01-01T00:00:01.000000Z", Precision::Microseconds, &[0x08, 1, 0x10, 0]),
        ] {
            let mut writer = Writer::default();
            encode(text, precision, &mut writer).expect(text);
            assert_eq!(writer.finish(), bytes, "{text}");
            assert_eq!(decode(bytes, precision), Ok(Value::from(text)));
        }
    }

    #[test]
    fn other_forms_become_the_usual_one() {
        for (text, precision, expected) in [
            ("2024-05-01T12:00:00+02:00", Precision::Seconds, Value::from("2024-05-01T10:00:00Z")),
            ("2024-05-01T12:00:00.987654321Z", Precision::Seconds, Value::from("2024-05-01T12:00:00Z")),
            (
                "2024-05-01T12:00:00.987654321Z",
                Precision::Microseconds,
                Value::from("2024-05-01T12:00:00.987654Z"),
            ),
            ("0001-01-01T00:00:00Z", Precision::Seconds, Value::Null),
        ] {
            let mut writer = Writer::default();
            encode(text, precision, &mut writer).expect(text);
            assert_eq!(decode(&writer.finish(), precision), Ok(expected), "{text}");
        }
        assert!(encode("yesterday", Precision::Seconds, &mut Writer::default()).is_err());
    }
}
