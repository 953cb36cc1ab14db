//! What PodDisruptionBudgets allow.

use std::collections::BTreeSet;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use plimsoll_meta::selector::Labels;

use crate::pod::PodInfo;

/// A budget, as far as it says which pods may be ended.
#[derive(Clone, Debug)]
pub struct Budget {
    namespace: String,
    selector: Labels,
    allowed: i32,
    /// Pods whose end is counted already.
    disrupted: BTreeSet<String>,
}

impl Budget {
    /// Reads a budget; nothing when it selects no pods.
    pub fn of(budget: &PodDisruptionBudget) -> Option<Self> {
        let selector = Labels::from(budget.spec.as_ref()?.selector.as_ref()?);
        // An empty selector protects nothing from pre-emption (upstream: filterPodsWithPDBViolation).
        if selector.0.is_empty() {
            return None;
        }
        let status = budget.status.as_ref();
        Some(Budget {
            namespace: budget.metadata.namespace.clone().unwrap_or_default(),
            selector,
            allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
            disrupted: status
                .and_then(|status| status.disrupted_pods.as_ref())
                .into_iter()
                .flatten()
                .map(|(name, _)| name.clone())
                .collect(),
        })
    }

    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && self.selector.matches_map(Some(&pod.labels))
            && !self.disrupted.contains(&pod.name)
    }
}

/// For each pod, whether ending it after those before it would break a budget.
pub(crate) fn violations<'p>(pods: impl IntoIterator<Item = &'p PodInfo>, budgets: &[Budget]) -> Vec<bool> {
    let mut allowed: Vec<i32> = budgets.iter().map(|budget| budget.allowed).collect();
    let violates = |pod: &PodInfo| {
        let mut broken = false;
        for (_, allowed) in budgets.iter().zip(&mut allowed).filter(|(budget, _)| budget.covers(pod)) {
            *allowed -= 1;
            broken |= *allowed < 0;
        }
        broken
    };
    pods.into_iter().map(violates).collect()
}
