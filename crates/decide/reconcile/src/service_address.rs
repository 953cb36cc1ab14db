//! Addresses of Services and the IPAddresses that claim them, brought into step where somebody changed one of them
//! (kube-apiserver: pkg/registry/core/service/ipallocator/controller/repairip.go, v1.37).
//!
//! The API server commits both together, so that there is nothing to do here unless somebody interferes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::action::{Action, Severity};

/// The label that names who made an address, and the API server's name.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// What it says of addresses of Services.
pub const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// How long an address may be there before its Service is: others than this API server make it first.
const GRACE: SignedDuration = SignedDuration::from_secs(60);

/// Whether the API server gave it.
pub fn is_given(address: &IPAddress) -> bool {
    label(address, MANAGED_BY) == ALLOCATOR
}

fn label<'a>(address: &'a IPAddress, name: &str) -> &'a str {
    let labels = address.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(name)).map(String::as_str).unwrap_or_default()
}

/// Namespace and name of the Service that an IPAddress names, if it names one.
pub fn parent(address: &IPAddress) -> Option<(&str, &str)> {
    let parent = &address.spec.parent_ref;
    let is_service = parent.group.as_deref().unwrap_or_default().is_empty() && parent.resource == "services";
    is_service.then(|| (parent.namespace.as_deref().unwrap_or_default(), parent.name.as_str()))
}

/// The addresses of a Service as it names them.
pub fn held(service: &Service) -> &[String] {
    let Some(spec) = &service.spec else { return &[] };
    match spec.cluster_ip.as_deref() {
        None | Some("" | "None") => &[],
        Some(_) => spec.cluster_ips.as_deref().unwrap_or_default(),
    }
}

/// What to do about the addresses of a Service; `claim` finds an IPAddress and `service` another Service.
pub fn repair(
    of: &Service,
    claim: impl Fn(&str) -> Option<Arc<IPAddress>>,
    service: impl Fn(&str, &str) -> Option<Arc<Service>>,
    has_range: impl Fn(IpAddr) -> bool,
) -> Vec<Action> {
    let mut actions = Vec::new();
    let (namespace, name) = names(of);
    for text in held(of) {
        let warn = |reason, message: String| Action::event(of, Severity::Warning, reason, message);
        let Ok(address) = text.parse::<IpAddr>() else {
            let message = format!("Cluster IP {text} is not a valid IP; please recreate Service");
            actions.push(warn("ClusterIPNotValid", message));
            continue;
        };
        let family = family(address);
        if !has_range(address) {
            let message = format!(
                "Cluster IP [{family}]: {address} is not within any configured Service CIDR; please recreate service"
            );
            actions.push(warn("ClusterIPOutOfRange", message));
            continue;
        }
        let Some(claim) = claim(&address.to_string()) else {
            let message = format!("Cluster IP [{family}]: {address} is not allocated; repairing");
            actions.push(warn("ClusterIPNotAllocated", message));
            actions.push(Action::create(&made(of, address)).into());
            continue;
        };
        let own = parent(&claim);
        let other =
            own.filter(|own| *own != (namespace, name)).map(|(namespace, name)| service(namespace, name));
        match (own, other) {
            (Some(_), None) if is_labelled(&claim, family) => {}
            (Some(_), Some(Some(other))) if held(&other).contains(text) => {
                let message = format!(
                    "Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service"
                );
                actions.push(warn("ClusterIPAlreadyAllocated", message));
            }
            (wrong, other) => {
                if wrong.is_none() || other.is_some() {
                    let message = format!(
                        "the ClusterIP [{family}]: {address} for Service {namespace}/{name} has a wrong reference; repairing"
                    );
                    actions.push(warn("ClusterIPNotAllocated", message));
                }
                actions.push(Action::delete(&*claim).into());
                actions.push(Action::create(&made(of, address)).into());
            }
        }
    }
    actions
}

/// What to do about an IPAddress, given the Service that it names.
pub fn tidy(claim: &IPAddress, service: Option<&Service>, now: Timestamp) -> Vec<Action> {
    if !is_given(claim) {
        return Vec::new();
    }
    let address = claim.metadata.name.as_deref().unwrap_or_default();
    let remove = |reason, message: String| {
        vec![Action::event(claim, Severity::Warning, reason, message), Action::delete(claim).into()]
    };
    let Some((namespace, name)) = parent(claim) else {
        let shown = shown(&claim.spec.parent_ref);
        let message = format!(
            "IPAddress {address} appears to have been modified, not referencing a Service {shown}: cleaning up"
        );
        return remove("IPAddressNotAllocated", message);
    };
    let Some(service) = service else {
        let made = claim.metadata.creation_timestamp.as_ref().map_or(now, |made| made.0);
        let left = GRACE - now.duration_since(made);
        if left.is_positive() {
            return vec![Action::RequeueAfter(Duration::try_from(left).unwrap_or_default())];
        }
        let message = format!(
            "IPAddress: {address} for Service {namespace}/{name} appears to have leaked: cleaning up"
        );
        return remove("IPAddressNotAllocated", message);
    };
    if held(service).iter().any(|one| one == address) {
        return Vec::new();
    }
    let message =
        format!("IPAddress: {address} for Service {namespace}/{name} has a wrong reference; cleaning up");
    remove("IPAddressWrongReference", message)
}

