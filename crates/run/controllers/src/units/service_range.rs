//! Wires ranges of Service addresses, and what keeps Services and their addresses in step.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::Informer;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::service_address;
use plimsoll_reconcile::service_cidr::{self, Observed};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// How long to wait when the server does not say how things are.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Ranges.
pub(crate) fn ranges(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let ranges = context.informers.informer::<ServiceCIDR>();
    let addresses = context.informers.informer::<IPAddress>();
    let (all, those) = (ranges.clone(), ranges.clone());
    let unit = unit
        // What one range holds another one need not.
        .input(&ranges, move |range| {
            all.list().iter().map(|other| Key::of(&**other)).chain([Key::of(range)]).collect()
        })
        .input(&addresses, move |address| {
            let Some(address) = address.metadata.name.as_deref().and_then(|name| name.parse::<IpAddr>().ok())
            else {
                return Vec::new();
            };
            // Addresses matter only to ranges that wait for them to go.
            let all = those.list();
            let waiting = all.iter().filter(|range| range.metadata.deletion_timestamp.is_some());
            waiting
                .filter(|range| service_cidr::holds(range, address))
                .map(|range| Key::of(&**range))
                .collect()
        });
    Ok(unit.decide(move |key, now| {
        let Some(range) = ranges.get("", &key.name) else { return Vec::new() };
        let (ranges, addresses) = (ranges.list(), addresses.list());
        service_cidr::decide(&Observed { range: &range, ranges: &ranges, addresses: &addresses }, now)
    }))
}

/// Services and addresses. A key without a namespace is an address.
pub(crate) fn repair(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let repair = Arc::new(Repair {
        client: context.client.clone(),
        services: context.informers.informer(),
        addresses: context.informers.informer(),
        ranges: context.informers.informer(),
    });
    let unit = unit
        .input(&repair.services, |service| {
            let held = service_address::held(service).iter().map(|address| Key::new("", address));
            held.chain([Key::of(service)]).collect()
        })
        .input(&repair.addresses, |address| {
            let parent = service_address::parent(address).map(|(namespace, name)| Key::new(namespace, name));
            parent.into_iter().chain([Key::of(address)]).collect()
        })
        .reads(&repair.ranges);
    Ok(unit.decide_async(move |key, now| {
        let repair = repair.clone();
        async move { repair.decide(&key, now).await.unwrap_or_else(|_| vec![Action::RequeueAfter(RETRY)]) }
    }))
}

struct Repair {
    client: kube::Client,
    services: Informer<Service>,
    addresses: Informer<IPAddress>,
    ranges: Informer<ServiceCIDR>,
}

impl Repair {
    /// A Service and its address are committed together, but one cache may show it before the other does: where
    /// they seem to be apart, the server is asked.
    async fn decide(&self, key: &Key, now: Timestamp) -> Result<Vec<Action>, kube::Error> {
        if key.namespace.is_empty() {
            return self.decide_address(&key.name, now).await;
        }
        let Some(service) = self.services.get(&key.namespace, &key.name) else { return Ok(Vec::new()) };
        let known = |address: &str| self.addresses.get("", address);
        if self.repair(&service, known).is_empty() {
            return Ok(Vec::new());
        }
        let services = kube::Api::<Service>::namespaced(self.client.clone(), &key.namespace);
        let Some(service) = services.get_opt(&key.name).await? else { return Ok(Vec::new()) };
        let mut living = Vec::new();
        for address in service_address::held(&service) {
            living.extend(
                kube::Api::<IPAddress>::all(self.client.clone()).get_opt(address).await?.map(Arc::new),
            );
        }
        let find =
            |address: &str| living.iter().find(|one| one.metadata.name.as_deref() == Some(address)).cloned();
        Ok(self.repair(&service, find))
    }

    fn repair(&self, service: &Service, claim: impl Fn(&str) -> Option<Arc<IPAddress>>) -> Vec<Action> {
        let other = |namespace: &str, name: &str| self.services.get(namespace, name);
        let ranges = self.ranges.list();
        let has_range = |address| ranges.iter().any(|range| service_cidr::holds(range, address));
        service_address::repair(service, claim, other, has_range)
    }

    async fn decide_address(&self, name: &str, now: Timestamp) -> Result<Vec<Action>, kube::Error> {
        let Some(claim) = self.addresses.get("", name) else { return Ok(Vec::new()) };
        let service =
            service_address::parent(&claim).and_then(|(space, name)| self.services.get(space, name));
        let actions = service_address::tidy(&claim, service.as_deref(), now);
        if !actions.iter().any(|action| matches!(action, Action::Delete(_))) {
            return Ok(actions);
        }
        let Some(claim) = kube::Api::<IPAddress>::all(self.client.clone()).get_opt(name).await? else {
            return Ok(Vec::new());
        };
        let service = match service_address::parent(&claim) {
            Some((namespace, name)) => {
                kube::Api::<Service>::namespaced(self.client.clone(), namespace).get_opt(name).await?
            }
            None => None,
        };
        Ok(service_address::tidy(&claim, service.as_ref(), now))
    }
}
