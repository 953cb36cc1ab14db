//! Wires the controllers of nodes: life, ranges of addresses, eviction, lost pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_client::{Filter, Informer, WorkQueue};
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::node_lifecycle::{self, Disruption, Observed, Rate, Turn, Zones};
use plimsoll_reconcile::{ipam, node, node_ttl, pod, pod_gc, taint_eviction};

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// Where nodes keep their leases.
const LEASES: &str = "kube-node-lease";

/// How long a node must be missing before its pods count as lost.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);

/// What is remembered about nodes: when they were last heard of, by this process' clock.
#[derive(Default)]
struct Heard {
    nodes: Mutex<HashMap<String, Last>>,
    /// The next turn of each zone.
    turns: Mutex<BTreeMap<String, Timestamp>>,
    /// How zones fare; none before the first decision.
    zones: Mutex<Option<Zones>>,
    all_silent: Mutex<bool>,
    /// How long nodes may be silent.
    grace: SignedDuration,
}

#[derive(Default)]
struct Last {
    heartbeat: Beat,
    renewal: Beat,
    at: Timestamp,
    registered: bool,
}

/// What a node last said, and in which version of the object it said so.
#[derive(Default)]
struct Beat {
    version: u64,
    sign: Option<Timestamp>,
}

impl Beat {
    /// Whether a newer version says something else. The node's clock may be set back: it lives all the same.
    fn moves(&mut self, version: u64, sign: Option<Timestamp>) -> bool {
        let moves = version > self.version && self.sign != sign;
        if version > self.version {
            *self = Self { version, sign };
        }
        moves
    }
}

impl Heard {
    /// Takes in what a node says of itself; what was heard before changes nothing.
    fn hear(&self, name: &str, meta: &ObjectMeta, sign: Option<Timestamp>, of: fn(&mut Last) -> &mut Beat) {
        let version = meta.resource_version.as_deref().and_then(|version| version.parse().ok());
        let now = Timestamp::now();
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let last = nodes.entry(name.to_owned()).or_insert_with(|| Last { at: now, ..Last::default() });
        if of(last).moves(version.unwrap_or_default(), sign) {
            last.at = now;
        }
    }

    fn last(&self, name: &str) -> Option<Timestamp> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(|last| last.at)
    }

    /// Whether this is the first decision about the node.
    fn register(&self, name: &str) -> bool {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get_mut(name).is_some_and(|last| !std::mem::replace(&mut last.registered, true))
    }

    fn forget(&self, name: &str) -> bool {
        self.nodes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name)
            .is_some_and(|last| last.registered)
    }

    /// All nodes were silent and no longer are: none of them could be heard meanwhile.
    fn hear_all(&self) {
        let now = Timestamp::now();
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).values_mut().for_each(|last| last.at = now);
    }

    /// Counts a node as the cache shows it now.
    fn count(&self, nodes: &Informer<Node>, name: &str) {
        if let Some(zones) = self.zones.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            zones.set(name, nodes.get("", name).as_deref());
        }
    }

    /// How a zone fares with how many nodes, and whether all nodes are lost.
    fn fares(&self, nodes: &Informer<Node>, zone: &str) -> ((Disruption, usize), bool) {
        let mut zones = self.zones.lock().unwrap_or_else(PoisonError::into_inner);
        let zones = zones.get_or_insert_with(|| {
            let mut zones = Zones::default();
            nodes.list().iter().for_each(|one| zones.set(node::name(one), Some(one)));
            zones
        });
        (zones.fares(zone), zones.all_lost())
    }

    /// Takes the next turn of a zone, if it has come.
    fn turn(&self, zone: &str, rate: Rate, now: Timestamp) -> Turn {
        let Rate::Every(pause) = rate else { return Turn::Never };
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let next = turns.get(zone).copied().filter(|next| *next > now);
        if let Some(next) = next {
            return Turn::Wait(Duration::try_from(next.duration_since(now)).unwrap_or_default());
        }
        turns.insert(zone.to_owned(), now + pause);
        Turn::Now
    }
}

