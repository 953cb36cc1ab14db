//! `optMap` and `optFlatMap`: they look into an optional value.

use super::MAX_NODES;
use super::parser::Parser;
use super::tree::{Expr, Kind};
use crate::error::Issue;

impl Parser {
    /// `x.optMap(v, e)` is `x.hasValue() ? optional.of(cel.bind(v, x.value(), e)) : optional.none()`.
    pub(super) fn optional_map(
        &mut self,
        at: usize,
        function: &str,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Result<Expr, Issue> {
        let mut args = args.into_iter();
        let (Some(target), Some(name), Some(body)) = (target, args.next(), args.next()) else {
            return Err(Issue::new(at, format!("{function}() takes two arguments")));
        };
        let Kind::Ident(name) = name.kind else {
            let message = format!("{function}() variable name must be a simple identifier");
            return Err(Issue::new(name.at, message));
        };
        let copy = self.copied(&target);
        if self.nodes > MAX_NODES {
            return Err(Issue::nowhere(format!("expression size exceeds limit: {MAX_NODES} nodes")));
        }
        let has = self.method(at, "hasValue", target);
        let value = self.method(at, "value", copy);
        let mut result = self.named(at, name, value, body);
        if function == "optMap" {
            result = self.call(at, "optional.of", vec![result]);
        }
        let none = self.call(at, "optional.none", Vec::new());
        Ok(self.call(at, "_?_:_", vec![has, result, none]))
    }

    fn method(&mut self, at: usize, function: &str, target: Expr) -> Expr {
        self.node(
            at,
            Kind::Call { function: function.to_owned(), target: Some(Box::new(target)), args: Vec::new() },
        )
    }

    /// The same tree under new ids.
    fn copied(&mut self, expr: &Expr) -> Expr {
        let mut copy = expr.clone();
        self.renumber(&mut copy);
        copy
    }

    fn renumber(&mut self, expr: &mut Expr) {
        expr.id = self.nodes;
        self.nodes += 1;
        match &mut expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => self.renumber(operand),
            Kind::Call { target, args, .. } => {
                target.iter_mut().for_each(|t| self.renumber(t));
                args.iter_mut().for_each(|a| self.renumber(a));
            }
            Kind::List { items, .. } => items.iter_mut().for_each(|i| self.renumber(i)),
            Kind::Map(entries) => entries.iter_mut().for_each(|e| {
                self.renumber(&mut e.key);
                self.renumber(&mut e.value);
            }),
            Kind::Struct { fields, .. } => fields.iter_mut().for_each(|f| self.renumber(&mut f.value)),
            Kind::Fold(f) => {
                for part in [&mut f.range, &mut f.init, &mut f.condition, &mut f.step, &mut f.result] {
                    self.renumber(part);
                }
            }
        }
    }
}
