//! `+`, `-`, `*`, `/`, `%` and their overflows.

use std::collections::HashMap;

use super::fail;
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{Duration, List, ListKind, Value, contains, list_key};

pub(super) const TABLE: &str = "
add_bytes _+_ global bytes,bytes bytes
add_double _+_ global double,double double
add_duration_duration _+_ global duration,duration duration
add_duration_timestamp _+_ global duration,timestamp timestamp
add_timestamp_duration _+_ global timestamp,duration timestamp
add_int64 _+_ global int,int int
add_list _+_ global list(A),list(A) list(A)
add_string _+_ global string,string string
add_uint64 _+_ global uint,uint uint
divide_double _/_ global double,double double
divide_int64 _/_ global int,int int
divide_uint64 _/_ global uint,uint uint
modulo_int64 _%_ global int,int int
modulo_uint64 _%_ global uint,uint uint
multiply_double _*_ global double,double double
multiply_int64 _*_ global int,int int
multiply_uint64 _*_ global uint,uint uint
negate_double -_ global double double
negate_int64 -_ global int int
subtract_double _-_ global double,double double
subtract_duration_duration _-_ global duration,duration duration
subtract_int64 _-_ global int,int int
subtract_timestamp_duration _-_ global timestamp,duration timestamp
subtract_timestamp_timestamp _-_ global timestamp,timestamp duration
subtract_uint64 _-_ global uint,uint uint
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    match args {
        [Value::Int(a)] if function == "-_" => Some(int(a.checked_neg())),
        [Value::Double(a)] if function == "-_" => Some(Ok(Value::Double(-a))),
        [Value::Int(a), Value::Int(b)] => ints(function, *a, *b),
        [Value::Uint(a), Value::Uint(b)] => uints(function, *a, *b),
        [Value::Double(a), Value::Double(b)] => doubles(function, *a, *b),
        [a, b] if function == "_+_" => add(a, b),
        [a, b] if function == "_-_" => subtract(a, b),
        _ => None,
    }
}

fn int<'a>(result: Option<i64>) -> Evaluated<'a> {
    result.map(Value::Int).ok_or_else(|| EvalError::failed("integer overflow"))
}

fn uint<'a>(result: Option<u64>) -> Evaluated<'a> {
    result.map(Value::Uint).ok_or_else(|| EvalError::failed("unsigned integer overflow"))
}

fn ints<'a>(function: &str, a: i64, b: i64) -> Option<Evaluated<'a>> {
    Some(match function {
        "_+_" => int(a.checked_add(b)),
        "_-_" => int(a.checked_sub(b)),
        "_*_" => int(a.checked_mul(b)),
        "_/_" if b == 0 => fail("division by zero"),
        "_/_" => int(a.checked_div(b)),
        "_%_" if b == 0 => fail("modulus by zero"),
        "_%_" => int(a.checked_rem(b)),
        _ => return None,
    })
}

fn uints<'a>(function: &str, a: u64, b: u64) -> Option<Evaluated<'a>> {
    Some(match function {
        "_+_" => uint(a.checked_add(b)),
        "_-_" => uint(a.checked_sub(b)),
        "_*_" => uint(a.checked_mul(b)),
        "_/_" if b == 0 => fail("division by zero"),
        "_/_" => uint(a.checked_div(b)),
        "_%_" if b == 0 => fail("modulus by zero"),
        "_%_" => uint(a.checked_rem(b)),
        _ => return None,
    })
}

fn doubles<'a>(function: &str, a: f64, b: f64) -> Option<Evaluated<'a>> {
    let result = match function {
        "_+_" => a + b,
        "_-_" => a - b,
        "_*_" => a * b,
        "_/_" => a / b,
        _ => return None,
    };
    Some(Ok(Value::Double(result)))
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Option<Evaluated<'a>> {
    Some(match (a, b) {
        (Value::String(a), Value::String(b)) => Ok(Value::text(format!("{}{}", &**a, &**b))),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(Value::Bytes(a.iter().chain(b.iter()).copied().collect())),
        (Value::List(a), Value::List(b)) => add_lists(a, b),
        (Value::Duration(a), Value::Duration(b)) => duration(a.0.checked_add(b.0)),
        (Value::Timestamp(at), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(at)) => {
            at.plus(*span).map(Value::Timestamp).ok_or_else(|| EvalError::failed("timestamp overflow"))
        }
        _ => return None,
    })
}

fn subtract<'a>(a: &Value<'_>, b: &Value<'_>) -> Option<Evaluated<'a>> {
    Some(match (a, b) {
        (Value::Duration(a), Value::Duration(b)) => duration(a.0.checked_sub(b.0)),
        (Value::Timestamp(at), Value::Duration(span)) => {
            at.minus(*span).map(Value::Timestamp).ok_or_else(|| EvalError::failed("timestamp overflow"))
        }
        (Value::Timestamp(a), Value::Timestamp(b)) => duration(a.since(*b).map(|span| span.0)),
        _ => return None,
    })
}

fn duration<'a>(nanos: Option<i64>) -> Evaluated<'a> {
    nanos.map(|n| Value::Duration(Duration(n))).ok_or_else(|| EvalError::failed("duration overflow"))
}

/// Concatenation; lists of type `set` and `map` merge instead, the left one's order first.
fn add_lists<'a>(a: &List<'a>, b: &List<'a>) -> Evaluated<'a> {
    let mut items: Vec<Value<'a>> = a.iter().collect::<Result<_, _>>()?;
    match &a.kind {
        ListKind::Atomic => items.extend(b.iter().collect::<Result<Vec<_>, _>>()?),
        ListKind::Set => {
            for item in b.iter() {
                let item = item?;
                if !contains(a, &item)? {
                    items.push(item);
                }
            }
        }
        ListKind::Map(keys) => {
            let mut places: HashMap<_, _> =
                items.iter().enumerate().map(|(i, item)| (list_key(item, keys), i)).collect();
            for item in b.iter() {
                let item = item?;
                match places.get(&list_key(&item, keys)) {
                    Some(place) => items[*place] = item,
                    None => {
                        places.insert(list_key(&item, keys), items.len());
                        items.push(item);
                    }
                }
            }
        }
    }
    let Value::List(list) = Value::list(items) else { return fail("no such overload") };
    Ok(Value::List(List { kind: a.kind.clone(), ..list }))
}
