//! What controllers write, declared: who owns what, and which actions that covers.
//!
//! What enters are the declarations of [`crate::catalogue`] and actions; what leaves is whether two owners would fight,
//! and what an action does that was not declared.

use plimsoll_reconcile::action::{Action, Resource};
use serde_json::Value;

use crate::Error;

/// Fields that a patch holds to say which object it means.
const PRECONDITIONS: [&str; 2] = ["metadata.uid", "metadata.resourceVersion"];

/// One thing that a controller writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// `v1/pods`, `apps/v1/deployments/status`; `*` stands for every kind, `*/scale` for this door of every kind.
    pub(crate) door: &'static str,
    pub(crate) deed: Deed,
    pub(crate) hold: Hold,
}

/// What it does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Makes objects.
    Makes,
    /// Changes these fields and what is below them; `*` are all.
    Changes(&'static [&'static str]),
    /// Deletes objects, which may be done by many.
    Removes,
}

/// Whether others may do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nobody else.
    Whole,
    /// Nobody else for this part of the objects, such as those of a ReplicaSet.
    Part(&'static str),
    /// Others may; all of them would write the same, or entries of a list that are their own.
    Shared,
}

/// Makes objects of a kind.
pub(crate) const fn makes(door: &'static str) -> Output {
    Output { door, deed: Deed::Makes, hold: Hold::Whole }
}

