//! Patterns: `find` and `findAll` (apiserver: pkg/cel/library/regex.go), and those of `matches`.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use super::fail;
use crate::evaluate::Evaluated;
use crate::types::Value;

pub(super) const TABLE: &str = "
string_find_string find member string,string string
string_find_all_string findAll member string,string list(string)
string_find_all_string_int findAll member string,string,int list(string)
";

/// The largest compiled pattern in bytes; RE2 has a bound of this order too.
const MAX_PATTERN: usize = 8 << 20;

/// How many compiled patterns a thread keeps.
const KEPT: usize = 64;

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

/// Compiles a pattern, or finds it compiled.
///
/// # Errors
/// With upstream's message when the pattern is wrong.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    PATTERNS.with_borrow_mut(|kept| {
        if let Some(regex) = kept.get(text) {
            return Ok(regex.clone());
        }
        let compiled = RegexBuilder::new(text).size_limit(MAX_PATTERN).build();
        let regex = compiled.map_err(|_| format!("error parsing regexp: `{text}`"))?;
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(text.to_owned(), regex.clone());
        Ok(regex)
    })
}

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    let (text, wanted, limit) = match args {
        [Value::String(text), Value::String(wanted)] => (text, wanted, -1),
        [Value::String(text), Value::String(wanted), Value::Int(limit)] => (text, wanted, *limit),
        _ => return None,
    };
    let regex = match pattern(wanted) {
        Ok(regex) => regex,
        Err(message) => return Some(fail(format!("Illegal regex: {message}"))),
    };
    match function {
        "find" => Some(Ok(Value::text(regex.find(text).map_or("", |found| found.as_str())))),
        "findAll" => {
            let count = usize::try_from(limit).unwrap_or(usize::MAX);
            Some(Ok(Value::list(
                regex.find_iter(text).take(count).map(|found| Value::text(found.as_str())).collect(),
            )))
        }
        _ => None,
    }
}
