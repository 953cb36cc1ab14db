//! Node selector and node affinity.

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;

pub(crate) fn filter(needs: &Needs, node: &Node) -> Result<(), Reason<'static>> {
    if needs.match_node(node) { Ok(()) } else { Err(Reason::NodeAffinity) }
}

/// Sum of the weights of the preferences that hold.
pub(crate) fn sum(needs: &Needs, node: &Node) -> i64 {
    needs.preferred.iter().filter(|(_, term)| term.holds(node)).map(|(weight, _)| i64::from(*weight)).sum()
}
