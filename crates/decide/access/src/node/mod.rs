//! Node agents: what they may read, and what they may write.

mod authorizer;
mod graph;
mod references;
mod restriction;

pub use authorizer::authorize;
pub use graph::{Graph, Vertex};
pub use restriction::{Attempt, Cluster, Operation, Refusal, admit};

use crate::User;

/// Whether somebody is a node agent, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// Somebody else.
    Other,
    /// A node agent that does not say which node it is on.
    Unknown,
    /// The agent of this node.
    Node(&'a str),
}

/// Reads the identity from name and groups (pkg/auth/nodeidentifier).
pub fn identify(user: &User) -> Identity<'_> {
    let Some(name) = user.name.strip_prefix("system:node:") else { return Identity::Other };
    match (user.groups.iter().any(|group| group == "system:nodes"), name) {
        (false, _) => Identity::Other,
        (true, "") => Identity::Unknown,
        (true, name) => Identity::Node(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_known_by_name_and_group() {
        for (name, groups, expected) in [
            ("system:node:a", &["system:nodes"][..], Identity::Node("a")),
            ("system:node:", &["system:nodes"], Identity::Unknown),
            ("system:node:a", &[], Identity::Other),
            ("ann", &["system:nodes"], Identity::Other),
        ] {
            assert_eq!(identify(&User::authenticated(name, groups)), expected, "{name} {groups:?}");
        }
    }
}
