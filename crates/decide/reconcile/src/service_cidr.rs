//! Ranges of Service addresses: ready once they are protected, gone once nobody needs them
//! (kube-controller-manager: pkg/controller/servicecidrs, v1.37).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::action::Action;
use crate::service_address::is_given;

/// Holds a range while addresses of it are in use.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long those who give addresses may take to see that a range goes.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// What is known when deciding.
pub struct Observed<'a> {
    /// The range.
    pub range: &'a ServiceCIDR,
    /// All ranges.
    pub ranges: &'a [Arc<ServiceCIDR>],
    /// All addresses in use.
    pub addresses: &'a [Arc<IPAddress>],
}

/// What to do.
pub fn decide(observed: &Observed<'_>, now: Timestamp) -> Vec<Action> {
    let range = observed.range;
    let finalizers = range.metadata.finalizers.clone().unwrap_or_default();
    let protected = finalizers.iter().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = range.metadata.deletion_timestamp.as_ref() else {
        if !protected {
            let all: Vec<_> = finalizers.into_iter().chain([FINALIZER.to_owned()]).collect();
            // It is ready when the caches show that it is protected.
            return vec![Action::patch(range, json!({"metadata": {"finalizers": all}}))];
        }
        return tell(range, "True", "", "Kubernetes Service CIDR is ready", now).into_iter().collect();
    };
    if needed(observed) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        return tell(range, "False", "Terminating", message, now).into_iter().collect();
    }
    if !protected {
        return Vec::new();
    }
    let left = GRACE - now.duration_since(deleted.0);
    if left.is_positive() {
        return vec![Action::RequeueAfter(Duration::try_from(left).unwrap_or_default())];
    }
    let rest: Vec<_> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    vec![Action::patch(range, json!({"metadata": {"finalizers": rest}}))]
}

/// Whether addresses would be in no range at all without this one.
fn needed(observed: &Observed<'_>) -> bool {
    let others = observed.ranges.iter().filter(|other| other.metadata.name != observed.range.metadata.name);
    let others: Vec<IpNet> = others.flat_map(|other| prefixes(other)).collect();
    let own: Vec<IpNet> = prefixes(observed.range).collect();
    if own.iter().all(|own| others.iter().any(|other| other.contains(own))) {
        return false;
    }
    let given = observed.addresses.iter().filter(|address| is_given(address));
    let mut given = given.filter_map(|address| address.metadata.name.as_deref()?.parse::<IpAddr>().ok());
    given.any(|address| {
        let within = |prefix: &IpNet| prefix.contains(&address);
        own.iter().any(within) && !others.iter().any(within)
    })
}

fn prefixes(range: &ServiceCIDR) -> impl Iterator<Item = IpNet> {
    let all = range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    all.iter().filter_map(|text| text.parse().ok())
}

/// Whether an address lies in one of the range's prefixes.
pub fn holds(range: &ServiceCIDR, address: IpAddr) -> bool {
    prefixes(range).any(|prefix| prefix.contains(&address))
}

