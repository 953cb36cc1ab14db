//! The devices that a node can use, by pool.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{Device, DeviceTaint, ResourceSlice};
use plimsoll_meta::quantity::Quantity;

use super::{DeviceId, Devices};
use crate::node::Node;
use crate::terms::NodeTerm;

/// Counters of a pool, by set and name.
pub(super) type Counters = BTreeMap<(String, String), Quantity>;

/// Devices of one driver that belong together.
pub(super) struct Pool<'d> {
    /// Those that the node can use.
    pub(super) devices: Vec<Offered<'d>>,
    /// Slices are missing: it is being changed.
    pub(super) incomplete: bool,
    /// What is left of the counters that its devices share.
    pub(super) counters: Counters,
}

/// A device, and where it can be used.
#[derive(Clone, Copy)]
pub(super) struct Offered<'d> {
    pub(super) slice: &'d ResourceSlice,
    pub(super) device: &'d Device,
}

impl<'d> Offered<'d> {
    pub(super) fn id(&self) -> DeviceId {
        (self.slice.spec.driver.clone(), self.slice.spec.pool.name.clone(), self.device.name.clone())
    }

    /// What it takes of its pool's counters.
    pub(super) fn takes(&self) -> impl Iterator<Item = ((String, String), Quantity)> + use<'d> {
        self.device.consumes_counters.iter().flatten().flat_map(|from| {
            from.counters.iter().filter_map(|(name, counter)| {
                Some(((from.counter_set.clone(), name.clone()), counter.value.0.parse().ok()?))
            })
        })
    }

    /// The one node that it can be used on, if it is one.
    pub(super) fn node_name(&self) -> Option<&'d str> {
        let own = self.device.node_name.as_deref();
        own.or(self.slice.spec.node_name.as_deref()).filter(|name| !name.is_empty())
    }

    pub(super) fn node_selector(&self) -> Option<&'d NodeSelector> {
        self.device.node_selector.as_ref().or(self.slice.spec.node_selector.as_ref())
    }

    fn is_for(&self, node: &Node) -> bool {
        let spec = &self.slice.spec;
        let place = match spec.per_device_node_selection {
            Some(true) => (&self.device.node_name, &self.device.node_selector, self.device.all_nodes),
            _ => (&spec.node_name, &spec.node_selector, spec.all_nodes),
        };
        match place {
            (Some(name), _, _) if !name.is_empty() => *name == node.name,
            (_, Some(selector), _) => holds(selector, node),
            (_, _, everywhere) => everywhere == Some(true),
        }
    }
}

/// Whether a selector chooses a node.
pub(crate) fn holds(selector: &NodeSelector, node: &Node) -> bool {
    selector.node_selector_terms.iter().any(|term| NodeTerm::of(term).holds(node))
}

impl Devices {
    /// The pools with devices that a node can use.
    pub(super) fn pools(&self, node: &Node) -> Vec<Pool<'_>> {
        let own = self.of_node.get(&node.name).into_iter().flat_map(BTreeMap::keys);
        let keys: BTreeSet<_> = own.chain(self.of_several.keys()).collect();
        keys.into_iter().filter_map(|key| self.pool(key, node)).collect()
    }

    fn pool<'d>(&'d self, key: &'d (String, String), node: &Node) -> Option<Pool<'d>> {
        let all = || self.pools.get(key).into_iter().flatten().filter_map(|name| self.slices.get(name));
        let newest = all().map(|slice| slice.spec.pool.generation).max()?;
        let slices: Vec<&ResourceSlice> =
            all().filter(|slice| slice.spec.pool.generation == newest).map(|slice| &**slice).collect();
        let offered = |slice: &'d ResourceSlice| {
            slice.spec.devices.iter().flatten().map(move |device| Offered { slice, device })
        };
        let every: Vec<Offered<'d>> = slices.iter().flat_map(|slice| offered(slice)).collect();
        let names: BTreeSet<&str> = every.iter().map(|one| one.device.name.as_str()).collect();
        // Nobody can tell devices of equal names apart.
        if names.len() < every.len() {
            return None;
        }
        let mut counters = counters(&slices);
        for one in every.iter().filter(|one| self.taken.contains_key(&one.id())) {
            take(&mut counters, one);
        }
        let devices: Vec<_> = every.into_iter().filter(|one| one.is_for(node)).collect();
        let incomplete =
            slices.len() != usize::try_from(slices[0].spec.pool.resource_slice_count).unwrap_or(0);
        (!devices.is_empty()).then_some(Pool { devices, incomplete, counters })
    }

    /// Taints of a device, its own and those of administrators.
    pub(super) fn taints<'d>(
        &'d self,
        one: Offered<'d>,
    ) -> impl Iterator<Item = (&'d str, &'d str, &'d str)> {
        let own = one.device.taints.iter().flatten().map(|taint: &DeviceTaint| {
            (taint.key.as_str(), taint.value.as_deref().unwrap_or_default(), taint.effect.as_str())
        });
        let (driver, pool) = (&one.slice.spec.driver, &one.slice.spec.pool.name);
        let rules = self.rules.values().filter(move |rule| {
            let Some(selector) = &rule.spec.device_selector else { return false };
            let fits = |wanted: &Option<String>, found: &String| {
                wanted.as_ref().is_none_or(|wanted| wanted == found)
            };
            fits(&selector.driver, driver)
                && fits(&selector.pool, pool)
                && fits(&selector.device, &one.device.name)
        });
        own.chain(rules.map(|rule| {
            let taint = &rule.spec.taint;
            (taint.key.as_str(), taint.value.as_deref().unwrap_or_default(), taint.effect.as_str())
        }))
    }
}

fn counters(slices: &[&ResourceSlice]) -> Counters {
    let sets = slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten());
    sets.flat_map(|set| {
        set.counters.iter().filter_map(|(name, counter)| {
            Some(((set.name.clone(), name.clone()), counter.value.0.parse().ok()?))
        })
    })
    .collect()
}

/// Takes what a device takes; what is short goes below zero.
pub(super) fn take(counters: &mut Counters, one: &Offered<'_>) {
    for (counter, amount) in one.takes() {
        *counters.entry(counter).or_insert(Quantity::from_units(0)) -= amount;
    }
}

/// Gives it back.
pub(super) fn give(counters: &mut Counters, one: &Offered<'_>) {
    for (counter, amount) in one.takes() {
        *counters.entry(counter).or_insert(Quantity::from_units(0)) += amount;
    }
}
