//! Claims on devices: made from templates for pods, reserved for those that use them, let go afterwards
//! (kube-controller-manager: pkg/controller/resourceclaim, v1.37).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::Metadata as _;
use k8s_openapi::api::core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use crate::action::{Action, Note, Patch, Severity, Target, reference};
use crate::owner::controller_of;
use crate::pod;

/// Says which claim of its pod a ResourceClaim was made for.
const CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Holds a claim while devices are allocated to it.
const PROTECTION: &str = "resource.kubernetes.io/delete-protection";
/// Longest start of a made name: there are five more characters in a name of 63.
const LONGEST: usize = 57;
/// Most users of a claim (resource.k8s.io: ResourceClaimReservedForMaxSize).
const USERS: usize = 256;

/// What is known when deciding about a pod.
pub struct ObservedPod<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The claims that it owns.
    pub owned: &'a [Arc<ResourceClaim>],
    /// The claims that it names, itself or in its status, by name.
    pub named: &'a HashMap<String, Arc<ResourceClaim>>,
    /// The templates that it names, by name.
    pub templates: &'a HashMap<String, Arc<ResourceClaimTemplate>>,
}

/// What is known when deciding about a claim.
pub struct ObservedClaim<'a> {
    /// The claim.
    pub claim: &'a ResourceClaim,
    /// The pods that it is reserved for and its owner, by id; those that are gone are missing.
    pub pods: &'a HashMap<String, Arc<Pod>>,
}

/// The name of the claim that stands for one of a pod's claims; nothing while there is none.
pub fn name<'a>(of: &'a Pod, claim: &'a PodResourceClaim) -> Option<&'a str> {
    if let Some(name) = &claim.resource_claim_name {
        return Some(name);
    }
    status(of, claim)?.resource_claim_name.as_deref()
}

fn status<'a>(of: &'a Pod, claim: &PodResourceClaim) -> Option<&'a PodResourceClaimStatus> {
    let statuses = of.status.as_ref()?.resource_claim_statuses.as_deref()?;
    statuses.iter().find(|status| status.name == claim.name)
}

/// The claims of a pod.
pub fn claims(of: &Pod) -> &[PodResourceClaim] {
    of.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// What to do about a pod's claims.
pub fn decide_pod(observed: &ObservedPod<'_>) -> Vec<Action> {
    let of = observed.pod;
    if pod::deleting(of) || pod::finished(of) {
        return Vec::new();
    }
    let (mut actions, mut found) = (Vec::new(), BTreeMap::new());
    for claim in claims(of) {
        match generated(observed, claim) {
            Generated::Settled => {}
            Generated::Present(name) => drop(found.insert(claim.name.clone(), name)),
            Generated::Missing(action) => actions.push(action),
            Generated::NoTemplate(action) => return vec![action],
        }
    }
    // What is made now is written into the status when the caches show it.
    actions.extend(record(of, &found));
    if !pod::node(of).is_empty() {
        actions.extend(claims(of).iter().filter_map(|claim| reserve(observed, claim)));
    }
    actions
}

/// How the claim of a template fares.
enum Generated {
    /// There is nothing to do.
    Settled,
    /// It is there, but the pod does not tell.
    Present(String),
    /// It has to be made.
    Missing(Action),
    /// It cannot be made.
    NoTemplate(Action),
}

fn generated(observed: &ObservedPod<'_>, claim: &PodResourceClaim) -> Generated {
    let of = observed.pod;
    let Some(template) = &claim.resource_claim_template_name else { return Generated::Settled };
    if let Some(told) = status(of, claim) {
        let known = told.resource_claim_name.as_ref();
        let own = |name: &String| observed.named.get(name).is_some_and(|found| owns(of, found));
        if known.is_none_or(own) {
            return Generated::Settled;
        }
    }
    let annotated = |found: &&Arc<ResourceClaim>| {
        let annotations = found.metadata.annotations.as_ref();
        owns(of, found) && annotations.and_then(|all| all.get(CLAIM)) == Some(&claim.name)
    };
    if let Some(found) = observed.owned.iter().find(annotated) {
        return Generated::Present(found.metadata.name.clone().unwrap_or_default());
    }
    match observed.templates.get(template) {
        Some(template) => Generated::Missing(make(of, claim, template)),
        None => {
            let why = format!(
                "PodResourceClaim {}: resource claim template {template:?}: \
                 resourceclaimtemplate.resource.k8s.io {template:?} not found",
                claim.name
            );
            Generated::NoTemplate(Action::event(of, Severity::Warning, FAILED, why))
        }
    }
}

/// Told when a claim cannot be made.
const FAILED: &str = "FailedResourceClaimCreation";

fn make(of: &Pod, claim: &PodResourceClaim, template: &ResourceClaimTemplate) -> Action {
    let spec = template.spec.clone().unwrap_or_default();
    let meta = spec.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(CLAIM.to_owned(), claim.name.clone());
    let pod_name = of.metadata.name.as_deref().unwrap_or_default();
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod_name.to_owned(),
        uid: of.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let made = ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(prefix(pod_name, &claim.name)),
            namespace: of.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: spec.spec,
        status: None,
    };
    let mut create = Action::create(&made);
    create.refused = Some(Note {
        about: reference(of),
        severity: Severity::Warning,
        reason: FAILED,
        message: format!("PodResourceClaim {}: create ResourceClaim : ", claim.name),
    });
    create.into()
}

