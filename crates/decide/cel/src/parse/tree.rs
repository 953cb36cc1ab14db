//! The syntax tree.

use std::sync::Arc;

/// One node of the tree; `id` counts nodes from zero and `at` is the position in code points.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: usize,
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(String),
    Select { operand: Box<Expr>, field: String, test: bool },
    Call { function: String, target: Option<Box<Expr>>, args: Vec<Expr> },
    List { items: Vec<Expr>, optional: Vec<bool> },
    Map(Vec<Entry>),
    Struct { name: String, fields: Vec<FieldInit> },
    Fold(Box<Fold>),
}

/// A constant in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// `key: value` of a map literal; `optional` for `?key: value`.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// `field: value` of an object literal.
#[derive(Clone, Debug)]
pub(crate) struct FieldInit {
    pub(crate) at: usize,
    pub(crate) name: String,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A loop: every comprehension macro becomes one.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Expr,
    pub(crate) var: String,
    pub(crate) var2: Option<String>,
    pub(crate) accu: String,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

impl Fold {
    /// Whether the loop only names a value (`cel.bind`, `optMap`).
    pub(crate) fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Kind::List { items, .. } if items.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
    }
}

impl Expr {
    /// The dotted name this expression spells, if it is one.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        let mut parts = Vec::new();
        let mut expr = self;
        loop {
            match &expr.kind {
                Kind::Ident(name) => {
                    parts.push(name.as_str());
                    parts.reverse();
                    return Some(parts.join("."));
                }
                Kind::Select { operand, field, test: false } => {
                    parts.push(field);
                    expr = operand;
                }
                _ => return None,
            }
        }
    }

    /// Whether the value is known from the text alone, as upstream's optimizer folds it.
    pub(crate) fn is_constant(&self) -> bool {
        match &self.kind {
            Kind::Literal(_) => true,
            Kind::List { items, optional } => {
                !optional.contains(&true) && items.iter().all(Expr::is_constant)
            }
            Kind::Map(entries) => {
                entries.iter().all(|e| !e.optional && e.key.is_constant() && e.value.is_constant())
            }
            Kind::Call { function, target: None, args } if is_conversion(function) => {
                args.len() == 1 && args[0].is_constant()
            }
            _ => false,
        }
    }

    /// Calls `visit` for the nodes below this one.
    pub(crate) fn children<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => visit(operand),
            Kind::Call { target, args, .. } => target.iter().map(AsRef::as_ref).chain(args).for_each(visit),
            Kind::List { items, .. } => items.iter().for_each(visit),
            Kind::Map(entries) => entries.iter().for_each(|e| {
                visit(&e.key);
                visit(&e.value);
            }),
            Kind::Struct { fields, .. } => fields.iter().for_each(|f| visit(&f.value)),
            Kind::Fold(f) => {
                [&f.range, &f.init, &f.condition, &f.step, &f.result].into_iter().for_each(visit)
            }
        }
    }
}

/// Conversions that upstream folds when their argument is constant (cel-go: interpreter/decorators.go).
fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}
