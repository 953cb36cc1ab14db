//! What the cluster's zone knows, updated Service by Service.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::corefile::Pods;
use super::facts::{ServiceFacts, SliceFacts};
use crate::endpoints::Protocol;

/// Lifetime of the cluster's records, in seconds: long enough for a burst, short enough for a rollout.
const LIFETIME: u32 = 5;

/// The names of one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecords {
    pub(super) place: Place,
    pub(super) ports: Box<[PortRecord]>,
}

/// Where the name of a Service leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// To the addresses of the Service itself.
    Cluster(Box<[IpAddr]>),
    /// To its ready endpoints.
    Endpoints(Box<[EndpointRecord]>),
    /// To another name.
    Alias(Box<str>),
}

/// A ready endpoint of a headless Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EndpointRecord {
    pub(super) address: IpAddr,
    pub(super) hostname: Option<Box<str>>,
    pub(super) ports: Arc<[PortRecord]>,
}

impl EndpointRecord {
    /// The label that tells this endpoint from its siblings.
    pub(super) fn label(&self) -> std::borrow::Cow<'_, str> {
        match &self.hostname {
            Some(hostname) => (&**hostname).into(),
            None => dashed(self.address).into(),
        }
    }
}

/// A named port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PortRecord {
    pub(super) name: Box<str>,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

impl ServiceRecords {
    /// The names of a Service whose EndpointSlices these are. Nothing when it has no names yet.
    pub fn of<'a>(service: &Service, slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Option<Self> {
        Some(Self::new(ServiceFacts::of(service)?, slices.into_iter().map(SliceFacts::of)))
    }

    /// The addresses that have this Service's name.
    fn addresses(&self) -> Vec<IpAddr> {
        match &self.place {
            Place::Cluster(addresses) => addresses.to_vec(),
            Place::Endpoints(endpoints) => endpoints.iter().map(|endpoint| endpoint.address).collect(),
            Place::Alias(_) => Vec::new(),
        }
    }
}

/// All names of the cluster.
#[derive(Debug, Clone)]
pub struct Records {
    zone: Box<str>,
    resolver: Vec<IpAddr>,
    serial: u32,
    lifetime: u32,
    pods: Pods,
    /// By `NAME.NAMESPACE`, which is how it stands in queries.
    services: HashMap<Arc<str>, ServiceRecords>,
    /// How many Services each namespace has.
    namespaces: HashMap<Box<str>, usize>,
    /// The Services whose names an address has.
    owners: HashMap<IpAddr, Vec<Arc<str>>>,
}

impl Records {
    /// An empty zone, `cluster.local` for example, whose resolver has these addresses.
    pub fn new(zone: &str, resolver: Vec<IpAddr>) -> Self {
        Self {
            zone: zone.trim_matches('.').to_ascii_lowercase().into(),
            resolver,
            serial: 1,
            lifetime: LIFETIME,
            pods: Pods::Insecure,
            services: HashMap::new(),
            namespaces: HashMap::new(),
            owners: HashMap::new(),
        }
    }

    /// Follows a configuration: the lifetime of records in seconds, and whether pods have names.
    pub fn configure(&mut self, lifetime: u32, pods: Pods) {
        (self.lifetime, self.pods) = (lifetime, pods);
    }

    /// Sets or, with `None`, removes the names of a Service.
    pub fn set(&mut self, namespace: &str, name: &str, records: Option<ServiceRecords>) {
        let key: Arc<str> = format!("{name}.{namespace}").into();
        if self.services.get(&key) == records.as_ref() {
            return;
        }
        self.serial = self.serial.wrapping_add(1);
        if let Some(old) = self.services.remove(&key) {
            self.forget(namespace, &key, &old);
        }
        if let Some(records) = records {
            *self.namespaces.entry(namespace.into()).or_default() += 1;
            for address in records.addresses() {
                // Most addresses have one name.
                self.owners.entry(address).or_insert_with(|| Vec::with_capacity(1)).push(key.clone());
            }
            self.services.insert(key, records);
        }
    }

    fn forget(&mut self, namespace: &str, key: &str, old: &ServiceRecords) {
        if let Some(count) = self.namespaces.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(namespace);
            }
        }
        for address in old.addresses() {
            if let Some(owners) = self.owners.get_mut(&address) {
                owners.retain(|owner| **owner != *key);
                if owners.is_empty() {
                    self.owners.remove(&address);
                }
            }
        }
    }

    /// The name of the zone.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// A number that grows with each change.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    pub(super) fn lifetime(&self) -> u32 {
        self.lifetime
    }

    pub(super) fn pods(&self) -> Pods {
        self.pods
    }

    pub(super) fn resolver(&self) -> &[IpAddr] {
        &self.resolver
    }

    /// The Service of `NAME.NAMESPACE`.
    pub(super) fn service(&self, key: &str) -> Option<&ServiceRecords> {
        self.services.get(key)
    }

    pub(super) fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    pub(super) fn owners(&self, address: IpAddr) -> impl Iterator<Item = (&str, &ServiceRecords)> {
        let keys = self.owners.get(&address).into_iter().flatten();
        keys.filter_map(|key| Some((&**key, self.services.get(key)?)))
    }
}

/// An address as a label: `10-0-0-1`, `fd00--1`.
pub(super) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}
