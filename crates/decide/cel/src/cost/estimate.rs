//! What evaluating an expression can cost at least and at most (cel-go: checker/cost.go).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::scope::{EntrySize, Local, Scopes};
use super::{CostRange, LIST_COST, MAP_COST, STRUCT_COST};
use crate::check::Checked;
use crate::parse::{Entry, Expr, Fold, Kind, Literal};
use crate::types::{Declared, Shape, Type};

/// Estimates `expr` by the declared sizes of `variables`.
pub(crate) fn estimate(
    expr: &Expr,
    checked: &Checked,
    variables: &BTreeMap<String, Arc<Declared>>,
) -> CostRange {
    let mut estimator = Estimator {
        checked,
        variables,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Scopes::default(),
    };
    estimator.cost(expr)
}

pub(super) struct Estimator<'e> {
    pub(super) checked: &'e Checked,
    variables: &'e BTreeMap<String, Arc<Declared>>,
    paths: HashMap<usize, Vec<String>>,
    sizes: HashMap<usize, CostRange>,
    entries: HashMap<usize, EntrySize>,
    locals: Scopes,
}

const ONE: CostRange = CostRange { min: 1, max: 1 };

impl Estimator<'_> {
    fn cost(&mut self, expr: &Expr) -> CostRange {
        match &expr.kind {
            Kind::Literal(_) => CostRange::ZERO,
            Kind::Ident(name) => {
                let path =
                    self.locals.peek(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                ONE
            }
            Kind::Select { operand, field, test } => self.select(expr, operand, field, *test),
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List { items, .. } => self.list(expr, items),
            Kind::Map(entries) => self.map(expr, entries),
            Kind::Struct { fields, .. } => {
                let fields = fields.iter().map(|field| self.cost(&field.value)).collect::<Vec<_>>();
                sum(&fields).plus(CostRange::exactly(STRUCT_COST))
            }
            Kind::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, test: bool) -> CostRange {
        let mut cost = self.cost(operand);
        if test {
            return cost;
        }
        if matches!(self.ty(operand), Type::Map(_) | Type::Object(_)) {
            cost = cost.plus(ONE);
        }
        let mut path = self.path(operand);
        path.push(field.to_owned());
        self.paths.insert(expr.id, path);
        cost
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> CostRange {
        if let ("dyn", [arg]) = (function, args) {
            let cost = self.cost(arg);
            self.copy_sizes(expr, arg);
            return cost.plus(ONE);
        }
        let costs: Vec<CostRange> = args.iter().map(|arg| self.cost(arg)).collect();
        let target_cost = target.map_or(CostRange::ZERO, |target| self.cost(target));
        let mut total: Option<CostRange> = None;
        let mut size: Option<CostRange> = None;
        for overload in self.checked.overloads[expr.id].iter().map(|overload| overload.id) {
            let (cost, result) = self.function(expr, function, overload, target, args, &costs);
            total = Some(total.map_or(cost, |total| total.union(cost)));
            size = match (size, result) {
                (Some(size), Some(result)) => Some(size.union(result)),
                (size, result) => size.or(result),
            };
            if let ("index_list" | "index_map", [container, _]) = (overload, args) {
                size = self.entry_size(container).map(|entry| entry.value);
                let mut path = self.path(container);
                path.push(if overload == "index_list" { "@items" } else { "@values" }.to_owned());
                self.paths.insert(expr.id, path);
            }
            size = size.or_else(|| self.size(expr));
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        total.map_or(CostRange::ZERO, |total| target_cost.plus(total))
    }

    fn list(&mut self, expr: &Expr, items: &[Expr]) -> CostRange {
        let mut cost = CostRange::exactly(LIST_COST);
        let mut value = None;
        for item in items {
            cost = cost.plus(self.cost(item));
            value = united(value, self.size_or_unknown(item));
        }
        let value = value.unwrap_or(CostRange::ZERO);
        self.entries.insert(expr.id, EntrySize { is_list: true, key: ONE, value });
        cost
    }

    fn map(&mut self, expr: &Expr, entries: &[Entry]) -> CostRange {
        let mut cost = CostRange::exactly(MAP_COST);
        let (mut key, mut value) = (None, None);
        for entry in entries {
            cost = cost.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
            key = united(key, self.size_or_unknown(&entry.key));
            value = united(value, self.size_or_unknown(&entry.value));
        }
        let (key, value) = (key.unwrap_or(CostRange::ZERO), value.unwrap_or(CostRange::ZERO));
        self.entries.insert(expr.id, EntrySize { is_list: false, key, value });
        cost
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> CostRange {
        let cost = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_value(&fold.accu, &fold.init);
        let cost = cost.plus(self.cost(&fold.result));
        self.locals.pop(&fold.accu);
        self.copy_sizes(expr, &fold.result);
        cost
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> CostRange {
        let mut cost = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_value(&fold.accu, &fold.init);
        self.push_variables(fold);
        let turn = self.cost(&fold.condition).plus(self.cost(&fold.step));
        self.locals.pop(&fold.var);
        if let Some(name) = &fold.var2 {
            self.locals.pop(name);
        }
        cost = cost.plus(self.cost(&fold.result));
        self.locals.pop(&fold.accu);
        let turns = self.size_or_unknown(&fold.range);
        match &fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(expr.id, turns);
                if let Some(entry) = self.entry_size(&fold.step) {
                    self.entries.insert(expr.id, entry);
                }
            }
            _ => {}
        }
        cost.plus(turns.times(turn))
    }

    fn push_value(&mut self, name: &str, value: &Expr) {
        let local = Local { path: self.path(value), size: self.size(value), entry: self.entry_size(value) };
        self.locals.push(name, local);
    }

    fn push_variables(&mut self, fold: &Fold) {
        let entry = self.entry_size(&fold.range);
        let is_list =
            entry.map_or_else(|| matches!(self.ty(&fold.range), Type::List(_)), |entry| entry.is_list);
        let path = self.path(&fold.range);
        let local = |part: &str, size: Option<CostRange>| {
            let path = path.iter().cloned().chain([part.to_owned()]).collect();
            Local { path, size, entry: None }
        };
        let keys = local(if is_list { "@indices" } else { "@keys" }, entry.map(|entry| entry.key));
        let values = local(if is_list { "@items" } else { "@values" }, entry.map(|entry| entry.value));
        match &fold.var2 {
            Some(name) => {
                self.locals.push(&fold.var, keys);
                self.locals.push(name, values);
            }
            None => self.locals.push(&fold.var, if is_list { values } else { keys }),
        }
    }

    pub(super) fn ty(&self, expr: &Expr) -> &Type {
        &self.checked.types[expr.id]
    }

    pub(super) fn path(&self, expr: &Expr) -> Vec<String> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.locals.peek(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entry) = self.entry_size(from) {
            self.entries.insert(to.id, entry);
        }
    }

    pub(super) fn set_entry_size(&mut self, expr: &Expr, entry: EntrySize) {
        self.entries.insert(expr.id, entry);
    }

    pub(super) fn entry_size(&self, expr: &Expr) -> Option<EntrySize> {
        self.entries.get(&expr.id).copied().or_else(|| match &expr.kind {
            Kind::Ident(name) => self.locals.peek(name)?.entry,
            _ => None,
        })
    }

    pub(super) fn size_or_unknown(&mut self, expr: &Expr) -> CostRange {
        self.size(expr).unwrap_or(CostRange::UNKNOWN)
    }

    fn size(&mut self, expr: &Expr) -> Option<CostRange> {
        if let Some(size) = self.sizes.get(&expr.id).copied().or_else(|| written_size(expr)) {
            return Some(size);
        }
        if let Some(size) = self.declared_size(&self.path(expr)) {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if is_scalar(self.ty(expr)) {
            return Some(ONE);
        }
        match &expr.kind {
            Kind::Ident(name) => self.locals.peek(name)?.size,
            _ => None,
        }
    }

    /// The size that the schema allows at the end of a path from a variable.
    pub(super) fn declared_size(&self, path: &[String]) -> Option<CostRange> {
        let (variable, steps) = path.split_first()?;
        let mut declared = Arc::clone(self.variables.get(variable)?);
        for step in steps {
            declared = match (step.as_str(), &declared.shape) {
                ("@items" | "@values", Shape::List { item, .. }) => Arc::clone(item),
                ("@items" | "@values", Shape::Map(value)) => Arc::clone(value),
                ("@keys", Shape::Map(_)) => return Some(CostRange::new(0, 0)),
                (name, Shape::Object(object)) => Arc::clone(&object.field(name)?.declared),
                _ => return None,
            };
        }
        Some(CostRange::new(0, declared.max_elements))
    }
}

fn sum(costs: &[CostRange]) -> CostRange {
    costs.iter().fold(CostRange::ZERO, |sum, cost| sum.plus(*cost))
}

fn united(before: Option<CostRange>, size: CostRange) -> Option<CostRange> {
    Some(before.map_or(size, |before| before.union(size)))
}

/// The size of what is written in the expression itself.
fn written_size(expr: &Expr) -> Option<CostRange> {
    let size = match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List { items, .. } => items.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(CostRange::exactly(size as u64))
}

fn is_scalar(ty: &Type) -> bool {
    match ty {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}
