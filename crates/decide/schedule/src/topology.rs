//! Counting pods by place, as they come and go.
//!
//! A [`Column`] gives each node a number for its value of a label. A [`Counter`] holds for each
//! node how many of its pods match a selector. Both are made when a pod first asks for them.

use std::collections::{BTreeMap, HashMap};

use plimsoll_meta::selector::{Labels, Operator};

use crate::pod::{PodInfo, PodTerm};

/// Counters that are kept.
const KEPT_COUNTERS: usize = 4096;

/// Position of a node in the snapshot.
pub(crate) type Slot = usize;

pub(crate) type NamespaceLabels = HashMap<String, BTreeMap<String, String>>;

/// Selects pods.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matcher {
    namespaces: Vec<String>,
    namespace_selector: Option<Labels>,
    /// None selects nothing.
    selector: Option<Labels>,
    /// Equal texts, equal matchers.
    id: String,
}

impl Matcher {
    pub(crate) fn new(
        mut namespaces: Vec<String>,
        namespace_selector: Option<Labels>,
        selector: Option<Labels>,
    ) -> Self {
        namespaces.sort_unstable();
        let id = format!("{namespaces:?} {namespace_selector:?} {selector:?}");
        Matcher { namespaces, namespace_selector, selector, id }
    }

    pub(crate) fn matches(&self, pod: &PodInfo, namespaces: &NamespaceLabels) -> bool {
        let there = || {
            self.namespaces.binary_search(&pod.namespace).is_ok()
                || self.namespace_selector.as_ref().is_some_and(|selector| {
                    selector.is_everything() || selector.matches_map(namespaces.get(&pod.namespace))
                })
        };
        self.matches_labels(pod) && there()
    }

    pub(crate) fn matches_labels(&self, pod: &PodInfo) -> bool {
        self.selector.as_ref().is_some_and(|selector| selector.matches_map(Some(&pod.labels)))
    }

    /// A label that every pod has which is selected, if there is one.
    fn label(&self) -> Option<(String, String)> {
        // The last of several is the hash of a template, mostly, which says most.
        self.selector.as_ref()?.0.iter().rev().find_map(|one| match &one.operator {
            Operator::In(values) if values.len() == 1 => Some((one.key.clone(), values[0].clone())),
            _ => None,
        })
    }

    /// The selector is there and asks for nothing in particular.
    pub(crate) fn is_everything(&self) -> bool {
        self.selector.as_ref().is_some_and(Labels::is_everything)
    }
}

/// A number for each node's value of one label; 0 where the label is absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Column {
    pub(crate) domains: Vec<usize>,
    values: HashMap<String, usize>,
}

impl Column {
    /// One more than the largest number.
    pub(crate) fn size(&self) -> usize {
        self.values.len() + 1
    }

    fn set(&mut self, slot: Slot, value: Option<&String>) {
        let next = self.values.len() + 1;
        let domain = value.map_or(0, |value| *self.values.entry(value.clone()).or_insert(next));
        grow(&mut self.domains, slot);
        self.domains[slot] = domain;
    }

    /// Adds up what each node has for each domain.
    pub(crate) fn sum(&self, per_node: &[u32], include: impl Fn(Slot) -> bool) -> Vec<i64> {
        let mut sums = vec![0; self.size()];
        for (slot, count) in per_node.iter().enumerate() {
            if *count > 0 && include(slot) {
                sums[self.domains.get(slot).copied().unwrap_or(0)] += i64::from(*count);
            }
        }
        sums
    }
}

/// For each node, how many of its pods match all matchers.
#[derive(Clone, Debug)]
struct Counter {
    matchers: Vec<Matcher>,
    /// Leave out pods whose deletion has begun.
    living: bool,
    per_node: Vec<u32>,
    /// When it was last asked for.
    used: u64,
}

/// What placed pods say of pods to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    /// Required anti-affinity.
    KeepAway,
    /// Required affinity.
    Company,
    /// Preferred affinity of this weight.
    Attract(i64),
}

