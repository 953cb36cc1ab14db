//! The type checker: names are resolved, overloads chosen, types found.
//!
//! What enters: a tree and an environment. What leaves: the type and the overloads of every node, or the
//! issues that upstream reports (cel-go: checker/checker.go).

mod call;
mod fold;
mod literals;
mod overload;
mod unify;
mod validate;

pub(crate) use overload::{Library, Overload, libraries_of};

use crate::environment::Environment;
use crate::error::Issue;
use crate::parse::{Expr, Kind, Literal};
use crate::types::Type;
use unify::Unifier;

/// What the checker found out about each node, by its id.
pub(crate) struct Checked {
    pub(crate) types: Vec<Type>,
    pub(crate) overloads: Vec<Vec<&'static Overload>>,
    /// Variables of the environment that the tree reads.
    pub(crate) variables: std::collections::BTreeSet<String>,
}

/// Checks `expr`, rewriting dotted names of functions and types into single names.
pub(crate) fn check(expr: &mut Expr, nodes: usize, environment: &Environment) -> Result<Checked, Vec<Issue>> {
    let mut checker = Checker {
        environment,
        types: vec![Type::Error; nodes],
        overloads: vec![Vec::new(); nodes],
        variables: std::collections::BTreeSet::new(),
        scopes: Vec::new(),
        unifier: Unifier::default(),
        issues: Vec::new(),
    };
    checker.visit(expr);
    if checker.issues.is_empty() {
        validate::literals(expr, &mut checker.issues);
    }
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    let Checker { types, overloads, variables, unifier, .. } = checker;
    let types = types.iter().map(|ty| unifier.substitute(ty, true)).collect();
    Ok(Checked { types, overloads, variables })
}

struct Checker<'e> {
    environment: &'e Environment,
    types: Vec<Type>,
    overloads: Vec<Vec<&'static Overload>>,
    variables: std::collections::BTreeSet<String>,
    scopes: Vec<(String, Type)>,
    unifier: Unifier,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn report(&mut self, at: usize, message: String) {
        self.issues.push(Issue::new(at, message));
    }

    /// Finds the type of `expr` and of everything in it.
    fn visit(&mut self, expr: &mut Expr) -> Type {
        let (id, at) = (expr.id, expr.at);
        let ty = match &mut expr.kind {
            Kind::Literal(literal) => type_of(literal),
            Kind::Ident(name) => self.ident(name, at),
            Kind::Select { .. } => self.select(expr),
            Kind::Call { .. } => self.call(expr),
            Kind::List { items, optional } => self.list(items, optional),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.object(at, name, fields),
            Kind::Fold(fold) => self.fold(fold),
        };
        self.types[id] = ty.clone();
        ty
    }

    fn ident(&mut self, name: &str, at: usize) -> Type {
        match self.resolve(name) {
            Some(ty) => ty,
            None => {
                self.undeclared(name, at);
                Type::Error
            }
        }
    }

    fn undeclared(&mut self, name: &str, at: usize) {
        self.report(at, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn resolve(&mut self, name: &str) -> Option<Type> {
        if let Some((_, ty)) = self.scopes.iter().rev().find(|(known, _)| known == name) {
            return Some(ty.clone());
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some(declared) = self.environment.declared(name) {
            self.variables.insert(name.to_owned());
            return Some(declared.ty());
        }
        crate::library::type_named(name).map(|ty| Type::Type(std::sync::Arc::new(ty)))
    }

    fn select(&mut self, expr: &mut Expr) -> Type {
        let qualified = expr.qualified_name();
        if let Some(name) =
            qualified.filter(|name| self.is_type_name(name) || self.is_qualified_variable(name))
        {
            expr.kind = Kind::Ident(name.clone());
            return self.ident(&name, expr.at);
        }
        let at = expr.at;
        let Kind::Select { operand, field, test } = &mut expr.kind else { return Type::Error };
        let ty = self.field(at, operand, field, false);
        if *test { Type::Bool } else { self.unifier.substitute(&ty, false) }
    }

    /// A variable whose name has a dot, such as `authorizer.requestResource`.
    fn is_qualified_variable(&self, name: &str) -> bool {
        let root = name.split('.').next().unwrap_or(name);
        self.environment.declared(name).is_some() && self.scopes.iter().all(|(known, _)| known != root)
    }

    fn is_type_name(&self, name: &str) -> bool {
        let root = name.split('.').next().unwrap_or(name);
        let shadowed =
            self.scopes.iter().any(|(known, _)| known == root) || self.environment.declared(root).is_some();
        !shadowed && crate::library::type_named(name).is_some()
    }

    /// The type of `operand.field`, or of `operand.?field`.
    fn field(&mut self, at: usize, operand: &mut Expr, field: &str, optional: bool) -> Type {
        let operand = self.visit(operand);
        let operand = self.unifier.substitute(&operand, false);
        let (target, was_optional) = match &operand {
            Type::Optional(inner) => ((**inner).clone(), true),
            other => (other.clone(), false),
        };
        let ty = match &target {
            Type::Map(entry) => entry.1.clone(),
            Type::Object(object) => match self.environment.field(object, field) {
                Some(ty) => ty,
                None => {
                    self.report(at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.report(at, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional || was_optional { Type::optional(ty) } else { ty }
    }

    fn mismatch(&mut self, at: usize, expected: &Type, found: &Type) {
        let (expected, found) =
            (self.unifier.substitute(expected, true), self.unifier.substitute(found, true));
        self.report(at, format!("expected type '{expected}' but found '{found}'"));
    }
}

fn type_of(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