fn tell(range: &ServiceCIDR, status: &str, reason: &str, message: &str, now: Timestamp) -> Option<Action> {
    let old = range.status.clone().unwrap_or_default();
    let mut new = old.clone();
    let conditions = new.conditions.get_or_insert_default();
    let known = conditions.iter().find(|condition| condition.type_ == "Ready");
    if known.is_some_and(|known| known.status == status && known.reason == reason && known.message == message)
    {
        return None;
    }
    let since = known.filter(|known| known.status == status).map(|known| known.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != "Ready");
    conditions.push(Condition {
        type_: "Ready".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since.unwrap_or(Time(now)),
        observed_generation: None,
    });
    Action::update_status(range, &old, &new)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::service_address::{ALLOCATOR, MANAGED_BY};
    use crate::testing::{at, object, summary};

    fn range(name: &str, cidrs: &[&str], meta: Value) -> Arc<ServiceCIDR> {
        let mut object_meta = json!({"name": name});
        for (key, value) in meta.as_object().into_iter().flatten() {
            object_meta[key] = value.clone();
        }
        Arc::new(object(json!({"metadata": object_meta, "spec": {"cidrs": cidrs}})))
    }

    fn address(name: &str, by: &str) -> Arc<IPAddress> {
        Arc::new(object(json!({"metadata": {"name": name, "labels": {MANAGED_BY: by}},
            "spec": {"parentRef": {"resource": "services", "name": "s"}}})))
    }

    fn run(
        range: &Arc<ServiceCIDR>,
        others: &[Arc<ServiceCIDR>],
        addresses: &[Arc<IPAddress>],
        now: i64,
    ) -> Vec<String> {
        let ranges: Vec<_> = others.iter().chain([range]).cloned().collect();
        let observed = Observed { range, ranges: &ranges, addresses };
        decide(&observed, at(now)).iter().map(summary).collect()
    }

    #[test]
    fn ranges_are_protected_and_then_ready() {
        let fresh = range("new", &["10.0.0.0/16"], json!({"finalizers": ["mine"]}));
        let protect = r#"patch ServiceCIDR new {"metadata":{"finalizers":["mine","networking.k8s.io/service-cidr-finalizer"]}}"#;
        assert_eq!(run(&fresh, &[], &[], 0), [protect]);
        let mut protected = range("new", &["10.0.0.0/16"], json!({"finalizers": [FINALIZER]}));
        let lines = run(&protected, &[], &[], 0);
        assert!(lines[0].contains("Kubernetes Service CIDR is ready"), "{lines:?}");
        let ready = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
            "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": at(0).to_string()}]});
        Arc::make_mut(&mut protected).status = object(ready);
        assert!(run(&protected, &[], &[], 9).is_empty());
    }

    #[test]
    fn ranges_go_when_no_address_needs_them() {
        let going = |cidrs: &[&str]| {
            range("old", cidrs, json!({"finalizers": [FINALIZER], "deletionTimestamp": at(0).to_string()}))
        };
        let wide = range("wide", &["10.0.0.0/8"], json!({}));
        let narrow = range("narrow", &["10.0.1.0/24"], json!({}));
        let (gone, wait, held) =
            ("patch ServiceCIDR old {\"metadata\":{\"finalizers\":[]}}", "again 5s", "Terminating");
        let used = [address("10.0.0.7", ALLOCATOR)];
        type Case<'a> = (&'a [&'a str], &'a [Arc<ServiceCIDR>], &'a [Arc<IPAddress>], i64, &'a str);
        let cases: [Case<'_>; 9] = [
            (&["10.0.0.0/16"], &[], &[], 5, wait),
            (&["10.0.0.0/16"], &[], &[], 10, gone),
            (&["10.0.0.0/16"], &[], &used, 10, held),
            (&["10.0.0.0/16"], std::slice::from_ref(&wide), &used, 10, gone),
            (&["10.0.0.0/16"], std::slice::from_ref(&narrow), &used, 10, held),
            (&["10.0.0.0/16"], std::slice::from_ref(&narrow), &[address("10.0.1.7", ALLOCATOR)], 10, gone),
            (&["10.0.0.0/16"], &[], &[address("10.0.0.7", "me")], 10, gone),
            (&["10.0.0.0/16"], &[], &[address("10.1.0.7", ALLOCATOR)], 10, gone),
            (
                &["10.0.0.0/16", "fd00::/112"],
                std::slice::from_ref(&wide),
                &[address("fd00::7", ALLOCATOR)],
                10,
                held,
            ),
        ];
        for (number, (cidrs, others, addresses, now, expected)) in cases.into_iter().enumerate() {
            let lines = run(&going(cidrs), others, addresses, now);
            assert!(lines.len() == 1 && lines[0].contains(expected), "case {number}: {lines:?}");
        }
    }
}