/// A term of placed pods, with how many pods on each node have it.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) term: PodTerm,
    pub(crate) per_node: Vec<u32>,
    total: u32,
}

/// All columns, counters and claims.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topology {
    columns: HashMap<String, Column>,
    counters: HashMap<String, Counter>,
    /// The ids of counters.
    counters_of: Labelled<String>,
    /// How often counters were asked for.
    uses: u64,
    claims: HashMap<ClaimId, Claimed>,
    /// Claims on pods with a certain label, and on others.
    claims_on: Labelled<ClaimId>,
}

/// The claim, the id of its matcher, and the label of places.
type ClaimId = (Claim, String, String);

/// Things that concern pods with a certain label, by its key and value; and the others.
#[derive(Clone, Debug)]
struct Labelled<T> {
    by_label: HashMap<String, HashMap<String, Vec<T>>>,
    others: Vec<T>,
}

impl<T> Default for Labelled<T> {
    fn default() -> Self {
        Labelled { by_label: HashMap::new(), others: Vec::new() }
    }
}

impl<T: PartialEq> Labelled<T> {
    fn add(&mut self, label: Option<(String, String)>, it: T) {
        match label {
            Some((key, value)) => self.by_label.entry(key).or_default().entry(value).or_default().push(it),
            None => self.others.push(it),
        }
    }

