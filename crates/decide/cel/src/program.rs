//! A checked expression, ready to be estimated and evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::check::Checked;
use crate::cost::{Budget, CostRange, estimate};
use crate::error::EvalError;
use crate::evaluate::{Bindings, evaluate};
use crate::parse::{Expr, Kind};
use crate::types::{Declared, Type, Value};

/// A checked expression.
pub struct Program {
    expr: Expr,
    checked: Checked,
    variables: BTreeMap<String, Arc<Declared>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("type", self.ty()).finish_non_exhaustive()
    }
}

impl Program {
    pub(crate) fn new(expr: Expr, checked: Checked, variables: BTreeMap<String, Arc<Declared>>) -> Self {
        Self { expr, checked, variables }
    }

    /// The type of the expression's value.
    pub fn ty(&self) -> &Type {
        &self.checked.types[self.expr.id]
    }

    /// The variables that the expression reads, for example `oldSelf` of a transition rule.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.checked.variables
    }

    /// Whether the expression reads this variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.checked.variables.contains(variable)
    }

    /// The fields of `variable` that the expression names, for example of `variables`.
    pub fn fields_read(&self, variable: &str) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        collect_fields(&self.expr, variable, &mut fields);
        fields
    }

    /// The least and the most that an evaluation can cost, by the declared sizes of the variables.
    pub fn estimate(&self) -> CostRange {
        estimate(&self.expr, &self.checked, &self.variables)
    }

    /// Evaluates the expression and takes its cost from `budget`.
    ///
    /// # Errors
    /// When the expression fails or costs too much.
    pub fn evaluate<'a>(&self, bindings: &Bindings<'a>, budget: &mut Budget) -> Result<Value<'a>, EvalError> {
        evaluate(&self.expr, &self.checked, bindings, budget)
    }
}

fn collect_fields(expr: &Expr, variable: &str, fields: &mut BTreeSet<String>) {
    if let Kind::Select { operand, field, .. } = &expr.kind
        && matches!(&operand.kind, Kind::Ident(name) if name == variable)
    {
        fields.insert(field.clone());
    }
    expr.children(&mut |child| collect_fields(child, variable, fields));
}
