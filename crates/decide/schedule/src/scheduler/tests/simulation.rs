//! A seeded cluster in which nodes and pods come, go and change, and a slow scheduler straight from the rules.
//!
//! The slow one keeps nothing: it looks at every pod of every node each time. Both must agree on every decision:
//! which nodes take the pod, which are the best of them, and how many refuse it for which reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::*;

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
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": self.app}},
            "spec": {"priority": self.priority, "nodeSelector": selector, "tolerations": tolerations, "affinity": affinity,
                "topologySpreadConstraints": spread,
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

/// The cluster as the slow scheduler sees it.
#[derive(Clone, Default)]
struct Slow {
    nodes: BTreeMap<String, SimNode>,
    /// With the nodes that they are on.
    pods: BTreeMap<String, (SimPod, String)>,
}

impl Slow {
    fn on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a SimPod> + Clone {
        self.pods.values().filter(move |(_, on)| on == node).map(|(pod, _)| pod)
    }

    /// The placed pods that `wanted` chooses in the place of this node; none if the node is in no such place.
    fn in_place(&self, node: &SimNode, place: &str, wanted: impl Fn(&SimPod) -> bool) -> Option<i64> {
        let value = node.labels.get(place)?;
        let there =
            |on: &String| self.nodes.get(on).is_some_and(|other| other.labels.get(place) == Some(value));
        Some(self.pods.values().filter(|(pod, on)| there(on) && wanted(pod)).count() as i64)
    }

    /// Why a node refuses a pod: the reasons of the first plugin that does.
    fn refusal(&self, pod: &SimPod, name: &str) -> Vec<&'static str> {
        let node = &self.nodes[name];
        if node.cordoned {
            return vec!["node(s) were unschedulable"];
        }
        if node.hard_taint && !pod.tolerates {
            return vec!["node(s) had untolerated taint(s)"];
        }
        if pod.zone.is_some() && pod.zone.as_ref() != node.labels.get("zone") {
            return vec!["node(s) didn't match Pod's node affinity/selector"];
        }
        if pod.port.is_some() && self.on(name).any(|other| other.port == pod.port) {
            return vec!["node(s) didn't have free ports for the requested pod ports"];
        }
        let mut short = Vec::new();
        if self.on(name).count() >= node.pods {
            short.push("Too many pods");
        }
        if pod.cpu > 0 && pod.cpu > node.cpu - self.on(name).map(|other| other.cpu).sum::<i64>() {
            short.push("Insufficient cpu");
        }
        if pod.memory > 0 && pod.memory > node.memory - self.on(name).map(|other| other.memory).sum::<i64>() {
            short.push("Insufficient memory");
        }
        if !short.is_empty() {
            return short;
        }
        self.linked_refusal(pod, node).into_iter().collect()
    }

    fn linked_refusal(&self, pod: &SimPod, node: &SimNode) -> Option<&'static str> {
        if let Some((skew, place, true)) = &pod.spread {
            let like = |other: &SimPod| other.app == pod.app;
            let Some(here) = self.in_place(node, place, like) else {
                return Some("node(s) didn't match pod topology spread constraints (missing required label)");
            };
            // Only nodes that the pod's selector chooses are compared.
            let counted =
                self.nodes.values().filter(|other| other.labels.contains_key(*place) && pod.counts_on(other));
            let least = counted.filter_map(|other| self.spread_count(pod, other, place)).min().unwrap_or(0);
            let here = self.spread_count(pod, node, place).unwrap_or(here);
            if here + 1 - least > *skew {
                return Some("node(s) didn't match pod topology spread constraints");
            }
        }
        if let Some(near) = &pod.near {
            let wanted = |other: &SimPod| other.app == near.app;
            let anywhere =
                self.nodes.values().any(|other| self.in_place(other, near.place, wanted).unwrap_or(0) > 0);
            let first = !anywhere && pod.app == near.app;
            match self.in_place(node, near.place, wanted) {
                None => return Some("node(s) didn't match pod affinity rules"),
                Some(0) if !first => return Some("node(s) didn't match pod affinity rules"),
                _ => {}
            }
        }
        if let Some(far) = &pod.far
            && self.in_place(node, far.place, |other| other.app == far.app).unwrap_or(0) > 0
        {
            return Some("node(s) didn't match pod anti-affinity rules");
        }
        for place in PLACES {
            let avoids = |other: &SimPod| {
                other.far.as_ref().is_some_and(|far| far.place == place && far.app == pod.app)
            };
            if self.in_place(node, place, avoids).unwrap_or(0) > 0 {
                return Some("node(s) didn't satisfy existing pods anti-affinity rules");
            }
        }
        None
    }

    /// Pods like this one in the place of a node, on nodes that the pod's selector chooses.
    fn spread_count(&self, pod: &SimPod, node: &SimNode, place: &str) -> Option<i64> {
        let value = node.labels.get(place)?;
        let there = |on: &String| {
            let other = self.nodes.get(on);
            other.is_some_and(|other| other.labels.get(place) == Some(value) && pod.counts_on(other))
        };
        Some(self.pods.values().filter(|(other, on)| other.app == pod.app && there(on)).count() as i64)
    }

    fn feasible(&self, pod: &SimPod) -> Vec<&String> {
        self.nodes.keys().filter(|name| self.refusal(pod, name).is_empty()).collect()
    }

    /// The feasible nodes of the highest score.
    fn best(&self, pod: &SimPod) -> BTreeSet<String> {
        let feasible = self.feasible(pod);
        let raw = |score: &dyn Fn(&SimNode) -> i64| -> Vec<i64> {
            feasible.iter().map(|name| score(&self.nodes[*name])).collect()
        };
        let soft = raw(&|node| i64::from(node.soft_taint));
        let liked = raw(&|node| {
            if pod.likes_zone.is_some() && pod.likes_zone.as_ref() == node.labels.get("zone") { 3 } else { 0 }
        });
        let company = raw(&|node| self.company(pod, node));
        let most = |list: &[i64]| list.iter().copied().max().unwrap_or(0);
        let (least, highest) = (company.iter().copied().min().unwrap_or(0), most(&company));
        let spread = self.spread_scores(pod, &feasible);
        let score = |at: usize| {
            let tolerated = if most(&soft) == 0 { 100 } else { 100 - 100 * soft[at] / most(&soft) };
            let liked = if most(&liked) == 0 { 0 } else { 100 * liked[at] / most(&liked) };
            let company = if highest == least {
                0
            } else {
                (100.0 * ((company[at] - least) as f64 / (highest - least) as f64)) as i64
            };
            self.own_score(pod, feasible[at]) + 3 * tolerated + 2 * liked + 2 * company + 2 * spread[at]
        };
        let scores: Vec<i64> = (0..feasible.len()).map(score).collect();
        let best = most(&scores);
        feasible
            .iter()
            .zip(&scores)
            .filter(|(_, score)| **score == best)
            .map(|(name, _)| (*name).clone())
            .collect()
    }

    /// LeastAllocated and BalancedAllocation.
    fn own_score(&self, pod: &SimPod, name: &str) -> i64 {
        let node = &self.nodes[name];
        let scored = |pod: &SimPod| {
            let memory = if pod.memory > 0 { pod.memory } else { 200 << 20 };
            (if pod.cpu > 0 { pod.cpu } else { 100 }, memory)
        };
        let all = self.on(name).chain(std::iter::once(pod));
        let used = all.clone().map(scored).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let free = |used: i64, all: i64| if used > all { 0 } else { (all - used) * 100 / all };
        let least_allocated = (free(used.0, node.cpu) + free(used.1, node.memory)) / 2;
        if pod.cpu == 0 && pod.memory == 0 {
            return least_allocated;
        }
        let used = all.fold((0, 0), |sum, one| (sum.0 + one.cpu, sum.1 + one.memory));
        let share = |used: i64, all: i64| (used as f64 / all as f64).min(1.0);
        let deviation = ((share(used.0, node.cpu) - share(used.1, node.memory)) / 2.0).abs();
        least_allocated + ((1.0 - deviation) * 100.0) as i64
    }

    /// Preferences of the pod and of pods in place.
    fn company(&self, pod: &SimPod, node: &SimNode) -> i64 {
        let mut sum = 0;
        if let Some((weight, likes)) = &pod.likes {
            sum += weight * self.in_place(node, likes.place, |other| other.app == likes.app).unwrap_or(0);
        }
        for place in PLACES {
            let means = |term: &Term| term.place == place && term.app == pod.app;
            let near = |other: &SimPod| other.near.as_ref().is_some_and(means);
            sum += self.in_place(node, place, near).unwrap_or(0);
            for weight in [-5, 7] {
                let likes = |other: &SimPod| {
                    other.likes.as_ref().is_some_and(|(of, term)| *of == weight && means(term))
                };
                sum += weight * self.in_place(node, place, likes).unwrap_or(0);
            }
        }
        sum
    }

    fn spread_scores(&self, pod: &SimPod, feasible: &[&String]) -> Vec<i64> {
        let Some((skew, place, false)) = &pod.spread else { return vec![0; feasible.len()] };
        let nodes: Vec<&SimNode> = feasible.iter().map(|name| &self.nodes[*name]).collect();
        let counted: Vec<bool> = nodes.iter().map(|node| node.labels.contains_key(*place)).collect();
        let by_host = *place == PLACES[0];
        let places: BTreeSet<_> = nodes.iter().filter_map(|node| node.labels.get(*place)).collect();
        let size = if by_host { counted.iter().filter(|counted| **counted).count() } else { places.len() };
        let weight = (size as f64 + 2.0).ln();
        let raw: Vec<i64> = nodes
            .iter()
            .map(|node| {
                let count = self.spread_count(pod, node, place).unwrap_or(0) as f64;
                (count * weight + (skew - 1) as f64).round() as i64
            })
            .collect();
        let known = || raw.iter().zip(&counted).filter(|(_, counted)| **counted).map(|(raw, _)| *raw);
        let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
        let score = |(raw, counted): (&i64, &bool)| match (counted, most) {
            (false, _) => 0,
            (true, 0) => 100,
            (true, most) => 100 * (most + least - raw) / most,
        };
        raw.iter().zip(&counted).map(score).collect()
    }

    /// Whether the pod could go somewhere if all less important pods of that node were gone.
    fn could_preempt(&self, pod: &SimPod) -> bool {
        self.nodes.keys().any(|name| {
            let mut without = self.clone();
            without.pods.retain(|_, (other, on)| on != name || other.priority >= pod.priority);
            without.pods.len() < self.pods.len() && without.refusal(pod, name).is_empty()
        })
    }
}