/// `pod-claim-`, both shortened by their part in the whole if it is too long.
fn prefix(pod: &str, claim: &str) -> String {
    let length = pod.len() + 1 + claim.len();
    if length <= LONGEST {
        return format!("{pod}-{claim}-");
    }
    let part = |text: &str| text[..text.len() * LONGEST / length].to_owned();
    format!("{}-{}-", part(pod), part(claim))
}

fn owns(of: &Pod, claim: &ResourceClaim) -> bool {
    controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) == of.metadata.uid.as_ref())
}

/// Tells in the pod which claims were made for it.
fn record(of: &Pod, found: &BTreeMap<String, String>) -> Option<Action> {
    if found.is_empty() {
        return None;
    }
    let old = of.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let statuses = status.resource_claim_statuses.get_or_insert_default();
    statuses.retain(|status| !found.contains_key(&status.name));
    statuses.extend(found.iter().map(|(claim, name)| PodResourceClaimStatus {
        name: claim.clone(),
        resource_claim_name: Some(name.clone()),
    }));
    Action::update_status(of, &old, &status)
}

/// Reserves a claim for a pod that runs already, if devices are allocated to it: nobody else will.
fn reserve(observed: &ObservedPod<'_>, claim: &PodResourceClaim) -> Option<Action> {
    let of = observed.pod;
    let found = observed.named.get(name(of, claim)?)?;
    if claim.resource_claim_template_name.is_some() && !owns(of, found) {
        return None;
    }
    let old = found.status.clone().unwrap_or_default();
    old.allocation.as_ref()?;
    let uid = of.metadata.uid.clone()?;
    let users = old.reserved_for.clone().unwrap_or_default();
    if users.iter().any(|user| user.uid == uid) || users.len() >= USERS {
        return None;
    }
    let mut status = old.clone();
    status.reserved_for.get_or_insert_default().push(ResourceClaimConsumerReference {
        api_group: None,
        resource: "pods".to_owned(),
        name: of.metadata.name.clone()?,
        uid,
    });
    Action::update_status(&**found, &old, &status)
}

/// The pod that a claim was made for: its name and id.
pub fn owner(claim: &ResourceClaim) -> Option<(&str, &str)> {
    let owner =
        controller_of(claim.metadata()).filter(|owner| owner.kind == "Pod" && owner.api_version == "v1")?;
    Some((&owner.name, &owner.uid))
}

/// Whether a pod will use devices no more: it has ended, or it is deleted and never began.
fn done(of: &Pod) -> bool {
    pod::finished(of) || (pod::deleting(of) && pod::node(of).is_empty())
}

