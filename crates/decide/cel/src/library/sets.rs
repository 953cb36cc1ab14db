//! Lists as sets (cel-go: ext/sets.go).

use super::bool;
use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{List, Value, contains};

pub(super) const TABLE: &str = "
list_sets_contains_list sets.contains global list(A),list(A) bool
list_sets_equivalent_list sets.equivalent global list(A),list(A) bool
list_sets_intersects_list sets.intersects global list(A),list(A) bool
";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    let [Value::List(a), Value::List(b)] = args else { return None };
    let result = match function {
        "sets.contains" => covers(a, b),
        "sets.equivalent" => covers(a, b).and_then(|covers_b| Ok(covers_b && covers(b, a)?)),
        "sets.intersects" => intersects(a, b),
        _ => return None,
    };
    Some(result.and_then(bool))
}

fn covers(list: &List<'_>, part: &List<'_>) -> Result<bool, EvalError> {
    for item in part.iter() {
        if !contains(list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects(a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    for item in a.iter() {
        if contains(b, &item?)? {
            return Ok(true);
        }
    }
    Ok(false)
}