    fn remove(&mut self, label: Option<(String, String)>, it: &T) {
        let Some((key, value)) = label else { return self.others.retain(|other| other != it) };
        let Some(values) = self.by_label.get_mut(&key) else { return };
        if let Some(list) = values.get_mut(&value) {
            list.retain(|other| other != it);
            if list.is_empty() {
                values.remove(&value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(&key);
        }
    }

    /// What may concern a pod.
    fn of<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a T> {
        let labelled = self.by_label.iter().filter_map(move |(key, values)| values.get(pod.labels.get(key)?));
        labelled.flatten().chain(&self.others)
    }
}

impl Topology {
    pub(crate) fn column(&self, label: &str) -> Option<&Column> {
        self.columns.get(label)
    }

    /// A column with the topology's own copy of its label.
    pub(crate) fn labelled(&self, label: &str) -> Option<(&str, &Column)> {
        self.columns.get_key_value(label).map(|(label, column)| (label.as_str(), column))
    }

    pub(crate) fn counts(&self, matchers: &[&Matcher], living: bool) -> &[u32] {
        self.counters.get(&counter_id(matchers, living)).map_or(&[], |counter| &counter.per_node)
    }

    /// Terms of placed pods that may mean a pod.
    pub(crate) fn claims_on<'a>(&'a self, pod: &'a PodInfo) -> impl Iterator<Item = &'a Claimed> {
        self.claims_on.of(pod).filter_map(move |id| self.claims.get(id))
    }

    pub(crate) fn ensure_column<'n>(
        &mut self,
        label: &str,
        nodes: impl Iterator<Item = (Slot, &'n BTreeMap<String, String>)>,
    ) {
        if self.columns.contains_key(label) {
            return;
        }
        let mut column = Column::default();
        for (slot, labels) in nodes {
            column.set(slot, labels.get(label));
        }
        self.columns.insert(label.to_owned(), column);
    }

    pub(crate) fn ensure_counter<'p>(
        &mut self,
        matchers: &[&Matcher],
        living: bool,
        namespaces: &NamespaceLabels,
        pods: impl Iterator<Item = (Slot, &'p PodInfo)>,
    ) {
        let id = counter_id(matchers, living);
        self.uses += 1;
        if let Some(counter) = self.counters.get_mut(&id) {
            counter.used = self.uses;
            return;
        }
        self.forget_unused_counters();
        let matchers = matchers.iter().map(|matcher| (*matcher).clone()).collect();
        let mut counter = Counter { matchers, living, per_node: Vec::new(), used: self.uses };
        for (slot, pod) in pods {
            counter.count(slot, pod, namespaces, true);
        }
        self.counters_of.add(counter.label(), id.clone());
        self.counters.insert(id, counter);
    }

    fn index_anew(&mut self) {
        self.counters_of = Labelled::default();
        for (id, counter) in &self.counters {
            self.counters_of.add(counter.label(), id.clone());
        }
    }

    /// Each counter costs something whenever a pod comes or goes; those of owners that are gone are not asked for.
    fn forget_unused_counters(&mut self) {
        if self.counters.len() < KEPT_COUNTERS {
            return;
        }
        let mut used: Vec<u64> = self.counters.values().map(|counter| counter.used).collect();
        used.sort_unstable();
        let middle = used[used.len() / 2];
        self.counters.retain(|_, counter| counter.used >= middle);
        self.index_anew();
    }

    /// The labels of the node in this slot are these now (none if it is gone).
    pub(crate) fn set_node(&mut self, slot: Slot, labels: Option<&BTreeMap<String, String>>) {
        for (label, column) in &mut self.columns {
            column.set(slot, labels.and_then(|labels| labels.get(label)));
        }
    }

    /// A pod comes to a node, or goes.
    pub(crate) fn count(&mut self, slot: Slot, pod: &PodInfo, namespaces: &NamespaceLabels, comes: bool) {
        let Topology { counters, counters_of, .. } = self;
        for id in counters_of.of(pod) {
            if let Some(counter) = counters.get_mut(id) {
                counter.count(slot, pod, namespaces, comes);
            }
        }
        let links = &pod.links;
        let away = links.anti_affinity.iter().map(|term| (Claim::KeepAway, term));
        let near = links.affinity.iter().map(|term| (Claim::Company, term));
        let preferred = links.preferred.iter().map(|(weight, term)| (Claim::Attract(*weight), term));
        for (claim, term) in away.chain(near).chain(preferred) {
            self.claim(slot, claim, term, comes);
        }
    }

    fn claim(&mut self, slot: Slot, claim: Claim, term: &PodTerm, comes: bool) {
        let id = (claim, term.matcher.id.clone(), term.topology.clone());
        let Topology { claims, claims_on, .. } = self;
        let claimed = claims.entry(id.clone()).or_insert_with(|| {
            claims_on.add(term.matcher.label(), id.clone());
            Claimed { claim, term: term.clone(), per_node: Vec::new(), total: 0 }
        });
        step(&mut claimed.per_node, slot, comes);
        claimed.total = if comes { claimed.total + 1 } else { claimed.total.saturating_sub(1) };
        if claimed.total == 0 {
            claims.remove(&id);
            claims_on.remove(term.matcher.label(), &id);
        }
    }

    /// Forgets the counters that look at namespaces' labels; they are made anew when asked for.
    pub(crate) fn forget_counters_by_namespace(&mut self) {
        let by_namespace = |matcher: &Matcher| matcher.namespace_selector.is_some();
        self.counters.retain(|_, counter| !counter.matchers.iter().any(by_namespace));
        self.index_anew();
    }
}

impl Counter {
    /// A label that every pod has which it counts, if there is one.
    fn label(&self) -> Option<(String, String)> {
        self.matchers.first()?.label()
    }

    fn count(&mut self, slot: Slot, pod: &PodInfo, namespaces: &NamespaceLabels, comes: bool) {
        let counted = !(self.living && pod.terminating)
            && self.matchers.iter().all(|matcher| matcher.matches(pod, namespaces));
        if counted {
            step(&mut self.per_node, slot, comes);
        }
    }
}

fn counter_id(matchers: &[&Matcher], living: bool) -> String {
    matchers.iter().fold(living.to_string(), |id, matcher| id + "|" + &matcher.id)
}

fn step(per_node: &mut Vec<u32>, slot: Slot, comes: bool) {
    grow(per_node, slot);
    per_node[slot] = if comes { per_node[slot] + 1 } else { per_node[slot].saturating_sub(1) };
}

fn grow<T: Clone + Default>(list: &mut Vec<T>, slot: Slot) {
    if list.len() <= slot {
        list.resize(slot + 1, T::default());
    }
}