/// Node life.
pub(crate) fn lifecycle(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let nodes = context.informers.informer::<Node>();
    let pods = context.informers.informer::<Pod>();
    indexes::nodes(&pods);
    let filter = Filter { namespace: Some(LEASES.to_owned()), ..Filter::default() };
    let leases = context.informers.filtered::<Lease>(filter);
    let grace = context.config.node_monitor_grace.and_then(|grace| SignedDuration::try_from(grace).ok());
    let heard = Arc::new(Heard { grace: grace.unwrap_or(node_lifecycle::GRACE), ..Heard::default() });
    let (by_node, by_lease, of_lease) = (heard.clone(), heard.clone(), nodes.clone());
    let counted = nodes.clone();
    let queue = unit.queue();
    let unit = unit
        .input(&nodes, move |node| {
            let beat = node::condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref());
            let beat = beat.map(|beat| beat.0);
            by_node.hear(node::name(node), &node.metadata, beat, |last| &mut last.heartbeat);
            by_node.count(&counted, node::name(node));
            vec![Key::of(node)]
        })
        .input(&leases, move |lease| {
            let name = lease.metadata.name.as_deref().unwrap_or_default();
            let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
            let renewed = renewed.map(|time| time.0);
            by_lease.hear(name, &lease.metadata, renewed, |last| &mut last.renewal);
            // A healthy node's renewals lead to nothing: its timer finds them when it ends.
            let silent = |node: Arc<Node>| {
                node::condition(&node, "Ready").is_some_and(|ready| ready.status == "Unknown")
            };
            if of_lease.get("", name).is_some_and(silent) { vec![Key::new("", name)] } else { Vec::new() }
        })
        .reads(&pods);
    Ok(unit.decide(move |key, now| decide_life(&nodes, &pods, &heard, &queue, key, now)))
}

fn decide_life(
    nodes: &Informer<Node>,
    pods: &Informer<Pod>,
    heard: &Heard,
    queue: &WorkQueue<Key>,
    key: &Key,
    now: Timestamp,
) -> Vec<Action> {
    let Some(node) = nodes.get("", &key.name) else {
        return if heard.forget(&key.name) { vec![node_lifecycle::removed(&key.name)] } else { Vec::new() };
    };
    let zone = node::zone(&node);
    let ((state, size), all_silent) = heard.fares(nodes, &zone);
    let was_silent =
        std::mem::replace(&mut *heard.all_silent.lock().unwrap_or_else(PoisonError::into_inner), all_silent);
    if was_silent != all_silent {
        if was_silent {
            heard.hear_all();
        }
        nodes.list().iter().for_each(|node| queue.add(Key::of(&**node)));
    }
    let turn = if node_lifecycle::wants_eviction(&node) && !all_silent {
        heard.turn(&zone, node_lifecycle::rate(state, size), now)
    } else {
        Turn::Never
    };
    let last_seen = heard.last(&key.name).unwrap_or(now);
    let on_node = indexes::on_node(pods, &key.name);
    let grace = heard.grace;
    let observed = Observed { node: &node, last_seen, grace, pods: &on_node, all_silent, turn };
    let mut actions = node_lifecycle::decide(&observed, now);
    if heard.register(&key.name) {
        actions.insert(0, node_lifecycle::registered(&node));
    }
    actions
}

/// Ranges of addresses for nodes.
pub(crate) fn ranges(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let nodes = context.informers.informer::<Node>();
    let config = &context.config;
    let mut ranges = match config.cluster_cidr.as_deref() {
        Some(text) => {
            let ranges = ipam::Ranges::parse(text, config.node_masks);
            ranges.map_err(|error| Error::ClusterCidr(error.to_string()))?
        }
        None => return Ok(unit),
    };
    config.service_cidrs.iter().for_each(|range| ranges.reserve(range));
    let ranges = Arc::new(Mutex::new(ranges));
    let queue = unit.queue();
    let unit = unit.input(&nodes, |node| vec![Key::of(node)]);
    let noted = Mutex::new(false);
    Ok(unit.decide(move |key, _| {
        let mut ranges = ranges.lock().unwrap_or_else(PoisonError::into_inner);
        // Ranges that nodes have from before are theirs before anybody gets a new one.
        if !std::mem::replace(&mut *noted.lock().unwrap_or_else(PoisonError::into_inner), true) {
            for node in nodes.list() {
                ipam::present(&node).iter().for_each(|range| ranges.note(range, node::name(&node)));
            }
        }
        let Some(node) = nodes.get("", &key.name) else {
            ranges.release(&key.name);
            // Somebody may have waited for them.
            let waiting = nodes.list().into_iter().filter(|node| ipam::present(node).is_empty());
            waiting.for_each(|node| queue.add(Key::of(&*node)));
            return Vec::new();
        };
        ranges.decide(&node)
    }))
}

/// How long nodes may go by what they have read.
pub(crate) fn lifetimes(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let nodes = context.informers.informer::<Node>();
    let size = Mutex::new(node_ttl::Size::default());
    let unit = unit.input(&nodes, |node| vec![Key::of(node)]);
    Ok(unit.decide(move |key, _| {
        let Some(node) = nodes.get("", &key.name) else { return Vec::new() };
        let mut size = size.lock().unwrap_or_else(PoisonError::into_inner);
        size.count(nodes.len());
        size.decide(&node)
    }))
}

