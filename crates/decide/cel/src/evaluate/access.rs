//! Names, fields and indexes.

use std::rc::Rc;

use super::{Evaluated, Evaluator, Slot, is_attribute, is_conditional};
use crate::error::EvalError;
use crate::parse::{Expr, Kind};
use crate::types::{Key, Value};

/// What a step into a value finds.
enum Found<'a> {
    Value(Value<'a>),
    /// Nothing, with the error that a plain access reports.
    Nothing(EvalError),
}

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn ident(&mut self, name: &'p str) -> Evaluated<'a> {
        self.meter.add(1)?;
        self.resolve(name)
    }

    fn resolve(&mut self, name: &'p str) -> Evaluated<'a> {
        if let Some(at) = self.scopes.iter().rposition(|(known, _)| *known == name) {
            return match self.scopes[at].1.clone() {
                Slot::Ready(value) => value,
                Slot::Pending(expr, depth) => self.force(at, expr, depth),
            };
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some(value) = self.bindings.get(name) {
            return Ok(value.clone());
        }
        match crate::library::type_named(name) {
            Some(ty) => Ok(Value::Type(ty)),
            None => Err(EvalError::failed(format!("no such attribute(s): {name}"))),
        }
    }

    /// Evaluates a bound name where it was bound.
    fn force(&mut self, at: usize, expr: &'p Expr, depth: usize) -> Evaluated<'a> {
        let inner = self.scopes.split_off(depth);
        let value = self.eval(expr);
        self.scopes.extend(inner);
        self.scopes[at].1 = Slot::Ready(value.clone());
        value
    }

    /// The value that a selection or an index steps into.
    fn operand(&mut self, expr: &'p Expr) -> Evaluated<'a> {
        let value = self.eval(expr)?;
        if !is_attribute(expr) && !is_conditional(expr) {
            self.meter.add(1)?;
        }
        Ok(value)
    }

    pub(super) fn select(&mut self, operand: &'p Expr, field: &str, test: bool) -> Evaluated<'a> {
        let value = self.operand(operand)?;
        let key = Value::text(field);
        if test {
            return has(&value, &key).map(Value::Bool);
        }
        self.metered_step(value, &key, false)
    }

    pub(super) fn index(&mut self, operand: &'p Expr, key: &'p Expr, optional: bool) -> Evaluated<'a> {
        let value = self.operand(operand)?;
        if let Kind::Literal(_) = &key.kind {
            let key = self.eval(key)?;
            return self.metered_step(value, &key, optional);
        }
        let found = self.eval(key)?;
        if !is_attribute(key) && !is_conditional(key) {
            self.meter.add(1)?;
        }
        self.bare_step(value, &found, optional)
    }

    /// One step, which costs one if it finds something or fails.
    fn metered_step(&mut self, value: Value<'a>, key: &Value<'_>, optional: bool) -> Evaluated<'a> {
        let result = self.bare_step(value, key, optional);
        if !matches!(result, Ok(Value::Optional(None))) {
            self.meter.add(1)?;
        }
        result
    }

    fn bare_step(&mut self, value: Value<'a>, key: &Value<'_>, optional: bool) -> Evaluated<'a> {
        let (value, optional) = match value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (Rc::unwrap_or_clone(inner), true),
            other => (other, optional),
        };
        match (find(&value, key)?, optional) {
            (Found::Value(found @ Value::Optional(_)), true) => Ok(found),
            (Found::Value(found), true) => Ok(Value::some(found)),
            (Found::Value(found), false) => Ok(found),
            (Found::Nothing(_), true) => Ok(Value::Optional(None)),
            (Found::Nothing(error), false) => Err(error),
        }
    }
}

fn find<'a>(value: &Value<'a>, key: &Value<'_>) -> Result<Found<'a>, EvalError> {
    match value {
        Value::Map(map) => {
            if Key::of(key).is_none() && !matches!(key, Value::Double(_)) {
                return Err(EvalError::failed(format!("unsupported key type: {}", key.ty().runtime_name())));
            }
            match map.get(key) {
                Some(found) => Ok(Found::Value(found?)),
                None => Ok(Found::Nothing(EvalError::failed(format!("no such key: {}", show(key))))),
            }
        }
        Value::List(list) => {
            let index = position(key)?;
            match usize::try_from(index).ok().and_then(|index| list.get(index)) {
                Some(found) => Ok(Found::Value(found?)),
                None => Ok(Found::Nothing(EvalError::failed(format!("index out of bounds: {index}")))),
            }
        }
        Value::Object(object) => match key.as_str().and_then(|name| object.fields.get(name)) {
            Some(found) => Ok(Found::Value(found.clone())),
            None => Ok(Found::Nothing(EvalError::failed(format!("no such key: {}", show(key))))),
        },
        Value::Null => Ok(Found::Nothing(EvalError::failed(format!("no such key: {}", show(key))))),
        _ => Err(EvalError::no_such_overload()),
    }
}

fn position(key: &Value<'_>) -> Result<i64, EvalError> {
    match key {
        Value::Int(i) => Ok(*i),
        Value::Uint(u) => {
            i64::try_from(*u).map_err(|_| EvalError::failed(format!("index out of bounds: {u}")))
        }
        Value::Double(d) if d.fract() == 0.0 && d.abs() < 9e18 => Ok(*d as i64),
        other => {
            Err(EvalError::failed(format!("unsupported index type '{}' in list", other.ty().runtime_name())))
        }
    }
}

fn has(value: &Value<'_>, key: &Value<'_>) -> Result<bool, EvalError> {
    match value {
        Value::Map(map) => Ok(map.contains(key)),
        Value::Object(object) => Ok(key.as_str().is_some_and(|name| object.fields.contains_key(name))),
        Value::Optional(None) | Value::Null => Ok(false),
        Value::Optional(Some(inner)) => has(inner, key),
        _ => Err(EvalError::no_such_overload()),
    }
}

/// A key in an error message.
pub(super) fn show(key: &Value<'_>) -> String {
    match key {
        Value::String(text) => text.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Double(d) => d.to_string(),
        other => other.ty().runtime_name(),
    }
}