/// One run; what leaves is where everything is at its end.
fn run(seed: u64, steps: usize) -> String {
    let mut chance = Chance(seed);
    let (mut fast, mut slow) = (Scheduler::default(), Slow::default());
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
                for pod in gone {
                    fast.snapshot.remove_pod(&pod);
                    slow.pods.remove(&pod);
                }
            }
            2..=4 => {
                let at = chance.below(1 + slow.pods.len() as u64) as usize;
                if let Some(name) = slow.pods.keys().nth(at).cloned() {
                    fast.snapshot.remove_pod(&name);
                    slow.pods.remove(&name);
                }
            }
            _ => {
                let shape = shapes.get(chance.below(8) as usize).cloned();
                let pod = shape.unwrap_or_else(|| SimPod::random(&mut chance));
                schedule(&format!("p{step}"), pod, &mut fast, &mut slow, seed);
            }
        }
    }
    slow.pods.iter().map(|(name, (_, node))| format!("{name}={node} ")).collect()
}

fn schedule(name: &str, pod: SimPod, fast: &mut Scheduler, slow: &mut Slow, seed: u64) {
    let info = Arc::new(fast.read(&pod.object(name)));
    let context = || format!("seed {seed}, pod {name}: {pod:?}");
    match fast.decide(&info) {
        Decision::Node(node) => {
            let best = slow.best(&pod);
            assert!(best.contains(&node), "{}: {node} is not among {best:?}", context());
            fast.snapshot.place(info, &node);
            slow.pods.insert(name.to_owned(), (pod, node));
        }
        Decision::Nowhere(diagnosis) => {
            let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
            for node in slow.nodes.keys() {
                let refusal = slow.refusal(&pod, node);
                assert!(!refusal.is_empty(), "{}: {node} takes it", context());
                refusal.into_iter().for_each(|reason| *reasons.entry(reason.to_owned()).or_default() += 1);
            }
            assert_eq!(diagnosis.reasons, reasons, "{}", context());
            make_room(name, pod, &info, fast, slow, seed);
        }
    }
}

/// Nobody waits for those who matter less, and nobody ends for nothing.
fn make_room(name: &str, pod: SimPod, info: &Arc<PodInfo>, fast: &mut Scheduler, slow: &mut Slow, seed: u64) {
    let Some(found) = fast.preempt(info, &[]) else {
        assert!(!slow.could_preempt(&pod), "seed {seed}, pod {name}: there is room to be made: {pod:?}");
        return;
    };
    let victims: Vec<String> = found.victims.iter().map(|victim| victim.uid.to_string()).collect();
    for victim in &victims {
        let (lesser, on) = slow.pods.remove(victim).unwrap();
        assert!(lesser.priority < pod.priority && on == found.node, "seed {seed}, pod {name}");
        assert!(
            !slow.refusal(&pod, &found.node).is_empty() || victim == victims.last().unwrap(),
            "seed {seed}: too many"
        );
        fast.snapshot.remove_pod(victim);
    }
    assert!(
        slow.refusal(&pod, &found.node).is_empty(),
        "seed {seed}, pod {name}: {victims:?} do not suffice"
    );
    fast.snapshot.place(info.clone(), &found.node);
    slow.pods.insert(name.to_owned(), (pod, found.node));
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
