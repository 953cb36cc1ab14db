//! The evaluator, which counts costs as upstream does (cel-go: interpreter/runtimecost.go).
//!
//! What enters: a checked tree, the variables' values and a budget. What leaves: a value or an error.
//! Identifiers, selections and indexes are one "attribute": its variable and each step cost one.

mod access;
mod binding;
mod call;
mod collect;
mod fold;
mod logic;

pub use binding::{Bindings, Fields};

use crate::check::Checked;
use crate::cost::{Budget, Meter};
use crate::error::EvalError;
use crate::parse::{Expr, Kind, Literal};
use crate::types::{Text, Value};

/// What evaluation yields.
pub(crate) type Evaluated<'a> = Result<Value<'a>, EvalError>;

/// Evaluates `expr` under `budget`.
pub(crate) fn evaluate<'a>(
    expr: &Expr,
    checked: &Checked,
    bindings: &Bindings<'a>,
    budget: &mut Budget,
) -> Evaluated<'a> {
    let mut evaluator = Evaluator { checked, bindings, meter: budget.meter(), scopes: Vec::new() };
    let value = evaluator.eval(expr);
    budget.settle(&evaluator.meter);
    value
}

struct Evaluator<'p, 'a> {
    checked: &'p Checked,
    bindings: &'p Bindings<'a>,
    meter: Meter,
    scopes: Vec<(&'p str, Slot<'p, 'a>)>,
}

/// What a name in scope stands for.
#[derive(Clone)]
enum Slot<'p, 'a> {
    Ready(Evaluated<'a>),
    /// Evaluated when first read, with this many outer scopes.
    Pending(&'p Expr, usize),
}

impl<'p, 'a> Evaluator<'p, 'a> {
    fn eval(&mut self, expr: &'p Expr) -> Evaluated<'a> {
        match &expr.kind {
            Kind::Literal(literal) => Ok(constant(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::Call { .. } => self.call(expr),
            Kind::List { items, optional } => self.list(expr, items, optional),
            Kind::Map(entries) => self.map(expr, entries),
            Kind::Struct { name, fields } => self.object(name, fields),
            Kind::Fold(fold) => self.fold(fold),
        }
    }
}

fn constant<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(i) => Value::Int(*i),
        Literal::Uint(u) => Value::Uint(*u),
        Literal::Double(d) => Value::Double(*d),
        Literal::String(text) => Value::String(Text::Shared(text.clone())),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

/// Whether the node is an attribute, whose last read costs one by itself.
fn is_attribute(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Ident(_) => true,
        Kind::Select { test, .. } => !test,
        Kind::Call { function, target: None, .. } => matches!(function.as_str(), "_[_]" | "_[?_]" | "_?._"),
        _ => false,
    }
}

fn is_conditional(expr: &Expr) -> bool {
    matches!(&expr.kind, Kind::Call { function, target: None, .. } if function == "_?_:_")
}
