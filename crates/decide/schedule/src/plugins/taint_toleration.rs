//! Taints keep pods away that do not tolerate them, or make a node less liked.

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::tolerate::{Effect, Taint};

pub(crate) fn filter<'n>(needs: &Needs, node: &'n Node) -> Result<(), Reason<'n>> {
    let hard = node.taints.iter().filter(|taint| taint.effect.is_hard());
    for taint in hard {
        if !needs.tolerations.iter().any(|toleration| toleration.bears(taint)) {
            return Err(Reason::Taint { key: &taint.key, value: &taint.value });
        }
    }
    Ok(())
}

/// Whether a taint ends pods that do not tolerate it, and this pod does not.
pub(crate) fn expels(needs: &Needs, node: &Node) -> bool {
    let mut expelling = node.taints.iter().filter(|taint| taint.effect == Effect::NoExecute);
    let tolerated = |taint: &Taint| needs.tolerations.iter().any(|toleration| toleration.bears(taint));
    expelling.any(|taint| !tolerated(taint))
}

/// Untolerated taints that only ask to stay away; fewer are better.
pub(crate) fn count(needs: &Needs, node: &Node) -> i64 {
    let soft = node.taints.iter().filter(|taint| !taint.effect.is_hard());
    let untolerated =
        soft.filter(|taint| !needs.tolerations.iter().any(|toleration| toleration.bears(taint)));
    i64::try_from(untolerated.count()).unwrap_or(i64::MAX)
}
