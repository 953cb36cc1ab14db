//! Which devices claims get on a node (dynamic-resource-allocation: structured).
//!
//! The search takes the first device that suits, of the pools in the order of their names, and goes back a step where
//! that leaves nothing for what comes after. Of a request's alternatives the first that works is taken.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceAttribute,
    DeviceConstraint, DeviceRequestAllocationResult, ResourceClaim,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;

use super::pool::{Counters, Offered, Pool, give, take};
use super::request::{Amount, Wanted, asked, constraints, requests};
use super::selector::{chooses, expression};
use super::{DeviceId, Devices, Use};
use crate::node::Node;

/// Most devices of a claim (resource.k8s.io: AllocationResultsMaxSize).
const MOST: usize = 32;
/// Devices that are tried on a node before the search is given up.
const PATIENCE: usize = 100_000;

/// Why claims get nothing on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing suits.
    Nothing,
    /// It takes too long to find out.
    Patience,
    /// Something is wrong with the claim or its class.
    Broken(String),
}

impl Devices {
    /// What each of some claims gets on a node.
    ///
    /// # Errors
    /// Not all of them get something.
    pub(crate) fn allocate(
        &self,
        claims: &[Arc<ResourceClaim>],
        node: &Node,
    ) -> Result<Vec<AllocationResult>, Failure> {
        let pools = self.pools(node);
        let steps = claims.iter().enumerate().flat_map(|(at, claim)| {
            requests(claim).iter().map(move |request| Step { claim: at, options: Wanted::of(request) })
        });
        let mut search = Search {
            devices: self,
            counters: pools.iter().map(|pool| pool.counters.clone()).collect(),
            pools: &pools,
            claims,
            steps: steps.collect(),
            chosen: Vec::new(),
            had: HashSet::new(),
            tries: 0,
        };
        if !search.step(0)? {
            return Err(Failure::Nothing);
        }
        let Search { chosen, .. } = search;
        Ok((0..claims.len()).map(|claim| self.result(claim, claims, &chosen, node)).collect())
    }

    /// Whether a device suits a request, apart from who has it.
    fn suits(&self, wanted: &Wanted<'_>, one: Offered<'_>) -> Result<bool, Failure> {
        let class = self.class(wanted.class).ok_or(Failure::Nothing)?;
        let of_class = class.spec.iter().flat_map(|spec| spec.selectors.iter().flatten());
        let selectors = of_class.chain(wanted.selectors);
        for expression in selectors.filter_map(expression) {
            let compiled = self.program(expression);
            let program = compiled.as_ref().as_ref().map_err(|why| Failure::Broken(why.clone()))?;
            if !chooses(program, &one.slice.spec.driver, one.device).map_err(Failure::Broken)? {
                return Ok(false);
            }
        }
        Ok(self.taints(one).all(|taint| wanted.bears(taint)))
    }

    fn result(
        &self,
        at: usize,
        claims: &[Arc<ResourceClaim>],
        chosen: &[Choice<'_, '_>],
        node: &Node,
    ) -> AllocationResult {
        let claim = &claims[at];
        let own: Vec<&Choice<'_, '_>> = chosen.iter().filter(|choice| choice.claim == at).collect();
        let uid = claim.metadata.uid.as_deref().unwrap_or_default();
        let results = own.iter().enumerate().map(|(at, choice)| choice.result(uid, at)).collect();
        let config = self.configuration(claim, &own);
        AllocationResult {
            allocation_timestamp: None,
            devices: Some(DeviceAllocationResult {
                config: (!config.is_empty()).then_some(config),
                results: Some(results),
            }),
            node_selector: selector(&own, node),
        }
    }

    fn configuration(
        &self,
        claim: &ResourceClaim,
        chosen: &[&Choice<'_, '_>],
    ) -> Vec<DeviceAllocationConfiguration> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        for choice in chosen.iter().filter(|choice| seen.insert(choice.wanted.name.as_str())) {
            let spec = self.class(choice.wanted.class).and_then(|class| class.spec.as_ref());
            for config in spec.iter().flat_map(|spec| spec.config.iter().flatten()) {
                all.push(DeviceAllocationConfiguration {
                    opaque: config.opaque.clone(),
                    requests: Some(vec![choice.wanted.name.clone()]),
                    source: "FromClass".to_owned(),
                });
            }
        }
        let own = asked(claim).into_iter().flat_map(|devices| devices.config.iter().flatten());
        for config in own {
            let requests = config.requests.as_deref().unwrap_or_default();
            if chosen.iter().any(|choice| choice.wanted.is_among(requests)) {
                all.push(DeviceAllocationConfiguration {
                    opaque: config.opaque.clone(),
                    requests: config.requests.clone(),
                    source: "FromClaim".to_owned(),
                });
            }
        }
        all
    }
}

/// A request, with its alternatives.
struct Step<'c> {
    claim: usize,
    options: Vec<Wanted<'c>>,
}

