//! Nodes that fall silent and come back, and the controllers that watch them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::node::{self, OUT_OF_SERVICE};
use plimsoll_reconcile::node_lifecycle::{self, Disruption, Observed, Rate, Turn, Zones, rate};
use plimsoll_reconcile::{pod, taint_eviction};
use serde_json::json;

use crate::api::{Api, Name};
use crate::cache::Caches;
use crate::kind::{Typed, typed};
use crate::wiring::{Controller, Key};

/// How long a node may be silent.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// What a process remembers of nodes.
#[derive(Default)]
pub(crate) struct Heard {
    last: BTreeMap<String, Timestamp>,
    tainted: BTreeMap<String, Timestamp>,
    turns: BTreeMap<String, Timestamp>,
    all_silent: bool,
}

/// The keys that an object leads to, here.
pub(crate) fn keys(caches: &Caches, kind: &str, object: &Typed) -> Vec<Key> {
    let of_pod = |pod: &Pod| {
        let meta = &pod.metadata;
        (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    };
    match kind {
        "Pod" => {
            let pod = typed::<Pod>(object);
            let bound = !pod::node(&pod).is_empty();
            bound.then(|| (Controller::TaintEviction, of_pod(&pod))).into_iter().collect()
        }
        "Node" => {
            let node = typed::<Node>(object);
            let mut pods = caches.all::<Pod>();
            pods.retain(|pod| pod::node(pod) == node::name(&node));
            let pods = pods.iter().map(|pod| (Controller::TaintEviction, of_pod(pod)));
            // How one fares may change how fast others are given up.
            let all = caches.all::<Node>();
            pods.chain(all.iter().map(|node| (Controller::NodeLife, of_node(node::name(node))))).collect()
        }
        _ => Vec::new(),
    }
}

fn of_node(name: &str) -> Name {
    (String::new(), name.to_owned())
}

impl Heard {
    /// What the controllers of nodes do next; nothing if the key is of another.
    pub(crate) fn decide(&mut self, api: &Api, caches: &Caches, key: &Key, now: Timestamp) -> Vec<Action> {
        match key.0 {
            Controller::NodeLife => {
                caches.get::<Node>(&key.1).map(|node| self.watch(api, caches, &node, now))
            }
            Controller::TaintEviction => caches.get::<Pod>(&key.1).map(|pod| self.evict(caches, &pod, now)),
            _ => None,
        }
        .unwrap_or_default()
    }

    fn watch(&mut self, api: &Api, caches: &Caches, present: &Node, now: Timestamp) -> Vec<Action> {
        let name = node::name(present);
        let mut zones = Zones::default();
        caches.all::<Node>().iter().for_each(|one| zones.set(node::name(one), Some(one)));
        let all_silent = zones.all_lost();
        if std::mem::replace(&mut self.all_silent, all_silent) && !all_silent {
            self.last.values_mut().for_each(|last| *last = now);
        }
        let last = self.last.entry(name.to_owned()).or_insert(now);
        *last = api.silent.get(name).map_or(now, |since| *since.max(last));
        let last_seen = *last;
        let turn = match node_lifecycle::wants_eviction(present) && !all_silent {
            true => self.turn(zones.fares(&node::zone(present)), &node::zone(present), now),
            false => Turn::Never,
        };
        let mut pods = caches.all::<Pod>();
        pods.retain(|pod| pod::node(pod) == name);
        let observed = Observed { node: present, last_seen, grace: GRACE, pods: &pods, all_silent, turn };
        node_lifecycle::decide(&observed, now)
    }

    fn turn(&mut self, (state, size): (Disruption, usize), zone: &str, now: Timestamp) -> Turn {
        let Rate::Every(pause) = rate(state, size) else { return Turn::Never };
        match self.turns.get(zone).filter(|next| **next > now) {
            Some(next) => Turn::Wait(Duration::try_from(next.duration_since(now)).unwrap_or_default()),
            None => {
                self.turns.insert(zone.to_owned(), now + pause);
                Turn::Now
            }
        }
    }

    fn evict(&mut self, caches: &Caches, running: &Pod, now: Timestamp) -> Vec<Action> {
        let on = pod::node(running);
        let evicts = |node: &Node| node::taints(node).iter().any(|taint| taint.effect == "NoExecute");
        let Some(node) = caches.get::<Node>(&of_node(on)).filter(|node| evicts(node)) else {
            self.tainted.remove(on);
            return Vec::new();
        };
        let since = *self.tainted.entry(on.to_owned()).or_insert(now);
        taint_eviction::decide(running, &node, since, now)
    }
}

/// A node is no longer heard of.
pub(crate) fn fall_silent(api: &mut Api, name: &str, now: Timestamp) {
    api.silent.entry(name.to_owned()).or_insert(now);
}

/// A node is heard of again. Nobody says of it any more that it is out of service.
pub(crate) fn come_back(api: &mut Api, name: &str) {
    api.silent.remove(name);
    let kind = api.kind_named("Node");
    api.edit(kind, &of_node(name), |node| {
        if let Some(taints) = node["spec"]["taints"].as_array_mut() {
            taints.retain(|taint| taint["key"] != OUT_OF_SERVICE);
        }
    });
}

/// An operator has looked: the node is off.
pub(crate) fn mark_out_of_service(api: &mut Api, name: &str) {
    let kind = api.kind_named("Node");
    api.edit(kind, &of_node(name), |node| {
        let mut taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        if !taints.iter().any(|taint| taint["key"] == OUT_OF_SERVICE) {
            taints.push(json!({"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}));
        }
        node["spec"]["taints"] = json!(taints);
    });
}

/// Nodes that are heard of say that they are ready; tells whether one had to.
pub(crate) fn beat(api: &mut Api) -> bool {
    let mut nodes = api.all::<Node>();
    nodes.retain(|node| !node::ready(node) && !api.silent.contains_key(node::name(node)));
    let kind = api.kind_named("Node");
    for node in &nodes {
        api.edit(kind, &of_node(node::name(node)), |node| {
            let conditions = node["status"]["conditions"].as_array_mut().into_iter().flatten();
            conditions.filter(|one| one["type"] == "Ready").for_each(|one| one["status"] = json!("True"));
        });
    }
    !nodes.is_empty()
}
