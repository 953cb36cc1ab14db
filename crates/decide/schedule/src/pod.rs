//! What the scheduler knows of a pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Pod, PodAffinityTerm, PodResourceClaim, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use plimsoll_meta::selector::{Labels, Operator, Requirement};

use crate::devices::Extended;
use crate::needs::Needs;
use crate::plugins::volume_restrictions::Disk;
use crate::profile::DefaultConstraint;
use crate::topology::Matcher;

/// A pod, pending or placed.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Its unique id.
    pub uid: Arc<str>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Higher goes first.
    pub priority: i32,
    /// Its deletion has begun.
    pub terminating: bool,
    /// Its deletion made room for another pod.
    pub(crate) pre_empted: bool,
    /// When its node began with it, in seconds since 1970.
    pub(crate) started: Option<i64>,
    /// The node that its status promises it.
    pub nominated: Option<String>,
    /// It never evicts others (`preemptionPolicy: Never`).
    pub never_preempts: bool,
    /// Shared with all pods of equal needs.
    pub needs: Arc<Needs>,
    /// Claims on volumes.
    pub(crate) claims: Vec<ClaimUse>,
    /// Claims on devices; none where one is not made yet.
    pub(crate) device_claims: Vec<Option<String>>,
    /// Devices that it asks for by the names of resources.
    pub(crate) extended: Option<Arc<Extended>>,
    /// Disks that it names itself.
    pub(crate) disks: Vec<Disk>,
    pub(crate) links: Links,
    /// The kind and name of its controller.
    pub(crate) owner: Option<(String, String)>,
    /// Its profile keeps it away from places where there are too many like it.
    pub(crate) must_spread: bool,
}

/// A claim that a pod uses.
#[derive(Clone, Debug)]
pub(crate) struct ClaimUse {
    pub(crate) name: String,
    /// It was made for this pod and goes with it.
    pub(crate) own: bool,
}

/// How a pod's place depends on where other pods are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Links {
    pub(crate) affinity: Vec<PodTerm>,
    pub(crate) anti_affinity: Vec<PodTerm>,
    /// Negative weights for anti-affinity.
    pub(crate) preferred: Vec<(i64, PodTerm)>,
    pub(crate) spread: Vec<Spread>,
}

/// Pods, and the node label whose values tell places apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodTerm {
    pub(crate) matcher: Matcher,
    pub(crate) topology: String,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) term: PodTerm,
    pub(crate) max_skew: i64,
    pub(crate) min_domains: usize,
    /// `DoNotSchedule`, not only a preference.
    pub(crate) hard: bool,
    pub(crate) honor_affinity: bool,
    pub(crate) honor_taints: bool,
}

impl PodInfo {
    /// Reads a pod; `needs` are [`Needs::of`] it, shared where possible.
    pub fn of(pod: &Pod, needs: Arc<Needs>) -> Self {
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref(), pod.status.as_ref());
        let mut info = PodInfo {
            uid: meta.uid.as_deref().unwrap_or_default().into(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            priority: spec.and_then(|spec| spec.priority).unwrap_or(0),
            terminating: meta.deletion_timestamp.is_some(),
            pre_empted: is_pre_empted(pod),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0.as_second()),
            nominated: status
                .and_then(|status| status.nominated_node_name.clone())
                .filter(|name| !name.is_empty()),
            never_preempts: spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never"),
            needs,
            claims: claims(pod),
            device_claims: device_claims(pod),
            extended: None,
            disks: Disk::of(pod),
            links: Links::default(),
            owner: owner(pod),
            must_spread: false,
        };
        info.links = Links::of(pod, &info);
        info
    }

    /// Whether it uses claims on volumes.
    pub fn has_claims(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether claims on devices are to be made for it first.
    pub fn awaits_claims(pod: &Pod) -> bool {
        device_claims(pod).contains(&None)
    }

    /// Whether it uses claims on devices, or one is to be made for it.
    pub fn has_device_claims(&self) -> bool {
        !self.device_claims.is_empty() || self.extended.is_some()
    }

    /// Whether it uses claims or disks, which others may have to do without.
    pub(crate) fn has_volumes(&self) -> bool {
        self.has_claims() || !self.disks.is_empty()
    }

    /// True if where other pods or volumes are decides where this one can go.
    pub fn has_links(&self) -> bool {
        let links = &self.links;
        self.has_volumes()
            || self.has_device_claims()
            || self.must_spread
            || !(links.affinity.is_empty()
                && links.anti_affinity.is_empty()
                && links.preferred.is_empty()
                && links.spread.is_empty())
    }
}

impl PodInfo {
    /// Nothing that matters for a placed pod differs.
    pub(crate) fn same_place(&self, other: &PodInfo) -> bool {
        self.needs == other.needs
            && self.labels == other.labels
            && self.terminating == other.terminating
            && self.priority == other.priority
    }
}

impl Links {
    /// Every term of affinity, with the topology it speaks of.
    pub(crate) fn terms(&self) -> impl Iterator<Item = &PodTerm> {
        let preferred = self.preferred.iter().map(|(_, term)| term);
        self.affinity.iter().chain(&self.anti_affinity).chain(preferred)
    }

