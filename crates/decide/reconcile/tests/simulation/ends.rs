//! The end of the namespace that everything is in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::jiff::Timestamp;
use plimsoll_reconcile::action::{Action, Delete, Propagation, Resource};
use plimsoll_reconcile::namespace::{self, Left, Observed};

use crate::api::{Api, Name, Stored};
use crate::cache::Caches;
use crate::kind::Typed;
use crate::users::NAMESPACE;
use crate::wiring::{Controller, Key};

/// How long to wait before what is left is looked at again.
const AGAIN: Duration = Duration::from_secs(5);

/// The namespace itself.
pub(crate) fn name() -> Name {
    (String::new(), NAMESPACE.to_owned())
}

/// The keys that an object leads to, here: what goes wakes up those who wait for it.
pub(crate) fn keys(caches: &Caches, _: &str, _: &Typed) -> Vec<Key> {
    let ends = caches.get::<Namespace>(&name()).is_some_and(|one| namespace::ends(&one));
    ends.then(|| (Controller::NamespaceEnd, name())).into_iter().collect()
}

/// What the namespace controller does next.
pub(crate) fn decide(api: &Api, caches: &Caches, now: Timestamp) -> Vec<Action> {
    let Some(present) = caches.get::<Namespace>(&name()).filter(|one| namespace::ends(one)) else {
        return Vec::new();
    };
    let inside: Vec<_> = caches.everything().map(|(_, stored)| stored).filter(|one| is_inside(one)).collect();
    let there: BTreeSet<_> = inside.iter().map(|one| &one.node.target.resource).collect();
    let kinds = api.kinds.iter().map(|kind| (&kind.resource, there.contains(&kind.resource)));
    let deletable = namespace::deletable(kinds);
    let going = |one: &&Stored| deletable.contains(&&one.node.target.resource);
    let fresh = inside.iter().copied().filter(going).filter(|one| !one.node.deleting);
    let mut actions: Vec<_> = fresh.map(delete).collect();
    let mut left = count(inside.iter().copied().filter(going));
    if left.is_empty() {
        // The caches may be late.
        left =
            count(api.objects.iter().flat_map(BTreeMap::values).filter(|one| is_inside(one)).filter(going));
    }
    let observed = Observed { namespace: &present, left: &left, unknown: &[], undeleted: &[] };
    actions.extend(namespace::decide(&observed, now));
    actions.extend((!left.is_empty()).then_some(Action::RequeueAfter(AGAIN)));
    actions
}

fn is_inside(stored: &Stored) -> bool {
    stored.node.target.namespace == NAMESPACE
}

fn delete(stored: &Stored) -> Action {
    let delete = Delete::of(stored.node.target.clone());
    Delete { propagation: Some(Propagation::Background), ..delete }.into()
}

fn count<'a>(objects: impl Iterator<Item = &'a Stored>) -> BTreeMap<Resource, Left> {
    let mut left = BTreeMap::<Resource, Left>::new();
    for one in objects {
        left.entry(one.node.target.resource.clone()).or_default().objects += 1;
    }
    left
}

/// What holds at rest once the namespace is gone.
pub(crate) fn check(api: &Api) -> Result<(), String> {
    if api.get(api.kind_named("Namespace"), &name()).is_some() {
        return Ok(());
    }
    let left = api.objects.iter().flat_map(BTreeMap::values).find(|one| is_inside(one));
    left.map_or(Ok(()), |left| Err(format!("at rest: {} is in no namespace", left.value)))
}
