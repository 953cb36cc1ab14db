//! Which types agree, and what that says of types yet to be found (cel-go: checker/types.go).

use super::overload::Overload;
use crate::types::Type;
use std::sync::Arc;

/// Types found so far; failed attempts leave no trace.
#[derive(Default)]
pub(super) struct Unifier {
    found: Vec<Option<Type>>,
    trail: Vec<(usize, Option<Type>)>,
}

impl Unifier {
    pub(super) fn fresh(&mut self) -> Type {
        self.found.push(None);
        Type::Param(self.found.len() - 1)
    }

    /// The arguments and the result of an overload with parameters of their own.
    pub(super) fn instantiate(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        let base = self.found.len();
        self.found.extend(std::iter::repeat_n(None, overload.params));
        (overload.args.iter().map(|ty| shift(ty, base)).collect(), shift(&overload.result, base))
    }

    pub(super) fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        self.attempt(|unifier| unifier.unify(a, b))
    }

    pub(super) fn all_assignable(&mut self, given: &[Type], wanted: &[Type]) -> bool {
        given.len() == wanted.len()
            && self.attempt(|unifier| given.iter().zip(wanted).all(|(a, b)| unifier.unify(a, b)))
    }

    fn attempt(&mut self, attempt: impl FnOnce(&mut Self) -> bool) -> bool {
        self.trail.clear();
        if attempt(self) {
            return true;
        }
        while let Some((param, before)) = self.trail.pop() {
            self.found[param] = before;
        }
        false
    }

    fn set(&mut self, param: usize, ty: Type) {
        let before = self.found[param].replace(ty);
        self.trail.push((param, before));
    }

    fn unify(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Param(param) = b {
            match self.substitutes(a, *param) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(param) = a {
            return self.substitutes(b, *param).0;
        }
        match (a, b) {
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.unify(a, b),
            (Type::Map(a), Type::Map(b)) => self.unify(&a.0, &b.0) && self.unify(&a.1, &b.1),
            (Type::Type(_), Type::Type(_)) => true,
            (a, b) => a == b,
        }
    }

    /// Whether `ty` can stand for the parameter, and whether something already does.
    fn substitutes(&mut self, ty: &Type, param: usize) -> (bool, bool) {
        if *ty == Type::Param(param) {
            return (true, true);
        }
        if let Some(found) = self.found[param].clone() {
            if *ty == found {
                return (true, true);
            }
            if !self.unify(ty, &found) {
                return (false, true);
            }
            let general = most_general(ty.clone(), found);
            if !self.mentions(&general, param) {
                self.set(param, general);
            }
            return (true, true);
        }
        if self.mentions(ty, param) {
            return (false, false);
        }
        self.set(param, ty.clone());
        (true, false)
    }

    fn mentions(&self, ty: &Type, param: usize) -> bool {
        match ty {
            Type::Param(other) if *other == param => true,
            Type::Param(other) => {
                self.found[*other].as_ref().is_some_and(|found| self.mentions(found, param))
            }
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.mentions(inner, param),
            Type::Map(entry) => self.mentions(&entry.0, param) || self.mentions(&entry.1, param),
            _ => false,
        }
    }

    /// `ty` with what was found put in; parameters that stay open become `dyn` if `close`.
    pub(super) fn substitute(&self, ty: &Type, close: bool) -> Type {
        match ty {
            Type::Param(param) => match &self.found[*param] {
                Some(found) => self.substitute(found, close),
                None if close => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(item) => Type::list(self.substitute(item, close)),
            Type::Optional(inner) => Type::optional(self.substitute(inner, close)),
            Type::Type(of) => Type::Type(Arc::new(self.substitute(of, close))),
            Type::Map(entry) => Type::map(self.substitute(&entry.0, close), self.substitute(&entry.1, close)),
            other => other.clone(),
        }
    }
}

fn shift(ty: &Type, base: usize) -> Type {
    match ty {
        Type::Param(param) => Type::Param(base + param),
        Type::List(item) => Type::list(shift(item, base)),
        Type::Optional(inner) => Type::optional(shift(inner, base)),
        Type::Type(of) => Type::Type(Arc::new(shift(of, base))),
        Type::Map(entry) => Type::map(shift(&entry.0, base), shift(&entry.1, base)),
        other => other.clone(),
    }
}

fn is_nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null | Type::Opaque(_) | Type::Optional(_) | Type::Object(_) | Type::Duration | Type::Timestamp
    )
}

/// The more general of two types that agree.
pub(super) fn most_general(a: Type, b: Type) -> Type {
    if is_at_most_as_specific(&a, &b) { a } else { b }
}

fn is_at_most_as_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => {
            is_at_most_as_specific(a, b)
        }
        (Type::Map(a), Type::Map(b)) => {
            is_at_most_as_specific(&a.0, &b.0) && is_at_most_as_specific(&a.1, &b.1)
        }
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}
