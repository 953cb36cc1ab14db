//! The templates that a DaemonSet had.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::json;

use super::{Sync, hash_of};
use crate::action::Action;
use crate::history::{self, REVISION_LABEL};

impl Sync<'_> {
    /// Makes one of several revisions that keep the present template; their pods are labelled anew.
    pub(super) fn merge_doubles(&self) -> Vec<Action> {
        let is_current = |one: &ControllerRevision| one.metadata.name.as_ref() == Some(&self.current.name);
        if !self.revisions.iter().any(|one| is_current(one)) {
            return Vec::new();
        }
        let doubles = self.revisions.iter().filter(|one| !is_current(one));
        let doubles = doubles.filter(|one| history::keeps(one, &self.set.spec.template));
        doubles.flat_map(|double| self.merge(double)).collect()
    }

    fn merge(&self, double: &Arc<ControllerRevision>) -> Vec<Action> {
        let hash = history::hash_of(double);
        let labels = json!({"metadata": {"labels": {REVISION_LABEL: self.current.hash}}});
        let pods = self.own.iter().filter(|pod| hash_of(pod) == Some(hash));
        let relabelled = pods.map(|pod| Action::patch(&**pod, labels.clone()));
        relabelled.chain([Action::delete(&**double).into()]).collect()
    }

    /// Deletes the oldest revisions beyond the limit; those that pods were made from stay, and count.
    pub(super) fn clean_up(&self) -> Vec<Action> {
        let is_live = |revision: &ControllerRevision| {
            let hash = history::hash_of(revision);
            self.own.iter().any(|pod| hash_of(pod) == Some(hash))
        };
        let is_current = |one: &ControllerRevision| history::hash_of(one) == self.current.hash;
        let live = self.revisions.iter().filter(|one| !is_current(one) && is_live(one)).count();
        let limit = usize::try_from(self.set.spec.revision_history_limit.unwrap_or(10)).unwrap_or_default();
        let in_use = |one: &ControllerRevision| is_current(one) || is_live(one);
        history::clean_up(&self.revisions, limit.saturating_sub(live), in_use)
    }
}
