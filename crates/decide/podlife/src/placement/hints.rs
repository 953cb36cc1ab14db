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

/// How resources are kept together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// How strictly.
    pub policy: Policy,
    /// For whom.
    pub scope: Scope,
    /// `prefer-closest-numa-nodes`: of as many nodes those are better that are near to each other.
    pub closest: bool,
    /// `max-allowable-numa-nodes`: how many nodes a machine may have.
    pub most_nodes: usize,
}

/// How many memory nodes a machine may have unless more are allowed: what is tried doubles with each.
const MOST_NODES: usize = 8;

impl Default for Keeping {
    fn default() -> Self {
        Self { policy: Policy::None, scope: Scope::Container, closest: false, most_nodes: MOST_NODES }
    }
}

impl Keeping {
    /// Reads `topologyManagerPolicyOptions` (kubelet: pkg/kubelet/cm/topologymanager/policy_options.go).
    ///
    /// # Errors
    /// An option that there is not, or a value that makes no sense.
    pub fn with_options(self, given: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut it = self;
        for (name, value) in given {
            match name.as_str() {
                "prefer-closest-numa-nodes" => it.closest = super::truth(name, value)?,
                "max-allowable-numa-nodes" => {
                    it.most_nodes = value.parse().map_err(|_| {
                        format!(
                            "unable to convert policy option to integer {name:?}: strconv.Atoi: parsing {value:?}: \
                             invalid syntax"
                        )
                    })?;
                    if it.most_nodes < MOST_NODES {
                        return Err(format!(
                            "the minimum value of {name:?} should not be less than {MOST_NODES}"
                        ));
                    }
                }
                _ => return Err(format!("unknown Topology Manager Policy option: {name:?}")),
            }
        }
        Ok(it)
    }
}

/// The memory nodes of a machine, and how far it is from each to each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(pub BTreeMap<u32, BTreeMap<u32, u32>>);

impl Nodes {
    /// Their numbers.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<u32> {
        self.0.keys().copied().collect()
    }

    /// The sum of the ways between some nodes.
    fn distance(&self, nodes: &BTreeSet<u32>) -> u64 {
        let from = nodes.iter().filter_map(|from| self.0.get(from));
        from.flat_map(|ways| nodes.iter().filter_map(|to| ways.get(to))).map(|way| u64::from(*way)).sum()
    }
}

/// Whether a group of nodes is narrower than another, or as narrow and has the lower numbers.
pub(super) fn below(a: &BTreeSet<u32>, b: &BTreeSet<u32>) -> bool {
    (a.len(), a.iter().rev().collect::<Vec<_>>()) < (b.len(), b.iter().rev().collect::<Vec<_>>())
}

/// Merges what providers say of a machine. The best hint, and whether a pod is admitted with it.
#[must_use]
pub fn merge(keeping: &Keeping, nodes: &Nodes, providers: &[Hints]) -> (Hint, bool) {
    let everywhere = nodes.ids();
    if keeping.policy == Policy::None {
        return (Hint { nodes: None, preferred: false }, true);
    }
    let lists = lists(providers);
    let single_node = keeping.policy == Policy::SingleNode;
    let lists = if single_node { lists.into_iter().map(single).collect() } else { lists };
    let order = Order {
        nodes: (keeping.closest && !single_node).then_some(nodes),
        needed: lists.iter().filter_map(|hints| narrowest(hints)).max().unwrap_or(0),
    };
    let mut best = best(&lists, &everywhere, &order);
    if single_node && best.nodes.as_ref() == Some(&everywhere) {
        best.nodes = None;
    }
    let admitted = keeping.policy == Policy::BestEffort || best.preferred;
    (best, admitted)
}

fn narrowest(hints: &[Hint]) -> Option<usize> {
    hints.iter().filter_map(|hint| hint.nodes.as_ref()).map(BTreeSet::len).min()
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

/// What makes one merged hint better than another.
struct Order<'n> {
    /// The ways between nodes, if they count.
    nodes: Option<&'n Nodes>,
    /// How many nodes are needed by who needs the most.
    needed: usize,
}

impl Order<'_> {
    /// Whether a hint beats the one known: preferred ones first; among those that nobody prefers, those that come
    /// nearest to what is needed from below.
    fn is_better(&self, new: &Hint, known: &Hint) -> bool {
        let (Some(new_nodes), Some(known_nodes)) = (&new.nodes, &known.nodes) else { return false };
        let fits = self.fits_better(new_nodes, known_nodes);
        if new.preferred || known.preferred {
            return new.preferred && (!known.preferred || fits);
        }
        let (more, had) = (new_nodes.len(), known_nodes.len());
        if had > self.needed {
            fits
        } else if had == self.needed || more > self.needed {
            more == self.needed && had == self.needed && fits
        } else {
            more > had || (more == had && fits)
        }
    }

    fn fits_better(&self, new: &BTreeSet<u32>, known: &BTreeSet<u32>) -> bool {
        let Some(nodes) = self.nodes.filter(|_| new.len() == known.len()) else { return below(new, known) };
        let (way, had) = (nodes.distance(new), nodes.distance(known));
        way < had || (way == had && below(new, known))
    }
}

/// The best of all choices of one hint from each list.
fn best(lists: &[Vec<Hint>], everywhere: &BTreeSet<u32>, order: &Order<'_>) -> Hint {
    let mut best: Option<Hint> = None;
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
        if best.as_ref().is_none_or(|known| order.is_better(&candidate, known)) {
            best = Some(candidate);
        }
    }
    best.unwrap_or_else(|| Hint { nodes: Some(everywhere.clone()), preferred: false })
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