/// Eviction by taints.
pub(crate) fn taints(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let nodes = context.informers.informer::<Node>();
    let pods = context.informers.informer::<Pod>();
    indexes::nodes(&pods);
    let first_seen = Mutex::new(HashMap::<String, Timestamp>::new());
    let doomed = Mutex::new(HashMap::<Key, Option<String>>::new());
    let of_node = pods.clone();
    let unit = unit
        .input(&nodes, move |node| {
            if !evicts(node) {
                return Vec::new();
            }
            indexes::on_node(&of_node, node::name(node)).iter().map(|pod| Key::of(&**pod)).collect()
        })
        .input(&pods, |pod| if pod::node(pod).is_empty() { Vec::new() } else { vec![Key::of(pod)] });
    Ok(unit.decide(move |key, now| {
        let mut doomed = doomed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = doomed.remove(key);
        let Some(pod) = pods.get(&key.namespace, &key.name) else { return Vec::new() };
        let mut seen = first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut actions = match nodes.get("", pod::node(&pod)) {
            Some(node) if evicts(&node) => {
                let since = *seen.entry(node::name(&node).to_owned()).or_insert(now);
                taint_eviction::decide(&pod, &node, since, now)
            }
            _ => {
                seen.remove(pod::node(&pod));
                Vec::new()
            }
        };
        let waits = matches!(actions[..], [Action::RequeueAfter(_)]);
        if waits {
            doomed.insert(key.clone(), pod.metadata.uid.clone());
        } else if actions.is_empty() && pod::active(&pod) && before == Some(pod.metadata.uid.clone()) {
            actions.push(taint_eviction::spared(&pod));
        }
        actions
    }))
}

fn evicts(node: &Node) -> bool {
    node::taints(node).iter().any(|taint| taint.effect == "NoExecute")
}

/// Lost pods.
pub(crate) fn lost_pods(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let nodes = context.informers.informer::<Node>();
    let pods = context.informers.informer::<Pod>();
    indexes::nodes(&pods);
    let (of_node, present) = (pods.clone(), nodes.clone());
    let unit = unit
        .input(&nodes, move |node| {
            let name = node::name(node);
            let concerns = pod_gc::out_of_service(node) || present.get("", name).is_none();
            let pods = if concerns { indexes::on_node(&of_node, name) } else { Vec::new() };
            pods.iter().map(|pod| Key::of(&**pod)).collect()
        })
        .input(&pods, |pod| vec![Key::of(pod)]);
    let kept = context.config.ended_pods.unwrap_or(pod_gc::ENDED);
    let state =
        Arc::new(Lost { client: context.client.clone(), nodes, pods, missing: Mutex::default(), kept });
    Ok(unit.decide_async(move |key, now| {
        let state = state.clone();
        async move { state.decide(&key, now).await }
    }))
}

struct Lost {
    client: kube::Client,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// Since when nodes that pods name are missing, and those that the server has confirmed.
    missing: Mutex<HashMap<String, Timestamp>>,
    /// How many ended pods are kept; 0 for all.
    kept: usize,
}

