//! The slow scheduler: the rules of filters and scores, looked up in every pod of every node each time.

use super::*;

/// The cluster as the slow scheduler sees it.
#[derive(Clone, Default)]
pub(super) struct Slow {
    pub(super) nodes: BTreeMap<String, SimNode>,
    /// With the nodes that they are on.
    pub(super) pods: BTreeMap<String, (SimPod, String)>,
    /// Pods that have a device, and where; they keep it while others only think of their end.
    pub(super) devices: BTreeMap<String, String>,
    /// Fuller nodes are better, and preferences of nodes count more.
    pub(super) packs: bool,
}

/// How many devices a node has.
pub(super) fn devices_of(node: &str) -> usize {
    node[1..].parse::<usize>().unwrap() % 3
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
    pub(super) fn refusal(&self, pod: &SimPod, name: &str) -> Vec<&'static str> {
        let node = &self.nodes[name];
        if node.cordoned {
            return vec!["node(s) were unschedulable"];
        }
        if node.hard_taint && !pod.tolerates {
            return vec!["node(s) had untolerated taint {hard: v}"];
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
        if pod.disk.is_some() && pod.disk.as_ref() != node.labels.get("zone") {
            return vec!["node(s) didn't match PersistentVolume's node affinity"];
        }
        if let Some(refusal) = self.linked_refusal(pod, node) {
            return vec![refusal];
        }
        let taken = self.devices.values().filter(|on| *on == name).count();
        if pod.gpu && taken >= devices_of(name) { vec!["cannot allocate all claims"] } else { Vec::new() }
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
    pub(super) fn best(&self, pod: &SimPod) -> BTreeSet<String> {
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
            let preference = if self.packs { 5 } else { 2 };
            self.own_score(pod, feasible[at])
                + 3 * tolerated
                + preference * liked
                + 2 * company
                + 2 * spread[at]
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
        let worth = |used: i64, all: i64| match self.packs {
            true => used.min(all) * 100 / all,
            false if used > all => 0,
            false => (all - used) * 100 / all,
        };
        let allocated = (worth(used.0, node.cpu) + worth(used.1, node.memory)) / 2;
        if pod.cpu == 0 && pod.memory == 0 {
            return allocated;
        }
        let used = all.fold((0, 0), |sum, one| (sum.0 + one.cpu, sum.1 + one.memory));
        let share = |used: i64, all: i64| (used as f64 / all as f64).min(1.0);
        let deviation = ((share(used.0, node.cpu) - share(used.1, node.memory)) / 2.0).abs();
        allocated + ((1.0 - deviation) * 100.0) as i64
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

    /// Whether the pod could go somewhere if all less important pods of that node were gone, but for those of an app.
    pub(super) fn could_preempt(&self, pod: &SimPod, spared: &str) -> bool {
        self.nodes.keys().any(|name| {
            let mut without = self.clone();
            let stays = |other: &SimPod| other.priority >= pod.priority || other.app == spared;
            without.pods.retain(|_, (other, on)| on != name || stays(other));
            without.pods.len() < self.pods.len() && without.refusal(pod, name).is_empty()
        })
    }
}
