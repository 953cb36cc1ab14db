//! Who should use which endpoint first: the near ones (`trafficDistribution`), or zones by their share of
//! the processors (`service.kubernetes.io/topology-mode`)
//! (endpointslice: trafficdist and topologycache, v1.37).
//!
//! What enters is a plan of slices; it leaves with hints, and with more slices to update where those that
//! were to stay as they are have wrong ones.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};
use plimsoll_meta::quantity::Quantity;

use super::pack::{Plan, Planned};
use crate::action::{Action, Severity};
use crate::node;

/// The annotation that asks for hints by share, and its older name, which comes first.
const MODES: [&str; 2] =
    ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];
/// How many more requests an endpoint may get than it would without hints.
const OVERLOAD: f64 = 0.2;
/// Nodes that run no pods of users.
const EXCLUDED: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

const NO_NODES: &str =
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const NO_ZONE: &str = "One or more endpoints do not have a zone specified";
const TOO_FEW: &str = "Insufficient number of endpoints";
const OVERLOADED: &str =
    "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold";

/// The share of each zone in the processors of all, in parts of one.
pub type Shares = BTreeMap<String, f64>;

/// The zones' shares; `None` unless all ready nodes tell theirs, and there are two zones.
pub fn shares<'a>(nodes: impl Iterator<Item = &'a Node>) -> Option<Shares> {
    let mut zones = BTreeMap::<String, i64>::new();
    for node in nodes.filter(|node| counts(node)) {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        let processors = allocatable.and_then(|all| all.get("cpu"));
        let processors = processors.and_then(|text| text.0.parse::<Quantity>().ok()).map(|one| one.milli());
        *zones.entry(zone(node)?.to_owned()).or_default() += processors.filter(|milli| *milli > 0)?;
    }
    let total: i64 = zones.values().sum();
    (zones.len() > 1)
        .then(|| zones.into_iter().map(|(zone, part)| (zone, part as f64 / total as f64)).collect())
}

fn counts(one: &Node) -> bool {
    let labels = one.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| EXCLUDED.iter().any(|name| labels.contains_key(*name)));
    node::ready(one) && !excluded
}

/// The zone of a node.
pub(super) fn zone(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get("topology.kubernetes.io/zone").map(String::as_str).filter(|zone| !zone.is_empty())
}

/// Whether a Service asks for hints by share.
pub fn by_share(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let value = annotations.and_then(|all| MODES.iter().find_map(|name| all.get(*name)));
    value.is_some_and(|value| value == "Auto" || value == "auto")
}

/// Gives hints. `hinted` is whether this Service had hints by share, before and after.
pub(super) fn apply(
    service: &Service,
    family: &str,
    plan: &mut Plan,
    shares: Option<&Shares>,
    hinted: &mut bool,
) -> Option<Action> {
    let tell = |severity, reason, message: &str| {
        Some(Action::event(service, severity, reason, format!("{message}, addressType: {family}")))
    };
    if by_share(service) {
        return match allocate(plan, shares) {
            Ok(()) if std::mem::replace(hinted, true) => None,
            Ok(()) => {
                tell(Severity::Normal, "TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled")
            }
            Err(reason) => {
                *hinted = false;
                give(plan, |_| None);
                tell(Severity::Warning, "TopologyAwareHintsDisabled", &reason)
            }
        };
    }
    match service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref()) {
        Some("PreferClose" | "PreferSameZone") => give(plan, |endpoint| near(endpoint, false)),
        Some("PreferSameNode") => give(plan, |endpoint| near(endpoint, true)),
        _ => give(plan, |_| None),
    }
    let was = std::mem::replace(hinted, false);
    let told =
        || tell(Severity::Warning, "TopologyAwareHintsDisabled", "Topology Aware Hints has been disabled");
    was.then(told).flatten()
}

fn ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

/// Hints for the endpoint's own zone and, if asked for, node.
fn near(endpoint: &Endpoint, node: bool) -> Option<EndpointHints> {
    if !ready(endpoint) {
        return None;
    }
    let for_zones = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
    let for_nodes = endpoint.node_name.clone().filter(|_| node).map(|name| vec![ForNode { name }]);
    (for_zones.is_some() || for_nodes.is_some()).then_some(EndpointHints { for_zones, for_nodes })
}

/// Gives each endpoint the hints that `hints` says; unchanged slices that differ are to be updated.
fn give(plan: &mut Plan, hints: impl Fn(&Endpoint) -> Option<EndpointHints>) {
    let wrong = |one: &Planned| one.endpoints.iter().any(|endpoint| endpoint.hints != hints(endpoint));
    let (stale, right): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.unchanged).into_iter().partition(wrong);
    plan.unchanged = right;
    plan.update.extend(stale);
    let planned = plan.create.iter_mut().chain(&mut plan.update);
    planned.flat_map(|one| &mut one.endpoints).for_each(|endpoint| endpoint.hints = hints(endpoint));
}

/// How many endpoints a zone should have the use of.
struct Allocation {
    minimum: usize,
    maximum: usize,
    desired: f64,
}