impl Lost {
    async fn decide(&self, key: &Key, now: Timestamp) -> Vec<Action> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Vec::new() };
        if pod::finished(&pod) && self.kept > 0 && self.pods.len() > self.kept {
            let surplus = pod_gc::surplus(&self.pods.list(), self.kept);
            return surplus.iter().flat_map(|pod| pod_gc::discard(pod, now)).collect();
        }
        let name = pod::node(&pod);
        if name.is_empty() {
            return pod_gc::decide(&pod, pod_gc::On::None, now);
        }
        if let Some(node) = self.nodes.get("", name) {
            self.missing.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
            return pod_gc::decide(&pod, pod_gc::On::Node(&node), now);
        }
        let since = *self
            .missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_insert(now);
        let left = QUARANTINE - now.duration_since(since);
        if left.is_positive() {
            return vec![Action::RequeueAfter(Duration::try_from(left).unwrap_or_default())];
        }
        // The cache may be late: only the server's word ends a pod.
        match kube::Api::<Node>::all(self.client.clone()).get_opt(name).await {
            Ok(None) => pod_gc::decide(&pod, pod_gc::On::Gone, now),
            _ => vec![Action::RequeueAfter(Duration::from_secs(20))],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::Memory;
    use crate::tests::play;

    #[test]
    fn zones_take_turns() {
        let heard = Heard::default();
        let now = Timestamp::UNIX_EPOCH;
        let rate = Rate::Every(Duration::from_secs(10));
        assert_eq!(heard.turn("z", rate, now), Turn::Now);
        assert_eq!(heard.turn("z", rate, now), Turn::Wait(Duration::from_secs(10)));
        assert_eq!(heard.turn("y", rate, now), Turn::Now);
        assert_eq!(heard.turn("z", rate, now + Duration::from_secs(10)), Turn::Now);
        assert_eq!(heard.turn("z", Rate::Stopped, now), Turn::Never);
    }

    #[test]
    fn nodes_are_registered_once_and_live_while_they_say_something_new() {
        let heard = Heard::default();
        assert!(!heard.register("n"));
        let say = |version: &str, second: i64| {
            let meta = ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
            let before = heard.last("n");
            heard.hear("n", &meta, Timestamp::from_second(second).ok(), |last| &mut last.heartbeat);
            heard.last("n") != before
        };
        let cases = [
            ("1", 100, true, "the first"),
            ("2", 100, false, "somebody else changed the node"),
            ("3", 110, true, "a beat"),
            ("2", 100, false, "the object before the change"),
            ("4", 50, true, "its clock was set back"),
        ];
        for (version, second, expected, label) in cases {
            assert_eq!(say(version, second), expected, "{label}");
        }
        assert!(heard.register("n") && !heard.register("n"));
        assert!(heard.forget("n") && !heard.forget("n"));
    }

    const NODE: &str = "/api/v1/nodes/dead";
    const PODS: &str = "/api/v1/namespaces/ns/pods";
    const OWNERS: &str = "replicaset-controller,statefulset-controller,taint-eviction-controller,pod-garbage-collector-controller";

    fn workload(kind: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": kind,
            "metadata": {"name": kind.to_lowercase(), "namespace": "ns", "uid": kind, "generation": 1},
            "spec": {"replicas": 1, "serviceName": "s", "selector": {"matchLabels": {"of": kind}},
                "template": {"metadata": {"labels": {"of": kind}}, "spec": {"containers": []}}}})
    }

    /// The pods there are: name, whether they are going, whether they are bound.
    fn pods(server: &Memory) -> Vec<(String, bool, bool)> {
        let all = server.paths(PODS).into_iter().filter_map(|path| server.get(&path));
        let told = all.map(|pod| {
            let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            (name, !pod["metadata"]["deletionTimestamp"].is_null(), !pod["spec"]["nodeName"].is_null())
        });
        told.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn pods_of_a_dead_node_are_replaced_elsewhere_and_identities_are_not_doubled() {
        let server = Memory::default();
        for kind in ["ReplicaSet", "StatefulSet"] {
            server.put(
                &format!("/apis/apps/v1/namespaces/ns/{}s/{}", kind.to_lowercase(), kind.to_lowercase()),
                workload(kind),
            );
        }
        let node = |taints: Value| {
            json!({"metadata": {"name": "dead"}, "spec": {"taints": taints},
                "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}})
        };
        server.put(NODE, node(json!([])));
        play(&server, OWNERS, 60).await;
        for path in server.paths(PODS) {
            let mut pod = server.get(&path).expect("it was listed");
            pod["spec"]["nodeName"] = json!("dead");
            pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
            server.put(&path, pod);
        }
        play(&server, OWNERS, 60).await;
        assert!(pods(&server).iter().all(|(_, going, bound)| !going && *bound), "{:?}", pods(&server));

        let long_ago = "2024-01-01T00:00:00Z";
        let unreachable = json!({"key": node::UNREACHABLE, "effect": "NoExecute", "timeAdded": long_ago});
        server.put(NODE, node(json!([unreachable])));
        play(&server, OWNERS, 60).await;
        let left = pods(&server);
        let fresh: Vec<_> = left.iter().filter(|(_, going, _)| !going).collect();
        assert_eq!((left.len(), fresh.len()), (3, 1), "both are going, one has a successor: {left:?}");
        assert!(fresh[0].0.starts_with("replicaset-") && !fresh[0].2, "{left:?}");

        let given_up = json!({"key": node::OUT_OF_SERVICE, "effect": "NoExecute", "timeAdded": long_ago});
        server.put(NODE, node(json!([unreachable, given_up])));
        play(&server, OWNERS, 60).await;
        let left = pods(&server);
        assert!(left.iter().all(|(_, going, bound)| !going && !bound), "{left:?}");
        assert!(left.iter().any(|(name, ..)| name == "statefulset-0") && left.len() == 2, "{left:?}");
    }
}
