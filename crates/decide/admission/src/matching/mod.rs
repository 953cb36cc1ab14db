//! Which requests a webhook or a policy is about.
//!
//! What enters: a request's [`Attributes`], what [`Surroundings`] tell about the cluster, and the
//! [`Criteria`] of a webhook, policy or binding. What leaves: the [`Target`] that the judge sees the
//! request as: its own, or the same resource in another version.

mod criteria;
mod rule;

pub use criteria::{Criteria, Empty};
pub use rule::Rule;

use plimsoll_meta::status::Status;
use serde_json::Value;

/// What a request does to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an object.
    Update,
    /// The end of an object.
    Delete,
    /// A connection to something that runs, or through a proxy.
    Connect,
}

impl Operation {
    /// As rules and reviews write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Group, version and resource as paths name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resource<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// For example `v1`.
    pub version: &'a str,
    /// Lower case plural.
    pub resource: &'a str,
}

/// Group, version and kind as objects name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// For example `v1`.
    pub version: &'a str,
    /// For example `Pod`.
    pub kind: &'a str,
}

impl Kind<'_> {
    /// `v1` or `GROUP/VERSION`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// A resource and the kind of the objects that travel in its requests (or in those of the
/// subresource that is asked for).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// What the path names.
    pub resource: Resource<'a>,
    /// What the body is.
    pub kind: Kind<'a>,
}

/// A request as admission knows it.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// What is done.
    pub operation: Operation,
    /// To what.
    pub target: Target<'a>,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// The namespace; that of a Namespace object is its own name.
    pub namespace: &'a str,
    /// Empty while a name is still to be generated.
    pub name: &'a str,
    /// The object as it shall be; none when it is deleted.
    pub object: Option<&'a Value>,
    /// The object as it is; none before it exists.
    pub old: Option<&'a Value>,
}

impl Attributes<'_> {
    /// The kinds that configure admission are not judged by what they configure.
    pub fn is_exempt(&self) -> bool {
        let kind = self.target.kind;
        kind.group == "admissionregistration.k8s.io"
            && matches!(
                kind.kind,
                "ValidatingWebhookConfiguration"
                    | "MutatingWebhookConfiguration"
                    | "ValidatingAdmissionPolicy"
                    | "ValidatingAdmissionPolicyBinding"
                    | "MutatingAdmissionPolicy"
                    | "MutatingAdmissionPolicyBinding"
            )
    }

    /// Questions about who may do what are answered for the policies themselves: they never judge them.
    pub fn is_beyond_policies(&self) -> bool {
        matches!(
            (self.target.resource.group, self.target.resource.resource),
            ("authentication.k8s.io", "selfsubjectreviews" | "tokenreviews")
                | (
                    "authorization.k8s.io",
                    "localsubjectaccessreviews"
                        | "selfsubjectaccessreviews"
                        | "selfsubjectrulesreviews"
                        | "subjectaccessreviews"
                )
        )
    }
}

/// What matching asks about the cluster, only when it has to.
pub trait Surroundings<'a> {
    /// The same resource (and subresource) in the other versions that serve it.
    fn equivalents(&self) -> &[Target<'a>];

    /// A label of a namespace.
    ///
    /// # Errors
    /// The 404 that clients are told when there is no such namespace.
    fn namespace(&self, name: &str) -> Result<&Value, Status>;
}
