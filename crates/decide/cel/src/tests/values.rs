//! Expressions that hold, and expressions that fail with a message.

use crate::{Bindings, Budget, Declared, Environment, EvalError, Value};
use serde_json::json;

pub(super) fn environment() -> Environment {
    Environment::new().variable("dyn_object", Declared::any()).with_bindings()
}

pub(super) fn run(text: &str) -> Result<String, String> {
    let json = json!({"a": 1, "b": {"c": "x"}, "list": [1, 2, 3], "f": 1.5, "nothing": null});
    let environment = environment();
    let program = environment.compile(text).map_err(|e| e.to_string())?;
    let bindings =
        Bindings::new().bind("dyn_object", environment.value("dyn_object", &json).expect("declared"));
    match program.evaluate(&bindings, &mut Budget::new()) {
        Ok(Value::Bool(b)) => Ok(b.to_string()),
        Ok(other) => Ok(format!("{other:?}")),
        Err(EvalError::Failed(message)) => Err(message),
        Err(other) => Err(other.to_string()),
    }
}

#[test]
fn these_hold() {
    let rows =
        include_str!("holds.txt").lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let wrong: Vec<_> =
        rows.map(|text| (text, run(text))).filter(|(_, got)| got.as_deref() != Ok("true")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn these_fail() {
    for line in include_str!("fails.txt").lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
        let (text, message) = line.split_once(" ⇒ ").expect("an expression and a message");
        assert_eq!(run(text), Err(message.to_owned()), "{text}");
    }
}
