//! Costs: what evaluation has spent, and what it could spend at most.

mod call;
mod estimate;
mod range;
mod scope;
mod sizes;

pub(crate) use call::call_cost;
pub(crate) use estimate::estimate;
pub use range::CostRange;

use crate::error::EvalError;

/// The most that one evaluation may cost (apiserver: pkg/apis/cel/config.go).
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// The most that all evaluations for one object may cost together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;

/// The most that a rule of a custom resource definition may be estimated to cost.
pub const PER_EXPRESSION_ESTIMATE_LIMIT: u64 = 10_000_000;

/// The most that all rules of a custom resource definition may be estimated to cost together.
pub const PER_CRD_ESTIMATE_LIMIT: u64 = 100_000_000;

pub(crate) const LIST_COST: u64 = 10;
pub(crate) const MAP_COST: u64 = 30;
pub(crate) const STRUCT_COST: u64 = 40;
const STRING_FACTOR: f64 = 0.1;
const REGEX_FACTOR: f64 = 0.25;

/// Functions of Kubernetes that cost the same whatever they are called with.
const STEADY: [&str; 38] = [
    "serviceAccount",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "allowed",
    "reason",
    "error",
    "errored",
    "masked",
    "prefixLength",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "format.named",
    "sign",
    "asInteger",
    "isInteger",
    "asApproximateFloat",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "add",
    "sub",
    "major",
    "minor",
    "patch",
    "getScheme",
    "getHostname",
    "getHost",
    "getPort",
    "getEscapedPath",
    "getQuery",
];

/// What evaluations may cost, one by one and together.
#[derive(Clone, Debug)]
pub struct Budget {
    per_call: u64,
    total: u64,
    spent: u64,
    last: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    /// Upstream's limits.
    pub fn new() -> Self {
        Self::with_limits(PER_CALL_LIMIT, RUNTIME_BUDGET)
    }

    /// Limits of one evaluation and of all.
    pub fn with_limits(per_call: u64, total: u64) -> Self {
        Self { per_call, total, spent: 0, last: 0 }
    }

    /// What all evaluations have cost.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// What the last evaluation has cost.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What is left; none once more was spent than there was.
    pub fn remaining(&self) -> Option<u64> {
        self.total.checked_sub(self.spent)
    }

    /// Whether more was spent than there was, so that nothing further may run.
    pub fn is_exhausted(&self) -> bool {
        self.spent > self.total
    }

    /// Takes a cost that arose elsewhere.
    pub fn charge(&mut self, cost: u64) {
        self.spent = self.spent.saturating_add(cost);
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter { spent: 0, limit: self.per_call }
    }

    pub(crate) fn settle(&mut self, meter: &Meter) {
        self.last = meter.spent;
        self.charge(meter.spent);
    }
}

/// Counts the cost of one evaluation.
#[derive(Clone, Copy)]
pub(crate) struct Meter {
    spent: u64,
    limit: u64,
}

impl Meter {
    pub(crate) fn add(&mut self, cost: u64) -> Result<(), EvalError> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Takes back what an attribute counted for its variable.
    pub(crate) fn refund(&mut self, cost: u64) {
        self.spent = self.spent.saturating_sub(cost);
    }

    /// Stops counting until [`Meter::resume`].
    pub(crate) fn pause(&mut self) -> Meter {
        let before = *self;
        self.limit = u64::MAX;
        before
    }

    pub(crate) fn resume(&mut self, before: Meter) {
        *self = before;
    }
}