/// A device for a request.
#[derive(Clone)]
struct Choice<'c, 'd> {
    claim: usize,
    wanted: Wanted<'c>,
    pool: usize,
    one: Offered<'d>,
    shares: BTreeMap<String, Quantity>,
    /// It is the first share of its device, which takes of the counters for all.
    first: bool,
}

struct Search<'s, 'c, 'd> {
    devices: &'d Devices,
    pools: &'s [Pool<'d>],
    claims: &'c [Arc<ResourceClaim>],
    steps: Vec<Step<'c>>,
    chosen: Vec<Choice<'c, 'd>>,
    /// Devices that are chosen and not divided.
    had: HashSet<DeviceId>,
    counters: Vec<Counters>,
    tries: usize,
}

impl<'d> Search<'_, '_, 'd> {
    /// Finds devices for this request and all after it.
    fn step(&mut self, at: usize) -> Result<bool, Failure> {
        let Some(step) = self.steps.get(at) else { return Ok(true) };
        for option in 0..step.options.len() {
            let found = match self.steps[at].options[option].amount {
                Amount::Exactly(count) => self.exactly(at, option, count, (0, 0))?,
                Amount::All => self.all(at, option)?,
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Finds so many more devices, none before `from`: in which order they are chosen says nothing.
    fn exactly(
        &mut self,
        at: usize,
        option: usize,
        left: usize,
        from: (usize, usize),
    ) -> Result<bool, Failure> {
        if left == 0 {
            return self.step(at + 1);
        }
        for pool in (from.0..self.pools.len()).filter(|pool| !self.pools[*pool].incomplete) {
            let first = if pool == from.0 { from.1 } else { 0 };
            for device in first..self.pools[pool].devices.len() {
                let one = self.pools[pool].devices[device];
                if self.choose(at, option, pool, one)? {
                    if self.exactly(at, option, left - 1, (pool, device))? {
                        return Ok(true);
                    }
                    self.undo();
                }
            }
        }
        Ok(false)
    }

    fn all(&mut self, at: usize, option: usize) -> Result<bool, Failure> {
        let mut every = Vec::new();
        for (at_pool, pool) in self.pools.iter().enumerate() {
            for one in &pool.devices {
                if self.devices.suits(&self.steps[at].options[option], *one)? {
                    // Nobody knows yet what all of them are.
                    if pool.incomplete {
                        return Ok(false);
                    }
                    every.push((at_pool, *one));
                }
            }
        }
        if every.is_empty() {
            return Ok(false);
        }
        let before = self.chosen.len();
        for (pool, one) in every {
            if !self.choose(at, option, pool, one)? {
                break;
            }
        }
        let complete = self.chosen.len() > before && self.step(at + 1)?;
        if !complete {
            while self.chosen.len() > before {
                self.undo();
            }
        }
        Ok(complete)
    }

    /// Takes a device, if it suits and is free.
    fn choose(&mut self, at: usize, option: usize, pool: usize, one: Offered<'d>) -> Result<bool, Failure> {
        self.tries += 1;
        if self.tries > PATIENCE {
            return Err(Failure::Patience);
        }
        let claim = self.steps[at].claim;
        let wanted = &self.steps[at].options[option];
        let Some(shares) = self.share(wanted, one) else { return Ok(false) };
        let full = self.chosen.iter().filter(|choice| choice.claim == claim).count() >= MOST;
        if full || !self.devices.suits(wanted, one)? {
            return Ok(false);
        }
        let id = one.id();
        let first = !self.had.contains(&id) && !self.devices.taken.contains_key(&id);
        let choice = Choice { claim, wanted: wanted.clone(), pool, one, shares, first };
        let mut rules = constraints(&self.claims[claim]).iter();
        if !rules.all(|constraint| self.agrees(constraint, &choice)) || !self.leaves_enough(&choice) {
            return Ok(false);
        }
        if !choice.wanted.admin {
            if choice.first {
                take(&mut self.counters[pool], &one);
            }
            self.had.insert(id);
        }
        self.chosen.push(choice);
        Ok(true)
    }

    fn undo(&mut self) {
        let Some(choice) = self.chosen.pop() else { return };
        if choice.wanted.admin {
            return;
        }
        if choice.first {
            give(&mut self.counters[choice.pool], &choice.one);
        }
        let id = choice.one.id();
        // Another share of it may be chosen still.
        if !self.chosen.iter().any(|other| !other.wanted.admin && other.one.id() == id) {
            self.had.remove(&id);
        }
    }

    /// What the request gets of the device: nothing if it is not free.
    fn share(&self, wanted: &Wanted<'_>, one: Offered<'_>) -> Option<BTreeMap<String, Quantity>> {
        let id = one.id();
        if wanted.admin {
            let again = |choice: &Choice<'_, '_>| choice.wanted.admin && choice.one.id() == id;
            return (!self.chosen.iter().any(again)).then(BTreeMap::new);
        }
        let divided = one.device.allow_multiple_allocations == Some(true);
        let there = self.devices.taken.get(&id);
        if !divided && (there.is_some() || self.had.contains(&id)) {
            return None;
        }
        let mut used: Use = there.cloned().unwrap_or_default();
        for choice in
            self.chosen.iter().filter(|choice| divided && !choice.wanted.admin && choice.one.id() == id)
        {
            for (name, share) in &choice.shares {
                *used.consumed.entry(name.clone()).or_insert(Quantity::from_units(0)) += *share;
            }
        }
        super::capacity::taken(wanted, one.device, &used)
    }

    /// Whether the counters that its pool's devices share have enough for it.
    fn leaves_enough(&self, choice: &Choice<'_, '_>) -> bool {
        let counters = &self.counters[choice.pool];
        choice.wanted.admin
            || !choice.first
            || choice
                .one
                .takes()
                .all(|(counter, amount)| counters.get(&counter).is_some_and(|left| amount <= *left))
    }

    /// Whether a constraint holds with this device, too.
    fn agrees(&self, constraint: &DeviceConstraint, choice: &Choice<'_, '_>) -> bool {
        let requests = constraint.requests.as_deref().unwrap_or_default();
        if !choice.wanted.is_among(requests) {
            return true;
        }
        let mut others =
            self.chosen.iter().filter(|other| other.claim == choice.claim && other.wanted.is_among(requests));
        if let Some(name) = &constraint.match_attribute {
            let Some(value) = attribute(name, choice.one) else { return false };
            return others.next().is_none_or(|other| attribute(name, other.one) == Some(value));
        }
        if let Some(name) = &constraint.distinct_attribute {
            let Some(value) = attribute(name, choice.one) else { return false };
            return others.all(|other| attribute(name, other.one) != Some(value));
        }
        // A constraint of a kind that is not known cannot be kept.
        false
    }
}

/// An attribute by its full name; a device leaves its driver's domain out.
fn attribute<'d>(name: &str, one: Offered<'d>) -> Option<&'d DeviceAttribute> {
    let all = one.device.attributes.as_ref()?;
    all.get(name).or_else(|| {
        let (domain, name) = name.split_once('/')?;
        all.get(name).filter(|_| domain == one.slice.spec.driver)
    })
}

impl Choice<'_, '_> {
    fn result(&self, claim: &str, at: usize) -> DeviceRequestAllocationResult {
        let device = self.one.device;
        let divided = device.allow_multiple_allocations == Some(true) && !self.wanted.admin;
        let (driver, pool, name) = self.one.id();
        let shares = self.shares.iter().map(|(name, share)| (name.clone(), Text(share.to_string())));
        DeviceRequestAllocationResult {
            admin_access: self.wanted.admin.then_some(true),
            binding_conditions: device.binding_conditions.clone(),
            binding_failure_conditions: device.binding_failure_conditions.clone(),
            consumed_capacity: divided.then(|| shares.collect()),
            device: name,
            driver,
            pool,
            request: self.wanted.name.clone(),
            share_id: divided.then(|| share_id(claim, at)),
            skip_node_operations: self.one.slice.spec.skip_node_operations.clone(),
            tolerations: (!self.wanted.tolerations.is_empty()).then(|| self.wanted.tolerations.to_vec()),
        }
    }
}

/// An id that no other share has: that of the claim and the place in its results.
fn share_id(claim: &str, at: usize) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, claim, at).hash(&mut hasher);
        hasher.finish()
    };
    let (high, low) = (half(0), half(1));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}

