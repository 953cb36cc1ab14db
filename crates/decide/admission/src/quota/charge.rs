//! One change of one object, charged to the quotas of its namespace.

use jiff::Timestamp;
use plimsoll_meta::quantity::Quantity;
use serde_json::Value;

use super::usage::{Amounts, Counted};
use super::{Quota, pod_usage};

/// A quota whose numbers change.
#[derive(Clone, Debug)]
pub struct Charge {
    /// Position of the quota among those that were given.
    pub quota: usize,
    /// Its new `status.used`.
    pub used: Amounts,
}

/// What a change costs the quotas of its namespace. `old` is absent for new objects, `new` for those that go.
///
/// # Errors
/// The cause of the 403: a quota has no room, does not know yet what is used, or wants the object to say more.
pub fn charge(
    quotas: &[Quota],
    resource: &Counted<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    now: Timestamp,
) -> Result<Vec<Charge>, String> {
    let mut charges = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        let count =
            |object: Option<&Value>| object.map(|one| quota.counts(resource, one, now)).unwrap_or_default();
        let (before, after) = (count(old), count(new));
        let difference = difference(&before, &after);
        if let (None, Some(new), false) = (old, new, after.is_empty()) {
            check_new(quota, resource, new, &after)?;
        }
        if difference.is_empty() {
            continue;
        }
        if !quota.known {
            // What goes now is left out when the quota is counted.
            continue;
        }
        check_room(quota, &difference)?;
        charges.push(Charge { quota: at, used: added(&quota.used, &difference) });
    }
    Ok(charges)
}

fn check_new(quota: &Quota, resource: &Counted<'_>, new: &Value, after: &Amounts) -> Result<(), String> {
    if (resource.group, resource.plural) == ("", "pods")
        && let Some(missing) = pod_usage::missing(new, quota.limited())
    {
        return Err(format!("failed quota: {}: {missing}", quota.name));
    }
    if !quota.known {
        let names: Vec<&str> = after.keys().map(String::as_str).collect();
        return Err(format!("status unknown for quota: {}, resources: {}", quota.name, names.join(",")));
    }
    Ok(())
}

fn check_room(quota: &Quota, difference: &Amounts) -> Result<(), String> {
    let exceeded: Vec<&String> = difference
        .iter()
        .filter(|(name, amount)| {
            amount.sign() > 0 && of(&quota.used, name) + **amount > of(&quota.hard, name)
        })
        .map(|(name, _)| name)
        .collect();
    if exceeded.is_empty() {
        return Ok(());
    }
    let show = |amounts: &Amounts| {
        let parts: Vec<String> =
            exceeded.iter().map(|name| format!("{name}={}", of(amounts, name))).collect();
        parts.join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.name,
        show(difference),
        show(&quota.used),
        show(&quota.hard)
    ))
}

fn of(amounts: &Amounts, name: &str) -> Quantity {
    amounts.get(name).copied().unwrap_or_default()
}

fn difference(before: &Amounts, after: &Amounts) -> Amounts {
    let mut difference = Amounts::new();
    for name in before.keys().chain(after.keys()) {
        let change = of(after, name) - of(before, name);
        if !change.is_zero() {
            difference.insert(name.clone(), change);
        }
    }
    difference
}

/// Never below nothing.
fn added(used: &Amounts, difference: &Amounts) -> Amounts {
    let mut sum = used.clone();
    for (name, change) in difference {
        let total = of(used, name) + *change;
        sum.insert(name.clone(), if total.sign() < 0 { Quantity::default() } else { total });
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const PODS: Counted<'_> = Counted { group: "", plural: "pods" };

    fn quota(hard: Value, used: Value) -> Quota {
        Quota::read(
            &json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}}),
        )
    }

    fn pod(cpu: &str) -> Value {
        json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn used(charges: &[Charge]) -> Vec<String> {
        charges
            .iter()
            .flat_map(|one| one.used.iter().map(|(name, amount)| format!("{name}={amount}")))
            .collect()
    }

    #[test]
    fn what_fits_is_charged_and_what_goes_is_given_back() {
        let quotas =
            [quota(json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "1", "requests.cpu": "500m"}))];
        let (small, large) = (pod("500m"), pod("501m"));
        let charged = |old, new| charge(&quotas, &PODS, old, new, NOW).map(|charges| used(&charges));
        assert_eq!(charged(None, Some(&small)), Ok(vec!["pods=2".to_owned(), "requests.cpu=1".to_owned()]));
        assert_eq!(
            charged(None, Some(&large)),
            Err("exceeded quota: q, requested: requests.cpu=501m, used: requests.cpu=500m, limited: requests.cpu=1".to_owned())
        );
        assert_eq!(charged(Some(&small), None), Ok(vec!["pods=0".to_owned(), "requests.cpu=0".to_owned()]));
        assert_eq!(charged(Some(&large), None), Ok(vec!["pods=0".to_owned(), "requests.cpu=0".to_owned()]));
        assert_eq!(charged(Some(&small), Some(&small)), Ok(vec![]));
        let mut ended = small.clone();
        ended["status"]["phase"] = json!("Failed");
        assert_eq!(
            charged(Some(&small), Some(&ended)),
            Ok(vec!["pods=0".to_owned(), "requests.cpu=0".to_owned()])
        );
    }

    #[test]
    fn pods_say_what_is_limited_and_wait_for_the_first_count() {
        let quotas =
            [quota(json!({"pods": "2", "limits.cpu": "1"}), json!({"pods": "0", "limits.cpu": "0"}))];
        assert_eq!(
            charge(&quotas, &PODS, None, Some(&pod("1")), NOW).map(|charges| charges.len()),
            Err("failed quota: q: must specify limits.cpu for: a".to_owned())
        );
        let uncounted = [Quota::read(&json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}}))];
        assert_eq!(
            charge(&uncounted, &PODS, None, Some(&pod("1")), NOW).map(|charges| charges.len()),
            Err("status unknown for quota: q, resources: pods".to_owned())
        );
        assert_eq!(charge(&uncounted, &PODS, Some(&pod("1")), None, NOW).map(|charges| charges.len()), Ok(0));
    }

    #[test]
    fn a_full_quota_lets_go_and_lets_shrink() {
        let quotas = [quota(json!({"requests.cpu": "1"}), json!({"requests.cpu": "2"}))];
        let (before, after) = (pod("2"), pod("1500m"));
        assert_eq!(
            charge(&quotas, &PODS, Some(&before), Some(&after), NOW).map(|charges| used(&charges)),
            Ok(vec!["requests.cpu=1500m".to_owned()])
        );
    }
}
