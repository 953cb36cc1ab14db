//! The rolling update of a DaemonSet.

use k8s_openapi::api::apps::v1::RollingUpdateDaemonSet;

use super::{Changes, Sync, placement};
use crate::share::{self, Round};
use crate::{node, pod};

impl Sync<'_> {
    fn rolling(&self) -> Option<Option<&RollingUpdateDaemonSet>> {
        let strategy = self.set.spec.update_strategy.as_ref();
        let kind = strategy.and_then(|strategy| strategy.type_.as_deref()).unwrap_or("RollingUpdate");
        (kind == "RollingUpdate").then(|| strategy.and_then(|strategy| strategy.rolling_update.as_ref()))
    }

    fn desired(&self) -> i32 {
        let fitting = self.nodes.iter().filter(|on| placement::fits(self.set, on).0).count();
        i32::try_from(fitting).unwrap_or(i32::MAX)
    }

    /// How many nodes may have two pods during an update.
    pub(super) fn max_surge(&self) -> i32 {
        let surge = self.rolling().flatten().and_then(|rolling| rolling.max_surge.as_ref());
        share::of(surge, self.desired(), Round::Up)
    }

    /// How many nodes may have no available pod during an update.
    fn max_unavailable(&self) -> i32 {
        let given = self.rolling().flatten().and_then(|rolling| rolling.max_unavailable.as_ref());
        let number = given.map_or(1, |given| share::of(Some(given), self.desired(), Round::Up));
        if number == 0 && self.max_surge() == 0 { 1 } else { number }
    }

    /// The next step towards the new template.
    pub(super) fn update(&self, changes: &mut Changes) {
        if self.rolling().is_none() {
            return;
        }
        if self.max_surge() > 0 { self.surge(changes) } else { self.replace(changes) }
    }

    /// Old pods go as long as enough nodes have an available one; those that are of no use go at once.
    fn replace(&self, changes: &mut Changes) {
        let mut room = self.max_unavailable();
        let mut candidates = Vec::new();
        for on in self.nodes.iter().filter(|on| placement::fits(self.set, on).0) {
            let pods = self.pods.get(node::name(on)).map(Vec::as_slice).unwrap_or_default();
            let Some(one) = pods.first().filter(|pod| pods.len() == 1 && !pod::deleting(pod)) else {
                room -= 1;
                continue;
            };
            match (self.is_current(one), self.is_available(one)) {
                (true, true) => {}
                (true, false) => room -= 1,
                (false, true) => candidates.push(one.clone()),
                (false, false) => {
                    room -= 1;
                    changes.delete.push(one.clone());
                }
            }
        }
        changes.delete.extend(candidates.into_iter().take(usize::try_from(room).unwrap_or_default()));
    }

    /// New pods come beside old ones; the old go when the new are available (see placement).
    fn surge(&self, changes: &mut Changes) {
        let mut room = self.max_surge();
        let mut candidates = Vec::new();
        for on in self.nodes.iter().filter(|on| placement::fits(self.set, on).0) {
            let pods = self.pods.get(node::name(on)).map(Vec::as_slice).unwrap_or_default();
            let alive: Vec<_> = pods.iter().filter(|pod| !pod::deleting(pod)).collect();
            let has_new = alive.iter().any(|pod| self.is_current(pod));
            let old = alive.iter().find(|pod| !self.is_current(pod));
            match (old, has_new) {
                (Some(_), true) => room -= 1,
                (Some(old), false) if self.is_available(old) => candidates.push(node::name(on).to_owned()),
                (Some(_), false) => changes.create.push(node::name(on).to_owned()),
                (None, _) => {}
            }
        }
        changes.create.extend(candidates.into_iter().take(usize::try_from(room).unwrap_or_default()));
    }
}
