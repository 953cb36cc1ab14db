//! Devices of plugins: which there are, who has which, and which a container gets.
//!
//! What enters: what plugins announce, what containers ask for. What leaves: choices of devices and what the node
//! has of them. Source of rules and messages: pkg/kubelet/cm/devicemanager/manager.go, v1.37.

mod affinity;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

pub use affinity::Asked;

/// How long the node counts the devices of a plugin that is gone, in seconds (kubelet: endpointStopGracePeriod).
pub const GRACE: i64 = 300;

/// One device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Whether its plugin says that it can be used.
    pub healthy: bool,
    /// The memory nodes that it is near to.
    pub nodes: Vec<i64>,
}

/// Whether a device can be used, as pods' statuses tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Its plugin says so.
    Healthy,
    /// Its plugin says no, or is gone.
    Unhealthy,
    /// Nobody knows it.
    Unknown,
}

impl Health {
    /// The word in statuses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "Healthy",
            Self::Unhealthy => "Unhealthy",
            Self::Unknown => "Unknown",
        }
    }

    /// What a word says; nobody knows what others mean.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "Healthy" => Self::Healthy,
            "Unhealthy" => Self::Unhealthy,
            _ => Self::Unknown,
        }
    }
}

/// The devices of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// By id.
    pub devices: BTreeMap<String, Device>,
    /// Since when its plugin is gone.
    pub gone: Option<Timestamp>,
}

/// What a container has of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The devices' ids.
    pub devices: BTreeSet<String>,
    /// What the plugin answered, as it came.
    pub answer: Vec<u8>,
}

/// Where a holding stands: container, resource.
type Place = (String, String);

/// All devices of the node, and who has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    resources: BTreeMap<String, Resource>,
    held: BTreeMap<String, BTreeMap<Place, Held>>,
}

/// What a container asks for, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The pod's UID.
    pub pod: &'a str,
    /// The container's name.
    pub container: &'a str,
    /// The resource's name.
    pub resource: &'a str,
    /// How many devices.
    pub count: usize,
}

/// What can be chosen for a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Nothing: the container has its devices already.
    Had,
    /// So many devices of these.
    Of {
        /// Those that init containers of the pod had: taken first.
        given: BTreeSet<String>,
        /// How many more are needed.
        more: usize,
        /// Those that nobody has.
        free: BTreeSet<String>,
        /// Those among them that are taken last.
        last: BTreeSet<String>,
    },
}

impl Choice {
    /// The devices that the container gets; `preferred` are those that the plugin would like.
    #[must_use]
    pub fn settle(self, preferred: &[String]) -> BTreeSet<String> {
        let Self::Of { mut given, more, free, last } = self else { return BTreeSet::new() };
        let liked = preferred.iter().filter(|id| free.contains(*id)).take(more);
        let mut taken: BTreeSet<String> = liked.cloned().collect();
        for id in free.difference(&last).chain(&last) {
            if taken.len() == more {
                break;
            }
            taken.insert(id.clone());
        }
        given.extend(taken);
        given
    }
}

impl Ledger {
    /// A plugin tells its devices. Whether anything changed.
    pub fn announce(&mut self, resource: &str, devices: BTreeMap<String, Device>) -> bool {
        let new = Resource { devices, gone: None };
        let before = self.resources.insert(resource.to_owned(), new.clone());
        before.as_ref() != Some(&new)
    }

    /// A resource is known from before, and its plugin has not come yet.
    pub fn remember(&mut self, resource: &str) {
        self.resources.entry(resource.to_owned()).or_default();
    }

    /// A resource's plugin is gone: none of its devices can be used.
    pub fn lose(&mut self, resource: &str, now: Timestamp) {
        if let Some(resource) = self.resources.get_mut(resource) {
            resource.gone.get_or_insert(now);
            for device in resource.devices.values_mut() {
                device.healthy = false;
            }
        }
    }

    /// Takes the devices of plugins that have been gone for long out of the count. Whether there were any, and
    /// when to come again.
    pub fn expire(&mut self, now: Timestamp) -> (bool, Option<Timestamp>) {
        let mut expired = false;
        for resource in self.resources.values_mut().filter(|it| !it.devices.is_empty()) {
            if resource.gone.is_some_and(|gone| now.duration_since(gone).as_secs() >= GRACE) {
                resource.devices.clear();
                expired = true;
            }
        }
        let waiting = self.resources.values().filter(|it| !it.devices.is_empty());
        let next = waiting.filter_map(|it| it.gone).min();
        (
            expired,
            next.and_then(|gone| gone.checked_add(std::time::Duration::from_secs(GRACE.unsigned_abs())).ok()),
        )
    }

