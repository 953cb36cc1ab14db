//! How fast nodes are given up, by the state of their zone.

use std::collections::BTreeMap;
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

/// The state of each zone, and whether all of them are lost.
pub fn disruption<'a>(
    nodes: impl Iterator<Item = &'a Node>,
) -> (BTreeMap<String, (Disruption, usize)>, bool) {
    let mut zones = BTreeMap::<String, (usize, usize)>::new();
    for one in nodes.filter(|one| !excluded(one)) {
        let counts = zones.entry(node::zone(one)).or_default();
        counts.0 += usize::from(node::ready(one));
        counts.1 += 1;
    }
    let states: BTreeMap<_, _> =
        zones.into_iter().map(|(zone, (ready, all))| (zone, (state(ready, all), all))).collect();
    let all_lost = !states.is_empty() && states.values().all(|(state, _)| *state == Disruption::Full);
    (states, all_lost)
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
        let (zones, all_lost) = disruption(nodes.iter());
        assert_eq!((zones[""], all_lost), ((Disruption::Normal, 1), false));
        let (_, all_lost) = disruption(nodes[1..].iter());
        assert!(!all_lost, "nobody is counted");
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
        let (zones, all_lost) = disruption(std::iter::empty());
        assert!(zones.is_empty() && !all_lost);
    }
}
