//! Holds an object against the rules of its schema.

use std::rc::Rc;

use plimsoll_cel::{Bindings, Budget, EvalError, Value as Cel};
use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

use super::Node;
use super::message::{self, Computed};
use super::program::{Compiled, Programs};

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What is wrong with `value`, which stands at `path`.
pub(super) fn check(node: &Node, path: &Path, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut run = Run { budget: Budget::new(), errors: Vec::new() };
    let past = old.map(|old| Past { new: value, old, is_direct: true });
    // That nothing more is run is among the errors already.
    let _ended = run.node(node, path, Place { value, old, past });
    run.errors
}

/// What is wrong with a default, held against itself.
pub(super) fn check_default(node: &Node, path: &Path, default: &Value) -> Vec<FieldError> {
    let mut run = Run { budget: Budget::new(), errors: Vec::new() };
    let _ended = run.node(node, path, Place { value: default, old: Some(default), past: None });
    run.errors
}

/// No further rules are run.
struct Ended;

struct Run {
    budget: Budget,
    errors: Vec<FieldError>,
}

/// A value with its predecessor.
#[derive(Clone, Copy)]
struct Place<'a> {
    value: &'a Value,
    /// What `oldSelf` is.
    old: Option<&'a Value>,
    past: Option<Past<'a>>,
}

/// The innermost value around a place that has a predecessor beyond doubt.
#[derive(Clone, Copy)]
struct Past<'a> {
    new: &'a Value,
    old: &'a Value,
    /// It is the place itself.
    is_direct: bool,
}

impl<'a> Place<'a> {
    /// A part; `is_own` tells that the part has a past of its own, not only that of the whole.
    fn part(&self, value: &'a Value, old: Option<&'a Value>, is_own: bool) -> Self {
        let old = old.filter(|old| !old.is_null());
        let past = self.past.map(|past| match old {
            Some(old) if past.is_direct && is_own => Past { new: value, old, is_direct: true },
            _ => Past { is_direct: false, ..past },
        });
        Place { value, old, past }
    }

    /// What did not change may stay wrong.
    fn is_unchanged(&self) -> bool {
        self.past.is_some_and(|past| past.new == past.old)
    }
}

impl Run {
    fn node(&mut self, node: &Node, path: &Path, place: Place<'_>) -> Result<(), Ended> {
        if place.value.is_null() {
            return Ok(());
        }
        if let Some(programs) = &node.programs {
            self.programs(programs, &node.kind, path, place)?;
        }
        match place.value {
            Value::Array(items) => self.items(node, path, items, place),
            Value::Object(_) => self.fields(node, path, place),
            _ => Ok(()),
        }
    }

    fn items(&mut self, node: &Node, path: &Path, items: &[Value], place: Place<'_>) -> Result<(), Ended> {
        let Some(item) = &node.items else { return Ok(()) };
        for (at, value) in items.iter().enumerate() {
            let old = node.keys.as_ref().and_then(|keys| same_element(place.old?, value, keys));
            self.node(item, &path.index(at), place.part(value, old, true))?;
        }
        Ok(())
    }

    fn fields(&mut self, node: &Node, path: &Path, place: Place<'_>) -> Result<(), Ended> {
        for (key, value) in place.value.as_object().into_iter().flatten() {
            let old = place.old.and_then(|old| old.get(key));
            let part = place.part(value, old, !node.is_atomic);
            if let Some(additional) = &node.additional {
                self.node(additional, &path.key(key), part)?;
            }
            if let Some(property) = node.properties.get(key) {
                self.node(property, &path.child(key), part)?;
            }
        }
        Ok(())
    }