fn shown(parent: &ParentReference) -> String {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("&{{{} {} {} {}}}", text(&parent.group), parent.resource, text(&parent.namespace), parent.name)
}

fn names(service: &Service) -> (&str, &str) {
    let meta = &service.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn is_labelled(address: &IPAddress, family: &str) -> bool {
    is_given(address) && label(address, FAMILY) == family
}

fn made(service: &Service, address: IpAddr) -> IPAddress {
    let labels = [(FAMILY, family(address)), (MANAGED_BY, ALLOCATOR)];
    let parent = ParentReference {
        resource: "services".to_owned(),
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone().unwrap_or_default(),
        group: None,
    };
    IPAddress {
        metadata: ObjectMeta {
            name: Some(address.to_string()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: IPAddressSpec { parent_ref: parent },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{at, object, summary};

    fn service(name: &str, address: &str) -> Service {
        object(json!({"metadata": {"namespace": "ns", "name": name},
            "spec": {"clusterIP": address, "clusterIPs": [address]}}))
    }

    fn claim(name: &str, by: &str, parent: Value) -> IPAddress {
        object(json!({"metadata": {"name": name, "creationTimestamp": at(0).to_string(),
            "labels": {MANAGED_BY: by, FAMILY: "IPv4"}}, "spec": {"parentRef": parent}}))
    }

    fn of(name: &str) -> Value {
        json!({"resource": "services", "namespace": "ns", "name": name})
    }

    #[test]
    fn what_services_hold_is_claimed_for_them() {
        let own = "10.0.0.7";
        let told = |reason: &str, rest: &[&str]| {
            [&[reason], rest].concat().iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()
        };
        let again = ["delete IPAddress 10.0.0.7", "create IPAddress 10.0.0.7"];
        let wrong = "event ClusterIPNotAllocated the ClusterIP [IPv4]: 10.0.0.7 for Service ns/web has a wrong reference; repairing";
        let cases = [
            (own, Some(claim(own, ALLOCATOR, of("web"))), vec![]),
            (
                own,
                None,
                told(
                    "event ClusterIPNotAllocated Cluster IP [IPv4]: 10.0.0.7 is not allocated; repairing",
                    &again[1..],
                ),
            ),
            (
                own,
                Some(claim(own, ALLOCATOR, json!({"resource": "pods", "name": "web"}))),
                told(wrong, &again),
            ),
            (own, Some(claim(own, ALLOCATOR, of("gone"))), told(wrong, &again)),
            (own, Some(claim(own, ALLOCATOR, of("elsewhere"))), told(wrong, &again)),
            (
                own,
                Some(claim(own, ALLOCATOR, of("twin"))),
                told(
                    "event ClusterIPAlreadyAllocated Cluster IP [IPv4]:10.0.0.7 was assigned to multiple services; please recreate service",
                    &[],
                ),
            ),
            (own, Some(claim(own, "me", of("web"))), told(again[0], &again[1..])),
            (
                "10.9.0.7",
                None,
                told(
                    "event ClusterIPOutOfRange Cluster IP [IPv4]: 10.9.0.7 is not within any configured Service CIDR; please recreate service",
                    &[],
                ),
            ),
            ("None", None, vec![]),
        ];
        for (number, (address, known, expected)) in cases.into_iter().enumerate() {
            let find = |_: &str, name: &str| match name {
                "twin" => Some(Arc::new(service("twin", own))),
                "elsewhere" => Some(Arc::new(service("elsewhere", "10.0.0.8"))),
                _ => None,
            };
            let known = known.map(Arc::new);
            let range = |address: IpAddr| address.to_string().starts_with("10.0.");
            let actions = repair(&service("web", address), |_| known.clone(), find, range);
            assert_eq!(actions.iter().map(summary).collect::<Vec<_>>(), expected, "case {number}");
        }
    }

    #[test]
    fn claims_of_nobody_go() {
        let name = "10.0.0.7";
        let leaked = "event IPAddressNotAllocated IPAddress: 10.0.0.7 for Service ns/web appears to have leaked: cleaning up";
        let modified = "event IPAddressNotAllocated IPAddress 10.0.0.7 appears to have been modified, not referencing a Service &{ pods  web}: cleaning up";
        let wrong = "event IPAddressWrongReference IPAddress: 10.0.0.7 for Service ns/web has a wrong reference; cleaning up";
        let delete = "delete IPAddress 10.0.0.7";
        let pods = json!({"resource": "pods", "name": "web"});
        let cases = [
            (ALLOCATOR, of("web"), Some("10.0.0.7"), 99, vec![]),
            (ALLOCATOR, of("web"), Some("10.0.0.8"), 99, vec![wrong, delete]),
            (ALLOCATOR, of("web"), None, 20, vec!["again 40s"]),
            (ALLOCATOR, of("web"), None, 60, vec![leaked, delete]),
            (ALLOCATOR, pods.clone(), None, 0, vec![modified, delete]),
            ("me", pods, None, 99, vec![]),
        ];
        for (by, parent, held, now, expected) in cases {
            let service = held.map(|held| service("web", held));
            let actions = tidy(&claim(name, by, parent), service.as_ref(), at(now));
            assert_eq!(actions.iter().map(summary).collect::<Vec<_>>(), expected);
        }
    }
}
