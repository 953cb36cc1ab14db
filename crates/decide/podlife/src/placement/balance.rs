//! How many processors each memory node gives when they come from as few nodes as it goes, in equal parts
//! (kubelet: pkg/kubelet/cm/cpumanager/cpu_assignment.go, KEP-2902).

use std::collections::BTreeMap;

use super::choice::combinations;

/// What is to be shared out.
pub(super) struct Shares<'a> {
    /// Memory nodes in the order in which they are tried, and how many processors are free there.
    pub(super) of: &'a [(u32, usize)],
    /// How many are wanted.
    pub(super) count: usize,
    /// How many are given at once at least.
    pub(super) group: usize,
}

/// How many processors are left on each memory node.
type Left = BTreeMap<u32, usize>;

/// What is taken of which node, in the order in which it is taken.
type Taken = Vec<(u32, usize)>;

impl Shares<'_> {
    /// What each node gives; none when no choice of nodes comes out even enough. At least `fewest` nodes are tried.
    pub(super) fn found(&self, fewest: usize) -> Option<Taken> {
        let most = self.count.div_ceil(self.group).min(self.of.len());
        (fewest.max(1)..=most).find_map(|size| self.best_of(size))
    }

    /// The choice of so many nodes that leaves the least uneven node.
    fn best_of(&self, size: usize) -> Option<Taken> {
        let mut best: Option<(f64, Taken)> = None;
        for nodes in combinations(self.of, size) {
            if best.as_ref().is_some_and(|(score, _)| *score <= 0.0) {
                break;
            }
            let Some((score, taken)) = self.weigh(&nodes) else { continue };
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, taken));
            }
        }
        best.map(|(_, taken)| taken)
    }

    /// How uneven it is to take from these nodes.
    fn weigh(&self, nodes: &[(u32, usize)]) -> Option<(f64, Taken)> {
        let group = self.group;
        let in_groups: usize = nodes.iter().map(|(_, free)| free / group * group).sum();
        let even = self.count / nodes.len() / group * group;
        if in_groups < self.count || nodes.iter().any(|(_, free)| *free < even) {
            return None;
        }
        let mut left: Left = self.of.iter().copied().collect();
        let taken: Taken = nodes.iter().map(|(node, _)| (*node, even)).collect();
        nodes.iter().for_each(|(node, _)| *left.entry(*node).or_default() -= even);
        let rest = self.count - even * nodes.len();
        if rest == 0 {
            return Some((deviation(&left), taken));
        }
        let (score, more) = self.best_rest(&left, nodes, rest)?;
        Some((score, [taken, more].concat()))
    }

    /// Which of the nodes give the rest that cannot be divided: as many of them as it goes.
    fn best_rest(&self, left: &Left, nodes: &[(u32, usize)], rest: usize) -> Option<(f64, Taken)> {
        let of = |node: u32| left.get(&node).copied().unwrap_or(0);
        let able: Vec<u32> = nodes.iter().map(|(node, _)| *node).filter(|it| of(*it) >= self.group).collect();
        let mut best: Option<(f64, Taken)> = None;
        for subset in (1..=able.len()).rev().flat_map(|size| combinations(&able, size)) {
            let Some((left, taken)) = self.deal(left.clone(), &subset, rest) else { continue };
            let score = deviation(&left);
            if best.as_ref().is_none_or(|(least, _)| score < *least) {
                best = Some((score, taken));
            }
        }
        best
    }

    /// Takes a group of each in turn until there is no rest.
    fn deal(&self, mut left: Left, from: &[u32], mut rest: usize) -> Option<(Left, Taken)> {
        let mut taken = Taken::new();
        while rest > 0 {
            let before = rest;
            for node in from {
                let Some(here) = left.get_mut(node).filter(|here| rest > 0 && **here >= self.group) else {
                    continue;
                };
                *here -= self.group;
                rest -= self.group;
                taken.push((*node, self.group));
            }
            if rest == before {
                return None;
            }
        }
        Some((left, taken))
    }
}

/// The standard deviation, in thousandths as upstream rounds it: what is nearly equal is equal.
fn deviation(left: &Left) -> f64 {
    let thousandths = |number: f64| (number * 1000.0).round() / 1000.0;
    let numbers = || left.values().map(|one| f64::from(u32::try_from(*one).unwrap_or(u32::MAX)));
    let count = numbers().fold(0.0, |count, _| count + 1.0);
    let mean = thousandths(numbers().sum::<f64>() / count);
    let squares: f64 = numbers().map(|one| (one - mean) * (one - mean)).sum();
    thousandths((squares / count).sqrt())
}
