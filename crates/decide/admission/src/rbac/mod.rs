//! Role based access control.
//!
//! Source of the rules: plugin/pkg/auth/authorizer/rbac and pkg/registry/rbac/validation, v1.37.

mod policy;
mod rule;

use plimsoll_meta::selector::{FieldRequirement, Requirement};

pub use policy::Policy;
pub use rule::{Rule, missing, uncovered};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `create`, … or the lower case HTTP method for other paths.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Version of the group.
    pub version: &'a str,
    /// Plural name; empty for other paths.
    pub resource: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Empty for cluster scope and for all namespaces.
    pub namespace: &'a str,
    /// Empty for collections.
    pub name: &'a str,
    /// Path of a request that is about no resource.
    pub path: &'a str,
    /// What a request about a collection selects by fields.
    pub fields: &'a [FieldRequirement],
    /// What a request about a collection selects by labels.
    pub labels: &'a [Requirement],
}

/// Who wants it.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// User name.
    pub name: &'a str,
    /// Groups.
    pub groups: &'a [String],
}
