//! Loops: what their variables are.

use super::{Checker, Type};
use crate::parse::Fold;

impl Checker<'_> {
    pub(super) fn fold(&mut self, fold: &mut Fold) -> Type {
        let range = self.visit(&mut fold.range);
        let accu = self.visit(&mut fold.init);
        let range = self.unifier.substitute(&range, false);
        let depth = self.scopes.len();
        self.scopes.push((fold.accu.clone(), accu.clone()));
        let (var, var2) = self.variables_of(fold, &range);
        self.scopes.push((fold.var.clone(), var));
        if let Some(name) = &fold.var2 {
            self.scopes.push((name.clone(), var2));
        }
        let condition = self.visit(&mut fold.condition);
        self.assert(fold.condition.at, &Type::Bool, &condition);
        let step = self.visit(&mut fold.step);
        self.assert(fold.step.at, &accu, &step);
        self.scopes.truncate(depth + 1);
        let result = self.visit(&mut fold.result);
        self.scopes.truncate(depth);
        self.unifier.substitute(&result, false)
    }

    fn assert(&mut self, at: usize, expected: &Type, found: &Type) {
        if !self.unifier.assignable(expected, found) {
            self.mismatch(at, expected, found);
        }
    }

    fn variables_of(&mut self, fold: &Fold, range: &Type) -> (Type, Type) {
        let two = fold.var2.is_some();
        match range {
            Type::List(item) if two => (Type::Int, (**item).clone()),
            Type::List(item) => ((**item).clone(), Type::Error),
            Type::Map(entry) => entry.as_ref().clone(),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.at, message);
                (Type::Error, Type::Error)
            }
        }
    }
}
