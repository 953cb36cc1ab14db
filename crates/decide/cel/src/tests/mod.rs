//! Tables of expressions.

mod bounds;
mod costs;
mod errors;
mod schemas;
mod values;
