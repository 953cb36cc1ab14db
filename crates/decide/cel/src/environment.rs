//! Which variables and functions an expression may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::check::{Library, check};
use crate::error::{CompileError, EvalError};
use crate::library::patches;
use crate::parse::parse;
use crate::program::Program;
use crate::types::{Declared, ObjectType, Type, Value, view};

/// Variables with their types, and the libraries of v1.37.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, Arc<Declared>>,
    mutation: Option<Arc<Declared>>,
    is_mutation: bool,
    bindings: bool,
}

impl Environment {
    /// The base that all expressions share (apiserver: pkg/cel/environment/base.go).
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a variable.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, declared: Declared) -> Self {
        self.variables.insert(name.into(), Arc::new(declared));
        self
    }

    /// Adds what mutations need: `Object{…}` literals, typed by `object` if its type is known,
    /// `JSONPatch{…}` literals and `jsonpatch.escapeKey`.
    #[must_use]
    pub fn with_mutation(mut self, object: Option<Declared>) -> Self {
        self.mutation = object.map(Arc::new);
        self.is_mutation = true;
        self
    }

    /// Adds `cel.bind`, which upstream offers to device selectors only.
    #[must_use]
    pub fn with_bindings(mut self) -> Self {
        self.bindings = true;
        self
    }

    /// The value of `json` as the variable `name` declares it.
    ///
    /// # Errors
    /// When there is no such variable, or the JSON does not fit it.
    pub fn value<'a>(&self, name: &str, json: &'a Json) -> Result<Value<'a>, EvalError> {
        let declared = self
            .variables
            .get(name)
            .ok_or_else(|| EvalError::failed(format!("no such attribute(s): {name}")))?;
        view(json, declared)
    }

    /// Parses and checks `text`. Whether its type is the one wanted is the caller's question:
    /// [`Program::ty`].
    ///
    /// # Errors
    /// With all the issues found, in upstream's form.
    pub fn compile(&self, text: &str) -> Result<Program, CompileError> {
        let failed = |issues| CompileError::new(text, issues);
        let (mut expr, nodes) = parse(text, self.bindings).map_err(failed)?;
        let checked = check(&mut expr, nodes, self).map_err(failed)?;
        Ok(Program::new(expr, checked, self.variables.clone()))
    }

    pub(crate) fn declared(&self, name: &str) -> Option<&Declared> {
        self.variables.get(name).map(AsRef::as_ref)
    }

    pub(crate) fn offers(&self, library: Library) -> bool {
        library != Library::Patches || self.is_mutation
    }

    /// The type that an object literal makes, if there is one of that name.
    pub(crate) fn constructed(&self, name: &str) -> Option<Type> {
        if !self.is_mutation {
            return None;
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        if name == "JSONPatch" {
            return Some(patches::json_patch());
        }
        let mut parts = name.split('.');
        if parts.next() != Some("Object") {
            return None;
        }
        match &self.mutation {
            Some(root) => parts.try_fold(patches::named("Object", root), |ty, part| match &ty {
                Type::Object(object) => self.field(object, part).and_then(patches::element),
                _ => None,
            }),
            None => Some(patches::open_object(name)),
        }
    }

    /// The type of a field of an object; fields of objects without a schema are of any type.
    pub(crate) fn field(&self, object: &Arc<ObjectType>, escaped: &str) -> Option<Type> {
        if let Some(field) = object.field(escaped) {
            return Some(match (&self.mutation, object.name.starts_with("Object")) {
                (Some(_), true) => patches::named(&format!("{}.{escaped}", object.name), &field.declared),
                _ => field.declared.ty(),
            });
        }
        (self.is_mutation && self.mutation.is_none() && object.name.starts_with("Object"))
            .then_some(Type::Dyn)
    }
}
