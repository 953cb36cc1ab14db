//! What a call is estimated to cost, and how large its result is (apiserver: pkg/cel/library/cost.go; cel-go:
//! checker/cost.go, ext/lists.go).

use super::estimate::Estimator;
use super::{CostRange, LIST_COST, REGEX_FACTOR, STEADY, STRING_FACTOR};
use crate::parse::{Expr, Kind, Literal};
use crate::types::Type;

/// A cost, and the size of the result if it has one.
type Estimated = (CostRange, Option<CostRange>);

/// The longest pattern behind a named format.
const FORMAT_REGEX: f64 = 128.0;

impl Estimator<'_> {
    pub(super) fn function(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
        costs: &[CostRange],
    ) -> Estimated {
        if let ("_&&_" | "_||_", [left, right]) = (function, costs) {
            return (CostRange::new(left.min, left.plus(*right).max), None);
        }
        if let ("_?_:_", [_, yes, no], [condition, yes_cost, no_cost]) = (function, args, costs) {
            let size = self.size_or_unknown(yes).union(self.size_or_unknown(no));
            if let (Some(yes), Some(no)) = (self.entry_size(yes), self.entry_size(no)) {
                self.set_entry_size(expr, yes.union(no));
            }
            return (condition.plus(yes_cost.union(*no_cost)), Some(size));
        }
        let (cost, size) = self
            .list_function(overload, target, args)
            .or_else(|| self.kubernetes(function, overload, target, args))
            .or_else(|| self.standard(expr, overload, target, args))
            .unwrap_or((CostRange::exactly(1), None));
        (costs.iter().fold(cost, |sum, cost| sum.plus(*cost)), size)
    }

    fn node_size(&mut self, expr: &Expr) -> CostRange {
        self.size_or_unknown(expr)
    }

    fn list_function(&mut self, overload: &str, target: Option<&Expr>, args: &[Expr]) -> Option<Estimated> {
        let allocating = |factor: f64, size: CostRange| {
            (size.scaled(factor).plus(CostRange::exactly(1 + LIST_COST)), Some(size))
        };
        if overload == "lists_range" {
            return Some(allocating(1.0, CostRange::exactly(literal(args.first()?).unwrap_or(u64::MAX))));
        }
        if let (
            "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list",
            [left, right],
        ) = (overload, args)
        {
            let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
            let pairs = self.node_size(left).times(self.node_size(right));
            return Some((pairs.scaled(factor).plus(CostRange::exactly(1)), None));
        }
        if !overload.starts_with("list_") {
            return None;
        }
        let size = self.node_size(target?);
        Some(match overload {
            "list_slice" => {
                let end = literal(&args[1]).unwrap_or(size.max);
                allocating(1.0, CostRange::exactly(end.saturating_sub(literal(&args[0]).unwrap_or(0))))
            }
            "list_flatten" => allocating(1.0, size),
            "list_flatten_int" => allocating(literal(&args[0]).unwrap_or(u64::MAX) as f64, size),
            "list_reverse" => allocating(1.0, size),
            "list_distinct" => allocating(2.0, size.times(size)),
            id if id.ends_with("_sortByAssociatedKeys") => {
                let size = self.node_size(&args[0]);
                allocating(sort_factor(id), size.times(size))
            }
            id if id.ends_with("_sort") => allocating(sort_factor(id), size.times(size)),
            _ => return None,
        })
    }

    fn kubernetes(
        &mut self,
        function: &str,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Option<Estimated> {
        let one = CostRange::exactly(1);
        Some(match function {
            "check" => (CostRange::exactly(350_000), None),
            function if STEADY.contains(&function) => (one, None),
            "fieldSelector" | "labelSelector" => (selector(self.node_size(args.first()?)), None),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
                (self.traversal(target?, function), None)
            }
            "url" | "jsonpatch.escapeKey" => {
                let size = self.node_size(args.first()?);
                (size.scaled(STRING_FACTOR), Some(size))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                let size = self.node_size(target?);
                (size.scaled(STRING_FACTOR), Some(size))
            }
            "replace" => self.replace(target?, args)?,
            "split" => {
                let size = self.node_size(target?);
                let most = args.get(1).and_then(literal).unwrap_or(size.max);
                (size.scaled(2.0 * STRING_FACTOR), Some(CostRange::new(0, most)))
            }
            "join" => self.join(target?, args),
            "find" | "findAll" => {
                let size = self.node_size(target?);
                let cost = regex(size, self.node_size(args.first()?));
                (cost, Some(CostRange::new(0, size.max)))
            }
            "ip" if overload == "cidr_ip" => (one, None),
            "ip" | "cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                (self.node_size(args.first()?).scaled(STRING_FACTOR), None)
            }
            "ip.isCanonical" => (self.node_size(args.first()?).scaled(2.0 * STRING_FACTOR), None),
            "containsIP" | "containsCIDR" => (self.contains_address(function, overload, args), None),
            "validate" => {
                let size = self.node_size(args.first()?);
                (size.scaled(STRING_FACTOR).scaled(FORMAT_REGEX * REGEX_FACTOR), None)
            }
            "_==_" => (self.opaque_equality(args)?, None),
            _ => return None,
        })
    }

    /// The size of the elements of a list, if they have a type.
    fn element_size(&mut self, list: &Expr) -> Option<(Type, CostRange)> {
        let item = match self.ty(list) {
            Type::List(item) | Type::Optional(item) => item.as_ref().clone(),
            Type::Map(entry) => entry.0.clone(),
            _ => return None,
        };
        let mut path = self.path(list);
        if path.first().is_some_and(|root| root == "@result") {
            path.clear();
        }
        let size = if path.is_empty() {
            None
        } else {
            path.push("@items".to_owned());
            self.declared_size(&path)
        };
        Some((item, size.unwrap_or(CostRange::UNKNOWN)))
    }

    fn traversal(&mut self, target: &Expr, function: &str) -> CostRange {
        let size = self.node_size(target);
        match self.element_size(target) {
            Some((Type::String | Type::Bytes, element)) => {
                size.times(CostRange::exactly(1).plus(element.scaled(STRING_FACTOR)))
            }
            Some(_) => size,
            None if function == "includes" => size,
            None => size.scaled(STRING_FACTOR),
        }
    }

    fn replace(&mut self, target: &Expr, args: &[Expr]) -> Option<Estimated> {
        let (text, old, new) =
            (self.node_size(target), self.node_size(args.first()?), self.node_size(args.get(1)?));
        let (count_max, kept_max) = if old.min == 0 {
            (text.max.saturating_add(1), text.max)
        } else if new.max <= old.min {
            (0, text.max)
        } else {
            ((text.max as f64 / old.min as f64).ceil() as u64, 0)
        };
        let (count_min, kept_min) = if old.max == 0 {
            (text.min.saturating_add(1), text.min)
        } else if old.max <= new.min {
            (0, text.min)
        } else {
            ((text.min as f64 / old.max as f64).ceil() as u64, 0)
        };
        let size = CostRange::new(count_min, count_max).times(new).plus(CostRange::new(kept_min, kept_max));
        Some((text.scaled(2.0 * STRING_FACTOR), Some(size)))
    }

    fn join(&mut self, target: &Expr, args: &[Expr]) -> Estimated {
        let list = self.node_size(target);
        let mut size = CostRange::ZERO;
        if let Some((_, element)) = self.element_size(target) {
            size = list.times(element);
        }
        if let Some(separator) = args.first() {
            let separators = CostRange::new(list.min.saturating_sub(1), list.max.saturating_sub(1));
            size = size.plus(self.node_size(separator).times(separators));
        }
        (size.scaled(STRING_FACTOR), Some(size))
    }

    fn contains_address(&mut self, function: &str, overload: &str, args: &[Expr]) -> CostRange {
        let bytes = CostRange::new(4, 16);
        let mut cost = bytes.plus(bytes).scaled(STRING_FACTOR);
        if function == "containsCIDR" {
            cost = cost.plus(bytes.scaled(STRING_FACTOR)).plus(CostRange::exactly(1));
        }
        match args.first() {
            Some(arg) if overload.ends_with("_string") => {
                cost.plus(self.node_size(arg).scaled(STRING_FACTOR))
            }
            _ => cost,
        }
    }

    fn opaque_equality(&mut self, args: &[Expr]) -> Option<CostRange> {
        let [left, right] = args else { return None };
        let Type::Opaque(name) = self.ty(left) else { return None };
        if self.ty(left) != self.ty(right) {
            return None;
        }
        Some(match *name {
            "kubernetes.NamedFormat" => CostRange::new(1, 64).scaled(STRING_FACTOR),
            "kubernetes.URL" => {
                let size = self.node_size(right);
                CostRange::new(1, if size == CostRange::UNKNOWN { 1 } else { size.max }).scaled(STRING_FACTOR)
            }
            _ => CostRange::exactly(1),
        })
    }

    fn standard(
        &mut self,
        expr: &Expr,
        overload: &str,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Option<Estimated> {
        let text = |size: CostRange| size.scaled(STRING_FACTOR);
        Some(match (overload, target, args) {
            ("string_format", Some(target), _) => (text(self.node_size(target)), None),
            ("string_to_bytes", _, [arg]) => {
                let size = self.node_size(arg);
                (text(size), Some(CostRange::new(size.min, size.max.saturating_mul(4))))
            }
            ("bytes_to_string", _, [arg]) => {
                let size = self.node_size(arg);
                (text(size), Some(CostRange::new(size.min / 4, size.max)))
            }
            ("strings_quote", _, [arg]) => {
                let size = self.node_size(arg);
                let quoted = CostRange::new(size.min + 2, size.max.saturating_mul(2).saturating_add(2));
                (text(size), Some(quoted))
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => (text(self.node_size(arg)), None),
            ("in_list", _, [_, list]) => (self.node_size(list), None),
            ("matches_string", Some(target), [pattern]) => {
                let size = self.node_size(target);
                (regex(size, self.node_size(pattern)), None)
            }
            ("contains_string", Some(target), [part]) => {
                let size = self.node_size(target);
                (text(size).times(text(self.node_size(part))), None)
            }
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let size = self.node_size(left).plus(self.node_size(right));
                if let (Some(left), Some(right)) = (self.entry_size(left), self.entry_size(right)) {
                    self.set_entry_size(expr, left.union(right));
                }
                (if overload == "add_list" { CostRange::exactly(1) } else { text(size) }, Some(size))
            }
            (id, _, [left, right]) if compares_text(id) => {
                let most = self.node_size(left).max.min(self.node_size(right).max);
                (text(CostRange::new(u64::from(most > 0), most)), None)
            }
            _ => return None,
        })
    }
}

fn compares_text(overload: &str) -> bool {
    let order = ["less_", "less_equals_", "greater_", "greater_equals_"];
    let textual = order
        .iter()
        .any(|prefix| overload.strip_prefix(prefix).is_some_and(|kind| matches!(kind, "string" | "bytes")));
    textual || matches!(overload, "equals" | "not_equals")
}

fn sort_factor(overload: &str) -> f64 {
    let textual = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
    if textual { 2.0 + STRING_FACTOR } else { 2.0 }
}

fn literal(expr: &Expr) -> Option<u64> {
    match &expr.kind {
        Kind::Literal(Literal::Int(value)) => Some(u64::try_from(*value).unwrap_or(0)),
        _ => None,
    }
}

fn regex(text: CostRange, pattern: CostRange) -> CostRange {
    text.plus(CostRange::exactly(1)).scaled(STRING_FACTOR).times(pattern.scaled(REGEX_FACTOR))
}

fn selector(length: CostRange) -> CostRange {
    CostRange::exactly(LIST_COST).plus(length.scaled(STRING_FACTOR)).plus(length.scaled(0.5).scaled(50.0))
}
