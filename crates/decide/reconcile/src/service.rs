//! What a Service says about a pod: shared by Endpoints and EndpointSlices.

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use plimsoll_meta::selector::Labels;

use crate::pod;

/// Tells headless Services' endpoints from others'.
pub const HEADLESS: &str = "service.kubernetes.io/headless";

/// The selector of a Service whose endpoints are looked after; others are their users' business.
pub fn selector(service: &Service) -> Option<Labels> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| Labels::from_map(selector))
}

/// Whether it has no address of its own.
pub fn headless(spec: &ServiceSpec) -> bool {
    matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"))
}

/// Whether it asks for pods before they are ready.
pub fn publishes_not_ready(spec: &ServiceSpec) -> bool {
    spec.publish_not_ready_addresses == Some(true)
}

/// Whether a pod can be an endpoint at all.
pub fn has_endpoint(pod: &Pod) -> bool {
    !pod::finished(pod) && !addresses(pod).is_empty()
}

/// All addresses of a pod.
pub fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else { return Vec::new() };
    match &status.pod_ips {
        Some(all) if !all.is_empty() => all.iter().map(|one| one.ip.as_str()).collect(),
        _ => status.pod_ip.iter().map(String::as_str).filter(|ip| !ip.is_empty()).collect(),
    }
}

/// The first address of a pod in the family `IPv4` or `IPv6`.
pub fn address<'a>(pod: &'a Pod, family: &str) -> Option<&'a str> {
    addresses(pod).into_iter().find(|address| address.contains(':') == (family == "IPv6"))
}

/// The pod's own name in the Service's domain.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.as_ref().filter(|name| !name.is_empty())?;
    (spec.subdomain.is_some() && spec.subdomain == service.metadata.name).then(|| hostname.clone())
}

/// Which pod an endpoint is.
pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The protocol of a port.
pub fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// The number that a Service's port has in a pod: names are looked up among its containers' ports.
pub fn port_of(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let ports =
                spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
            let named = |one: &&k8s_openapi::api::core::v1::ContainerPort| {
                one.name.as_ref() == Some(name) && one.protocol.as_deref().unwrap_or("TCP") == protocol(port)
            };
            ports.into_iter().find(named).map(|one| one.container_port)
        }
    }
}
