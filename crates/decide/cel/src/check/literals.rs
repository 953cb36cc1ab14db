//! Lists, maps and objects written in the expression.

use super::{Checker, Type};
use crate::parse::{Entry, Expr, FieldInit};

impl Checker<'_> {
    pub(super) fn list(&mut self, items: &mut [Expr], optional: &[bool]) -> Type {
        let mut joined = None;
        for (item, optional) in items.iter_mut().zip(optional) {
            let ty = self.element(item, *optional);
            joined = Some(self.join(item.at, joined, ty));
        }
        Type::list(joined.unwrap_or_else(|| self.unifier.fresh()))
    }

    pub(super) fn map(&mut self, entries: &mut [Entry]) -> Type {
        let mut joined = None;
        for entry in entries {
            let key = self.visit(&mut entry.key);
            let value = self.element(&mut entry.value, entry.optional);
            joined = Some(match joined {
                None => (key, value),
                Some((keys, values)) => {
                    (self.join(entry.key.at, Some(keys), key), self.join(entry.value.at, Some(values), value))
                }
            });
        }
        let (key, value) = joined.unwrap_or_else(|| (self.unifier.fresh(), self.unifier.fresh()));
        Type::map(key, value)
    }

    /// The type of a value, unwrapped behind `?`.
    fn element(&mut self, expr: &mut Expr, optional: bool) -> Type {
        let ty = self.visit(expr);
        if !optional {
            return ty;
        }
        match self.unifier.substitute(&ty, false) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other => {
                self.mismatch(expr.at, &Type::optional(other.clone()), &other);
                other
            }
        }
    }

    /// The more general of two types that must agree.
    fn join(&mut self, at: usize, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if self.unifier.assignable(&previous, &current) {
            return super::unify::most_general(previous, current);
        }
        self.mismatch(at, &previous, &current);
        Type::Error
    }

    pub(super) fn object(&mut self, at: usize, name: &str, fields: &mut [FieldInit]) -> Type {
        let Some(ty) = self.environment.constructed(name) else {
            self.undeclared(name, at);
            return Type::Error;
        };
        let Type::Object(object) = &ty else { return Type::Error };
        for field in fields {
            let value = self.element(&mut field.value, field.optional);
            let Some(expected) = self.environment.field(object, &field.name) else {
                self.report(field.at, format!("undefined field '{}'", field.name));
                continue;
            };
            if !self.unifier.assignable(&expected, &value) {
                let value = self.unifier.substitute(&value, true);
                let message = format!(
                    "expected type of field '{}' is '{expected}' but provided type is '{value}'",
                    field.name
                );
                self.report(field.at, message);
            }
        }
        ty
    }
}