/// What to do about a claim.
pub fn decide_claim(observed: &ObservedClaim<'_>) -> Vec<Action> {
    let claim = observed.claim;
    let old = claim.status.clone().unwrap_or_default();
    let users = old.reserved_for.clone().unwrap_or_default();
    let uses = |user: &ResourceClaimConsumerReference| {
        let of_pods = user.resource == "pods" && user.api_group.as_deref().unwrap_or_default().is_empty();
        // Who else may use claims is not for us to judge.
        !of_pods || observed.pods.get(&user.uid).is_some_and(|pod| !done(pod))
    };
    let valid: Vec<_> = users.iter().filter(|user| uses(user)).cloned().collect();
    let protected = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    let deleting = claim.metadata.deletion_timestamp.is_some();
    let lost = valid.len() < users.len();
    let free = valid.is_empty();
    let mut status = old.clone();
    if lost {
        status.reserved_for = Some(valid).filter(|users| !users.is_empty());
    }
    if free && (lost || (deleting && protected)) {
        status.allocation = None;
        status.devices = None;
    }
    let mut actions: Vec<_> = Action::update_status(claim, &old, &status).into_iter().collect();
    // The scheduler protects a claim before it allocates: only what was used, or goes, is let go.
    if free && protected && (lost || deleting) {
        actions.push(unprotect(claim));
    }
    if !actions.is_empty() {
        return actions;
    }
    let unused = free
        && !deleting
        && owner(claim).is_some_and(|(_, uid)| observed.pods.get(uid).is_some_and(|pod| done(pod)));
    if unused { vec![Action::delete(claim).into()] } else { Vec::new() }
}

