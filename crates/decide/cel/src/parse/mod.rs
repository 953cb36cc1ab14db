//! From text to a syntax tree.
//!
//! What enters: the text of an expression. What leaves: an [`Expr`] whose macros are expanded, or the
//! syntax errors with their positions. The tree's height is bounded, so that walks over it need no guard.

mod lexer;
mod literal;
mod macros;
mod optional;
mod parser;
mod primary;
mod sorting;
mod tree;

pub(crate) use parser::parse;
pub(crate) use tree::{Entry, Expr, FieldInit, Fold, Kind, Literal};

/// The deepest nesting of an expression (cel-go: parser/options.go).
pub(crate) const MAX_DEPTH: usize = 250;

/// The longest expression in code points (cel-go: parser/options.go).
pub(crate) const MAX_LENGTH: usize = 100_000;

/// The most nodes a tree may have: nested `optMap` doubles its target each time.
const MAX_NODES: usize = 200_000;

/// The greatest height of a tree: macros add levels that their text does not nest.
const MAX_HEIGHT: usize = 160;
