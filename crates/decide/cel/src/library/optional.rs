//! Optional values (cel-go: cel/library.go).

use super::{bool, fail};
use crate::evaluate::Evaluated;
use crate::types::Value;

pub(super) const TABLE: &str = "
optional_of optional.of global A optional(A)
optional_ofNonZeroValue optional.ofNonZeroValue global A optional(A)
optional_none optional.none global - optional(A)
optional_value value member optional(A) A
optional_hasValue hasValue member optional(A) bool
optional_or_optional or member optional(A),optional(A) optional(A)
optional_orValue_value orValue member optional(A),A A
select_optional_field _?._ global dyn,string optional(A)
list_optindex_optional_int _[?_] global list(A),int optional(A)
optional_list_optindex_optional_int _[?_] global optional(list(A)),int optional(A)
map_optindex_optional_value _[?_] global map(A,B),A optional(B)
optional_map_optindex_optional_value _[?_] global optional(map(A,B)),A optional(B)
optional_list_index_int _[_] global optional(list(A)),int optional(A)
optional_map_index_value _[_] global optional(map(A,B)),A optional(B)
list_last last member list(A) optional(A)
list_first first member list(A) optional(A)
optional_unwrap optional.unwrap global list(optional(A)) list(A)
optional_unwrapOpt unwrapOpt member list(optional(A)) list(A)
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("optional.of", [value]) => Ok(Value::some(value.clone())),
        ("optional.ofNonZeroValue", [value]) if is_zero(value) => Ok(Value::Optional(None)),
        ("optional.ofNonZeroValue", [value]) => Ok(Value::some(value.clone())),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("value", [Value::Optional(Some(value))]) => Ok((**value).clone()),
        ("value", [Value::Optional(None)]) => fail("optional.none() dereference"),
        ("hasValue", [Value::Optional(value)]) => bool(value.is_some()),
        ("first" | "last", [Value::List(list)]) => {
            let at = if function == "first" { 0 } else { list.len().wrapping_sub(1) };
            list.get(at).map_or(Ok(Value::Optional(None)), |value| value.map(Value::some))
        }
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => {
            let mut values = Vec::new();
            for item in list.iter() {
                match item {
                    Ok(Value::Optional(value)) => values.extend(value.map(|value| (*value).clone())),
                    Ok(other) => {
                        return Some(fail(format!(
                            "value is not an optional: {}",
                            other.ty().runtime_name()
                        )));
                    }
                    Err(error) => return Some(Err(error)),
                }
            }
            Ok(Value::list(values))
        }
        _ => return None,
    })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(b) => !b,
        Value::Int(i) => *i == 0,
        Value::Uint(u) => *u == 0,
        Value::Double(d) => *d == 0.0,
        Value::Duration(span) => span.0 == 0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Object(object) => object.fields.is_empty(),
        _ => false,
    }
}
