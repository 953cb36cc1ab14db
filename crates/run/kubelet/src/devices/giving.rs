//! Giving a pod's containers their devices, one pod at a time.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod};
use plimsoll_podlife::device::{Asked, Choice, Held, Wish};
use plimsoll_podlife::placement::hints::{Hint, Hints};
use plimsoll_podlife::spec::is_sidecar;
use prost::Message;

use super::Devices;

/// A pod's turn to get devices.
pub(crate) struct Giving<'d> {
    devices: &'d Devices,
    uid: String,
    /// What init containers leave to the containers after them.
    reusable: BTreeMap<String, BTreeSet<String>>,
    _turn: tokio::sync::MutexGuard<'d, ()>,
}

impl Devices {
    /// Waits for a pod's turn. Devices of pods that are not active come back first.
    pub(crate) async fn turn(&self, pod: &Pod, is_active: impl Fn(&str) -> bool) -> Giving<'_> {
        let turn = self.giving.lock().await;
        self.state().ledger.keep(is_active);
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        Giving { devices: self, uid, reusable: BTreeMap::new(), _turn: turn }
    }
}

impl Giving<'_> {
    /// Where a pod's devices could be.
    pub(crate) fn hints_of_pod(&self, pod: &Pod, nodes: &BTreeSet<u32>) -> Hints {
        let Some(spec) = &pod.spec else { return Hints::new() };
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut peak: BTreeMap<String, usize> = BTreeMap::new();
        for container in spec.init_containers.iter().flatten() {
            for (resource, count) in self.devices.wishes(container) {
                let sidecars = counts.entry(resource.clone()).or_default();
                if is_sidecar(container) {
                    *sidecars += count;
                } else {
                    let highest = peak.entry(resource).or_default();
                    *highest = (*highest).max(*sidecars + count);
                }
            }
        }
        for (resource, count) in spec.containers.iter().flat_map(|it| self.devices.wishes(it)) {
            *counts.entry(resource).or_default() += count;
        }
        for (resource, highest) in peak {
            let count = counts.entry(resource).or_default();
            *count = (*count).max(highest);
        }
        self.hints(None, &counts, nodes)
    }

    /// Where a container's devices could be.
    pub(crate) fn hints_of(&self, container: &Container, nodes: &BTreeSet<u32>) -> Hints {
        self.hints(Some(&container.name), &self.devices.wishes(container), nodes)
    }

    fn hints(
        &self,
        container: Option<&str>,
        counts: &BTreeMap<String, usize>,
        nodes: &BTreeSet<u32>,
    ) -> Hints {
        let asked = Asked { pod: &self.uid, container, counts, reusable: &self.reusable };
        self.devices.state().ledger.hints(asked, nodes)
    }

    /// Whether a container's devices are there at all.
    ///
    /// # Errors
    /// Why they are not, in upstream's words.
    pub(crate) fn check(&self, container: &Container) -> Result<(), String> {
        let (none, wishes) = (BTreeSet::new(), self.devices.wishes(container));
        let state = self.devices.state();
        wishes.iter().try_for_each(|(resource, count)| {
            let wish = Wish { pod: &self.uid, container: &container.name, resource, count: *count };
            state.ledger.choose(wish, self.reusable.get(resource).unwrap_or(&none)).map(drop)
        })
    }

    /// Gives a container its devices, those first that are near to where it is placed. `leaves` says that they can
    /// be given to those that come after it.
    ///
    /// # Errors
    /// Why there are none, in upstream's words.
    pub(crate) async fn give(
        &mut self,
        container: &Container,
        place: &Hint,
        leaves: bool,
    ) -> Result<(), String> {
        for (resource, count) in self.devices.wishes(container) {
            let wish = Wish { pod: &self.uid, container: &container.name, resource: &resource, count };
            let reusable = self.reusable.get(&resource).cloned().unwrap_or_default();
            let devices = self.give_one(wish, &reusable, place).await?;
            let reusable = self.reusable.entry(resource.clone()).or_default();
            if leaves {
                reusable.extend(devices);
            } else {
                reusable.retain(|id| !devices.contains(id));
            }
        }
        Ok(())
    }

    /// The devices that a wish is granted.
    async fn give_one(
        &self,
        wish: Wish<'_>,
        reusable: &BTreeSet<String>,
        place: &Hint,
    ) -> Result<BTreeSet<String>, String> {
        let (choice, plugin) = {
            let state = self.devices.state();
            let choice = state.ledger.choose(wish, reusable)?;
            let choice = state.ledger.align(wish.resource, choice, place.nodes.as_ref());
            (choice, state.plugins.get(wish.resource).cloned())
        };
        if choice == Choice::Had {
            let state = self.devices.state();
            let held = state.ledger.get(wish.pod, wish.container, wish.resource);
            return Ok(held.map(|held| held.devices.clone()).unwrap_or_default());
        }
        let plugin = plugin.ok_or_else(|| format!("unknown Device Plugin {}", wish.resource))?;
        let preferred = plugin.preferred(&choice).await?;
        let devices = choice.settle(&preferred);
        let begun = std::time::Instant::now();
        let answer = plugin.allocate(&devices).await?;
        self.devices.metrics.devices_given(wish.resource, begun.elapsed());
        let held = Held { devices: devices.clone(), answer: answer.encode_to_vec() };
        self.devices.state().ledger.give(wish, held);
        Ok(devices)
    }

    /// Ends the turn: what was given is kept, or what was given of a pod that is `refused` comes back.
    pub(crate) fn end(self, refused: bool) {
        if refused {
            self.devices.state().ledger.keep(|pod| pod != self.uid);
        }
        self.devices.save();
    }
}