/// Gives hints so that each zone has endpoints by its share, most of them its own.
fn allocate(plan: &mut Plan, shares: Option<&Shares>) -> Result<(), String> {
    let all = plan.create.iter().chain(&plan.update).chain(&plan.unchanged);
    let count = all.flat_map(|one| &one.endpoints).filter(|endpoint| ready(endpoint)).count();
    let allocations = allocations(shares.ok_or(NO_NODES)?, count)?;
    let mut given = keep_fitting(plan, &allocations);
    let changing = || plan.create.iter().chain(&plan.update).flat_map(|one| &one.endpoints);
    if changing().any(|endpoint| ready(endpoint) && endpoint.zone.is_none()) {
        return Err(NO_ZONE.to_owned());
    }
    for endpoint in plan.create.iter_mut().chain(&mut plan.update).flat_map(|one| &mut one.endpoints) {
        endpoint.hints = near(endpoint, false);
        if let Some(zone) = endpoint.zone.as_ref().filter(|_| endpoint.hints.is_some()) {
            *given.entry(zone.clone()).or_default() += 1;
        }
    }
    let (mut giving, mut receiving) = exchange(&allocations, &given);
    for endpoint in plan.create.iter_mut().chain(&mut plan.update).flat_map(|one| &mut one.endpoints) {
        let own = endpoint.zone.clone().unwrap_or_default();
        let spare = giving.get_mut(&own).filter(|spare| **spare > 0 && endpoint.hints.is_some());
        let needy = receiving.iter_mut().find(|(_, need)| **need > 0);
        let (Some(spare), Some((zone, need))) = (spare, needy) else { continue };
        (*spare, *need) = (*spare - 1, *need - 1);
        endpoint.hints =
            Some(EndpointHints { for_zones: Some(vec![ForZone { name: zone.clone() }]), for_nodes: None });
    }
    Ok(())
}

fn allocations(shares: &Shares, count: usize) -> Result<BTreeMap<String, Allocation>, String> {
    let numbers = format!("({count} endpoints, {} zones)", shares.len());
    if shares.len() > count {
        return Err(format!("{TOO_FEW} {numbers}"));
    }
    let mut allocations = BTreeMap::new();
    for (zone, share) in shares {
        let desired = share * count as f64;
        let minimum = (desired * (1.0 / (1.0 + OVERLOAD))).ceil() as usize;
        let desired = desired.max(minimum as f64);
        allocations.insert(zone.clone(), Allocation { minimum, maximum: minimum, desired });
    }
    let least: usize = allocations.values().map(|one| one.minimum).sum();
    let free = count.checked_sub(least).ok_or_else(|| format!("{OVERLOADED} {numbers}"))?;
    allocations.values_mut().for_each(|one| one.maximum += free);
    Ok(allocations)
}

/// Leaves alone the unchanged slices whose hints still do; counts their hints by zone.
fn keep_fitting(plan: &mut Plan, allocations: &BTreeMap<String, Allocation>) -> BTreeMap<String, usize> {
    let mut given = BTreeMap::<String, usize>::new();
    for one in std::mem::take(&mut plan.unchanged) {
        match hints_of(&one, &given, allocations) {
            Some(hints) => {
                hints.into_iter().for_each(|(zone, count)| *given.entry(zone).or_default() += count);
                plan.unchanged.push(one);
            }
            None => plan.update.push(one),
        }
    }
    given
}

fn hints_of(
    one: &Planned,
    given: &BTreeMap<String, usize>,
    allocations: &BTreeMap<String, Allocation>,
) -> Option<BTreeMap<String, usize>> {
    let mut hints = BTreeMap::<String, usize>::new();
    for endpoint in one.endpoints.iter().filter(|endpoint| ready(endpoint)) {
        let zones = endpoint.hints.as_ref()?.for_zones.as_ref().filter(|zones| !zones.is_empty())?;
        zones.iter().for_each(|zone| *hints.entry(zone.name.clone()).or_default() += 1);
    }
    let fits = |(zone, count): (&String, &usize)| {
        let before = given.get(zone).copied().unwrap_or_default();
        allocations.get(zone).is_some_and(|allocation| before + count <= allocation.maximum)
    };
    hints.iter().all(fits).then_some(hints)
}

/// How many endpoints zones that have too many give, and how many the others take.
fn exchange(
    allocations: &BTreeMap<String, Allocation>,
    given: &BTreeMap<String, usize>,
) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
    let (mut surplus, mut need) = (BTreeMap::<&String, f64>::new(), BTreeMap::<&String, f64>::new());
    for (zone, allocation) in allocations {
        let present = given.get(zone).copied().unwrap_or_default() as f64;
        if present > allocation.desired {
            surplus.insert(zone, present - allocation.desired);
        } else if present < allocation.desired {
            need.insert(zone, allocation.desired - present);
        }
    }
    let (mut giving, mut receiving) = (BTreeMap::new(), BTreeMap::new());
    while let (Some(from), Some(to)) = (most(&surplus), most(&need)) {
        let (spare, wanted) = (surplus[from], need[to]);
        if (spare < 1.0 && wanted < 1.0) || spare < 0.5 || wanted < 0.5 {
            break;
        }
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
        surplus.insert(from, spare - 1.0);
        need.insert(to, wanted - 1.0);
    }
    (giving, receiving)
}

fn most<'a>(zones: &BTreeMap<&'a String, f64>) -> Option<&'a String> {
    let positive = zones.iter().filter(|(_, number)| **number > 0.0);
    positive.max_by(|one, two| one.1.total_cmp(two.1).then(two.0.cmp(one.0))).map(|(zone, _)| *zone)
}