    /// The resources that plugins have told of.
    #[must_use]
    pub fn resources(&self) -> &BTreeMap<String, Resource> {
        &self.resources
    }

    /// Whether a resource is one of plugins.
    #[must_use]
    pub fn knows(&self, resource: &str) -> bool {
        self.resources.contains_key(resource)
            || self.held.values().flat_map(BTreeMap::keys).any(|(_, held)| held == resource)
    }

    /// How many devices there are, and how many can be used, by resource.
    #[must_use]
    pub fn capacity(&self) -> BTreeMap<String, (usize, usize)> {
        let count = |resource: &Resource| {
            (resource.devices.len(), resource.devices.values().filter(|device| device.healthy).count())
        };
        self.resources.iter().map(|(name, resource)| (name.clone(), count(resource))).collect()
    }

    /// What can be given for a wish; `reusable` are the devices that init containers of the pod had.
    ///
    /// # Errors
    /// Why nothing can, in upstream's words.
    pub fn choose(&self, wish: Wish<'_>, reusable: &BTreeSet<String>) -> Result<Choice, String> {
        let Wish { pod, container, resource, count } = wish;
        let held = self.get(pod, container, resource).map(|held| &held.devices);
        if let Some(devices) = held.filter(|devices| devices.len() != count) {
            let had = devices.len();
            return Err(format!(
                "pod {pod:?} container {container:?} changed request for resource {resource:?} from {had} to {count}"
            ));
        }
        let known = self.resources.get(resource);
        let known = known.ok_or_else(|| format!("cannot allocate unregistered device {resource}"))?;
        let healthy: BTreeSet<&String> =
            known.devices.iter().filter(|(_, device)| device.healthy).map(|(id, _)| id).collect();
        if healthy.is_empty() {
            return Err(format!("no healthy devices present; cannot allocate unhealthy devices {resource}"));
        }
        if let Some(devices) = held {
            if devices.iter().any(|id| !healthy.contains(id)) {
                return Err(format!(
                    "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {resource}"
                ));
            }
            return Ok(Choice::Had);
        }
        let given: BTreeSet<String> =
            reusable.iter().filter(|id| healthy.contains(id)).take(count).cloned().collect();
        let more = count - given.len();
        let used = self.used(resource);
        let free: BTreeSet<String> =
            healthy.into_iter().filter(|id| !used.contains(id.as_str())).cloned().collect();
        if free.len() < more {
            return Err(format!(
                "requested number of devices unavailable for {resource}. Requested: {more}, Available: {}",
                free.len()
            ));
        }
        Ok(Choice::Of { given, more, free, last: BTreeSet::new() })
    }

    fn used(&self, resource: &str) -> BTreeSet<&str> {
        let places = self.held.values().flatten().filter(|((_, held), _)| held == resource);
        places.flat_map(|(_, held)| held.devices.iter().map(String::as_str)).collect()
    }

    /// A container gets devices.
    pub fn give(&mut self, wish: Wish<'_>, held: Held) {
        let place = (wish.container.to_owned(), wish.resource.to_owned());
        self.held.entry(wish.pod.to_owned()).or_default().insert(place, held);
    }

    /// A container's devices of a resource go back.
    pub fn take_back(&mut self, wish: Wish<'_>) {
        let place = (wish.container.to_owned(), wish.resource.to_owned());
        if let Some(held) = self.held.get_mut(wish.pod) {
            held.remove(&place);
        }
    }

    /// Takes the devices of all other pods back. Whether there were any.
    pub fn keep(&mut self, is_active: impl Fn(&str) -> bool) -> bool {
        let before = self.held.len();
        self.held.retain(|pod, _| is_active(pod));
        self.held.len() != before
    }

    /// What a container has of a resource.
    #[must_use]
    pub fn get(&self, pod: &str, container: &str, resource: &str) -> Option<&Held> {
        self.held.get(pod)?.get(&(container.to_owned(), resource.to_owned()))
    }

