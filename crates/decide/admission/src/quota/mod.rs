//! ResourceQuotas: what objects of a namespace use, and whether there is room for more.
//!
//! What enters are quotas and an object before and after a change; what leaves are the quotas with their new
//! `status.used`, to be committed together with the object, or the refusal. So the numbers are right at every
//! moment and no burst can exceed them. Rules: pkg/quota/v1/evaluator/core, v1.37.

mod charge;
mod pod_usage;
mod scope;
mod usage;

pub use charge::{Charge, charge};
pub use pod_usage::overdue;
pub(crate) use pod_usage::sum as pod_sum;
pub use usage::{Amounts, Counted, counted, usage};

use jiff::Timestamp;
use plimsoll_meta::quantity::Quantity;
use serde_json::{Map, Value};

use scope::Scope;

/// The parts of a ResourceQuota that decisions need.
#[derive(Clone, Debug)]
pub struct Quota {
    name: String,
    hard: Amounts,
    used: Amounts,
    /// Whether `status` tells what is used of everything that `spec` limits.
    known: bool,
    scopes: Vec<Scope>,
}

impl Quota {
    /// Reads the object.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let hard = amounts(&object["spec"]["hard"]);
        let used = amounts(&object["status"]["used"]);
        Self {
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            known: is_current(object),
            scopes: Scope::read_all(&object["spec"]),
            hard,
            used,
        }
    }

    /// Names of the resources that it limits.
    pub fn limited(&self) -> impl Iterator<Item = &str> {
        self.hard.keys().map(String::as_str)
    }

    /// What an object of `resource` counts for in this quota.
    #[must_use]
    pub fn counts(&self, resource: &Counted<'_>, object: &Value, now: Timestamp) -> Amounts {
        if !self.scopes.iter().all(|scope| scope.covers(resource, object)) {
            return Amounts::new();
        }
        let mut amounts = usage(resource, object, now);
        amounts.retain(|name, _| self.hard.contains_key(name));
        amounts
    }
}

/// Does the status speak of what the spec limits now, and of all of it?
#[must_use]
pub fn is_current(object: &Value) -> bool {
    let (hard, status) = (amounts(&object["spec"]["hard"]), &object["status"]);
    hard == amounts(&status["hard"]) && hard.keys().all(|name| !status["used"][name].is_null())
}

/// `object` with a status that tells what is used.
pub fn set_used(object: &mut Value, used: &Amounts) {
    let hard = object["spec"]["hard"].clone();
    object["status"]["hard"] = if hard.is_object() { hard } else { Value::Object(Map::new()) };
    let used = used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into()));
    object["status"]["used"] = Value::Object(used.collect());
}

pub(crate) fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?))).collect()
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}
