//! More functions of lists (cel-go: ext/lists.go, version 3).

use std::cmp::Ordering;

use super::fail;
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{List, Value, compare, equal};

pub(super) const TABLE: &str = "
list_slice slice member list(A),int,int list(A)
list_flatten flatten member list(list(A)) list(A)
list_flatten_int flatten member list(dyn),int list(dyn)
list_int_sort sort member list(int) list(int)
list_uint_sort sort member list(uint) list(uint)
list_double_sort sort member list(double) list(double)
list_bool_sort sort member list(bool) list(bool)
list_duration_sort sort member list(duration) list(duration)
list_timestamp_sort sort member list(timestamp) list(timestamp)
list_string_sort sort member list(string) list(string)
list_bytes_sort sort member list(bytes) list(bytes)
list_int_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(int) list(A)
list_uint_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(uint) list(A)
list_double_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(double) list(A)
list_bool_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(bool) list(A)
list_duration_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(duration) list(A)
list_timestamp_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(timestamp) list(A)
list_string_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(string) list(A)
list_bytes_sortByAssociatedKeys @sortByAssociatedKeys member list(A),list(bytes) list(A)
lists_range lists.range global int list(int)
list_reverse reverse member list(A) list(A)
list_distinct distinct member list(A) list(A)
";

/// The longest list that `lists.range` makes: more could not be paid for.
const MAX_RANGE: i64 = 1_000_000;

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("slice", [Value::List(list), Value::Int(start), Value::Int(end)]) => slice(list, *start, *end),
        ("flatten", [Value::List(list)]) => flatten(list, 1).map(Value::list),
        ("flatten", [Value::List(_), Value::Int(depth)]) if *depth < 0 => fail("level must be non-negative"),
        ("flatten", [Value::List(list), Value::Int(depth)]) => flatten(list, *depth).map(Value::list),
        ("sort", [Value::List(list)]) => sort(list, list),
        ("@sortByAssociatedKeys", [Value::List(list), Value::List(keys)]) => sort(list, keys),
        ("lists.range", [Value::Int(count)]) if *count > MAX_RANGE => Err(EvalError::CostLimit),
        ("lists.range", [Value::Int(count)]) => Ok(Value::list((0..*count).map(Value::Int).collect())),
        ("reverse", [Value::List(list)]) => items(list).map(|mut items| {
            items.reverse();
            Value::list(items)
        }),
        ("distinct", [Value::List(list)]) => distinct(list),
        _ => return None,
    })
}

fn items<'a>(list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    list.iter().collect()
}

fn slice<'a>(list: &List<'a>, start: i64, end: i64) -> Evaluated<'a> {
    if start < 0 || end < 0 {
        return fail(format!("cannot slice({start}, {end}), negative indexes not supported"));
    }
    if start > end {
        return fail(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        ));
    }
    if end > list.len() as i64 {
        return fail(format!("cannot slice({start}, {end}), list is length {}", list.len()));
    }
    (start as usize..end as usize).filter_map(|at| list.get(at)).collect::<Result<_, _>>().map(Value::list)
}

fn flatten<'a>(list: &List<'a>, depth: i64) -> Result<Vec<Value<'a>>, EvalError> {
    let mut flat = Vec::new();
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flat.extend(flatten(&inner, depth - 1)?),
            other => flat.push(other),
        }
    }
    Ok(flat)
}

fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Evaluated<'a> {
    if list.len() != keys.len() {
        return fail(format!(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {} and {} \
             elements respectively",
            list.len(),
            keys.len()
        ));
    }
    let mut pairs: Vec<_> = items(keys)?.into_iter().zip(items(list)?).collect();
    if let Some((first, _)) = pairs.first() {
        if compare(first, first).is_none() {
            return fail("list elements must be comparable");
        }
        let kind = first.ty();
        if pairs.iter().any(|(key, _)| key.ty() != kind) {
            return fail("list elements must have the same type");
        }
    }
    pairs.sort_by(|(a, _), (b, _)| compare(a, b).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn distinct<'a>(list: &List<'a>) -> Evaluated<'a> {
    let mut unique: Vec<Value<'a>> = Vec::new();
    'items: for item in list.iter() {
        let item = item?;
        for known in &unique {
            if equal(known, &item)? {
                continue 'items;
            }
        }
        unique.push(item);
    }
    Ok(Value::list(unique))
}
