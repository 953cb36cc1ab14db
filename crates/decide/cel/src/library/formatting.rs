//! `'…'.format([…])` (cel-go: ext/formatting.go).

use super::{conversion, fail};
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{List, Value};

/// Fills the values into the clauses (`%s`, `%d`, `%.2f`, `%e`, `%x`, `%X`, `%o`, `%b`, `%%`) of `text`.
pub(super) fn format<'a>(text: &str, values: &List<'_>) -> Evaluated<'a> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            precision = digits.parse::<usize>().ok().map(|p| p.min(100));
        }
        match chars.next() {
            None => return fail("unexpected end of string"),
            Some('%') => out.push('%'),
            Some(verb) => {
                let value = values
                    .get(next)
                    .unwrap_or_else(|| Err(EvalError::failed(format!("index {next} out of range"))))?;
                next += 1;
                out.push_str(&clause(verb, precision, &value)?);
            }
        }
    }
    Ok(Value::text(out))
}

fn clause(verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<String, EvalError> {
    let unfit = |wanted: &str| {
        let given = value.ty().runtime_name();
        EvalError::failed(format!("error during formatting: {wanted}, was given {given}"))
    };
    match (verb, value) {
        ('s', value) => shown(value),
        ('d', Value::Int(i)) => Ok(i.to_string()),
        ('d', Value::Uint(u)) => Ok(u.to_string()),
        ('d', Value::Double(d)) if !d.is_finite() => Ok(special(*d)),
        ('d', _) => Err(unfit("decimal clause can only be used on integers")),
        ('f' | 'e', Value::Double(d)) if !d.is_finite() => Ok(special(*d)),
        ('f' | 'e', value) => {
            let number = number(value)
                .ok_or_else(|| unfit("fixed-point and scientific clauses can only be used on doubles"))?;
            let precision = precision.unwrap_or(6);
            Ok(if verb == 'f' { format!("{number:.precision$}") } else { scientific(number, precision) })
        }
        ('b', Value::Bool(b)) => Ok(if *b { "1" } else { "0" }.to_owned()),
        ('b', Value::Int(i)) => Ok(radix(*i, |u| format!("{u:b}"))),
        ('b', Value::Uint(u)) => Ok(format!("{u:b}")),
        ('b', _) => Err(unfit("only integers and bools can be formatted as binary")),
        ('o', Value::Int(i)) => Ok(radix(*i, |u| format!("{u:o}"))),
        ('o', Value::Uint(u)) => Ok(format!("{u:o}")),
        ('o', _) => Err(unfit("octal clause can only be used on integers")),
        ('x' | 'X', value) => {
            let text = hex(value)
                .ok_or_else(|| unfit("only integers, byte buffers, and strings can be formatted as hex"))?;
            Ok(if verb == 'X' { text.to_uppercase() } else { text })
        }
        (other, _) => Err(EvalError::failed(format!(
            "could not parse formatting clause: unrecognized formatting clause \"{other}\""
        ))),
    }
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .to_owned()
}

fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(d) => Some(*d),
        Value::Int(i) => Some(*i as f64),
        Value::Uint(u) => Some(*u as f64),
        _ => None,
    }
}

fn scientific(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

fn radix(value: i64, write: impl Fn(u64) -> String) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{}", write(value.unsigned_abs()))
}

fn hex(value: &Value<'_>) -> Option<String> {
    let bytes = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
    match value {
        Value::Int(i) => Some(radix(*i, |u| format!("{u:x}"))),
        Value::Uint(u) => Some(format!("{u:x}")),
        Value::String(text) => Some(bytes(text.as_bytes())),
        Value::Bytes(b) => Some(bytes(b)),
        _ => None,
    }
}

/// A value of any kind as text; maps are shown in the order of their keys.
fn shown(value: &Value<'_>) -> Result<String, EvalError> {
    match value {
        Value::Null => Ok("null".to_owned()),
        Value::Double(d) if !d.is_finite() => Ok(special(*d)),
        Value::Type(ty) => Ok(ty.runtime_name()),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|item| shown(&item?)).collect::<Result<_, _>>()?;
            Ok(format!("[{}]", items.join(", ")))
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for key in map.keys() {
                if let Some(value) = map.get(&key) {
                    entries.push(format!("{}: {}", shown(&key)?, shown(&value?)?));
                }
            }
            entries.sort();
            Ok(format!("{{{}}}", entries.join(", ")))
        }
        other => conversion::text(other).unwrap_or_else(|| {
            let given = other.ty().runtime_name();
            Err(EvalError::failed(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, \
                 lists, types, durations, and timestamps, was given {given}"
            )))
        }),
    }
}
