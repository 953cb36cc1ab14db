//! Node selector and node affinity, of the pod and of all pods of its profile.

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::profile::Added;

pub(crate) fn filter(needs: &Needs, node: &Node) -> Result<(), Reason<'static>> {
    if needs.match_node(node) { Ok(()) } else { Err(Reason::NodeAffinity) }
}

/// What the profile asks of nodes.
pub(super) fn enforced(added: &Added, node: &Node) -> Result<(), Reason<'static>> {
    match &added.required {
        Some(terms) if !terms.iter().any(|term| term.holds(node)) => Err(Reason::EnforcedAffinity),
        _ => Ok(()),
    }
}

/// Sum of the weights of the preferences that hold.
pub(crate) fn sum(added: &Added, needs: &Needs, node: &Node) -> i64 {
    let preferred = added.preferred.iter().chain(&needs.preferred);
    preferred.filter(|(_, term)| term.holds(node)).map(|(weight, _)| i64::from(*weight)).sum()
}
