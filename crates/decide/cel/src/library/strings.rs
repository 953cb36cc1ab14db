//! Functions of text (cel-go: ext/strings.go, version 2); positions count code points.

use super::{fail, formatting};
use crate::evaluate::Evaluated;
use crate::types::Value;

pub(super) const TABLE: &str = "
string_char_at_int charAt member string,int string
string_index_of_string indexOf member string,string int
string_index_of_string_int indexOf member string,string,int int
string_last_index_of_string lastIndexOf member string,string int
string_last_index_of_string_int lastIndexOf member string,string,int int
string_lower_ascii lowerAscii member string string
string_upper_ascii upperAscii member string string
string_replace_string_string replace member string,string,string string
string_replace_string_string_int replace member string,string,string,int string
string_split_string split member string,string list(string)
string_split_string_int split member string,string,int list(string)
string_substring_int substring member string,int string
string_substring_int_int substring member string,int,int string
string_trim trim member string string
string_format format member string,list(dyn) string
strings_quote strings.quote global string string
list_join join member list(string) string
list_join_string join member list(string),string string
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    match args {
        [Value::List(list), rest @ ..] if function == "join" => {
            let separator = match rest {
                [] => "",
                [Value::String(separator)] => separator,
                _ => return None,
            };
            let mut parts = Vec::new();
            for item in list.iter() {
                match item {
                    Ok(Value::String(text)) => parts.push(text.to_string()),
                    Ok(_) => return Some(fail("no such overload")),
                    Err(error) => return Some(Err(error)),
                }
            }
            Some(Ok(Value::text(parts.join(separator))))
        }
        [Value::String(text), rest @ ..] => of_text(function, text, rest),
        _ => None,
    }
}

fn of_text<'a>(function: &str, text: &str, rest: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, rest) {
        ("charAt", [Value::Int(at)]) => char_at(text, *at),
        ("indexOf", [Value::String(part)]) => index_of(text, part, 0),
        ("indexOf", [Value::String(part), Value::Int(from)]) => index_of(text, part, *from),
        ("lastIndexOf", [Value::String(part)]) => last_index_of(text, part, text.chars().count() as i64),
        ("lastIndexOf", [Value::String(part), Value::Int(from)]) => last_index_of(text, part, *from),
        ("lowerAscii", []) => Ok(Value::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Value::text(text.to_ascii_uppercase())),
        ("trim", []) => Ok(Value::text(text.trim())),
        ("strings.quote", []) => Ok(Value::text(quote(text))),
        ("replace", [Value::String(old), Value::String(new)]) => Ok(Value::text(replace(text, old, new, -1))),
        ("replace", [Value::String(old), Value::String(new), Value::Int(count)]) => {
            Ok(Value::text(replace(text, old, new, *count)))
        }
        ("split", [Value::String(separator)]) => Ok(split(text, separator, -1)),
        ("split", [Value::String(separator), Value::Int(count)]) => Ok(split(text, separator, *count)),
        ("substring", [Value::Int(start)]) => substring(text, *start, text.chars().count() as i64),
        ("substring", [Value::Int(start), Value::Int(end)]) => substring(text, *start, *end),
        ("format", [Value::List(values)]) => formatting::format(text, values),
        _ => return None,
    })
}

fn out_of_range<'a>(at: i64) -> Evaluated<'a> {
    fail(format!("index out of range: {at}"))
}

fn char_at<'a>(text: &str, at: i64) -> Evaluated<'a> {
    let length = text.chars().count() as i64;
    if at < 0 || at > length {
        return out_of_range(at);
    }
    Ok(Value::text(text.chars().nth(at as usize).map(String::from).unwrap_or_default()))
}

fn index_of<'a>(text: &str, part: &str, from: i64) -> Evaluated<'a> {
    let (text, part): (Vec<char>, Vec<char>) = (text.chars().collect(), part.chars().collect());
    if from < 0 || from > text.len() as i64 {
        return out_of_range(from);
    }
    let from = from as usize;
    let found =
        if part.is_empty() { Some(0) } else { text[from..].windows(part.len()).position(|w| w == part) };
    Ok(Value::Int(found.map_or(-1, |found| (found + from) as i64)))
}

fn last_index_of<'a>(text: &str, part: &str, from: i64) -> Evaluated<'a> {
    let (text, part): (Vec<char>, Vec<char>) = (text.chars().collect(), part.chars().collect());
    if from < 0 || from > text.len() as i64 {
        return out_of_range(from);
    }
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    let end = (from as usize + part.len()).min(text.len());
    Ok(Value::Int(text[..end].windows(part.len()).rposition(|w| w == part).map_or(-1, |found| found as i64)))
}

fn substring<'a>(text: &str, start: i64, end: i64) -> Evaluated<'a> {
    let length = text.chars().count() as i64;
    if start < 0 || start > length {
        return out_of_range(start);
    }
    if end < 0 || end > length {
        return out_of_range(end);
    }
    if start > end {
        return fail(format!("invalid substring range. start: {start}, end: {end}"));
    }
    Ok(Value::text(text.chars().skip(start as usize).take((end - start) as usize).collect::<String>()))
}

/// Replaces the first `count` occurrences, or all if `count` is negative.
fn replace(text: &str, old: &str, new: &str, count: i64) -> String {
    match usize::try_from(count) {
        Ok(count) => text.replacen(old, new, count),
        Err(_) => text.replace(old, new),
    }
}

/// Splits into at most `count` parts, or into all if `count` is negative.
fn split<'a>(text: &str, separator: &str, count: i64) -> Value<'a> {
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    if limit == 0 {
        return Value::list(Vec::new());
    }
    if !separator.is_empty() {
        return Value::list(text.splitn(limit, separator).map(Value::text).collect());
    }
    let mut parts: Vec<Value<'a>> = Vec::new();
    for (at, c) in text.char_indices() {
        if parts.len() + 1 == limit {
            parts.push(Value::text(&text[at..]));
            break;
        }
        parts.push(Value::text(c.to_string()));
    }
    Value::list(parts)
}

/// The text as a literal of its own.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
