//! How fast nodes are given up, by the state of their zone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::node;
use k8s_openapi::api::core::v1::Node;

/// Nodes of a zone that are given up in a second, as upstream's defaults have it.
const USUAL: Duration = Duration::from_secs(10);
const SLOW: Duration = Duration::from_secs(100);
/// Zones of at most so many nodes stop giving up when too many are lost.
const SMALL: usize = 50;
/// The share of lost nodes, in percent, from which a zone counts as disrupted.
const UNHEALTHY: usize = 55;

/// The label of nodes that are not counted, such as those that come and go.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// How a zone fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disruption {
    /// Most nodes are ready.
    Normal,
    /// Many are not.
    Partial,
    /// None is.
    Full,
}

/// How often a node of a zone may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// One in this time.
    Every(Duration),
    /// None.
    Stopped,
}

/// The nodes of each zone, counted as they come, change and go: a look at all of them for each of them is too much
/// where there are thousands.
#[derive(Debug, Default)]
pub struct Zones {
    /// The zone of each node, and whether it is ready.
    nodes: HashMap<String, (String, bool)>,
    counts: BTreeMap<String, Count>,
    /// Zones of which no node is ready.
    full: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    ready: usize,
    all: usize,
}

impl Zones {
    /// A node is like this now; none if it is gone.
    pub fn set(&mut self, name: &str, now: Option<&Node>) {
        let now = now.filter(|one| !excluded(one)).map(|one| (node::zone(one), node::ready(one)));
        if self.nodes.get(name) == now.as_ref() {
            return;
        }
        if let Some((zone, ready)) = self.nodes.remove(name) {
            self.change(zone, |count| {
                count.ready -= usize::from(ready);
                count.all -= 1;
            });
        }
        if let Some((zone, ready)) = now {
            self.change(zone.clone(), |count| {
                count.ready += usize::from(ready);
                count.all += 1;
            });
            self.nodes.insert(name.to_owned(), (zone, ready));
        }
    }

    fn change(&mut self, zone: String, change: impl FnOnce(&mut Count)) {
        let is_full = |count: &Count| usize::from(state(count.ready, count.all) == Disruption::Full);
        let count = self.counts.entry(zone.clone()).or_default();
        self.full -= is_full(count);
        change(count);
        self.full += is_full(count);
        if count.all == 0 {
            self.counts.remove(&zone);
        }
    }

    /// How a zone fares, and how many nodes it has.
    pub fn fares(&self, zone: &str) -> (Disruption, usize) {
        let count = self.counts.get(zone).copied().unwrap_or_default();
        (state(count.ready, count.all), count.all)
    }

    /// Whether there are zones and all of them are lost.
    pub fn all_lost(&self) -> bool {
        !self.counts.is_empty() && self.full == self.counts.len()
    }
}

/// Whether a node has no say in how its zone fares.
fn excluded(one: &Node) -> bool {
    one.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(EXCLUDED))
}

fn state(ready: usize, all: usize) -> Disruption {
    let lost = all - ready;
    match () {
        () if ready == 0 && lost > 0 => Disruption::Full,
        () if lost > 2 && lost * 100 >= all * UNHEALTHY => Disruption::Partial,
        () => Disruption::Normal,
    }
}

/// How fast a zone's nodes are given up.
pub fn rate(state: Disruption, nodes: usize) -> Rate {
    match state {
        Disruption::Normal | Disruption::Full => Rate::Every(USUAL),
        Disruption::Partial if nodes > SMALL => Rate::Every(SLOW),
        Disruption::Partial => Rate::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::object;

    #[test]
    fn excluded_nodes_are_not_counted() {
        let node = |name: &str, ready: &str, excluded: bool| -> Node {
            let labels = if excluded { json!({EXCLUDED: ""}) } else { json!({}) };
            object(json!({"metadata": {"name": name, "labels": labels},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        };
        let nodes = [node("a", "True", false), node("b", "Unknown", true), node("c", "Unknown", true)];
        let mut zones = Zones::default();
        nodes.iter().for_each(|one| zones.set(node::name(one), Some(one)));
        assert_eq!((zones.fares(""), zones.all_lost()), ((Disruption::Normal, 1), false));
        zones.set("a", None);
        assert!(!zones.all_lost(), "nobody is counted");
    }

    #[test]
    fn nodes_are_counted_where_they_are_and_as_they_are() {
        let node = |zone: &str, ready: &str| -> Node {
            object(json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}}))
        };
        let mut zones = Zones::default();
        let steps = [
            ("a", Some(node("x", "True")), [(Disruption::Normal, 1), (Disruption::Normal, 0)], false),
            ("b", Some(node("y", "Unknown")), [(Disruption::Normal, 1), (Disruption::Full, 1)], false),
            ("a", Some(node("x", "False")), [(Disruption::Full, 1), (Disruption::Full, 1)], true),
            ("a", Some(node("x", "False")), [(Disruption::Full, 1), (Disruption::Full, 1)], true),
            ("a", Some(node("y", "True")), [(Disruption::Normal, 0), (Disruption::Normal, 2)], false),
            ("a", None, [(Disruption::Normal, 0), (Disruption::Full, 1)], true),
            ("b", None, [(Disruption::Normal, 0), (Disruption::Normal, 0)], false),
        ];
        for (at, (name, now, expected, lost)) in steps.into_iter().enumerate() {
            zones.set(name, now.as_ref());
            assert_eq!([zones.fares(":x"), zones.fares(":y")], expected, "step {at}");
            assert_eq!(zones.all_lost(), lost, "step {at}");
        }
    }

    #[test]
    fn zones_are_judged_by_their_share_of_lost_nodes() {
        let cases = [
            (10, 10, Disruption::Normal),
            (8, 10, Disruption::Normal),
            (0, 1, Disruption::Full),
            (1, 3, Disruption::Normal),
            (4, 10, Disruption::Partial),
            (0, 10, Disruption::Full),
        ];
        for (ready, all, expected) in cases {
            assert_eq!(state(ready, all), expected, "{ready} of {all}");
        }
        assert_eq!(rate(Disruption::Partial, 10), Rate::Stopped);
        assert_eq!(rate(Disruption::Partial, 51), Rate::Every(SLOW));
        assert!(!Zones::default().all_lost());
    }
}