/// Changes fields of objects of a kind.
pub(crate) const fn changes(door: &'static str, fields: &'static [&'static str]) -> Output {
    Output { door, deed: Deed::Changes(fields), hold: Hold::Whole }
}

/// Writes the status of objects; `door` names the subresource.
pub(crate) const fn status(door: &'static str) -> Output {
    changes(door, &["status"])
}

/// Deletes objects of a kind.
pub(crate) const fn removes(door: &'static str) -> Output {
    Output { door, deed: Deed::Removes, hold: Hold::Shared }
}

impl Output {
    /// Only for this part of the objects.
    pub(crate) const fn of(mut self, part: &'static str) -> Self {
        self.hold = Hold::Part(part);
        self
    }

    /// Others do this as well.
    pub(crate) const fn shared(mut self) -> Self {
        self.hold = Hold::Shared;
        self
    }

    fn fights(&self, other: &Self) -> bool {
        let same_objects = match (self.hold, other.hold) {
            (Hold::Shared, _) | (_, Hold::Shared) => false,
            (Hold::Part(one), Hold::Part(two)) => one == two,
            _ => true,
        };
        let same_deed = match (self.deed, other.deed) {
            (Deed::Makes, Deed::Makes) => true,
            (Deed::Changes(one), Deed::Changes(two)) => {
                one.iter().any(|one| two.iter().any(|two| within(one, two) || within(two, one)))
            }
            _ => false,
        };
        self.door == other.door && same_objects && same_deed
    }

    fn is_about(&self, door: &str) -> bool {
        // `*` and `*/scale` are about every kind.
        self.door == door || self.door.strip_prefix('*').is_some_and(|end| door.ends_with(end))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.deed {
            Deed::Makes => write!(f, "makes {}", self.door)?,
            Deed::Changes(fields) => write!(f, "changes {} {}", self.door, fields.join(", "))?,
            Deed::Removes => write!(f, "removes {}", self.door)?,
        }
        match self.hold {
            Hold::Part(part) => write!(f, " of {part}"),
            Hold::Shared if self.deed != Deed::Removes => write!(f, " with others"),
            _ => Ok(()),
        }
    }
}

/// The path of a resource in declarations.
pub(crate) fn door(resource: &Resource, subresource: Option<&str>) -> String {
    let door = format!("{}/{}", resource.api_version, resource.plural);
    subresource.map(|sub| format!("{door}/{sub}")).unwrap_or(door)
}

/// Refuses two controllers that would own the same.
pub(crate) fn one_owner_each(all: &[(&'static str, &[Output])]) -> Result<(), Error> {
    for (number, (one, theirs)) in all.iter().enumerate() {
        for (two, others) in &all[number + 1..] {
            let fight = theirs.iter().find(|output| others.iter().any(|other| output.fights(other)));
            if let Some(output) = fight {
                return Err(Error::TwoOwners { one, two, thing: output.to_string() });
            }
        }
    }
    Ok(())
}

/// What an action does that is not declared.
pub(crate) fn undeclared(outputs: &[Output], action: &Action) -> Option<String> {
    let says = |door: &str, deed: &dyn Fn(Deed) -> bool| {
        outputs.iter().any(|output| output.is_about(door) && deed(output.deed))
    };
    let changes = |door: &str, fields: Vec<String>| {
        let undeclared = fields.into_iter().find(|field| {
            let covers = |known: &&str| *known == "*" || within(field, known);
            !says(door, &|deed| matches!(deed, Deed::Changes(known) if known.iter().any(&covers)))
        });
        undeclared.map(|field| format!("changes {door} {field}"))
    };
    match action {
        Action::Create(create) => {
            let door = door(&create.resource, None);
            (!says(&door, &|deed| deed == Deed::Makes)).then(|| format!("makes {door}"))
        }
        Action::Delete(delete) => {
            let door = door(&delete.target.resource, None);
            (!says(&door, &|deed| deed == Deed::Removes)).then(|| format!("removes {door}"))
        }
        Action::Patch(patch) => {
            changes(&door(&patch.target.resource, patch.subresource), leaves(&patch.body))
        }
        Action::Replace { target, subresource, .. } => {
            changes(&door(&target.resource, *subresource), vec!["*".to_owned()])
        }
        Action::Event(_) | Action::RequeueAfter(_) => None,
    }
}

/// Whether a field is that one or below it.
fn within(field: &str, known: &str) -> bool {
    field.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The paths of all values that a merge patch sets.
fn leaves(patch: &Value) -> Vec<String> {
    fn gather(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let dot = if path.is_empty() { "" } else { "." };
                    gather(value, &format!("{path}{dot}{name}"), found);
                }
            }
            _ => found.push(path.to_owned()),
        }
    }
    let mut found = Vec::new();
    gather(patch, "", &mut found);
    found.retain(|path| !PRECONDITIONS.contains(&path.as_str()));
    found
}

#[cfg(test)]
mod tests {
    use plimsoll_reconcile::action::{Patch, Target};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_thing_has_one_owner() {
        let whole = changes("v1/nodes", &["spec.taints"]);
        let cases: [(Output, Output, bool); 9] = [
            (whole, whole, true),
            (whole, changes("v1/nodes", &["spec"]), true),
            (whole, changes("v1/nodes", &["spec.taintsOfMine"]), false),
            (whole, changes("v1/nodes", &["spec.podCIDR"]), false),
            (whole, changes("v1/nodes/status", &["spec.taints"]), false),
            (makes("v1/pods").of("Jobs"), makes("v1/pods").of("ReplicaSets"), false),
            (makes("v1/pods").of("Jobs"), makes("v1/pods"), true),
            (makes("v1/pods").shared(), makes("v1/pods"), false),
            (removes("v1/pods"), removes("v1/pods"), false),
        ];
        for (one, two, fights) in cases {
            let told = one_owner_each(&[("a", &[one]), ("b", &[two])]);
            assert_eq!(told.is_err(), fights, "{one} and {two}");
        }
        let refused =
            one_owner_each(&[("a", &[whole]), ("b", &[]), ("c", &[whole])]).map_err(|e| e.to_string());
        assert_eq!(
            refused,
            Err("controllers a and c would both own what changes v1/nodes spec.taints".to_owned())
        );
    }

    #[test]
    fn actions_do_what_is_declared() {
        let pods = Resource { api_version: "v1".into(), kind: "Pod".into(), plural: "pods".into() };
        let patch = |subresource: Option<&'static str>, body: Value| {
            let target = Target { resource: pods.clone(), namespace: "ns".into(), name: "p".into() };
            Action::Patch(Box::new(Patch { target, subresource, body, guard: None }))
        };
        let owners = changes("v1/pods", &["metadata.ownerReferences"]);
        let adopts =
            patch(None, json!({"metadata": {"uid": "u", "resourceVersion": "1", "ownerReferences": []}}));
        let says = patch(Some("status"), json!({"status": {"phase": "Failed"}}));
        let cases = [
            (vec![owners], adopts.clone(), None),
            (vec![changes("*", &["metadata"])], adopts.clone(), None),
            (vec![makes("v1/pods")], adopts, Some("changes v1/pods metadata.ownerReferences")),
            (vec![status("v1/pods/status")], says.clone(), None),
            (
                vec![changes("v1/pods/status", &["status.conditions"])],
                says,
                Some("changes v1/pods/status status.phase"),
            ),
            (
                vec![owners],
                patch(None, json!({"spec": {"nodeName": "n"}})),
                Some("changes v1/pods spec.nodeName"),
            ),
        ];
        for (outputs, action, expected) in cases {
            assert_eq!(undeclared(&outputs, &action).as_deref(), expected);
        }
    }
}
