//! Objects whose owners are gone, or going
//! (kube-controller-manager: pkg/controller/garbagecollector, v1.37).
//!
//! The graph has a node for every object of the cluster and an edge for every owner reference. A
//! change makes some nodes worth a look; [`decide`] says what to do about one of them.

mod graph;

use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use crate::action::{Action, Delete, Note, Patch, Propagation, Severity, Target};
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
    /// It is there, but in another namespace, where it cannot own the object.
    Elsewhere,
    /// It would have to be in a namespace, but the object is in none.
    Nowhere,
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
    let mut actions = complaints(node, owners);
    let unclear = |state: &OwnerState| match state {
        OwnerState::Nowhere => true,
        OwnerState::Elsewhere => node.target.namespace.is_empty(),
        _ => false,
    };
    // What belongs to the whole cluster is not lost for a reference that can never hold.
    if !owners.iter().any(unclear) {
        actions.extend(collect(node, owners, dependents));
    }
    actions
}

fn collect(node: &Node, owners: &[OwnerState], dependents: &[&Node]) -> Vec<Action> {
    let state_of = |wanted: &[OwnerState]| {
        let pairs = node.owners.iter().zip(owners).filter(|(_, state)| wanted.contains(state));
        pairs.map(|(owner, _)| owner.uid.clone()).collect::<Vec<_>>()
    };
    let mut useless = state_of(&[OwnerState::Absent, OwnerState::Elsewhere]);
    let waiting = state_of(&[OwnerState::WaitsForDependents]);
    if owners.contains(&OwnerState::Lives) {
        useless.extend(waiting);
        return if useless.is_empty() { Vec::new() } else { vec![without_owners(node, &useless)] };
    }
    if !waiting.is_empty() && !dependents.is_empty() {
        let circle = dependents.iter().any(|one| one.deleting && one.has(FOREGROUND));
        if circle && node.owners.iter().any(|owner| owner.blocks) {
            // A circle of objects that wait for each other would never end. The deletion follows when the
            // change is seen.
            return vec![unblocked(node)];
        }
        return vec![delete(node, Propagation::Foreground)];
    }
    let propagation = match () {
        () if node.has(ORPHAN) => Propagation::Orphan,
        () if node.has(FOREGROUND) => Propagation::Foreground,
        () => Propagation::Background,
    };
    vec![delete(node, propagation)]
}

