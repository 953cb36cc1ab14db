//! Calls: names of functions, and which of their overloads fit.

use super::overload::{Overload, overloads};
use super::{Checker, Type};
use crate::parse::{Expr, Kind, Literal};

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: &mut Expr) -> Type {
        let (id, at) = (expr.id, expr.at);
        let Kind::Call { function, target, args } = &mut expr.kind else { return Type::Error };
        if function == "_?._" {
            return self.optional_field(id, at, args);
        }
        for arg in args.iter_mut() {
            self.visit(arg);
        }
        if let Some(prefix) = target.as_ref().and_then(|t| t.qualified_name()) {
            let qualified = format!("{}.{function}", prefix.trim_start_matches('.'));
            if self.is_function(&qualified) {
                *function = qualified;
                *target = None;
            }
        }
        if let Some(target) = target {
            self.visit(target);
        }
        let name = function.strip_prefix('.').unwrap_or(function).to_owned();
        if !self.is_function(&name) {
            self.undeclared(&name, at);
            return Type::Error;
        }
        let (target, args): (Option<&Expr>, &[Expr]) = (target.as_deref(), args);
        if matches!(name.as_str(), "_&&_" | "_||_") {
            return self.logic(id, &name, args);
        }
        self.resolve_overload(id, at, &name, target, args)
    }

    fn is_function(&self, name: &str) -> bool {
        overloads(name).iter().any(|overload| self.environment.offers(overload.library))
    }

    fn optional_field(&mut self, id: usize, at: usize, args: &mut [Expr]) -> Type {
        let [operand, field] = args else { return Type::Error };
        let field_type = self.visit(field);
        debug_assert_eq!(field_type, Type::String);
        let Kind::Literal(Literal::String(name)) = &field.kind else { return Type::Error };
        let name = name.to_string();
        let ty = self.field(at, operand, &name, true);
        self.overloads[id] = overloads("_?._").iter().collect();
        self.unifier.substitute(&ty, false)
    }

    fn logic(&mut self, id: usize, name: &str, args: &[Expr]) -> Type {
        let mut result = Type::Bool;
        for arg in args {
            let ty = self.types[arg.id].clone();
            if !self.unifier.assignable(&ty, &Type::Bool) {
                self.mismatch(arg.at, &Type::Bool, &ty);
                result = Type::Error;
            }
        }
        self.overloads[id] = overloads(name).iter().collect();
        result
    }

    fn resolve_overload(
        &mut self,
        id: usize,
        at: usize,
        name: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Type {
        let given: Vec<Type> = target.into_iter().chain(args).map(|e| self.types[e.id].clone()).collect();
        let mut result: Option<Type> = None;
        let mut chosen: Vec<&'static Overload> = Vec::new();
        for overload in overloads(name) {
            if overload.member != target.is_some() || !self.environment.offers(overload.library) {
                continue;
            }
            let (wanted, returned) = self.unifier.instantiate(overload);
            if !self.unifier.all_assignable(&given, &wanted) {
                continue;
            }
            chosen.push(overload);
            let returned = self.unifier.substitute(&returned, false);
            result = Some(match result {
                None => returned,
                Some(before) if before == Type::Dyn || before == returned => before,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(ty) => {
                self.overloads[id] = chosen;
                ty
            }
            None => {
                self.no_overload(at, name, &given, target.is_some());
                Type::Error
            }
        }
    }

    fn no_overload(&mut self, at: usize, name: &str, given: &[Type], member: bool) {
        let given: Vec<String> =
            given.iter().map(|ty| self.unifier.substitute(ty, true).to_string()).collect();
        let signature = match given.split_first() {
            Some((target, args)) if member => format!("{target}.({})", args.join(", ")),
            _ => format!("({})", given.join(", ")),
        };
        self.report(at, format!("found no matching overload for '{name}' applied to '{signature}'"));
    }
}