    /// What a container has, by resource.
    pub fn of<'a>(&'a self, pod: &str, container: &'a str) -> impl Iterator<Item = (&'a str, &'a Held)> {
        let held = self.held.get(pod).into_iter().flatten();
        held.filter(move |((name, _), _)| name == container)
            .map(|((_, resource), held)| (resource.as_str(), held))
    }

    /// Everything that is held: pod, container, resource, devices.
    pub fn all(&self) -> impl Iterator<Item = (Wish<'_>, &Held)> {
        self.held.iter().flat_map(|(pod, places)| {
            places.iter().map(move |((container, resource), held)| {
                (Wish { pod, container, resource, count: held.devices.len() }, held)
            })
        })
    }

    /// Whether a device can be used.
    #[must_use]
    pub fn health(&self, resource: &str, device: &str) -> Health {
        match self.resources.get(resource).and_then(|resource| resource.devices.get(device)) {
            Some(device) if device.healthy => Health::Healthy,
            Some(_) => Health::Unhealthy,
            None => Health::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "example.com/gpu";

    fn devices(list: &[(&str, bool)]) -> BTreeMap<String, Device> {
        let one = |(id, healthy): &(&str, bool)| {
            ((*id).to_owned(), Device { healthy: *healthy, nodes: Vec::new() })
        };
        list.iter().map(one).collect()
    }

    fn ids(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|id| (*id).to_owned()).collect()
    }

    fn wish(pod: &'static str, count: usize) -> Wish<'static> {
        Wish { pod, container: "c", resource: GPU, count }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn free_and_healthy_devices_are_given_and_come_back() {
        let mut ledger = Ledger::default();
        assert_eq!(
            ledger.choose(wish("p", 1), &ids(&[])),
            Err("cannot allocate unregistered device example.com/gpu".into())
        );
        assert!(ledger.announce(GPU, devices(&[("a", true), ("b", true), ("x", false)])));
        assert!(!ledger.announce(GPU, devices(&[("a", true), ("b", true), ("x", false)])));
        let choice = ledger.choose(wish("p", 1), &ids(&[])).expect("one is free");
        assert_eq!(choice.clone().settle(&[]), ids(&["a"]));
        assert_eq!(
            choice.settle(&["x".into(), "b".into()]),
            ids(&["b"]),
            "what the plugin likes, if it can be"
        );
        ledger.give(wish("p", 1), Held { devices: ids(&["b"]), answer: Vec::new() });
        assert_eq!(ledger.choose(wish("p", 1), &ids(&[])), Ok(Choice::Had));
        assert_eq!(
            ledger.choose(wish("p", 2), &ids(&[])),
            Err("pod \"p\" container \"c\" changed request for resource \"example.com/gpu\" from 1 to 2"
                .into())
        );
        assert_eq!(
            ledger.choose(wish("q", 2), &ids(&[])),
            Err("requested number of devices unavailable for example.com/gpu. Requested: 2, Available: 1"
                .into())
        );
        let with_init = ledger.choose(wish("q", 2), &ids(&["b"])).expect("its own and one more");
        assert_eq!(with_init.settle(&[]), ids(&["a", "b"]));
        assert!(ledger.keep(|pod| pod != "p") && !ledger.knows("other/thing"));
        assert_eq!(
            ledger.choose(wish("q", 2), &ids(&[])).map(|choice| choice.settle(&[])),
            Ok(ids(&["a", "b"]))
        );
    }

    #[test]
    fn devices_of_a_plugin_that_is_gone_count_for_a_while() {
        let mut ledger = Ledger::default();
        ledger.announce(GPU, devices(&[("a", true), ("x", false)]));
        ledger.give(wish("p", 1), Held { devices: ids(&["a"]), answer: Vec::new() });
        assert_eq!(ledger.capacity()[GPU], (2, 1));
        assert_eq!((ledger.health(GPU, "a"), ledger.health(GPU, "?")), (Health::Healthy, Health::Unknown));
        ledger.lose(GPU, at(1000));
        assert_eq!((ledger.capacity()[GPU], ledger.health(GPU, "a")), ((2, 0), Health::Unhealthy));
        assert_eq!(
            ledger.choose(wish("q", 1), &ids(&[])),
            Err("no healthy devices present; cannot allocate unhealthy devices example.com/gpu".into())
        );
        assert_eq!(ledger.expire(at(1299)), (false, Some(at(1300))));
        assert_eq!(ledger.expire(at(1300)), (true, None));
        assert_eq!(ledger.capacity()[GPU], (0, 0));
        ledger.announce(GPU, devices(&[("b", true)]));
        assert_eq!(
            ledger.choose(wish("p", 1), &ids(&[])),
            Err("previously allocated devices are no longer healthy; cannot allocate unhealthy devices example.com/gpu".into())
        );
    }
}
