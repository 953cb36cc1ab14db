//! What the cluster's names need of a Service and of its EndpointSlices: a small part of both.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};

use super::records::{EndpointRecord, Place, PortRecord, ServiceRecords};
use crate::endpoints::{Protocol, is_ready};

/// What names need of a Service.
#[derive(Debug, Clone)]
pub struct ServiceFacts {
    leads: Leads,
    ports: Box<[PortRecord]>,
}

/// Where the name of a Service leads.
#[derive(Debug, Clone)]
enum Leads {
    Cluster(Box<[IpAddr]>),
    Endpoints,
    Alias(Box<str>),
}

/// The label of EndpointSlices that tells who keeps them, and the controller that marks those of headless Services.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// What names need of an EndpointSlice: the endpoints that are ready.
#[derive(Debug, Clone, Default)]
pub struct SliceFacts {
    endpoints: Box<[EndpointRecord]>,
}

impl ServiceFacts {
    /// Nothing when the Service has no names yet.
    pub fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let listed = spec.cluster_ips.as_deref().unwrap_or_default();
        let addresses = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
        let leads = match (spec.type_.as_deref(), addresses.first().map(String::as_str)) {
            (Some("ExternalName"), _) => {
                let target = spec.external_name.as_deref()?.trim_end_matches('.').to_ascii_lowercase();
                Leads::Alias(target.into())
            }
            (_, Some("None")) => Leads::Endpoints,
            (_, Some(_)) => Leads::Cluster(addresses.iter().filter_map(|text| text.parse().ok()).collect()),
            (_, None) => return None,
        };
        let ports =
            spec.ports.iter().flatten().filter_map(|port| {
                port_record(port.name.as_deref(), port.protocol.as_deref(), Some(port.port))
            });
        Some(Self { leads, ports: ports.collect() })
    }
}

impl SliceFacts {
    /// Whether names can need anything of a slice. The usual one of a Service with an address of its own is only
    /// for those who send packets.
    pub fn matter(slice: &EndpointSlice) -> bool {
        let label = |name: &str| slice.metadata.labels.as_ref()?.get(name).map(String::as_str);
        label(MANAGED_BY) != Some(CONTROLLER) || label(HEADLESS).is_some()
    }

    /// The facts of one slice.
    pub fn of(slice: &EndpointSlice) -> Self {
        let ports: Arc<[PortRecord]> = slice.ports.iter().flatten().filter_map(slice_port).collect();
        let mut endpoints = Vec::new();
        for endpoint in slice.endpoints.iter().flatten().filter(|endpoint| is_ready(endpoint)) {
            for address in endpoint.addresses.iter().filter_map(|text| text.parse().ok()) {
                let hostname = endpoint.hostname.as_deref().filter(|name| !name.is_empty());
                let hostname = hostname.map(|name| name.to_ascii_lowercase().into());
                endpoints.push(EndpointRecord { address, hostname, ports: ports.clone() });
            }
        }
        Self { endpoints: endpoints.into() }
    }
}

impl ServiceRecords {
    /// The names of a Service with these slices.
    pub fn new<S: AsRef<SliceFacts>>(facts: ServiceFacts, slices: impl IntoIterator<Item = S>) -> Self {
        let place = match facts.leads {
            Leads::Cluster(addresses) => Place::Cluster(addresses),
            Leads::Endpoints => Place::Endpoints(endpoints(slices)),
            Leads::Alias(target) => Place::Alias(target),
        };
        Self { place, ports: facts.ports }
    }
}

impl AsRef<Self> for SliceFacts {
    fn as_ref(&self) -> &Self {
        self
    }
}

fn endpoints<S: AsRef<SliceFacts>>(slices: impl IntoIterator<Item = S>) -> Box<[EndpointRecord]> {
    let mut found = Vec::new();
    for slice in slices {
        found.extend_from_slice(&slice.as_ref().endpoints);
    }
    found.sort_by(|a, b| (a.address, &a.hostname).cmp(&(b.address, &b.hostname)));
    found.dedup_by(|a, b| a.address == b.address && a.hostname == b.hostname && a.ports == b.ports);
    found.into()
}

fn slice_port(port: &EndpointPort) -> Option<PortRecord> {
    port_record(port.name.as_deref(), port.protocol.as_deref(), port.port)
}

fn port_record(name: Option<&str>, protocol: Option<&str>, port: Option<i32>) -> Option<PortRecord> {
    let port = u16::try_from(port?).ok()?;
    let name = name.unwrap_or_default().to_ascii_lowercase().into();
    Some(PortRecord { name, protocol: Protocol::parse(protocol)?, port })
}
