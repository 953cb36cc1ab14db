//! A seeded cluster in which nodes and pods come, go and change, and a slow scheduler straight from the rules.
//!
//! The slow one keeps nothing: it looks at every pod of every node each time. Both must agree on every decision:
//! which nodes take the pod, which are the best of them, and how many refuse it for which reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;
use crate::budget::Budget;

mod reference;

use reference::{Slow, devices_of};

/// Numbers by chance, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// One time in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[derive(Clone, Debug)]
struct SimNode {
    labels: BTreeMap<String, String>,
    cordoned: bool,
    hard_taint: bool,
    soft_taint: bool,
    cpu: i64,
    memory: i64,
    pods: usize,
}

/// Pods of an `app` in the places that a label tells apart.
#[derive(Clone, Debug)]
struct Term {
    app: &'static str,
    place: &'static str,
}

#[derive(Clone, Debug, Default)]
struct SimPod {
    app: &'static str,
    priority: i32,
    cpu: i64,
    memory: i64,
    port: Option<i64>,
    tolerates: bool,
    zone: Option<String>,
    likes_zone: Option<String>,
    near: Option<Term>,
    far: Option<Term>,
    likes: Option<(i64, Term)>,
    /// Skew, place, and whether it is more than a wish.
    spread: Option<(i64, &'static str, bool)>,
    /// Nodes whose taints it does not bear do not count for its spread.
    heeds_taints: bool,
    /// The zone of a volume that it uses.
    disk: Option<String>,
    /// It claims a device.
    gpu: bool,
}

const APPS: [&str; 3] = ["a", "b", "c"];
const PLACES: [&str; 2] = ["kubernetes.io/hostname", "zone"];

impl SimNode {
    fn random(name: &str, chance: &mut Chance) -> Self {
        let mut labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.to_owned())]);
        if !chance.once_in(8) {
            labels.insert("zone".to_owned(), format!("z{}", chance.below(3)));
        }
        SimNode {
            labels,
            cordoned: chance.once_in(10),
            hard_taint: chance.once_in(6),
            soft_taint: chance.once_in(5),
            cpu: 1000 + 500 * chance.below(6) as i64,
            memory: (1 + chance.below(4) as i64) << 30,
            pods: 2 + chance.below(8) as usize,
        }
    }

    fn object(&self, name: &str) -> Value {
        let mut taints = Vec::new();
        if self.hard_taint {
            taints.push(json!({"key": "hard", "value": "v", "effect": "NoSchedule"}));
        }
        if self.soft_taint {
            taints.push(json!({"key": "soft", "effect": "PreferNoSchedule"}));
        }
        json!({"metadata": {"name": name, "labels": self.labels}, "spec": {"unschedulable": self.cordoned, "taints": taints},
            "status": {"allocatable": {"cpu": format!("{}m", self.cpu), "memory": self.memory.to_string(), "pods": self.pods.to_string()}}})
    }
}

impl SimPod {
    fn random(chance: &mut Chance) -> Self {
        let app = |chance: &mut Chance| APPS[chance.below(3) as usize];
        let term = |chance: &mut Chance| Term { app: app(chance), place: PLACES[chance.below(2) as usize] };
        let zone = |chance: &mut Chance| format!("z{}", chance.below(3));
        SimPod {
            app: app(chance),
            priority: chance.below(3) as i32,
            cpu: 100 * chance.below(9) as i64,
            memory: (chance.below(5) as i64) << 27,
            port: chance.once_in(6).then(|| 80 + chance.below(2) as i64),
            tolerates: chance.once_in(2),
            zone: chance.once_in(6).then(|| zone(chance)),
            likes_zone: chance.once_in(5).then(|| zone(chance)),
            near: chance.once_in(6).then(|| term(chance)),
            far: chance.once_in(5).then(|| term(chance)),
            likes: chance.once_in(4).then(|| ([-5, 7][chance.below(2) as usize], term(chance))),
            spread: chance
                .once_in(3)
                .then(|| (1 + chance.below(2) as i64, PLACES[chance.below(2) as usize], chance.once_in(2))),
            heeds_taints: chance.once_in(3),
            disk: chance.once_in(8).then(|| zone(chance)),
            gpu: chance.once_in(8),
        }
    }