    fn programs(
        &mut self,
        programs: &Programs,
        kind: &str,
        path: &Path,
        place: Place<'_>,
    ) -> Result<(), Ended> {
        if self.budget.remaining().unwrap_or(0) == 0 {
            return self.end(path, kind, OUT_OF_BUDGET);
        }
        for compiled in &programs.rules {
            if compiled.uses_old_self() && place.old.is_none() && !compiled.is_old_self_optional() {
                continue;
            }
            let before = self.errors.len();
            self.rule(programs, compiled, kind, path, place)?;
            if !compiled.uses_old_self() && self.errors.len() > before && place.is_unchanged() {
                self.errors.truncate(before);
            }
        }
        Ok(())
    }

    fn rule(
        &mut self,
        programs: &Programs,
        compiled: &Compiled,
        kind: &str,
        path: &Path,
        place: Place<'_>,
    ) -> Result<(), Ended> {
        let rule = &compiled.rule;
        let name = message::name(rule);
        let program = match &compiled.program {
            Ok(program) => program,
            Err(why) => {
                self.invalid(path, kind, format!("rule compile error: {why}"));
                return Ok(());
            }
        };
        let values = match bindings(programs, compiled, place) {
            Ok(values) => values,
            Err(error) => {
                self.invalid(path, kind, format!("{error} evaluating rule: {name}"));
                return Ok(());
            }
        };
        let result = program.evaluate(&values, &mut self.budget);
        if self.budget.is_exhausted() {
            return self.end(path, kind, OUT_OF_BUDGET);
        }
        match result {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => return self.failed(compiled, kind, path, &values),
            Err(error @ EvalError::CostLimit) => {
                let why = "no further validation rules will be run due to call cost exceeds limit for rule";
                return self.end(path, kind, &format!("'{error}': {why}: {name}"));
            }
            Err(EvalError::Failed(error)) if error.starts_with("no such overload") => {
                let why =
                    "call arguments did not match a supported operator, function or macro signature for rule";
                self.invalid(path, kind, format!("'{error}': {why}: {name}"));
            }
            Err(error) => self.invalid(path, kind, format!("{error} evaluating rule: {name}")),
        }
        Ok(())
    }

    /// The rule does not hold.
    fn failed(
        &mut self,
        compiled: &Compiled,
        kind: &str,
        path: &Path,
        values: &Bindings<'_>,
    ) -> Result<(), Ended> {
        let rule = &compiled.rule;
        let at = match &compiled.at {
            Some(at) => path.child(&at.to_string()),
            None => path.clone(),
        };
        let detail = match &compiled.message {
            Some(Ok(program)) => match message::compute(program, rule, values, &mut self.budget) {
                Computed::Text(text) => text,
                Computed::Unusable => message::plain(rule),
                Computed::TooExpensive(why) => return self.end(&at, kind, &why),
            },
            _ => message::plain(rule),
        };
        self.errors.push(message::error(rule, &at, kind, detail));
        Ok(())
    }

    fn invalid(&mut self, path: &Path, kind: &str, detail: String) {
        self.errors.push(FieldError::invalid(path, &kind.into(), detail));
    }

    fn end(&mut self, path: &Path, kind: &str, why: &str) -> Result<(), Ended> {
        self.invalid(path, kind, why.to_owned());
        Err(Ended)
    }
}

fn bindings<'a>(
    programs: &Programs,
    compiled: &Compiled,
    place: Place<'a>,
) -> Result<Bindings<'a>, EvalError> {
    let mut values = Bindings::new().bind("self", programs.environment.value("self", place.value)?);
    let old = place.old.map(|old| programs.environment.value("oldSelf", old)).transpose()?;
    if compiled.is_old_self_optional() {
        values.set("oldSelf", Cel::Optional(old.map(Rc::new)));
    } else if let Some(old) = old {
        values.set("oldSelf", old);
    }
    Ok(values)
}

/// The element of the list before that has the same keys.
fn same_element<'a>(old: &'a Value, value: &Value, keys: &[String]) -> Option<&'a Value> {
    let same = |one: &&Value| one.is_object() && keys.iter().all(|key| one.get(key) == value.get(key));
    old.as_array()?.iter().find(same)
}
