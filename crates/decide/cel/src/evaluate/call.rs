//! Calls: the arguments, then the function, then its cost.

use super::{Evaluated, Evaluator};
use crate::cost::call_cost;
use crate::error::EvalError;
use crate::library;
use crate::parse::{Expr, Kind};
use crate::types::{Value, equal};

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn call(&mut self, expr: &'p Expr) -> Evaluated<'a> {
        let Kind::Call { function, target, args } = &expr.kind else {
            return Err(EvalError::no_such_overload());
        };
        let (function, target) = (function.as_str(), target.as_deref());
        match (function, target, args.as_slice()) {
            ("_&&_", None, [left, right]) => self.logic(left, right, false),
            ("_||_", None, [left, right]) => self.logic(left, right, true),
            ("_?_:_", None, [condition, yes, no]) => self.conditional(condition, yes, no),
            ("@not_strictly_false", None, [arg]) => self.not_strictly_false(arg),
            ("_[_]", None, [operand, key]) => self.index(operand, key, false),
            ("_[?_]" | "_?._", None, [operand, key]) => self.index(operand, key, true),
            ("_==_" | "_!=_", None, [left, right]) => self.equality(function, left, right),
            ("or" | "orValue", Some(left), [right]) => self.or_else(function, left, right),
            ("@in", None, [value, list]) if is_constant_list(list) => self.membership(value, list),
            _ if expr.is_constant() => self.unmetered(|e| e.apply(expr, function, target, args)),
            _ => self.apply(expr, function, target, args),
        }
    }

    /// Runs what upstream computes before evaluation, at no cost.
    pub(super) fn unmetered(&mut self, run: impl FnOnce(&mut Self) -> Evaluated<'a>) -> Evaluated<'a> {
        let meter = self.meter.pause();
        let value = run(self);
        self.meter.resume(meter);
        value
    }

    fn apply(
        &mut self,
        expr: &Expr,
        function: &str,
        target: Option<&'p Expr>,
        args: &'p [Expr],
    ) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in target.into_iter().chain(args) {
            values.push(self.eval(arg)?);
        }
        let overloads = &self.checked.overloads[expr.id];
        let overload = match overloads.as_slice() {
            [one] => Some(one.id),
            _ => None,
        };
        let library =
            overloads.first().map(|overload| overload.library).ok_or_else(EvalError::no_such_overload)?;
        let result = library::apply(library, function, overload, &values).unwrap_or_else(|| {
            let types: Vec<String> = values.iter().map(|value| value.ty().runtime_name()).collect();
            let name = function.trim_start_matches('.');
            Err(EvalError::failed(format!("no such overload: {name}({})", types.join(", "))))
        });
        self.meter.add(call_cost(function, overload, &values, result.as_ref().ok()))?;
        result
    }

    fn equality(&mut self, function: &str, left: &'p Expr, right: &'p Expr) -> Evaluated<'a> {
        let values = [self.eval(left)?, self.eval(right)?];
        let same = equal(&values[0], &values[1])?;
        let overload = if function == "_==_" { "equals" } else { "not_equals" };
        self.meter.add(call_cost(function, Some(overload), &values, None))?;
        Ok(Value::Bool(same == (function == "_==_")))
    }

    /// `x in [1, 2, 3]` costs only what `x` does: upstream makes a set of the list beforehand.
    fn membership(&mut self, value: &'p Expr, list: &'p Expr) -> Evaluated<'a> {
        let value = self.eval(value)?;
        let list = self.eval(list)?;
        let Value::List(list) = &list else { return Err(EvalError::no_such_overload()) };
        crate::types::contains(list, &value).map(Value::Bool)
    }

    /// `or` and `orValue` evaluate their right side only if they must, and cost nothing themselves.
    fn or_else(&mut self, function: &str, left: &'p Expr, right: &'p Expr) -> Evaluated<'a> {
        match self.eval(left)? {
            Value::Optional(Some(value)) if function == "orValue" => Ok((*value).clone()),
            some @ Value::Optional(Some(_)) => Ok(some),
            Value::Optional(None) => self.eval(right),
            _ => Err(EvalError::no_such_overload()),
        }
    }
}

fn is_constant_list(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::List { items, optional } => {
            !optional.contains(&true) && items.iter().all(|item| matches!(item.kind, Kind::Literal(_)))
        }
        _ => false,
    }
}
