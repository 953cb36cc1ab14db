//! What a call costs, by the sizes of its arguments (apiserver: pkg/cel/library/cost.go; cel-go:
//! interpreter/runtimecost.go, ext/lists.go, ext/sets.go).

use super::{LIST_COST, REGEX_FACTOR, STEADY, STRING_FACTOR};
use crate::types::{Opaque, Value};

/// The cost of `function` with these arguments, the target first.
pub(crate) fn call_cost(
    function: &str,
    overload: Option<&str>,
    args: &[Value<'_>],
    result: Option<&Value<'_>>,
) -> u64 {
    list_function(overload.unwrap_or_default(), args, result)
        .or_else(|| kubernetes(function, overload.unwrap_or_default(), args, result))
        .unwrap_or_else(|| standard(overload.unwrap_or_default(), args))
}

fn size(value: Option<&Value<'_>>) -> u64 {
    match value {
        Some(Value::Optional(Some(inner))) => size(Some(inner)),
        Some(value) => value.size().unwrap_or(1),
        None => 1,
    }
}

fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn regex(text: u64, pattern: u64) -> u64 {
    scaled(text.saturating_add(1), STRING_FACTOR).saturating_mul(scaled(pattern, REGEX_FACTOR))
}

fn list_function(overload: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> Option<u64> {
    let allocating = |factor: f64, size: u64| (size as f64 * factor) as u64 + 1 + LIST_COST;
    Some(match overload {
        "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, size(result)),
        "list_flatten" => allocating(1.0, size(args.first())),
        "list_flatten_int" => {
            let depth = if let Some(Value::Int(depth)) = args.get(1) { *depth as f64 } else { 1.0 };
            allocating(depth, size(args.first()))
        }
        "list_distinct" => self_compare(args.first()),
        "list_sets_contains_list" | "list_sets_intersects_list" => {
            size(args.first()).saturating_mul(size(args.get(1))).saturating_add(1)
        }
        "list_sets_equivalent_list" => {
            size(args.first()).saturating_mul(size(args.get(1))).saturating_mul(2).saturating_add(1)
        }
        id if id.ends_with("_sortByAssociatedKeys") => self_compare(args.get(1)),
        id if id.starts_with("list_") && id.ends_with("_sort") => self_compare(args.first()),
        _ => return None,
    })
}

fn self_compare(list: Option<&Value<'_>>) -> u64 {
    let size = size(list);
    let textual = match list {
        Some(Value::List(list)) => matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_)))),
        _ => false,
    };
    let factor = if textual { 2.0 + STRING_FACTOR } else { 2.0 };
    ((size.saturating_mul(size)) as f64 * factor) as u64 + 1 + LIST_COST
}

fn kubernetes(function: &str, overload: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> Option<u64> {
    let first = || size(args.first());
    let second = || size(args.get(1));
    let text = || scaled(first(), STRING_FACTOR);
    Some(match function {
        "check" => 350_000,
        function if STEADY.contains(&function) => 1,
        "fieldSelector" | "labelSelector" => selector(second()),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
            args.first().map_or(0, traversal)
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => text(),
        "replace" | "split" | "ip.isCanonical" => scaled(first(), 2.0 * STRING_FACTOR),
        "join" => scaled(size(result), 2.0 * STRING_FACTOR),
        "find" | "findAll" => regex(first(), second()),
        "ip" if overload == "cidr_ip" => 1,
        "ip" => text(),
        "containsIP" => {
            let parse =
                if overload == "cidr_contains_ip_string" { scaled(second(), STRING_FACTOR) } else { 0 };
            scaled(first() * 2, STRING_FACTOR) + parse
        }
        "containsCIDR" => {
            let parse =
                if overload == "cidr_contains_cidr_string" { scaled(second(), STRING_FACTOR) } else { 0 };
            scaled(first() * 2, STRING_FACTOR) + text() + 1 + parse
        }
        "validate" => match args.first() {
            Some(Value::Opaque(Opaque::Format(format))) => regex(second(), format.max_regex_size),
            _ => return None,
        },
        "_==_" if matches!(args.first(), Some(Value::Opaque(_))) => 1,
        _ => return None,
    })
}

/// Parsing a selector: its text, and a structure for each requirement.
fn selector(length: u64) -> u64 {
    let requirements = scaled(length, 0.5);
    LIST_COST + scaled(length, STRING_FACTOR) + requirements * 50
}

/// What it costs to look at everything in a value.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * STRING_FACTOR) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * STRING_FACTOR) as u64,
        Value::List(list) => list.iter().map(|item| item.map_or(1, |item| traversal(&item))).sum(),
        Value::Map(map) => {
            let cost = |key: &Value<'_>| {
                let value = map.get(key).and_then(Result::ok);
                traversal(key) + value.map_or(1, |value| traversal(&value))
            };
            map.keys().iter().map(cost).sum()
        }
        _ => 1,
    }
}

fn standard(overload: &str, args: &[Value<'_>]) -> u64 {
    let (first, second) = (size(args.first()), size(args.get(1)));
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => scaled(first, STRING_FACTOR),
        "in_list" => second,
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes"
        | "equals"
        | "not_equals" => scaled(first.min(second), STRING_FACTOR),
        "add_string" | "add_bytes" => scaled(first + second, STRING_FACTOR),
        "matches_string" => regex(first, second),
        "contains_string" => scaled(first, STRING_FACTOR).saturating_mul(scaled(second, STRING_FACTOR)),
        _ => 1,
    }
}