/// The status may have been written just before: only the object's id guards this.
fn unprotect(claim: &ResourceClaim) -> Action {
    let rest = claim.metadata.finalizers.iter().flatten().filter(|finalizer| *finalizer != PROTECTION);
    let body = json!({"metadata": {"uid": claim.metadata.uid, "finalizers": rest.collect::<Vec<_>>()}});
    Action::Patch(Box::new(Patch { target: Target::of(claim), subresource: None, body, guard: None }))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::{object, summary};

    fn pod(extra: Value) -> Pod {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "pod"},
            "spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "t"}]},
            "status": {"phase": "Pending"}});
        for (key, value) in extra.as_object().into_iter().flatten() {
            for (field, value) in value.as_object().into_iter().flatten() {
                pod[key][field] = value.clone();
            }
        }
        object(pod)
    }

    fn claim(extra: Value) -> Arc<ResourceClaim> {
        let mut claim = json!({"metadata": {"name": "p-gpu-x", "namespace": "ns", "uid": "claim",
            "annotations": {CLAIM: "gpu"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod", "controller": true}]},
            "spec": {}});
        for (key, value) in extra.as_object().into_iter().flatten() {
            for (field, value) in value.as_object().into_iter().flatten() {
                claim[key][field] = value.clone();
            }
        }
        Arc::new(object(claim))
    }

    fn run(pod: &Pod, owned: &[Arc<ResourceClaim>], template: bool) -> Vec<Action> {
        let named =
            owned.iter().map(|claim| (claim.metadata.name.clone().unwrap_or_default(), claim.clone()));
        let named = named.collect();
        let made: ResourceClaimTemplate = object(json!({"metadata": {"name": "t"},
            "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": [{"name": "r"}]}}}}));
        let templates = template.then(|| ("t".to_owned(), Arc::new(made))).into_iter().collect();
        decide_pod(&ObservedPod { pod, owned, named: &named, templates: &templates })
    }

    fn lines(actions: &[Action]) -> Vec<String> {
        actions.iter().map(summary).collect()
    }

    #[test]
    fn claims_are_made_from_templates_and_told_in_the_pod() {
        let fresh = pod(json!({}));
        let made = run(&fresh, &[], true);
        let Action::Create(create) = &made[0] else { panic!("{made:?}") };
        let meta = &create.object["metadata"];
        assert_eq!(
            (&meta["generateName"], &meta["annotations"], &meta["labels"]),
            (&json!("p-gpu-"), &json!({CLAIM: "gpu"}), &json!({"a": "b"}))
        );
        assert_eq!(meta["ownerReferences"][0]["uid"], "pod");
        assert_eq!(create.object["spec"]["devices"]["requests"][0]["name"], "r");

        let told = r#"patch Pod/status p {"status":{"resourceClaimStatuses":[{"name":"gpu","resourceClaimName":"p-gpu-x"}]}}"#;
        assert_eq!(lines(&run(&fresh, &[claim(json!({}))], true)), [told]);
        let recorded = pod(
            json!({"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}}),
        );
        assert!(run(&recorded, &[claim(json!({}))], true).is_empty());
        assert_eq!(
            lines(&run(&recorded, &[], true)),
            ["create ResourceClaim p-gpu-"],
            "it was deleted by accident"
        );
        let needless = pod(json!({"status": {"resourceClaimStatuses": [{"name": "gpu"}]}}));
        assert!(run(&needless, &[], true).is_empty());
        assert_eq!(
            lines(&run(&fresh, &[], false)),
            [
                "event FailedResourceClaimCreation PodResourceClaim gpu: resource claim template \"t\": resourceclaimtemplate.resource.k8s.io \"t\" not found"
            ]
        );
        for ended in [
            json!({"status": {"phase": "Failed"}}),
            json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}}),
        ] {
            assert!(run(&pod(ended), &[], true).is_empty());
        }
    }

    #[test]
    fn long_names_are_cut_in_proportion() {
        let (pod, claim) = ("p".repeat(60), "c".repeat(30));
        let prefix = prefix(&pod, &claim);
        assert_eq!(prefix, format!("{}-{}-", "p".repeat(37), "c".repeat(18)));
    }

    #[test]
    fn claims_of_running_pods_are_reserved() {
        let running = pod(json!({"spec": {"nodeName": "n"},
            "status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}}));
        let allocated = claim(json!({"status": {"allocation": {}}}));
        let expected = r#"patch ResourceClaim/status p-gpu-x {"status":{"reservedFor":[{"name":"p","resource":"pods","uid":"pod"}]}}"#;
        assert_eq!(lines(&run(&running, &[allocated], true)), [expected]);
        assert!(run(&running, &[claim(json!({}))], true).is_empty(), "the scheduler allocates");
        let user = json!({"resource": "pods", "name": "p", "uid": "pod"});
        let reserved = claim(json!({"status": {"allocation": {}, "reservedFor": [user]}}));
        assert!(run(&running, &[reserved], true).is_empty());
    }

    #[test]
    fn claims_are_let_go_when_nobody_uses_them() {
        let user = |uid: &str| json!({"resource": "pods", "name": uid, "uid": uid});
        let held = |meta: Value, status: Value| {
            let mut meta = meta;
            meta["finalizers"] = json!([PROTECTION, "mine"]);
            claim(json!({"metadata": meta, "status": status}))
        };
        let deleted = json!({"deletionTimestamp": "2024-01-01T00:00:00Z"});
        let alive = pod(json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
        let ended = pod(json!({"status": {"phase": "Succeeded"}}));
        let never = pod(json!({"metadata": deleted.clone()}));
        let going = pod(json!({"metadata": deleted.clone(), "spec": {"nodeName": "n"}}));
        let both = json!({"allocation": {}, "reservedFor": [user("pod"), user("gone")]});
        let one = json!({"allocation": {}, "reservedFor": [user("pod")]});
        let free = r#"patch ResourceClaim/status p-gpu-x {"status":{"allocation":null,"reservedFor":null}}"#;
        let unprotected = r#"patch ResourceClaim p-gpu-x {"metadata":{"finalizers":["mine"]}}"#;
        let cases = [
            (
                held(json!({}), both),
                Some(&alive),
                Some(
                    r#"patch ResourceClaim/status p-gpu-x {"status":{"reservedFor":[{"name":"pod","resource":"pods","uid":"pod"}]}}"#,
                ),
            ),
            (held(json!({}), one.clone()), Some(&alive), None),
            (held(json!({}), one.clone()), Some(&going), None),
            (held(json!({}), one.clone()), None, Some(free)),
            (held(json!({}), one.clone()), Some(&ended), Some(free)),
            (held(json!({}), one), Some(&never), Some(free)),
            (held(json!({}), json!({})), Some(&alive), None),
            (held(deleted.clone(), json!({})), Some(&alive), Some(unprotected)),
            (held(json!({}), json!({"allocation": {}})), Some(&alive), None),
            (
                held(deleted.clone(), json!({"allocation": {}})),
                Some(&alive),
                Some(r#"patch ResourceClaim/status p-gpu-x {"status":{"allocation":null}}"#),
            ),
            (claim(json!({})), Some(&ended), Some("delete ResourceClaim p-gpu-x")),
            (claim(json!({})), Some(&alive), None),
            (claim(json!({})), None, None),
            (claim(json!({"metadata": {"ownerReferences": []}})), Some(&ended), None),
        ];
        for (number, (claim, pod, expected)) in cases.into_iter().enumerate() {
            let pods = pod.map(|pod| ("pod".to_owned(), Arc::new(pod.clone()))).into_iter().collect();
            let got = lines(&decide_claim(&ObservedClaim { claim: &claim, pods: &pods }));
            assert_eq!(got.first().map(String::as_str), expected, "case {number}");
            if expected.is_some_and(|line| line.contains(r#""allocation":null"#)) {
                assert_eq!(got[1], unprotected, "case {number}");
            }
        }
    }
}