/// Tells of owners that are in another namespace.
fn complaints(node: &Node, owners: &[OwnerState]) -> Vec<Action> {
    let Target { resource, namespace, name } = &node.target;
    let about = ObjectReference {
        kind: Some(resource.kind.to_string()),
        api_version: Some(resource.api_version.to_string()),
        namespace: Some(namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: Some(name.clone()),
        uid: Some(node.uid.to_string()),
        ..ObjectReference::default()
    };
    let wrong = node.owners.iter().zip(owners).filter(|(_, state)| **state == OwnerState::Elsewhere);
    let told = wrong.map(|(owner, _)| {
        let Owner { api_version, kind, name, uid, .. } = owner;
        let owner = format!("[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]");
        Action::Event(Note {
            about: about.clone(),
            severity: Severity::Warning,
            reason: "OwnerRefInvalidNamespace",
            message: format!("ownerRef {owner} does not exist in namespace {namespace:?}"),
        })
    });
    told.collect()
}

/// The owner waits for those dependents that block it; then it lets go.
fn foreground(node: &Node, dependents: &[&Node]) -> Vec<Action> {
    // One that owns itself would wait for ever.
    let mut others = dependents.iter().filter(|dependent| dependent.uid != node.uid);
    let blocking = others.any(|dependent| dependent.blocks(&node.uid));
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
        uid: Some(node.uid.to_string()),
        resource_version: Some(node.resource_version.to_string()),
        propagation: Some(propagation),
        ..Delete::of(node.target.clone())
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
    use std::collections::BTreeMap;

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

    #[test]
    fn owners_of_other_namespaces_are_refused_and_told() {
        use OwnerState::{Absent, Elsewhere, Lives, Nowhere};
        let told = r#"event OwnerRefInvalidNamespace ownerRef [v1/Pod, namespace: ns, name: x, uid: x] does not exist in namespace "ns""#;
        let one = node("a", &["x"], &[], false);
        assert_eq!(run(&one, &[Elsewhere], &[]), [told, "delete Pod a"]);
        let two = node("a", &["x", "y"], &[], false);
        let kept = run(&two, &[Elsewhere, Lives], &[]);
        assert!(kept[0] == told && kept[1].starts_with("patch Pod a"), "{kept:?}");

        let mut wide = two;
        wide.target.namespace.clear();
        assert!(run(&wide, &[Nowhere, Absent], &[]).is_empty(), "what is in no namespace stays");
        let kept = run(&wide, &[Elsewhere, Absent], &[]);
        assert_eq!((kept.len(), kept[0].contains("OwnerRefInvalidNamespace")), (1, true), "{kept:?}");
    }

    /// A server that does what it is asked to, and the graph of what it has.
    struct World {
        nodes: BTreeMap<String, Node>,
        graph: Graph,
        look: Vec<Uid>,
    }

    impl World {
        fn new(nodes: Vec<Node>) -> Self {
            let mut world = Self { nodes: BTreeMap::new(), graph: Graph::default(), look: Vec::new() };
            nodes.into_iter().for_each(|node| world.put(node));
            world
        }

        fn put(&mut self, mut node: Node) {
            let name = node.target.name.clone();
            node.resource_version = format!("{}1", node.resource_version).into();
            if node.deleting && node.finalizers.is_empty() {
                self.nodes.remove(&name);
                self.look.extend(self.graph.remove(&node.uid));
            } else {
                self.nodes.insert(name, node.clone());
                self.look.extend(self.graph.upsert(node));
            }
        }

        fn delete(&mut self, name: &str, propagation: Propagation) {
            let mut node = self.nodes[name].clone();
            node.deleting = true;
            match propagation {
                Propagation::Foreground => node.finalizers.push(FOREGROUND.into()),
                Propagation::Orphan => node.finalizers.push(ORPHAN.into()),
                Propagation::Background => {}
            }
            self.put(node);
        }

        fn take(&mut self, action: Action) {
            match action {
                Action::Delete(delete) => {
                    self.delete(&delete.target.name, delete.propagation.expect("it says how"));
                }
                Action::Patch(patch) => {
                    let mut node = self.nodes[&patch.target.name].clone();
                    let meta = &patch.body["metadata"];
                    if let Some(finalizers) = meta["finalizers"].as_array() {
                        let names = finalizers.iter().filter_map(Value::as_str);
                        node.finalizers = names.map(Into::into).collect();
                    }
                    if let Some(owners) = meta["ownerReferences"].as_array() {
                        let one = |owner: &Value| {
                            let uid = owner["uid"].as_str().unwrap_or_default();
                            Owner::new("v1", "Pod", uid, uid, owner["blockOwnerDeletion"] == true)
                        };
                        node.owners = owners.iter().map(one).collect();
                    }
                    self.put(node);
                }
                other => panic!("{other:?}"),
            }
        }

        /// What is left when nothing more happens.
        fn settle(mut self) -> Vec<String> {
            for _ in 0..1000 {
                let Some(uid) = self.look.pop() else { break };
                let Some(node) = self.graph.get(&uid).cloned() else { continue };
                let state = |owner: &Owner| match self.graph.get(&owner.uid) {
                    None => OwnerState::Absent,
                    Some(found) if found.deleting && found.has(FOREGROUND) => OwnerState::WaitsForDependents,
                    Some(_) => OwnerState::Lives,
                };
                let owners: Vec<_> = node.owners.iter().map(state).collect();
                let actions = decide(&node, &owners, &self.graph.dependents(&uid));
                actions.into_iter().for_each(|action| self.take(action));
            }
            assert!(self.look.is_empty(), "it never rests");
            self.nodes.into_keys().collect()
        }
    }

    #[test]
    fn deletions_reach_what_they_should_whatever_the_shape() {
        use Propagation::{Background, Foreground, Orphan};
        let tree = [("a", vec![]), ("b", vec!["a"]), ("c", vec!["b"]), ("other", vec![])];
        let shared = [("a", vec![]), ("x", vec![]), ("b", vec!["a", "x"]), ("c", vec!["b"])];
        let circle = [("a", vec!["c"]), ("b", vec!["a"]), ("c", vec!["b"])];
        let itself = [("a", vec!["a"])];
        type Shape<'a> = &'a [(&'a str, Vec<&'a str>)];
        let cases: [(Shape<'_>, Propagation, &[&str]); 10] = [
            (&tree, Background, &["other"]),
            (&tree, Foreground, &["other"]),
            (&tree, Orphan, &["b", "c", "other"]),
            (&shared, Background, &["b", "c", "x"]),
            (&shared, Foreground, &["b", "c", "x"]),
            (&circle, Background, &[]),
            (&circle, Foreground, &[]),
            (&circle, Orphan, &["b", "c"]),
            (&itself, Foreground, &[]),
            (&itself, Background, &[]),
        ];
        for (number, (nodes, propagation, left)) in cases.into_iter().enumerate() {
            let nodes = nodes.iter().map(|(name, owners)| node(name, owners, &[], false));
            let mut world = World::new(nodes.collect());
            world.delete("a", propagation);
            assert_eq!(world.settle(), left, "case {number}");
        }
    }
}