/// Where the devices can be used; nothing if everywhere.
fn selector(chosen: &[&Choice<'_, '_>], node: &Node) -> Option<NodeSelector> {
    let named = |choice: &&&Choice<'_, '_>| {
        choice.one.node_name().is_some() || choice.one.device.binds_to_node == Some(true)
    };
    if chosen.iter().any(|choice| named(&choice)) {
        let field = NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.name.clone()]),
        };
        let term = NodeSelectorTerm { match_fields: Some(vec![field]), match_expressions: None };
        return Some(NodeSelector { node_selector_terms: vec![term] });
    }
    let mut all = NodeSelectorTerm::default();
    // Selectors of devices have one term.
    let terms = chosen.iter().filter_map(|choice| choice.one.node_selector()?.node_selector_terms.first());
    for term in terms {
        add(&mut all.match_expressions, &term.match_expressions);
        add(&mut all.match_fields, &term.match_fields);
    }
    let some = all.match_expressions.is_some() || all.match_fields.is_some();
    some.then(|| NodeSelector { node_selector_terms: vec![all] })
}

fn add(all: &mut Option<Vec<NodeSelectorRequirement>>, more: &Option<Vec<NodeSelectorRequirement>>) {
    for one in more.iter().flatten() {
        let all = all.get_or_insert_with(Vec::new);
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}
