//! Conversions between types, and `type()`.

use std::sync::Arc;

use super::fail;
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{Duration, Opaque, Timestamp, Value};

pub(super) const TABLE: &str = "
type type global A type(A)
bool_to_bool bool global bool bool
string_to_bool bool global string bool
bytes_to_bytes bytes global bytes bytes
string_to_bytes bytes global string bytes
double_to_double double global double double
int64_to_double double global int double
string_to_double double global string double
uint64_to_double double global uint double
duration_to_duration duration global duration duration
string_to_duration duration global string duration
to_dyn dyn global A dyn
int64_to_int64 int global int int
double_to_int64 int global double int
duration_to_int64 int global duration int
string_to_int64 int global string int
timestamp_to_int64 int global timestamp int
uint64_to_int64 int global uint int
string_to_string string global string string
bool_to_string string global bool string
bytes_to_string string global bytes string
double_to_string string global double string
duration_to_string string global duration string
int64_to_string string global int string
timestamp_to_string string global timestamp string
uint64_to_string string global uint string
timestamp_to_timestamp timestamp global timestamp timestamp
int64_to_timestamp timestamp global int timestamp
string_to_timestamp timestamp global string timestamp
uint64_to_uint64 uint global uint uint
double_to_uint64 uint global double uint
int64_to_uint64 uint global int uint
string_to_uint64 uint global string uint
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    let [value] = args else { return None };
    match function {
        "dyn" => Some(Ok(value.clone())),
        "type" => Some(Ok(Value::Type(value.ty()))),
        "bool" => to_bool(value),
        "bytes" => to_bytes(value),
        "double" => to_double(value),
        "int" => to_int(value),
        "uint" => to_uint(value),
        "string" => text(value).map(|text| text.map(Value::text)),
        "duration" => to_duration(value),
        "timestamp" => to_timestamp(value),
        _ => None,
    }
}

fn unfit<'a>(text: &str, wanted: &str) -> Evaluated<'a> {
    fail(format!("type conversion error from 'string' to '{wanted}': {text:?}"))
}

fn to_bool<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    Some(match value {
        Value::Bool(_) => Ok(value.clone()),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            other => fail(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
        },
        _ => return None,
    })
}

fn to_bytes<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    match value {
        Value::Bytes(_) => Some(Ok(value.clone())),
        Value::String(text) => Some(Ok(Value::Bytes(Arc::from(text.as_bytes())))),
        _ => None,
    }
}

fn to_double<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    Some(match value {
        Value::Double(_) => Ok(value.clone()),
        Value::Int(i) => Ok(Value::Double(*i as f64)),
        Value::Uint(u) => Ok(Value::Double(*u as f64)),
        Value::String(text) => match text.parse() {
            Ok(number) => Ok(Value::Double(number)),
            Err(_) => fail(format!("strconv.ParseFloat: parsing {:?}: invalid syntax", &**text)),
        },
        _ => return None,
    })
}

fn to_int<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    let overflow = || EvalError::failed("integer overflow");
    Some(match value {
        Value::Int(_) => Ok(value.clone()),
        Value::Uint(u) => i64::try_from(*u).map(Value::Int).map_err(|_| overflow()),
        Value::Double(d) if *d > -9_223_372_036_854_775_808.0 && *d < 9_223_372_036_854_775_808.0 => {
            Ok(Value::Int(*d as i64))
        }
        Value::Double(_) => Err(overflow()),
        Value::Duration(span) => Ok(Value::Int(span.0)),
        Value::Timestamp(at) => Ok(Value::Int(at.0.as_second())),
        Value::String(text) => match text.parse() {
            Ok(number) => Ok(Value::Int(number)),
            Err(_) => fail(format!("strconv.ParseInt: parsing {:?}: {}", &**text, why(text))),
        },
        _ => return None,
    })
}

fn to_uint<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    let overflow = || EvalError::failed("unsigned integer overflow");
    Some(match value {
        Value::Uint(_) => Ok(value.clone()),
        Value::Int(i) => u64::try_from(*i).map(Value::Uint).map_err(|_| overflow()),
        Value::Double(d) if *d >= 0.0 && *d < 18_446_744_073_709_551_616.0 => Ok(Value::Uint(*d as u64)),
        Value::Double(_) => Err(overflow()),
        Value::String(text) => match text.parse() {
            Ok(number) => Ok(Value::Uint(number)),
            Err(_) => fail(format!("strconv.ParseUint: parsing {:?}: {}", &**text, why(text))),
        },
        _ => return None,
    })
}

fn why(text: &str) -> &'static str {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { "value out of range" } else { "invalid syntax" }
}

/// The text of a value; none if it has no conversion to text.
pub(super) fn text(value: &Value<'_>) -> Option<Result<String, EvalError>> {
    Some(Ok(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => double(*d),
        Value::Duration(span) => span.in_seconds(),
        Value::Timestamp(at) => at.0.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                return Some(Err(EvalError::failed("invalid UTF-8 in bytes, cannot convert to string")));
            }
        },
        Value::Opaque(Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(Opaque::Cidr(cidr)) => cidr.to_string(),
        _ => return None,
    }))
}

/// A number as Go prints it with `%g` and the fewest digits.
pub(super) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponential = format!("{value:e}");
    let Some((digits, exponent)) = exponential.split_once('e') else { return exponential };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..21).contains(&exponent) {
        return value.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

fn to_duration<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    match value {
        Value::Duration(_) => Some(Ok(value.clone())),
        Value::String(text) => Some(match Duration::parse(text) {
            Some(span) => Ok(Value::Duration(span)),
            None => unfit(text, "google.protobuf.Duration"),
        }),
        _ => None,
    }
}

fn to_timestamp<'a>(value: &Value<'a>) -> Option<Evaluated<'a>> {
    match value {
        Value::Timestamp(_) => Some(Ok(value.clone())),
        Value::Int(seconds) => Some(match Timestamp::new(*seconds, 0) {
            Some(at) => Ok(Value::Timestamp(at)),
            None => fail("timestamp overflow"),
        }),
        Value::String(text) => Some(match Timestamp::parse(text) {
            Some(at) => Ok(Value::Timestamp(at)),
            None => unfit(text, "google.protobuf.Timestamp"),
        }),
        _ => None,
    }
}
