//! Revisions of a template, kept as ControllerRevisions
//! (kube-controller-manager: pkg/controller/history, v1.37).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::action::Action;
use crate::fingerprint;
use crate::owner::controller_ref;

/// The label that tells the pods of one revision from another's.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// The label by which revisions are told apart.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// The revision of the present template.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    /// Name of the ControllerRevision.
    pub name: String,
    /// The hash in its name.
    pub hash: String,
    /// What makes it or raises its number; nothing if it is as it should be.
    pub actions: Vec<Action>,
}

/// What a revision keeps: the patch that brings the template back.
pub fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).expect("API types are JSON");
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps.
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    serde_json::from_value(revision.data.0["spec"]["template"].clone()).ok()
}

/// The hash in a revision's name.
pub fn hash_of(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    let of = |label: &str| labels.and_then(|labels| labels.get(label)).map(String::as_str);
    of(REVISION_LABEL).or_else(|| of(HASH_LABEL)).unwrap_or_default()
}

/// Finds the revision of a template, or makes one with the next number. A template that comes back
/// gets a new number for its old revision.
pub fn current<K>(
    owner: &K,
    template: &PodTemplateSpec,
    labels: &BTreeMap<String, String>,
    revisions: &[Arc<ControllerRevision>],
    collisions: i32,
) -> Current
where
    K: k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    let data = data_of(template);
    let last = revisions.iter().filter_map(|revision| revision.revision).max().unwrap_or_default();
    let same =
        revisions.iter().filter(|revision| revision.data.0 == data).max_by_key(|revision| revision.revision);
    if let Some(known) = same {
        let behind = known.revision.unwrap_or_default() < last;
        let raise = || Action::patch(&**known, json!({"revision": last + 1}));
        return Current {
            name: known.metadata.name.clone().unwrap_or_default(),
            hash: hash_of(known).to_owned(),
            actions: behind.then(raise).into_iter().collect(),
        };
    }
    let hash = fingerprint::of(template, collisions);
    let name = format!("{}-{hash}", owner.metadata().name.as_deref().unwrap_or_default());
    let mut labels = labels.clone();
    labels.insert(REVISION_LABEL.to_owned(), hash.clone());
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            annotations: owner.metadata().annotations.clone().map(without_applied),
            owner_references: Some(vec![controller_ref(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(last + 1),
    };
    Current { name, hash, actions: vec![Action::create(&revision).into()] }
}

fn without_applied(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations
}

/// Deletes the oldest revisions beyond `limit` that `in_use` does not name.
pub fn clean_up(
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Action> {
    let mut idle: Vec<_> = revisions.iter().filter(|revision| !in_use(revision)).collect();
    idle.sort_by_key(|revision| revision.revision);
    let surplus = idle.len().saturating_sub(usize::try_from(limit.unwrap_or(10)).unwrap_or_default());
    idle.into_iter().take(surplus).map(|revision| Action::delete(&**revision).into()).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::DaemonSet;

    use super::*;
    use crate::testing::{object, summary};

    #[test]
    fn templates_that_come_back_get_a_new_number() {
        let owner: DaemonSet = object(json!({"metadata": {"name": "ds", "namespace": "ns", "uid": "u"},
            "spec": {"selector": {}, "template": {}}}));
        let template = |image: &str| -> PodTemplateSpec {
            object(
                json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}}),
            )
        };
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let make = |image: &str, revisions: &[Arc<ControllerRevision>]| {
            let current = current(&owner, &template(image), &labels, revisions, 0);
            let Action::Create(create) = &current.actions[0] else { panic!("{current:?}") };
            Arc::new(object::<ControllerRevision>(create.object.clone()))
        };
        let one = make("one", &[]);
        let two = make("two", std::slice::from_ref(&one));
        assert_eq!((one.revision, two.revision), (Some(1), Some(2)));
        assert_eq!(template_of(&two), Some(template("two")));
        let both = [one.clone(), two.clone()];
        assert!(current(&owner, &template("two"), &labels, &both, 0).actions.is_empty());
        let back = current(&owner, &template("one"), &labels, &both, 0);
        assert_eq!(
            summary(&back.actions[0]),
            format!("patch ControllerRevision {} {{\"revision\":3}}", back.name)
        );
        let gone = clean_up(&both, Some(0), |revision| revision.revision == Some(2));
        assert_eq!(gone.len(), 1);
    }
}
