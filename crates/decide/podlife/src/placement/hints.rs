//! On which memory nodes resources could be, and what all of them agree on
//! (kubelet: pkg/kubelet/cm/topologymanager).

use std::collections::{BTreeMap, BTreeSet};

/// Memory nodes on which a resource could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The nodes; every node when there is no opinion.
    pub nodes: Option<BTreeSet<u32>>,
    /// Whether no fewer nodes would do.
    pub preferred: bool,
}

/// What a provider knows of one resource: its hints; none when it has no opinion, an empty list when it has no
/// place for it.
pub type Hints = BTreeMap<String, Option<Vec<Hint>>>;

/// How strictly resources are kept together (`topologyManagerPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Not at all.
    #[default]
    None,
    /// As well as it goes.
    BestEffort,
    /// Only where all of them prefer to be.
    Restricted,
    /// Only on one memory node.
    SingleNode,
}

impl Policy {
    /// Every policy with its word.
    pub const ALL: [(Self, &str); 4] = [
        (Self::None, "none"),
        (Self::BestEffort, "best-effort"),
        (Self::Restricted, "restricted"),
        (Self::SingleNode, "single-numa-node"),
    ];

    /// The policy with this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(policy, _)| *policy)
    }
}

/// What resources are kept together for (`topologyManagerScope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each container by itself.
    #[default]
    Container,
    /// The pod as a whole.
    Pod,
}

/// Merges what providers say of a machine with these memory nodes. The best hint, and whether a pod is admitted
/// with it.
#[must_use]
pub fn merge(policy: Policy, nodes: &[u32], providers: &[Hints]) -> (Hint, bool) {
    let everywhere: BTreeSet<u32> = nodes.iter().copied().collect();
    if policy == Policy::None {
        return (Hint { nodes: None, preferred: false }, true);
    }
    let lists = lists(providers);
    let lists = match policy {
        Policy::SingleNode => lists.into_iter().map(single).collect(),
        _ => lists,
    };
    let mut best = best(&lists, &everywhere);
    if policy == Policy::SingleNode && best.nodes.as_ref() == Some(&everywhere) {
        best.nodes = None;
    }
    let admitted = policy == Policy::BestEffort || best.preferred;
    (best, admitted)
}

/// One list for each resource: those without an opinion take any place, those without a place none gladly.
fn lists(providers: &[Hints]) -> Vec<Vec<Hint>> {
    let mut lists = Vec::new();
    for provider in providers {
        if provider.is_empty() {
            lists.push(vec![Hint { nodes: None, preferred: true }]);
        }
        for hints in provider.values() {
            lists.push(match hints.as_deref() {
                None => vec![Hint { nodes: None, preferred: true }],
                Some([]) => vec![Hint { nodes: None, preferred: false }],
                Some(hints) => hints.to_vec(),
            });
        }
    }
    lists
}

/// The hints that name one node or none.
fn single(hints: Vec<Hint>) -> Vec<Hint> {
    let fits = |hint: &Hint| match &hint.nodes {
        None => hint.preferred,
        Some(nodes) => nodes.len() == 1 && hint.preferred,
    };
    hints.into_iter().filter(fits).collect()
}

/// The best of all choices of one hint from each list.
fn best(lists: &[Vec<Hint>], everywhere: &BTreeSet<u32>) -> Hint {
    let narrow = lists.iter().map(|hints| {
        hints.iter().filter_map(|hint| hint.nodes.as_ref()).map(BTreeSet::len).min().unwrap_or(1)
    });
    let narrowest = narrow.max().unwrap_or(1);
    let mut best = Hint { nodes: Some(everywhere.clone()), preferred: false };
    let mut found = false;
    for choice in choices(lists) {
        let mut nodes = everywhere.clone();
        let mut preferred = true;
        for hint in &choice {
            if let Some(own) = &hint.nodes {
                nodes = nodes.intersection(own).copied().collect();
            }
            preferred &= hint.preferred;
        }
        // A compromise between hints that differ is preferred by nobody.
        let named: BTreeSet<_> = choice.iter().filter_map(|hint| hint.nodes.as_ref()).collect();
        preferred &= named.len() <= 1;
        if nodes.is_empty() {
            continue;
        }
        let candidate = Hint { nodes: Some(nodes), preferred };
        if !found || is_better(&candidate, &best, narrowest) {
            best = candidate;
            found = true;
        }
    }
    best
}

/// Whether a hint beats another: preferred ones first, then those that are no narrower than the resources need,
/// and among them the narrowest, then those with the lowest numbers.
fn is_better(a: &Hint, b: &Hint, narrowest: usize) -> bool {
    if a.preferred != b.preferred {
        return a.preferred;
    }
    let size = |hint: &Hint| hint.nodes.as_ref().map_or(0, BTreeSet::len);
    let (mine, yours) = (size(a), size(b));
    if a.preferred || (mine >= narrowest) == (yours >= narrowest) {
        // Below what is needed, more is nearer to it.
        let nearer = if mine >= narrowest || a.preferred { mine < yours } else { mine > yours };
        return if mine == yours { a.nodes < b.nodes } else { nearer };
    }
    mine >= narrowest
}

/// Every choice of one from each list.
fn choices(lists: &[Vec<Hint>]) -> Vec<Vec<Hint>> {
    lists.iter().fold(vec![Vec::new()], |all, hints| {
        let with = |known: &Vec<Hint>| {
            let known = known.clone();
            hints.iter().map(move |hint| [known.clone(), vec![hint.clone()]].concat())
        };
        all.iter().flat_map(with).collect()
    })
}
