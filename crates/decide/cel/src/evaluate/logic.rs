//! `&&`, `||` and `?:`, which absorb errors or leave parts unevaluated.

use super::{Evaluated, Evaluator, is_attribute};
use crate::error::EvalError;
use crate::parse::Expr;
use crate::types::Value;

impl<'p, 'a> Evaluator<'p, 'a> {
    /// `&&` (`decisive` is false) and `||` (true): a decisive side wins over an error of the other.
    pub(super) fn logic(&mut self, left: &'p Expr, right: &'p Expr, decisive: bool) -> Evaluated<'a> {
        let left = self.side(left)?;
        if matches!(left, Ok(value) if value == decisive) {
            return Ok(Value::Bool(decisive));
        }
        let right = self.side(right)?;
        match (left, right) {
            (_, Ok(value)) if value == decisive => Ok(Value::Bool(decisive)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            _ => Ok(Value::Bool(!decisive)),
        }
    }

    /// A side's truth or its own error; running out of budget is no error that could be absorbed.
    fn side(&mut self, expr: &'p Expr) -> Result<Result<bool, EvalError>, EvalError> {
        match self.eval(expr) {
            Ok(Value::Bool(value)) => Ok(Ok(value)),
            Ok(_) => Ok(Err(EvalError::no_such_overload())),
            Err(EvalError::CostLimit) => Err(EvalError::CostLimit),
            Err(error) => Ok(Err(error)),
        }
    }

    pub(super) fn conditional(&mut self, condition: &'p Expr, yes: &'p Expr, no: &'p Expr) -> Evaluated<'a> {
        match self.eval(condition)? {
            Value::Bool(true) => self.branch(yes),
            Value::Bool(false) => self.branch(no),
            _ => Err(EvalError::no_such_overload()),
        }
    }

    /// The variable of an attribute costs nothing as a branch; its steps do.
    fn branch(&mut self, expr: &'p Expr) -> Evaluated<'a> {
        let value = self.eval(expr)?;
        if is_attribute(expr) {
            self.meter.refund(1);
        }
        Ok(value)
    }

    pub(super) fn not_strictly_false(&mut self, arg: &'p Expr) -> Evaluated<'a> {
        let value = match self.eval(arg) {
            Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
            Ok(Value::Bool(value)) => value,
            _ => true,
        };
        self.meter.add(1)?;
        Ok(Value::Bool(value))
    }
}
