//! How much of a device a request takes.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{CapacityRequestPolicy, Device};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use plimsoll_meta::quantity::Quantity;

use super::Use;
use super::request::Wanted;

/// What a request takes of each capacity of a device; nothing if the device has too little.
///
/// A device that one claim has alone is not divided: the answer is empty.
pub(super) fn taken(wanted: &Wanted<'_>, device: &Device, used: &Use) -> Option<BTreeMap<String, Quantity>> {
    let asked = wanted.capacity.and_then(|capacity| capacity.requests.as_ref());
    let amount = |name: &String| asked?.get(name).and_then(read);
    let capacity = |name: &String| device.capacity.as_ref().and_then(|all| all.get(name));
    for (name, _) in asked.into_iter().flatten() {
        if amount(name)? > read(&capacity(name)?.value)? {
            return None;
        }
    }
    if device.allow_multiple_allocations != Some(true) {
        return Some(BTreeMap::new());
    }
    let mut shares = BTreeMap::new();
    for (name, capacity) in device.capacity.iter().flatten() {
        let whole = read(&capacity.value)?;
        let share = share(amount(name), capacity.request_policy.as_ref(), whole)?;
        let before = used.consumed.get(name).copied().unwrap_or(Quantity::from_units(0));
        if before + share > whole {
            return None;
        }
        shares.insert(name.clone(), share);
    }
    Some(shares)
}

/// The amount that is asked for, or the policy's; the policy may make it more.
fn share(
    asked: Option<Quantity>,
    policy: Option<&CapacityRequestPolicy>,
    whole: Quantity,
) -> Option<Quantity> {
    let Some(policy) = policy else { return Some(asked.unwrap_or(whole)) };
    let Some(asked) = asked else { return Some(policy.default.as_ref().and_then(read).unwrap_or(whole)) };
    if let Some(range) = &policy.valid_range {
        let least = read(&range.min)?;
        if range.max.as_ref().and_then(read).is_some_and(|most| asked > most) {
            return None;
        }
        let Some(step) = range.step.as_ref().and_then(read) else { return Some(asked.max(least)) };
        let mut share = least;
        if asked > least && step.sign() > 0 {
            let steps = (asked - least).value() / step.value().max(1);
            share = Quantity::from_units(least.value() + steps * step.value().max(1));
            if share < asked {
                share += step;
            }
        }
        return range.max.as_ref().and_then(read).is_none_or(|most| share <= most).then_some(share);
    }
    match &policy.valid_values {
        Some(values) if !values.is_empty() => {
            values.iter().filter_map(read).filter(|value| *value >= asked).min()
        }
        _ => Some(asked),
    }
}

fn read(text: &Text) -> Option<Quantity> {
    text.0.parse().ok()
}
