//! The end of a namespace: its content goes, pods first, then the name
//! (kube-controller-manager: pkg/controller/namespace, v1.37).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::action::{Action, Resource, Target};

/// The finalizer that stands for a namespace's content.
const FINALIZER: &str = "kubernetes";

/// What is left of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Objects that are there.
    pub objects: usize,
    /// Finalizers that hold objects which are being deleted, and how many each holds.
    pub finalizers: BTreeMap<String, usize>,
    /// All of them should be gone by now, but for their finalizers.
    pub is_late: bool,
}

/// What is known when deciding.
pub struct Observed<'a> {
    /// The namespace.
    pub namespace: &'a Namespace,
    /// What is left, by kind; kinds of which nothing is left are not named.
    pub left: &'a BTreeMap<Resource, Left>,
    /// What could not be asked for, in the server's words.
    pub unknown: &'a [String],
    /// What could not be deleted, in the server's words.
    pub undeleted: &'a [String],
}

/// Whether the content of a namespace is to go.
pub fn ends(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some() && finalizers(namespace).contains(&FINALIZER.to_owned())
}

/// The kinds whose objects may be deleted now: pods before all that they may still use.
pub fn deletable<'a>(kinds: impl Iterator<Item = (&'a Resource, bool)>) -> Vec<&'a Resource> {
    let (present, all): (Vec<_>, Vec<_>) =
        kinds.map(|(kind, present)| (present.then_some(kind), kind)).unzip();
    let pods: Vec<_> = present.into_iter().flatten().filter(|kind| is_pods(kind)).collect();
    if pods.is_empty() { all } else { pods }
}

fn is_pods(kind: &Resource) -> bool {
    kind.api_version == "v1" && kind.plural == "pods"
}

/// What to do once deletions have been asked for: tell what remains, or let the name go.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let namespace = observed.namespace;
    if !ends(namespace) {
        return Vec::new();
    }
    let old = namespace.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for (kind, trouble, fine) in conditions_of(observed) {
        set(conditions, kind, trouble, fine, now);
    }
    let mut actions: Vec<_> = Action::update_status(namespace, &old, &status).into_iter().collect();
    if observed.left.is_empty() && observed.unknown.is_empty() && observed.undeleted.is_empty() {
        actions.push(finalize(namespace));
    }
    actions
}

/// A condition: its kind, the trouble (reason and sentence) if there is any, and what is said if not.
type Told = (&'static str, Option<(&'static str, String)>, (&'static str, &'static str));

