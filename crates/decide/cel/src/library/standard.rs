//! Operators and functions of the language itself, but for arithmetic, conversions and time.

use std::cmp::Ordering;

use super::{bool, fail, regexes};
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{Value, compare, contains, is_number};

pub(super) const TABLE: &str = "
conditional _?_:_ global bool,A,A A
logical_and _&&_ global bool,bool bool
logical_or _||_ global bool,bool bool
logical_not !_ global bool bool
not_strictly_false @not_strictly_false global bool bool
equals _==_ global A,A bool
not_equals _!=_ global A,A bool
less_bool _<_ global bool,bool bool
less_int64 _<_ global int,int bool
less_int64_double _<_ global int,double bool
less_int64_uint64 _<_ global int,uint bool
less_uint64 _<_ global uint,uint bool
less_uint64_double _<_ global uint,double bool
less_uint64_int64 _<_ global uint,int bool
less_double _<_ global double,double bool
less_double_int64 _<_ global double,int bool
less_double_uint64 _<_ global double,uint bool
less_string _<_ global string,string bool
less_bytes _<_ global bytes,bytes bool
less_timestamp _<_ global timestamp,timestamp bool
less_duration _<_ global duration,duration bool
less_equals_bool _<=_ global bool,bool bool
less_equals_int64 _<=_ global int,int bool
less_equals_int64_double _<=_ global int,double bool
less_equals_int64_uint64 _<=_ global int,uint bool
less_equals_uint64 _<=_ global uint,uint bool
less_equals_uint64_double _<=_ global uint,double bool
less_equals_uint64_int64 _<=_ global uint,int bool
less_equals_double _<=_ global double,double bool
less_equals_double_int64 _<=_ global double,int bool
less_equals_double_uint64 _<=_ global double,uint bool
less_equals_string _<=_ global string,string bool
less_equals_bytes _<=_ global bytes,bytes bool
less_equals_timestamp _<=_ global timestamp,timestamp bool
less_equals_duration _<=_ global duration,duration bool
greater_bool _>_ global bool,bool bool
greater_int64 _>_ global int,int bool
greater_int64_double _>_ global int,double bool
greater_int64_uint64 _>_ global int,uint bool
greater_uint64 _>_ global uint,uint bool
greater_uint64_double _>_ global uint,double bool
greater_uint64_int64 _>_ global uint,int bool
greater_double _>_ global double,double bool
greater_double_int64 _>_ global double,int bool
greater_double_uint64 _>_ global double,uint bool
greater_string _>_ global string,string bool
greater_bytes _>_ global bytes,bytes bool
greater_timestamp _>_ global timestamp,timestamp bool
greater_duration _>_ global duration,duration bool
greater_equals_bool _>=_ global bool,bool bool
greater_equals_int64 _>=_ global int,int bool
greater_equals_int64_double _>=_ global int,double bool
greater_equals_int64_uint64 _>=_ global int,uint bool
greater_equals_uint64 _>=_ global uint,uint bool
greater_equals_uint64_double _>=_ global uint,double bool
greater_equals_uint64_int64 _>=_ global uint,int bool
greater_equals_double _>=_ global double,double bool
greater_equals_double_int64 _>=_ global double,int bool
greater_equals_double_uint64 _>=_ global double,uint bool
greater_equals_string _>=_ global string,string bool
greater_equals_bytes _>=_ global bytes,bytes bool
greater_equals_timestamp _>=_ global timestamp,timestamp bool
greater_equals_duration _>=_ global duration,duration bool
index_list _[_] global list(A),int A
index_map _[_] global map(A,B),A B
in_list @in global A,list(A) bool
in_map @in global A,map(A,B) bool
size_bytes size global bytes int
bytes_size size member bytes int
size_list size global list(A) int
list_size size member list(A) int
size_map size global map(A,B) int
map_size size member map(A,B) int
size_string size global string int
string_size size member string int
contains_string contains member string,string bool
ends_with_string endsWith member string,string bool
starts_with_string startsWith member string,string bool
matches matches global string,string bool
matches_string matches member string,string bool
@mapInsert_map_map cel.@mapInsert global map(A,B),map(A,B) map(A,B)
@mapInsert_map_key_value cel.@mapInsert global map(A,B),A,B map(A,B)
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("!_", [Value::Bool(value)]) => bool(!value),
        ("_<_", [a, b]) => order(a, b, Ordering::is_lt)?,
        ("_<=_", [a, b]) => order(a, b, Ordering::is_le)?,
        ("_>_", [a, b]) => order(a, b, Ordering::is_gt)?,
        ("_>=_", [a, b]) => order(a, b, Ordering::is_ge)?,
        ("@in", [value, Value::List(list)]) => contains(list, value).map(Value::Bool),
        ("@in", [key, Value::Map(map)]) => bool(map.contains(key)),
        ("size", [value]) => sized(value)?,
        ("contains", [Value::String(text), Value::String(part)]) => bool(text.contains(&**part)),
        ("endsWith", [Value::String(text), Value::String(part)]) => bool(text.ends_with(&**part)),
        ("startsWith", [Value::String(text), Value::String(part)]) => bool(text.starts_with(&**part)),
        ("matches", [Value::String(text), Value::String(pattern)]) => match regexes::pattern(pattern) {
            Ok(regex) => bool(regex.is_match(text)),
            Err(message) => fail(message),
        },
        _ => return None,
    })
}

fn order<'a>(a: &Value<'_>, b: &Value<'_>, holds: fn(Ordering) -> bool) -> Option<Evaluated<'a>> {
    match compare(a, b) {
        Some(order) => Some(bool(holds(order))),
        // Nothing is less or greater than a number that is none.
        None if is_number(a) && is_number(b) => Some(Err(EvalError::failed("NaN values cannot be ordered"))),
        None => None,
    }
}

fn sized<'a>(value: &Value<'_>) -> Option<Evaluated<'a>> {
    match value {
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => {
            value.size().map(|size| Ok(Value::Int(size as i64)))
        }
        _ => None,
    }
}
