//! The rolling update of a DaemonSet.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::RollingUpdateDaemonSet;
use k8s_openapi::api::core::v1::Pod;

use super::{Changes, Sync};
use crate::share::{self, Round};
use crate::{node, pod};

/// What is on a node: its pod of the new template and that of an older one, if there is at most one of each.
type Pair<'a> = Option<(Option<&'a Arc<Pod>>, Option<&'a Arc<Pod>>)>;

impl Sync<'_> {
    fn rolling(&self) -> Option<Option<&RollingUpdateDaemonSet>> {
        let strategy = self.set.spec.update_strategy.as_ref();
        let kind = strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
        (kind == "RollingUpdate").then(|| strategy.and_then(|strategy| strategy.rolling_update.as_ref()))
    }

    fn desired(&self) -> i32 {
        i32::try_from(self.nodes.iter().filter(|(_, fit)| fit.runs).count()).unwrap_or(i32::MAX)
    }

    /// How many of so many nodes may have two pods during an update.
    fn max_surge(&self, desired: i32) -> i32 {
        let surge = self.rolling().flatten().and_then(|rolling| rolling.max_surge.as_ref());
        share::of(surge, desired, Round::Up)
    }

    /// Whether nodes may have two pods at all.
    pub(super) fn allows_surge(&self) -> bool {
        self.max_surge(1) > 0
    }

    /// How many of so many nodes may have no available pod during an update.
    fn max_unavailable(&self, desired: i32) -> i32 {
        let given = self.rolling().flatten().and_then(|rolling| rolling.max_unavailable.as_ref());
        let number = given.map_or(1, |given| share::of(Some(given), desired, Round::Up));
        if number == 0 && self.max_surge(desired) == 0 { 1 } else { number }
    }

    /// The next step towards the new template.
    pub(super) fn update(&self, changes: &mut Changes) {
        if self.rolling().is_none() {
            return;
        }
        let desired = self.desired();
        match self.max_surge(desired) {
            0 => self.replace(self.max_unavailable(desired), changes),
            surge => self.surge(surge, desired, changes),
        }
    }

    /// All nodes that have a pod or should, with their pods.
    fn places(&self) -> BTreeMap<&str, Pair<'_>> {
        let wanted = self.nodes.iter().filter(|(_, fit)| fit.runs).map(|(on, _)| node::name(on));
        let all = wanted.chain(self.pods.keys().map(String::as_str));
        all.map(|name| (name, self.pair(name))).collect()
    }

    fn pair(&self, node: &str) -> Pair<'_> {
        let alive = self.on(node).iter().filter(|pod| !pod::deleting(pod));
        let (new, old): (Vec<_>, Vec<_>) = alive.partition(|pod| self.is_current(pod));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.first().copied(), old.first().copied()))
    }

    /// Old pods go as long as enough nodes have an available one; those that are of no use go at once.
    fn replace(&self, max_unavailable: i32, changes: &mut Changes) {
        let mut room = max_unavailable;
        let mut candidates = Vec::new();
        for pair in self.places().into_values() {
            match pair {
                Some((Some(new), None)) => room -= i32::from(!self.is_available(new)),
                Some((None, Some(old))) if self.is_available(old) => candidates.push(old.clone()),
                Some((None, Some(old))) => {
                    room -= 1;
                    changes.delete.push(old.clone());
                }
                _ => room -= 1,
            }
        }
        changes.delete.extend(candidates.into_iter().take(usize::try_from(room).unwrap_or_default()));
    }

    /// New pods come beside old ones; the old go when the new are available.
    fn surge(&self, max_surge: i32, desired: i32, changes: &mut Changes) {
        let (mut room, mut available) = (max_surge, 0);
        let (mut candidates, mut leaving) = (Vec::new(), Vec::new());
        for (name, pair) in self.places() {
            let Some((new, old)) = pair else {
                room -= 1;
                continue;
            };
            available += i32::from(old.or(new).is_some_and(|pod| self.is_available(pod)));
            let runs = self.nodes.iter().any(|(on, fit)| fit.runs && node::name(on) == name);
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) => match (self.is_available(old), runs) {
                    (false, false) => changes.delete.push(old.clone()),
                    (false, true) => changes.create.push(name.to_owned()),
                    (true, false) => leaving.push(old.clone()),
                    (true, true) => candidates.push(name.to_owned()),
                },
                (Some(new), Some(old)) if self.is_available(new) => changes.delete.push(old.clone()),
                (Some(_), Some(_)) => room -= 1,
            }
        }
        // A pod of a node that no longer fits goes only when another has taken its place.
        let spare = usize::try_from(available - desired).unwrap_or_default();
        changes.delete.extend(leaving.into_iter().take(spare));
        changes.create.extend(candidates.into_iter().take(usize::try_from(room).unwrap_or_default()));
    }
}
