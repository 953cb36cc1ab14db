//! The way back that older clients ask for: an annotation that names a revision
//! (kube-controller-manager: pkg/controller/deployment/rollback.go, v1.37).

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value, json};

use super::draft::{self, Draft};
use super::{Rollout, annotations};
use crate::action::{self, Action, Severity};
use crate::template;

/// The revision that is asked for, 0 being the last one before the present.
pub(super) fn asked(deployment: &Deployment) -> Option<i64> {
    deployment.metadata.annotations.as_ref()?.get(annotations::ROLLBACK)?.parse().ok()
}

impl Rollout<'_> {
    /// Puts the template of an earlier revision into the Deployment, and takes the wish away.
    pub(super) fn roll_back(&mut self, asked: i64) {
        self.sync_revision(true);
        let (wanted, missing) = match asked {
            0 => (self.last_revision(), "Unable to find last revision."),
            _ => (Some(asked), "Unable to find the revision to rollback to."),
        };
        let found = wanted.and_then(|wanted| self.all().find(|set| set.revision() == wanted));
        let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
        let mut body = json!({"metadata": {"annotations": {annotations::ROLLBACK: null}}});
        let (severity, reason, message) = match found.map(|set| (set, set.template())) {
            None => (Severity::Warning, "DeploymentRollbackRevisionNotFound", missing.to_owned()),
            Some((_, template)) if template::same(&template, &self.spec.template) => {
                let message = format!(
                    "The rollback revision contains the same template as current deployment \"{name}\""
                );
                (Severity::Warning, "DeploymentRollbackTemplateUnchanged", message)
            }
            Some((set, template)) => {
                self.fill(&mut body, set, &template);
                let message = format!("Rolled back deployment \"{name}\" to revision {}", set.revision());
                (Severity::Normal, "DeploymentRollback", message)
            }
        };
        let event = Action::event(self.deployment, severity, reason, message);
        self.rolled_back.extend([draft::unversioned(Action::patch(self.deployment, body)), event]);
    }

    /// The second highest revision.
    fn last_revision(&self) -> Option<i64> {
        let mut revisions: Vec<_> = self.all().map(Draft::revision).collect();
        revisions.sort_unstable_by_key(|revision| std::cmp::Reverse(*revision));
        revisions.get(1).copied().filter(|revision| *revision != 0)
    }

    /// Template and annotations of a ReplicaSet: with them goes, say, the cause of the change.
    fn fill(&self, body: &mut Value, set: &Draft, template: &PodTemplateSpec) {
        let plain = |template: &PodTemplateSpec| serde_json::to_value(template).expect("API types are JSON");
        let change = action::difference(&plain(&self.spec.template), &plain(template));
        body["spec"]["template"] = change.unwrap_or_else(|| json!({}));
        let copied = |key: &&String| !annotations::OWN.contains(&key.as_str());
        let present = self.deployment.metadata.annotations.iter().flatten().map(|(key, _)| key);
        let mut changed: Map<String, Value> =
            present.filter(copied).map(|key| (key.clone(), Value::Null)).collect();
        let kept = set.annotations.iter().filter(|(key, _)| copied(key));
        changed.extend(kept.map(|(key, value)| (key.clone(), json!(value))));
        changed.insert(annotations::ROLLBACK.to_owned(), Value::Null);
        body["metadata"]["annotations"] = Value::Object(changed);
    }
}
