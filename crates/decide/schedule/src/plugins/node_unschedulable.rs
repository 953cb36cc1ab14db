//! `spec.unschedulable` (cordon) keeps pods away unless they tolerate the taint of that name.

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::tolerate::{Effect, Taint};

pub(super) fn filter(needs: &Needs, node: &Node) -> Result<(), Reason<'static>> {
    if !node.unschedulable {
        return Ok(());
    }
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        value: String::new(),
        effect: Effect::NoSchedule,
    };
    if needs.tolerations.iter().any(|toleration| toleration.bears(&taint)) {
        return Ok(());
    }
    Err(Reason::Unschedulable)
}