    fn object(&self, name: &str) -> Pod {
        let term = |term: &Term| json!({"topologyKey": term.place, "labelSelector": {"matchLabels": {"app": term.app}}});
        let mut affinity = json!({});
        if let Some(zone) = &self.likes_zone {
            affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = json!([{"weight": 3,
                "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}}]);
        }
        if let Some(near) = &self.near {
            affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] = json!([term(near)]);
        }
        if let Some(far) = &self.far {
            affinity["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!([term(far)]);
        }
        if let Some((weight, likes)) = &self.likes {
            let kind = if *weight > 0 { "podAffinity" } else { "podAntiAffinity" };
            affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([{"weight": weight.abs(), "podAffinityTerm": term(likes)}]);
        }
        let spread: Vec<Value> = self
            .spread
            .iter()
            .map(|(skew, place, hard)| {
                let when = if *hard { "DoNotSchedule" } else { "ScheduleAnyway" };
                json!({"maxSkew": skew, "topologyKey": place, "whenUnsatisfiable": when,
                "nodeTaintsPolicy": if self.heeds_taints { "Honor" } else { "Ignore" },
                "labelSelector": {"matchLabels": {"app": self.app}}})
            })
            .collect();
        let mut requests = json!({});
        if self.cpu > 0 {
            requests["cpu"] = json!(format!("{}m", self.cpu));
        }
        if self.memory > 0 {
            requests["memory"] = json!(self.memory.to_string());
        }
        let ports: Vec<Value> =
            self.port.iter().map(|port| json!({"containerPort": 1, "hostPort": port})).collect();
        let selector: BTreeMap<&str, &String> = self.zone.iter().map(|zone| ("zone", zone)).collect();
        let tolerations =
            if self.tolerates { json!([{"key": "hard", "operator": "Exists"}]) } else { json!([]) };
        let disk = |zone: &String| json!({"name": "v", "persistentVolumeClaim": {"claimName": format!("disk-{zone}")}});
        let volumes: Vec<Value> = self.disk.iter().map(disk).collect();
        let claims = if self.gpu { json!([{"name": "g", "resourceClaimName": name}]) } else { json!([]) };
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": self.app}},
            "spec": {"priority": self.priority, "nodeSelector": selector, "tolerations": tolerations, "affinity": affinity,
                "topologySpreadConstraints": spread, "volumes": volumes, "resourceClaims": claims,
                "containers": [{"name": "c", "ports": ports, "resources": {"requests": requests}}]},
        }))
        .unwrap()
    }
}

impl SimPod {
    /// Whether a node counts for its spread.
    fn counts_on(&self, node: &SimNode) -> bool {
        (self.zone.is_none() || self.zone.as_ref() == node.labels.get("zone"))
            && (!self.heeds_taints || !node.hard_taint || self.tolerates)
    }
}

