//! Lists, maps and objects written in the expression.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::access::show;
use super::{Evaluated, Evaluator};
use crate::cost::{LIST_COST, MAP_COST, STRUCT_COST};
use crate::error::EvalError;
use crate::parse::{Entry, Expr, FieldInit};
use crate::types::{Key, Map, Object, Value};

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn list(&mut self, expr: &Expr, items: &'p [Expr], optional: &[bool]) -> Evaluated<'a> {
        if expr.is_constant() {
            return self.unmetered(|e| e.items(items, optional));
        }
        let list = self.items(items, optional)?;
        self.meter.add(LIST_COST)?;
        Ok(list)
    }

    fn items(&mut self, items: &'p [Expr], optional: &[bool]) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items.iter().zip(optional) {
            values.extend(self.element(item, *optional)?);
        }
        Ok(Value::list(values))
    }

    /// The value of an element; nothing for `?none`.
    fn element(&mut self, expr: &'p Expr, optional: bool) -> Result<Option<Value<'a>>, EvalError> {
        match (self.eval(expr)?, optional) {
            (value, false) => Ok(Some(value)),
            (Value::Optional(inner), true) => Ok(inner.map(|inner| (*inner).clone())),
            (other, true) => {
                let name = other.ty().runtime_name();
                Err(EvalError::failed(format!(
                    "cannot initialize optional list element from non-optional value {name}"
                )))
            }
        }
    }

    pub(super) fn map(&mut self, expr: &Expr, entries: &'p [Entry]) -> Evaluated<'a> {
        if expr.is_constant() {
            return self.unmetered(|e| e.entries(entries));
        }
        let map = self.entries(entries)?;
        self.meter.add(MAP_COST)?;
        Ok(map)
    }

    fn entries(&mut self, entries: &'p [Entry]) -> Evaluated<'a> {
        let mut map = Map::empty();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            if Key::of(&key).is_none() || matches!(key, Value::Double(_)) {
                return Err(EvalError::failed(format!("unsupported key type: {}", key.ty().runtime_name())));
            }
            let Some(value) = self.element(&entry.value, entry.optional)? else { continue };
            let shown = show(&key);
            if !map.insert(key, value) {
                return Err(EvalError::failed(format!("Failed with repeated key: {shown}")));
            }
        }
        Ok(Value::Map(map))
    }

    pub(super) fn object(&mut self, name: &str, fields: &'p [FieldInit]) -> Evaluated<'a> {
        let mut set = BTreeMap::new();
        for field in fields {
            if let Some(value) = self.element(&field.value, field.optional)? {
                set.insert(field.name.clone(), value);
            }
        }
        self.meter.add(STRUCT_COST)?;
        Ok(Value::Object(Rc::new(Object { name: name.trim_start_matches('.').into(), fields: set })))
    }
}
