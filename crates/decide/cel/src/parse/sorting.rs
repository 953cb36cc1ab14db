//! `sortBy`: it sorts a list by what a loop makes of its elements.

use super::parser::Parser;
use super::tree::{Expr, Kind};
use crate::error::Issue;

/// The name under which the list is evaluated once (cel-go: ext/lists.go).
const INPUT: &str = "@__sortBy_input__";

impl Parser {
    pub(super) fn sort_by(
        &mut self,
        at: usize,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Result<Expr, Issue> {
        let Some(target) = target else { return Err(Issue::new(at, "sortBy() needs a list".to_owned())) };
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let message =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err(Issue::new(target.at, message.to_owned()));
        }
        let range = self.node(at, Kind::Ident(INPUT.to_owned()));
        let keys = self.expand(at, "map".to_owned(), Some(range), args)?;
        let list = Box::new(self.node(at, Kind::Ident(INPUT.to_owned())));
        let function = "@sortByAssociatedKeys".to_owned();
        let sorted = self.node(at, Kind::Call { function, target: Some(list), args: vec![keys] });
        Ok(self.named(at, INPUT.to_owned(), target, sorted))
    }
}