/// One run; what leaves is where everything is at its end.
fn run(seed: u64, steps: usize) -> String {
    let mut chance = Chance(seed);
    let packs = seed % 3 == 1;
    let (mut fast, mut slow) = (scheduler(packs), Slow { packs, ..Slow::default() });
    let budgets: Vec<Budget> = if seed % 2 == 1 { vec![protected()] } else { Vec::new() };
    // Most pods are like others before them: what is kept of those is held against the rules.
    let shapes: Vec<SimPod> = (0..5).map(|_| SimPod::random(&mut chance)).collect();
    for step in 0..steps {
        match chance.below(12) {
            0 | 1 => {
                let name = format!("n{}", chance.below(12));
                let node = SimNode::random(&name, &mut chance);
                fast.snapshot.set_node(&serde_json::from_value(node.object(&name)).unwrap());
                slow.nodes.insert(name, node);
            }
            2 if chance.once_in(3) => {
                let name = format!("n{}", chance.below(12));
                fast.snapshot.remove_node(&name);
                slow.nodes.remove(&name);
                let gone: Vec<String> =
                    slow.pods.iter().filter(|(_, (_, on))| *on == name).map(|(pod, _)| pod.clone()).collect();
                gone.iter().for_each(|pod| end(pod, &mut fast, &mut slow));
            }
            2..=4 => {
                let at = chance.below(1 + slow.pods.len() as u64) as usize;
                if let Some(name) = slow.pods.keys().nth(at).cloned() {
                    end(&name, &mut fast, &mut slow);
                }
            }
            _ => {
                let shape = shapes.get(chance.below(8) as usize).cloned();
                let pod = shape.unwrap_or_else(|| SimPod::random(&mut chance));
                schedule(&format!("p{step}"), pod, &mut fast, &mut slow, &budgets, seed);
            }
        }
    }
    slow.pods.iter().map(|(name, (_, node))| format!("{name}={node} ")).collect()
}

/// A scheduler of a cluster with a volume in each zone and devices on some nodes.
fn scheduler(packs: bool) -> Scheduler {
    let args = json!({"scoringStrategy": {"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 1}, {"name": "memory", "weight": 1}]}});
    let profile = json!({"plugins": {"multiPoint": {"enabled": [{"name": "NodeAffinity", "weight": 5}]}},
        "pluginConfig": [{"name": "NodeResourcesFit", "args": args}]});
    let configuration = json!({"apiVersion": crate::configuration::VERSION, "kind": crate::configuration::KIND,
        "profiles": [profile]});
    let configuration = crate::configuration::Configuration::of(&configuration).unwrap();
    let mut fast =
        if packs { Scheduler::new(configuration.profiles().unwrap()) } else { Scheduler::default() };
    for zone in ["z0", "z1", "z2"] {
        let (name, term) =
            (format!("disk-{zone}"), json!({"key": "zone", "operator": "In", "values": [zone]}));
        let spec = json!({"accessModes": ["ReadWriteMany"], "storageClassName": "s"});
        let mut claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": name,
            "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": spec});
        claim["spec"]["volumeName"] = json!(name);
        let mut volume = json!({"metadata": {"name": name}, "spec": spec});
        volume["spec"]["nodeAffinity"] =
            json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}});
        fast.snapshot.storage.set_claim(Arc::new(serde_json::from_value(claim).unwrap()));
        fast.snapshot.storage.set_volume(Arc::new(serde_json::from_value(volume).unwrap()));
    }
    let class = json!({"metadata": {"name": "gpu"}, "spec": {}});
    fast.snapshot.devices.set_class(Arc::new(serde_json::from_value(class).unwrap()));
    for node in (0..12).map(|at| format!("n{at}")) {
        let devices: Vec<Value> =
            (0..devices_of(&node)).map(|at| json!({"name": format!("gpu-{at}")})).collect();
        let slice = json!({"metadata": {"name": node}, "spec": {"driver": "d", "nodeName": node, "devices": devices,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}});
        fast.snapshot.devices.set_slice(Arc::new(serde_json::from_value(slice).unwrap()));
    }
    fast
}

/// A budget that allows no end of the pods of an app.
fn protected() -> Budget {
    let budget = json!({"metadata": {"name": "a", "namespace": "ns"},
        "spec": {"selector": {"matchLabels": {"app": APPS[0]}}}, "status": {"disruptionsAllowed": 0,
        "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}});
    Budget::of(&serde_json::from_value(budget).unwrap()).unwrap()
}

fn claim_of(name: &str) -> ResourceClaim {
    let request = json!({"name": "r", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}});
    let claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"devices": {"requests": [request]}}});
    serde_json::from_value(claim).unwrap()
}

