//! The Common Expression Language as Kubernetes uses it.
//!
//! What enters: the text of an expression, the types of its variables ([`Declared`], from a schema), and at
//! evaluation the variables' values, which borrow from JSON. What leaves: a checked [`Program`] with its
//! estimated cost and the facts that callers need, or compile errors in upstream's form; then a [`Value`],
//! or an [`EvalError`], and the cost that was spent. It never does I/O; authorization checks go through
//! [`Authorizer`], which the caller supplies.
//!
//! ```
//! use plimsoll_cel::{Bindings, Budget, Declared, Environment, Value};
//! let schema = serde_json::json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
//! let object = Declared::of_schema(&schema, "selfType").expect("the schema has a type");
//! let environment = Environment::new().variable("self", object);
//! let program = environment.compile("self.replicas <= 3").expect("the rule is right");
//! let json = serde_json::json!({"replicas": 2});
//! let bindings = Bindings::new().bind("self", environment.value("self", &json).expect("declared"));
//! let value = program.evaluate(&bindings, &mut Budget::new()).expect("evaluates");
//! assert!(matches!(value, Value::Bool(true)));
//! ```

mod check;
mod cost;
mod environment;
mod error;
mod evaluate;
mod library;
mod parse;
mod program;
mod types;

#[cfg(test)]
mod tests;

pub use cost::{
    Budget, CostRange, PER_CALL_LIMIT, PER_CRD_ESTIMATE_LIMIT, PER_EXPRESSION_ESTIMATE_LIMIT, RUNTIME_BUDGET,
};
pub use environment::Environment;
pub use error::{CompileError, EvalError};
pub use evaluate::{Bindings, Fields};
pub use library::authorizer::{Authorizer, Check, Decision, Selector};
pub use program::Program;
pub use types::escape::{escape, unescape};
pub use types::{Declared, Field, ListKind, ObjectType, Shape, Type};
pub use types::{Duration, List, Map, Object, Opaque, Text, Timestamp, Value};
