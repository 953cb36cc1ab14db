//! Loops.

use super::{Evaluated, Evaluator, Slot};
use crate::cost::LIST_COST;
use crate::error::EvalError;
use crate::parse::{Expr, Fold, Kind, Literal};
use crate::types::{List, ListItems, Map, Value};

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn fold(&mut self, fold: &'p Fold) -> Evaluated<'a> {
        let depth = self.scopes.len();
        if fold.is_bind() {
            self.scopes.push((&fold.accu, Slot::Pending(&fold.init, depth)));
            let result = self.eval(&fold.result);
            self.scopes.truncate(depth);
            return result;
        }
        let range = self.eval(&fold.range)?;
        let init = self.eval(&fold.init)?;
        self.scopes.push((&fold.accu, Slot::Ready(Ok(init))));
        let result = self.run(fold, &range, depth).and_then(|()| self.eval(&fold.result));
        self.scopes.truncate(depth);
        result
    }

    fn run(&mut self, fold: &'p Fold, range: &Value<'a>, depth: usize) -> Result<(), EvalError> {
        match range {
            Value::List(list) => {
                for (index, item) in list.iter().enumerate() {
                    let first = if fold.var2.is_some() { Ok(Value::Int(index as i64)) } else { item.clone() };
                    if !self.turn(fold, first, item, depth)? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let value = match fold.var2 {
                        Some(_) => map.get(&key).unwrap_or(Ok(Value::Null)),
                        None => Ok(Value::Null),
                    };
                    if !self.turn(fold, Ok(key), value, depth)? {
                        break;
                    }
                }
            }
            _ => return Err(EvalError::no_such_overload()),
        }
        Ok(())
    }

    /// One turn; false if the loop is over.
    fn turn(
        &mut self,
        fold: &'p Fold,
        var: Evaluated<'a>,
        var2: Evaluated<'a>,
        depth: usize,
    ) -> Result<bool, EvalError> {
        self.scopes.push((&fold.var, Slot::Ready(var)));
        if let Some(name) = &fold.var2 {
            self.scopes.push((name, Slot::Ready(var2)));
        }
        let goes_on = matches!(self.eval(&fold.condition)?, Value::Bool(true));
        if goes_on {
            let accu = match self.step(&fold.step, depth) {
                Err(EvalError::CostLimit) => return Err(EvalError::CostLimit),
                Err(error) if matches!(fold.condition.kind, Kind::Literal(Literal::Bool(true))) => {
                    return Err(error);
                }
                other => other,
            };
            self.scopes[depth].1 = Slot::Ready(accu);
        }
        self.scopes.truncate(depth + 1);
        Ok(goes_on)
    }

    /// The next accumulator. `@result + [x]` adds in place instead of copying, at the same cost.
    fn step(&mut self, step: &'p Expr, depth: usize) -> Evaluated<'a> {
        match &step.kind {
            Kind::Call { function, args, .. }
                if function == "_?_:_" && (adds(&args[1]).is_some() || inserts(&args[1])) =>
            {
                match self.eval(&args[0])? {
                    Value::Bool(true) => self.step(&args[1], depth),
                    Value::Bool(false) => self.take_accumulator(depth),
                    _ => Err(EvalError::no_such_overload()),
                }
            }
            Kind::Call { function, args, .. } if function == "cel.@mapInsert" => self.insert(args, depth),
            _ => match adds(step) {
                Some(item) => self.append(item, depth),
                None => self.eval(step),
            },
        }
    }

    fn take_accumulator(&mut self, depth: usize) -> Evaluated<'a> {
        match std::mem::replace(&mut self.scopes[depth].1, Slot::Ready(Ok(Value::Null))) {
            Slot::Ready(value) => value,
            Slot::Pending(..) => Err(EvalError::no_such_overload()),
        }
    }

    fn append(&mut self, item: &'p Expr, depth: usize) -> Evaluated<'a> {
        self.meter.add(1)?;
        let item = self.eval(item)?;
        self.meter.add(LIST_COST + 1)?;
        match self.take_accumulator(depth)? {
            Value::List(List { items: ListItems::Owned(mut items), kind }) => {
                std::rc::Rc::make_mut(&mut items).push(item);
                Ok(Value::List(List { items: ListItems::Owned(items), kind }))
            }
            _ => Err(EvalError::no_such_overload()),
        }
    }

    fn insert(&mut self, args: &'p [Expr], depth: usize) -> Evaluated<'a> {
        self.meter.add(1)?;
        let entries = match args {
            [_, key, value] => vec![(self.eval(key)?, self.eval(value)?)],
            [_, entry] => match self.eval(entry)? {
                Value::Map(map) => map
                    .keys()
                    .into_iter()
                    .filter_map(|key| Some(map.get(&key)?.map(|v| (key, v))))
                    .collect::<Result<_, _>>()?,
                _ => return Err(EvalError::no_such_overload()),
            },
            _ => return Err(EvalError::no_such_overload()),
        };
        self.meter.add(1)?;
        let Value::Map(map) = self.take_accumulator(depth)? else {
            return Err(EvalError::no_such_overload());
        };
        with_entries(map, entries)
    }
}

fn with_entries<'a>(mut map: Map<'a>, entries: Vec<(Value<'a>, Value<'a>)>) -> Evaluated<'a> {
    for (key, value) in entries {
        let shown = super::access::show(&key);
        if !map.insert(key, value) {
            return Err(EvalError::failed(format!("insert failed: key {shown} already exists")));
        }
    }
    Ok(Value::Map(map))
}

/// Whether this adds an entry to the accumulator.
fn inserts(step: &Expr) -> bool {
    matches!(&step.kind, Kind::Call { function, .. } if function == "cel.@mapInsert")
}

/// The item that `@result + [item]` adds.
fn adds(step: &Expr) -> Option<&Expr> {
    let Kind::Call { function, args, target: None } = &step.kind else { return None };
    match (function.as_str(), args.as_slice()) {
        ("_+_", [Expr { kind: Kind::Ident(accu), .. }, Expr { kind: Kind::List { items, .. }, .. }])
            if accu == "@result" && items.len() == 1 =>
        {
            items.first()
        }
        _ => None,
    }
}
