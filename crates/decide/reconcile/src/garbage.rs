//! Objects whose owners are gone, or going
//! (kube-controller-manager: pkg/controller/garbagecollector, v1.37).
//!
//! The graph has a node for every object of the cluster and an edge for every owner reference. A
//! change makes some nodes worth a look; [`decide`] says what to do about one of them.

mod graph;

use serde_json::{Value, json};

use crate::action::{Action, Delete, Patch, Propagation, Target};
pub use graph::{Graph, Node, Owner, Uid};

/// Holds an owner until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Holds an owner until its dependents have let go of it.
pub const ORPHAN: &str = "orphan";

/// What is known about an owner that an object names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It lives.
    Lives,
    /// It is being deleted and waits for its dependents.
    WaitsForDependents,
    /// It is gone, or was never there: no such object of that id in reach of the dependent.
    Absent,
}

/// What to do about an object. `owners` says how each of its owners fares, in their order;
/// `dependents` are the objects that name it as owner.
pub fn decide(node: &Node, owners: &[OwnerState], dependents: &[&Node]) -> Vec<Action> {
    if node.deleting && node.has(ORPHAN) {
        return orphan(node, dependents);
    }
    if node.deleting && node.has(FOREGROUND) {
        return foreground(node, dependents);
    }
    if node.deleting || node.owners.is_empty() {
        return Vec::new();
    }
    let state_of = |wanted: OwnerState| {
        let pairs = node.owners.iter().zip(owners);
        pairs
            .filter(move |(_, state)| **state == wanted)
            .map(|(owner, _)| owner.uid.clone())
            .collect::<Vec<_>>()
    };
    let lives = owners.contains(&OwnerState::Lives);
    let mut useless = state_of(OwnerState::Absent);
    let waiting = state_of(OwnerState::WaitsForDependents);
    if lives {
        useless.extend(waiting);
        return if useless.is_empty() { Vec::new() } else { vec![without_owners(node, &useless)] };
    }
    if !waiting.is_empty() && !dependents.is_empty() {
        let blocking =
            dependents.iter().any(|one| one.blocks(&node.uid) && one.deleting && one.has(FOREGROUND));
        let mut actions = Vec::new();
        if blocking {
            // A circle of objects that wait for each other would never end.
            actions.push(unblocked(node));
        }
        actions.push(delete(node, Propagation::Foreground));
        return actions;
    }
    let propagation = match () {
        () if node.has(ORPHAN) => Propagation::Orphan,
        () if node.has(FOREGROUND) => Propagation::Foreground,
        () => Propagation::Background,
    };
    vec![delete(node, propagation)]
}

/// The owner waits for those dependents that block it; then it lets go.
fn foreground(node: &Node, dependents: &[&Node]) -> Vec<Action> {
    let blocking = dependents.iter().any(|dependent| dependent.blocks(&node.uid));
    if blocking { Vec::new() } else { vec![without_finalizer(node, FOREGROUND)] }
}

/// The dependents let go of the owner; then it may go.
fn orphan(node: &Node, dependents: &[&Node]) -> Vec<Action> {
    let mut actions: Vec<_> = dependents
        .iter()
        .map(|dependent| without_owners(dependent, std::slice::from_ref(&node.uid)))
        .collect();
    actions.push(without_finalizer(node, ORPHAN));
    actions
}

fn delete(node: &Node, propagation: Propagation) -> Action {
    let delete = Delete {
        target: node.target.clone(),
        uid: Some(node.uid.to_string()),
        resource_version: Some(node.resource_version.to_string()),
        propagation: Some(propagation),
        grace: None,
        done: None,
        refused: None,
    };
    delete.into()
}

fn patch(node: &Node, meta: Value) -> Action {
    let mut body = json!({"metadata": meta});
    body["metadata"]["uid"] = json!(&*node.uid);
    body["metadata"]["resourceVersion"] = json!(&*node.resource_version);
    let target: Target = node.target.clone();
    Action::Patch(Box::new(Patch { target, subresource: None, body, guard: None }))
}

fn without_finalizer(node: &Node, name: &str) -> Action {
    let rest: Vec<_> = node.finalizers.iter().filter(|finalizer| &***finalizer != name).collect();
    patch(node, json!({ "finalizers": rest }))
}

fn without_owners(node: &Node, gone: &[Uid]) -> Action {
    let rest = node.owners.iter().filter(|owner| !gone.contains(&owner.uid)).map(Owner::to_value);
    patch(node, json!({"ownerReferences": rest.collect::<Vec<_>>()}))
}

/// The object's owners no longer wait for it.
fn unblocked(node: &Node) -> Action {
    let owners = node.owners.iter().map(|owner| Owner { blocks: false, ..owner.clone() }.to_value());
    patch(node, json!({"ownerReferences": owners.collect::<Vec<_>>()}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Resource;
    use crate::testing::summary;

    fn node(name: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> Node {
        let resource = Resource { api_version: "v1".into(), kind: "Pod".into(), plural: "pods".into() };
        Node {
            uid: name.into(),
            resource_version: "1".into(),
            target: Target { resource, namespace: "ns".into(), name: name.into() },
            owners: owners.iter().map(|uid| Owner::new("v1", "Pod", uid, uid, true)).collect(),
            finalizers: finalizers.iter().map(|&name| name.into()).collect(),
            deleting,
        }
    }

    fn run(node: &Node, owners: &[OwnerState], dependents: &[&Node]) -> Vec<String> {
        decide(node, owners, dependents).iter().map(summary).collect()
    }

    #[test]
    fn orphans_go_and_the_owned_stay() {
        use OwnerState::{Absent, Lives, WaitsForDependents};
        let one = node("a", &["x"], &[], false);
        assert!(run(&one, &[Lives], &[]).is_empty());
        assert_eq!(run(&one, &[Absent], &[]), ["delete Pod a"]);
        assert_eq!(run(&one, &[WaitsForDependents], &[]), ["delete Pod a"]);
        assert!(run(&node("a", &[], &[], false), &[], &[]).is_empty());
        assert!(run(&node("a", &["x"], &[], true), &[Absent], &[]).is_empty(), "it goes already");
        let two = node("a", &["x", "y"], &[], false);
        let kept = run(&two, &[Absent, Lives], &[]);
        assert!(
            kept[0].starts_with("patch Pod a") && kept[0].contains("\"y\"") && !kept[0].contains("\"x\""),
            "{kept:?}"
        );
    }

    #[test]
    fn foreground_waits_for_blocking_dependents() {
        let owner = node("x", &[], &[FOREGROUND], true);
        let mut dependent = node("a", &["x"], &[], false);
        assert!(run(&owner, &[], &[&dependent]).is_empty());
        dependent.owners[0].blocks = false;
        assert_eq!(run(&owner, &[], &[&dependent]), [r#"patch Pod x {"metadata":{"finalizers":[]}}"#]);
        let parent = node("b", &["x"], &[], false);
        let Action::Delete(delete) = &decide(&parent, &[OwnerState::WaitsForDependents], &[&dependent])[0]
        else {
            panic!("it goes with its owner")
        };
        assert_eq!(delete.propagation, Some(Propagation::Foreground));
    }

    #[test]
    fn orphaning_cuts_the_references_first() {
        let owner = node("x", &[], &[ORPHAN], true);
        let dependent = node("a", &["x"], &[], false);
        let expected = [
            r#"patch Pod a {"metadata":{"ownerReferences":[]}}"#,
            r#"patch Pod x {"metadata":{"finalizers":[]}}"#,
        ];
        assert_eq!(run(&owner, &[], &[&dependent]), expected);
    }
}
