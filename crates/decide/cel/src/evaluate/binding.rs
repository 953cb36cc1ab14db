//! Values of variables.

use std::collections::HashMap;

use crate::error::EvalError;
use crate::types::Value;

/// Variables with their values.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a>(HashMap<String, Value<'a>>);

impl<'a> Bindings<'a> {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable.
    #[must_use]
    pub fn bind(mut self, name: impl Into<String>, value: Value<'a>) -> Self {
        self.0.insert(name.into(), value);
        self
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<String>, value: Value<'a>) {
        self.0.insert(name.into(), value);
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.get(name)
    }
}

/// Fields that are computed when they are asked for, for example the variables of a policy.
pub trait Fields<'a> {
    /// The field's value, if there is such a field.
    fn get(&self, name: &str) -> Option<Result<Value<'a>, EvalError>>;

    /// The names of all fields.
    fn names(&self) -> Vec<String>;
}