fn conditions_of(observed: &Observed<'_>) -> [Told; 5] {
    let unknown = (!observed.unknown.is_empty()).then(|| {
        (
            "DiscoveryFailed",
            format!(
                "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                observed.unknown.len(),
                sorted(observed.unknown)
            ),
        )
    });
    let unexpected = observed.left.iter().filter(|(_, left)| left.is_late && left.finalizers.is_empty());
    let name = observed.namespace.metadata.name.as_deref().unwrap_or_default();
    let unexpected = unexpected.map(|(kind, _)| {
        format!("unexpected items still remain in namespace: {name} for gvr: {}", full(kind))
    });
    let failures: Vec<String> = observed.undeleted.iter().cloned().chain(unexpected).collect();
    let undeleted = (!failures.is_empty()).then(|| {
        (
            "ContentDeletionFailed",
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                failures.len(),
                sorted(&failures)
            ),
        )
    });
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            unknown,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            undeleted,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        (
            "NamespaceContentRemaining",
            content(observed.left),
            ("ContentRemoved", "All content successfully removed"),
        ),
        (
            "NamespaceFinalizersRemaining",
            finalizer(observed.left),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

fn sorted(sentences: &[String]) -> String {
    let mut sentences = sentences.to_vec();
    sentences.sort();
    sentences.join(", ")
}

fn content(left: &BTreeMap<Resource, Left>) -> Option<(&'static str, String)> {
    let mut parts: Vec<_> = left
        .iter()
        .filter(|(_, left)| left.objects > 0)
        .map(|(kind, left)| format!("{} has {} resource instances", dotted(kind), left.objects))
        .collect();
    parts.sort();
    (!parts.is_empty())
        .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", parts.join(", "))))
}

fn finalizer(left: &BTreeMap<Resource, Left>) -> Option<(&'static str, String)> {
    let mut held = BTreeMap::<&str, usize>::new();
    for (name, count) in left.values().flat_map(|left| &left.finalizers) {
        *held.entry(name).or_default() += count;
    }
    let mut parts: Vec<_> =
        held.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    parts.sort();
    (!parts.is_empty()).then(|| {
        (
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", parts.join(", ")),
        )
    })
}

/// `deployments.apps` or, in the core group, `pods.`.
fn dotted(kind: &Resource) -> String {
    let group = kind.api_version.split_once('/').map(|(group, _)| group).unwrap_or_default();
    format!("{}.{group}", kind.plural)
}

/// `apps/v1, Resource=deployments` or, in the core group, `/v1, Resource=pods`.
fn full(kind: &Resource) -> String {
    let group = if kind.api_version.contains('/') { "" } else { "/" };
    format!("{group}{}, Resource={}", kind.api_version, kind.plural)
}

fn set(
    conditions: &mut Vec<NamespaceCondition>,
    kind: &str,
    trouble: Option<(&'static str, String)>,
    fine: (&'static str, &'static str),
    now: Timestamp,
) {
    let status = if trouble.is_some() { "True" } else { "False" };
    let (reason, message) = trouble.unwrap_or((fine.0, fine.1.to_owned()));
    let new = NamespaceCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|known| known.type_ == kind) {
        Some(known)
            if known.status == new.status && known.reason == new.reason && known.message == new.message => {}
        Some(known) => {
            let since = known.last_transition_time.clone().filter(|_| known.status == new.status);
            *known = NamespaceCondition {
                last_transition_time: since.or(new.last_transition_time.clone()),
                ..new
            };
        }
        None => conditions.push(new),
    }
}

fn finalizers(namespace: &Namespace) -> Vec<String> {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default()
}

fn finalize(namespace: &Namespace) -> Action {
    let rest: Vec<_> = finalizers(namespace).into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
    let mut object = serde_json::to_value(namespace).expect("API types are JSON");
    object["spec"]["finalizers"] = json!(rest);
    // The status was written just before: the version that is known here is not the last one.
    object["metadata"].as_object_mut().map(|meta| meta.remove("resourceVersion"));
    let object: Value = object;
    Action::Replace { target: Target::of(namespace), subresource: Some("finalize"), object }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, summary};

    fn kind(api_version: &'static str, plural: &'static str) -> Resource {
        Resource { api_version: api_version.into(), kind: plural.into(), plural: plural.into() }
    }

    #[test]
    fn pods_go_first() {
        let (pods, maps) = (kind("v1", "pods"), kind("v1", "configmaps"));
        let cases = [(true, vec!["pods"]), (false, vec!["pods", "configmaps"])];
        for (present, expected) in cases {
            let kinds = [(&pods, present), (&maps, true)];
            let got: Vec<_> =
                deletable(kinds.into_iter()).iter().map(|kind| kind.plural.to_string()).collect();
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn what_remains_is_told_and_nothing_lets_the_name_go() {
        let ending: Namespace =
            object(json!({"metadata": {"name": "ns", "deletionTimestamp": at(0).to_string()},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}}));
        let finalizers = BTreeMap::from([("a/b".to_owned(), 1)]);
        let held = Left { objects: 2, finalizers, is_late: true };
        let left = BTreeMap::from([(kind("apps/v1", "deployments"), held)]);
        let observed = Observed { namespace: &ending, left: &left, unknown: &[], undeleted: &[] };
        let told = decide(&observed, at(0));
        assert_eq!(told.len(), 1);
        let told = summary(&told[0]);
        for part in [
            "Some resources are remaining: deployments.apps has 2 resource instances",
            "Some content in the namespace has finalizers remaining: a/b in 1 resource instances",
            "All content successfully deleted, may be waiting on finalization",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let observed = Observed { left: &BTreeMap::new(), ..observed };
        let done: Vec<_> = decide(&observed, at(0)).iter().map(summary).collect();
        assert_eq!(done[1], "replace Namespace/finalize ns");
        let alive: Namespace =
            object(json!({"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]}}));
        assert!(decide(&Observed { namespace: &alive, ..observed }, at(0)).is_empty());
    }

    #[test]
    fn every_condition_says_what_is_wrong_and_since_when() {
        let told = |kind: &str, message: &str, since: i64| {
            json!({"type": kind, "status": "True", "reason": "x", "message": message,
                "lastTransitionTime": at(since).to_string()})
        };
        let ending: Namespace = object(json!({
            "metadata": {"name": "ns", "deletionTimestamp": at(0).to_string()}, "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Terminating", "conditions": [told("NamespaceDeletionDiscoveryFailure", "before", 1)]}}));
        let unknown = ["wardle.example.com/v1: no answer".to_owned()];
        let undeleted = ["b: no".to_owned(), "a: no".to_owned()];
        let late = |objects| Left { objects, is_late: true, ..Left::default() };
        let left = BTreeMap::from([(kind("v1", "pods"), late(1)), (kind("apps/v1", "deployments"), late(2))]);
        let observed = Observed { namespace: &ending, left: &left, unknown: &unknown, undeleted: &undeleted };
        let actions = decide(&observed, at(9));
        assert_eq!(actions.len(), 1, "the name stays");
        let Action::Patch(patch) = &actions[0] else { panic!("{actions:?}") };
        let conditions: Vec<NamespaceCondition> = object(patch.body["status"]["conditions"].clone());
        let since = |second: i64| Some(Time(at(second)));
        let expected = [
            (
                "NamespaceDeletionDiscoveryFailure",
                "True",
                "DiscoveryFailed",
                "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: wardle.example.com/v1: no answer",
                since(1),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
                since(9),
            ),
            (
                "NamespaceDeletionContentFailure",
                "True",
                "ContentDeletionFailed",
                "Failed to delete all resource types, 4 remaining: a: no, b: no, unexpected items still remain in namespace: ns for gvr: /v1, Resource=pods, unexpected items still remain in namespace: ns for gvr: apps/v1, Resource=deployments",
                since(9),
            ),
            (
                "NamespaceContentRemaining",
                "True",
                "SomeResourcesRemain",
                "Some resources are remaining: deployments.apps has 2 resource instances, pods. has 1 resource instances",
                since(9),
            ),
            (
                "NamespaceFinalizersRemaining",
                "False",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
                since(9),
            ),
        ];
        for (got, (kind, status, reason, message, since)) in conditions.iter().zip(expected) {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            assert_eq!((&*got.type_, &*got.status), (kind, status));
            assert_eq!((&*text(&got.reason), &*text(&got.message)), (reason, message));
            assert_eq!(got.last_transition_time, since, "{kind}");
        }
        let foreign: Namespace = object(json!({
            "metadata": {"name": "ns", "deletionTimestamp": at(0).to_string()}, "spec": {"finalizers": ["mine.example.com"]}}));
        assert!(decide(&Observed { namespace: &foreign, ..observed }, at(9)).is_empty(), "done with it");
    }
}