/// A pod goes to a node, with what it claims.
fn place(name: &str, pod: SimPod, info: Arc<PodInfo>, node: String, fast: &mut Scheduler, slow: &mut Slow) {
    fast.snapshot.place(info.clone(), &node);
    if pod.gpu {
        assert!(fast.book(&info, &node).is_some(), "{name} gets its device on {node}");
        slow.devices.insert(name.to_owned(), node.clone());
    }
    slow.pods.insert(name.to_owned(), (pod, node));
}

fn end(name: &str, fast: &mut Scheduler, slow: &mut Slow) {
    fast.snapshot.remove_pod(name);
    fast.snapshot.devices.remove_claim(&claim_of(name));
    slow.pods.remove(name);
    slow.devices.remove(name);
}

fn schedule(name: &str, pod: SimPod, fast: &mut Scheduler, slow: &mut Slow, budgets: &[Budget], seed: u64) {
    if pod.gpu {
        fast.snapshot.devices.set_claim(Arc::new(claim_of(name)));
    }
    let info = Arc::new(fast.read(&pod.object(name)));
    let context = || format!("seed {seed}, pod {name}: {pod:?}");
    match fast.decide(&info) {
        Decision::Node(node) => {
            let best = slow.best(&pod);
            assert!(best.contains(&node), "{}: {node} is not among {best:?}", context());
            place(name, pod, info, node, fast, slow);
        }
        Decision::Nowhere(diagnosis) => {
            let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
            for node in slow.nodes.keys() {
                let refusal = slow.refusal(&pod, node);
                assert!(!refusal.is_empty(), "{}: {node} takes it", context());
                refusal.into_iter().for_each(|reason| *reasons.entry(reason.to_owned()).or_default() += 1);
            }
            assert_eq!(diagnosis.reasons, reasons, "{}", context());
            make_room(name, pod, &info, fast, slow, budgets, seed);
        }
    }
}

/// Nobody waits for those who matter less, nobody ends for nothing, and budgets are kept where that is possible.
fn make_room(
    name: &str,
    pod: SimPod,
    info: &Arc<PodInfo>,
    fast: &mut Scheduler,
    slow: &mut Slow,
    budgets: &[Budget],
    seed: u64,
) {
    let context = format!("seed {seed}, pod {name}: {pod:?}");
    let Some(found) = fast.preempt(info, budgets) else {
        assert!(!slow.could_preempt(&pod, ""), "{context}: there is room to be made");
        fast.snapshot.devices.remove_claim(&claim_of(name));
        return;
    };
    let victims: Vec<String> = found.victims.iter().map(|victim| victim.uid.to_string()).collect();
    let protected = |victim: &&String| !budgets.is_empty() && slow.pods[*victim].0.app == APPS[0];
    assert_eq!(victims.iter().filter(protected).count(), found.broken_budgets, "{context}");
    // Whom it wants to be near may be protected: then less room is more.
    if found.broken_budgets > 0 && pod.near.is_none() {
        assert!(!slow.could_preempt(&pod, APPS[0]), "{context}: a budget is broken for nothing");
    }
    for victim in &victims {
        let (lesser, on) = slow.pods.remove(victim).unwrap();
        assert!(lesser.priority < pod.priority && on == found.node, "{context}");
        assert!(
            !slow.refusal(&pod, &found.node).is_empty() || victim == victims.last().unwrap(),
            "{context}: too many"
        );
    }
    assert!(slow.refusal(&pod, &found.node).is_empty(), "{context}: {victims:?} do not suffice");
    victims.iter().for_each(|victim| end(victim, fast, slow));
    place(name, pod, info.clone(), found.node, fast, slow);
}

#[test]
fn the_quick_and_the_slow_agree() {
    for seed in 0..30 {
        run(seed, 200);
    }
}

#[test]
fn the_same_seed_has_the_same_end() {
    let end = run(1234, 400);
    assert!(end.contains('='));
    assert_eq!(end, run(1234, 400));
}