    fn of(pod: &Pod, info: &PodInfo) -> Self {
        let Some(spec) = &pod.spec else { return Links::default() };
        let mut links = Links::default();
        if let Some(near) = spec.affinity.as_ref().and_then(|affinity| affinity.pod_affinity.as_ref()) {
            links.affinity = terms(&near.required_during_scheduling_ignored_during_execution, info);
            links.prefer(&near.preferred_during_scheduling_ignored_during_execution, 1, info);
        }
        if let Some(far) = spec.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref()) {
            links.anti_affinity = terms(&far.required_during_scheduling_ignored_during_execution, info);
            links.prefer(&far.preferred_during_scheduling_ignored_during_execution, -1, info);
        }
        let constraints = spec.topology_spread_constraints.iter().flatten();
        links.spread = constraints.map(|constraint| Spread::of(constraint, info)).collect();
        links
    }

    fn prefer(&mut self, list: &Option<Vec<WeightedPodAffinityTerm>>, sign: i64, info: &PodInfo) {
        let weighted = list.iter().flatten();
        self.preferred.extend(
            weighted.map(|term| (sign * i64::from(term.weight), PodTerm::of(&term.pod_affinity_term, info))),
        );
    }
}

fn owner(pod: &Pod) -> Option<(String, String)> {
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let known = matches!(
        (owner.api_version.as_str(), owner.kind.as_str()),
        ("v1", "ReplicationController") | ("apps/v1", "ReplicaSet" | "StatefulSet")
    );
    known.then(|| (owner.kind.clone(), owner.name.clone()))
}

fn is_pre_empted(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut disruptions = conditions.filter(|one| one.type_ == "DisruptionTarget" && one.status == "True");
    disruptions.any(|one| one.reason.as_deref() == Some("PreemptionByScheduler"))
}

fn claims(pod: &Pod) -> Vec<ClaimUse> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let used = volumes.filter_map(|volume| plimsoll_volume::claim_name(pod, volume));
    used.map(|(name, own)| ClaimUse { name, own }).collect()
}

/// The names of its claims on devices, as its status has them for those that are made for it.
fn device_claims(pod: &Pod) -> Vec<Option<String>> {
    let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let made = |name: &str| {
        let statuses = pod.status.as_ref()?.resource_claim_statuses.as_deref()?;
        statuses.iter().find(|status| status.name == name)
    };
    let name = |claim: &PodResourceClaim| match (&claim.resource_claim_name, made(&claim.name)) {
        (Some(name), _) => Some(Some(name.clone())),
        // Whoever makes them has found that none is needed.
        (None, Some(status)) => status.resource_claim_name.clone().map(Some),
        (None, None) => Some(None),
    };
    claims.filter_map(name).collect()
}

fn terms(list: &Option<Vec<PodAffinityTerm>>, info: &PodInfo) -> Vec<PodTerm> {
    list.iter().flatten().map(|term| PodTerm::of(term, info)).collect()
}

impl PodTerm {
    fn of(term: &PodAffinityTerm, info: &PodInfo) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(info.namespace.clone());
        }
        let mut selector = term.label_selector.as_ref().map(Labels::from);
        if let Some(selector) = &mut selector {
            add_keys(selector, &term.match_label_keys, info, Operator::In);
            add_keys(selector, &term.mismatch_label_keys, info, Operator::NotIn);
        }
        let matcher = Matcher::new(namespaces, term.namespace_selector.as_ref().map(Labels::from), selector);
        PodTerm { matcher, topology: term.topology_key.clone() }
    }
}

impl Spread {
    pub(crate) fn by_default(constraint: &DefaultConstraint, matcher: Matcher) -> Self {
        Spread {
            term: PodTerm { matcher, topology: constraint.topology.clone() },
            max_skew: constraint.max_skew,
            min_domains: 1,
            hard: constraint.hard,
            honor_affinity: true,
            honor_taints: false,
        }
    }

    fn of(constraint: &TopologySpreadConstraint, info: &PodInfo) -> Self {
        let mut selector = constraint.label_selector.as_ref().map(Labels::from);
        if let Some(selector) = &mut selector {
            add_keys(selector, &constraint.match_label_keys, info, Operator::In);
        }
        let honor = |policy: &Option<String>, default: bool| {
            policy.as_ref().map_or(default, |policy| policy == "Honor")
        };
        Spread {
            term: PodTerm {
                matcher: Matcher::new(vec![info.namespace.clone()], None, selector),
                topology: constraint.topology_key.clone(),
            },
            max_skew: i64::from(constraint.max_skew),
            min_domains: constraint.min_domains.and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            honor_affinity: honor(&constraint.node_affinity_policy, true),
            honor_taints: honor(&constraint.node_taints_policy, false),
        }
    }
}

/// Requires the pod's own values of these labels (`matchLabelKeys`), or other ones.
fn add_keys(
    selector: &mut Labels,
    keys: &Option<Vec<String>>,
    info: &PodInfo,
    operator: fn(Vec<String>) -> Operator,
) {
    for key in keys.iter().flatten() {
        if let Some(value) = info.labels.get(key) {
            let requirement = Requirement { key: key.clone(), operator: operator(vec![value.clone()]) };
            if !selector.0.contains(&requirement) {
                selector.0.push(requirement);
            }
        }
    }
}
