//! Kubernetes' functions of lists (apiserver: pkg/cel/library/lists.go).

use std::cmp::Ordering;

use super::{arithmetic, bool, fail};
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{Duration, List, Value, compare, contains, equal};

pub(super) const TABLE: &str = "
list_int_is_sorted_bool isSorted member list(int) bool
list_uint_is_sorted_bool isSorted member list(uint) bool
list_double_is_sorted_bool isSorted member list(double) bool
list_bool_is_sorted_bool isSorted member list(bool) bool
list_duration_is_sorted_bool isSorted member list(duration) bool
list_timestamp_is_sorted_bool isSorted member list(timestamp) bool
list_string_is_sorted_bool isSorted member list(string) bool
list_bytes_is_sorted_bool isSorted member list(bytes) bool
list_int_sum_int sum member list(int) int
list_uint_sum_uint sum member list(uint) uint
list_double_sum_double sum member list(double) double
list_duration_sum_duration sum member list(duration) duration
list_int_max_int max member list(int) int
list_uint_max_uint max member list(uint) uint
list_double_max_double max member list(double) double
list_bool_max_bool max member list(bool) bool
list_duration_max_duration max member list(duration) duration
list_timestamp_max_timestamp max member list(timestamp) timestamp
list_string_max_string max member list(string) string
list_bytes_max_bytes max member list(bytes) bytes
list_int_min_int min member list(int) int
list_uint_min_uint min member list(uint) uint
list_double_min_double min member list(double) double
list_bool_min_bool min member list(bool) bool
list_duration_min_duration min member list(duration) duration
list_timestamp_min_timestamp min member list(timestamp) timestamp
list_string_min_string min member list(string) string
list_bytes_min_bytes min member list(bytes) bytes
list_a_index_of_int indexOf member list(A),A int
list_a_last_index_of_int lastIndexOf member list(A),A int
list_includes_dyn_dyn includes member dyn,dyn bool
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("isSorted", [Value::List(list)]) => is_sorted(list),
        ("sum", [Value::List(list)]) => sum(list),
        ("min", [Value::List(list)]) => extreme(list, "min", Ordering::Greater),
        ("max", [Value::List(list)]) => extreme(list, "max", Ordering::Less),
        ("indexOf", [Value::List(list), item]) => position(0..list.len(), list, item),
        ("lastIndexOf", [Value::List(list), item]) => position((0..list.len()).rev(), list, item),
        ("includes", [Value::List(list), item]) => contains(list, item).and_then(bool),
        ("includes", [value, item]) => equal(value, item).and_then(bool),
        _ => return None,
    })
}

fn order(a: &Value<'_>, b: &Value<'_>) -> Result<Ordering, EvalError> {
    compare(a, b).ok_or_else(EvalError::no_such_overload)
}

fn is_sorted<'a>(list: &List<'_>) -> Evaluated<'a> {
    let mut previous: Option<Value<'_>> = None;
    for item in list.iter() {
        let item = item?;
        if let Some(previous) = &previous
            && order(previous, &item)? == Ordering::Greater
        {
            return bool(false);
        }
        previous = Some(item);
    }
    bool(true)
}

/// The sum; of no elements, the zero of whole numbers, which equals every other zero but a duration's.
fn sum<'a>(list: &List<'a>) -> Evaluated<'a> {
    let mut total: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        total = Some(match total {
            None => match item {
                Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(Duration(_)) => item,
                _ => return Err(EvalError::no_such_overload()),
            },
            Some(total) => {
                arithmetic::apply("_+_", &[total, item]).unwrap_or_else(|| fail("no such overload"))?
            }
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(list: &List<'a>, name: &str, worse: Ordering) -> Evaluated<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        let replaces = match &best {
            Some(best) => order(best, &item)? == worse,
            None => true,
        };
        if replaces {
            best = Some(item);
        }
    }
    best.ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))
}

fn position<'a>(places: impl Iterator<Item = usize>, list: &List<'_>, wanted: &Value<'_>) -> Evaluated<'a> {
    for place in places {
        if let Some(item) = list.get(place)
            && equal(&item?, wanted)?
        {
            return Ok(Value::Int(place as i64));
        }
    }
    Ok(Value::Int(-1))
}
