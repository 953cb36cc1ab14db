//! Macros: calls that become other trees before anything is checked.

use super::parser::Parser;
use super::tree::{Expr, Fold, Kind, Literal};
use crate::error::Issue;

/// The accumulator of loops; no name in an expression can be it.
pub(super) const ACCUMULATOR: &str = "@result";

type Expanded = Result<Expr, Issue>;

impl Parser {
    /// The call `function(args)` or what its macro makes of it.
    pub(super) fn expand(
        &mut self,
        at: usize,
        function: String,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Expanded {
        match (function.as_str(), &target, args.len()) {
            ("has", None, 1) => self.has(at, args),
            ("bind", Some(Expr { kind: Kind::Ident(name), .. }), 3) if name == "cel" && self.bindings => {
                self.bind(at, args)
            }
            ("optMap" | "optFlatMap", Some(_), 2) => self.optional_map(at, &function, target, args),
            ("sortBy", Some(_), 2) => self.sort_by(at, target, args),
            (name, Some(_), count) if is_loop(name, count) => self.comprehension(at, name, target, args),
            _ => Ok(self.node(at, Kind::Call { function, target: target.map(Box::new), args })),
        }
    }

    fn has(&mut self, at: usize, args: Vec<Expr>) -> Expanded {
        let arg = args.into_iter().next().expect("has() was matched with one argument");
        match arg.kind {
            Kind::Select { operand, field, .. } => {
                Ok(self.node(at, Kind::Select { operand, field, test: true }))
            }
            _ => Err(Issue::new(arg.at, "invalid argument to has() macro".to_owned())),
        }
    }

    fn bind(&mut self, at: usize, args: Vec<Expr>) -> Expanded {
        let mut args = args.into_iter();
        let (Some(name), Some(value), Some(body)) = (args.next(), args.next(), args.next()) else {
            return Err(Issue::new(at, "cel.bind() takes three arguments".to_owned()));
        };
        let Kind::Ident(name) = name.kind else {
            return Err(Issue::new(
                name.at,
                "cel.bind() variable names must be simple identifiers".to_owned(),
            ));
        };
        Ok(self.named(at, name, value, body))
    }

    /// A loop over nothing whose result sees `value` as `name`.
    pub(super) fn named(&mut self, at: usize, name: String, value: Expr, body: Expr) -> Expr {
        let range = self.node(at, Kind::List { items: Vec::new(), optional: Vec::new() });
        let condition = self.boolean(at, false);
        let step = self.node(at, Kind::Ident(name.clone()));
        let fold = Fold {
            range,
            var: "#unused".to_owned(),
            var2: None,
            accu: name,
            init: value,
            condition,
            step,
            result: body,
        };
        self.node(at, Kind::Fold(Box::new(fold)))
    }

    fn comprehension(
        &mut self,
        at: usize,
        name: &str,
        target: Option<Expr>,
        mut args: Vec<Expr>,
    ) -> Expanded {
        let range = target.expect("loops were matched with a target");
        let two = has_two_variables(name, args.len());
        let rest = args.split_off(if two { 2 } else { 1 });
        let var = variable(&args[0])?;
        let var2 = if two { Some(variable(&args[1])?) } else { None };
        if var2.as_ref() == Some(&var) {
            return Err(Issue::new(args[1].at, format!("duplicate variable name: {var}")));
        }
        let body = self.body(at, name, &var, rest);
        let Body { init, condition, step, result } = body;
        let accu = ACCUMULATOR.to_owned();
        Ok(self
            .node(at, Kind::Fold(Box::new(Fold { range, var, var2, accu, init, condition, step, result }))))
    }

    fn body(&mut self, at: usize, name: &str, var: &str, rest: Vec<Expr>) -> Body {
        match name {
            "all" => self.all(at, rest),
            "exists" => self.exists(at, rest),
            "exists_one" | "existsOne" => self.exists_one(at, rest),
            _ => self.transform(at, name, var, rest),
        }
    }

    fn all(&mut self, at: usize, mut rest: Vec<Expr>) -> Body {
        let init = self.boolean(at, true);
        let accu = self.accumulator(at);
        let condition = self.call(at, "@not_strictly_false", vec![accu]);
        rest.insert(0, self.accumulator(at));
        let step = self.call(at, "_&&_", rest);
        Body { init, condition, step, result: self.accumulator(at) }
    }

    fn exists(&mut self, at: usize, mut rest: Vec<Expr>) -> Body {
        let init = self.boolean(at, false);
        let accu = self.accumulator(at);
        let not = self.call(at, "!_", vec![accu]);
        let condition = self.call(at, "@not_strictly_false", vec![not]);
        rest.insert(0, self.accumulator(at));
        let step = self.call(at, "_||_", rest);
        Body { init, condition, step, result: self.accumulator(at) }
    }

    fn exists_one(&mut self, at: usize, rest: Vec<Expr>) -> Body {
        let init = self.node(at, Kind::Literal(Literal::Int(0)));
        let accu = self.accumulator(at);
        let one = self.node(at, Kind::Literal(Literal::Int(1)));
        let more = self.call(at, "_+_", vec![accu, one]);
        let step = self.filtered(at, rest.into_iter().next(), more);
        let accu = self.accumulator(at);
        let one = self.node(at, Kind::Literal(Literal::Int(1)));
        let result = self.call(at, "_==_", vec![accu, one]);
        Body { init, condition: self.boolean(at, true), step, result }
    }

    /// `map`, `filter`, `transformList`, `transformMap`, `transformMapEntry`.
    fn transform(&mut self, at: usize, name: &str, var: &str, mut rest: Vec<Expr>) -> Body {
        let (filter, value) = match (name, rest.pop(), rest.pop()) {
            ("filter", filter, _) => (filter, Some(self.node(at, Kind::Ident(var.to_owned())))),
            (_, value, filter) => (filter, value),
        };
        let value: Vec<Expr> = value.into_iter().collect();
        let accu = self.accumulator(at);
        let (init, more) = match name {
            "transformMap" => {
                let key = self.node(at, Kind::Ident(var.to_owned()));
                let args = [accu, key].into_iter().chain(value).collect();
                (self.node(at, Kind::Map(Vec::new())), self.call(at, "cel.@mapInsert", args))
            }
            "transformMapEntry" => {
                let args = [accu].into_iter().chain(value).collect();
                (self.node(at, Kind::Map(Vec::new())), self.call(at, "cel.@mapInsert", args))
            }
            _ => {
                let items = self.node(at, Kind::List { optional: vec![false; value.len()], items: value });
                let init = self.node(at, Kind::List { items: Vec::new(), optional: Vec::new() });
                (init, self.call(at, "_+_", vec![accu, items]))
            }
        };
        let step = self.filtered(at, filter, more);
        Body { init, condition: self.boolean(at, true), step, result: self.accumulator(at) }
    }

    /// `more` where `filter` holds, else the accumulator as it is.
    fn filtered(&mut self, at: usize, filter: Option<Expr>, more: Expr) -> Expr {
        match filter {
            Some(filter) => {
                let accu = self.accumulator(at);
                self.call(at, "_?_:_", vec![filter, more, accu])
            }
            None => more,
        }
    }

    pub(super) fn boolean(&mut self, at: usize, value: bool) -> Expr {
        self.node(at, Kind::Literal(Literal::Bool(value)))
    }

    fn accumulator(&mut self, at: usize) -> Expr {
        self.node(at, Kind::Ident(ACCUMULATOR.to_owned()))
    }
}

struct Body {
    init: Expr,
    condition: Expr,
    step: Expr,
    result: Expr,
}

fn is_loop(name: &str, count: usize) -> bool {
    match name {
        "all" | "exists" | "exists_one" | "existsOne" | "map" => matches!(count, 2 | 3),
        "filter" => count == 2,
        "transformList" | "transformMap" | "transformMapEntry" => matches!(count, 3 | 4),
        _ => false,
    }
}

/// `map(x, filter, value)` is the only loop of three arguments with one variable.
fn has_two_variables(name: &str, count: usize) -> bool {
    count >= 3 && name != "map"
}

pub(super) fn variable(expr: &Expr) -> Result<String, Issue> {
    match &expr.kind {
        Kind::Ident(name) if !name.starts_with('.') => Ok(name.clone()),
        _ => Err(Issue::new(expr.at, "argument must be a simple name".to_owned())),
    }
}
