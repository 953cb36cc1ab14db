//! Structural schemas of custom resources.
//!
//! What enters: CustomResourceDefinitions and custom objects as JSON. What leaves: what is wrong with them
//! in upstream's words, objects without what their schema does not know and with its defaults, and the
//! schema in the forms that others need. It never does I/O and knows no single kind.
//!
//! - [`check`]: is a definition's schema one that objects can be held against?
//! - [`prune()`], [`prune_nulls`], [`default()`], [`embedded`]: what decoding does to an object;
//! - [`validate`], [`lists`]: what is wrong with an object;
//! - [`Rules`]: what the rules of a schema find wrong with an object;
//! - [`nodes()`]: the schema for patches and server-side apply;
//! - [`publish`]: the schema in OpenAPI documents;
//! - [`PrinterColumn`]: what tables show;
//! - [`conversion`]: what webhooks that convert are asked and answer;
//! - [`status`]: whether a definition gets its names and is served.

pub mod check;
mod column;
pub mod conversion;
mod default;
pub mod embedded;
mod format;
pub mod lists;
mod nodes;
pub mod path;
mod pattern;
mod prune;
pub mod publish;
mod rules;
mod schema;
pub mod status;
pub mod validate;
mod version;

pub use column::{NAME_DESCRIPTION, PrinterColumn};
pub use default::{default, prune_nulls};
pub use nodes::nodes;
pub use prune::prune;
pub use rules::Rules;
pub use schema::{Additional, Limits, ListType, Rule, Schema};
pub use version::{compare as compare_versions, deprecation};
