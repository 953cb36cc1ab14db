//! Variables that name the Services of a namespace (kubelet: pkg/kubelet/envvars).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};

use crate::spec::pod_spec;

/// The variables of a pod: those of `default/kubernetes`, and those of its own namespace's Services
/// unless it does not want them.
pub fn service_links<'a>(pod: &Pod, services: impl Iterator<Item = &'a Service>) -> BTreeMap<String, String> {
    let own = pod.metadata.namespace.as_deref().unwrap_or_default();
    let wanted = pod_spec(pod).enable_service_links.unwrap_or(true);
    let (mut master, mut others) = (BTreeMap::new(), BTreeMap::new());
    for service in services {
        let Some(ip) = cluster_ip(service) else { continue };
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        if namespace == own && wanted {
            add(&mut others, name, ip, ports(service));
        } else if namespace == "default" && name == "kubernetes" {
            add(&mut master, name, ip, ports(service));
        }
    }
    master.extend(others);
    master
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn add(env: &mut BTreeMap<String, String>, name: &str, ip: &str, ports: &[ServicePort]) {
    let name = upper(name);
    let mut set = |key: String, value: String| drop(env.insert(key, value));
    let bracketed = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let (number, protocol) = (port.port, port.protocol.as_deref().unwrap_or("TCP"));
        let url = format!("{}://{bracketed}:{number}", protocol.to_lowercase());
        if index == 0 {
            set(format!("{name}_SERVICE_HOST"), ip.to_owned());
            set(format!("{name}_SERVICE_PORT"), number.to_string());
            set(format!("{name}_PORT"), url.clone());
        }
        if let Some(port) = port.name.as_deref().filter(|name| !name.is_empty()) {
            set(format!("{name}_SERVICE_PORT_{}", upper(port)), number.to_string());
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        set(format!("{prefix}_PROTO"), protocol.to_lowercase());
        set(format!("{prefix}_PORT"), number.to_string());
        set(format!("{prefix}_ADDR"), ip.to_owned());
        set(prefix, url);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn own_namespace_and_the_api() {
        let service = |namespace: &str, name: &str, ip: &str, ports| -> Service {
            serde_json::from_value(json!({
                "metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": ports},
            }))
            .unwrap()
        };
        let services = [
            service("default", "kubernetes", "10.0.0.1", json!([{"name": "https", "port": 443}])),
            service(
                "ns",
                "my-db",
                "10.0.0.2",
                json!([{"port": 5432}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]),
            ),
            service("ns", "headless", "None", json!([{"port": 1}])),
            service("other", "x", "10.0.0.3", json!([{"port": 1}])),
        ];
        let pod = |links| {
            serde_json::from_value(json!({
                "metadata": {"namespace": "ns"}, "spec": {"enableServiceLinks": links, "containers": []},
            }))
            .unwrap()
        };
        let env = service_links(&pod(true), services.iter());
        let lines: Vec<_> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "KUBERNETES_PORT=tcp://10.0.0.1:443",
                "KUBERNETES_PORT_443_TCP=tcp://10.0.0.1:443",
                "KUBERNETES_PORT_443_TCP_ADDR=10.0.0.1",
                "KUBERNETES_PORT_443_TCP_PORT=443",
                "KUBERNETES_PORT_443_TCP_PROTO=tcp",
                "KUBERNETES_SERVICE_HOST=10.0.0.1",
                "KUBERNETES_SERVICE_PORT=443",
                "KUBERNETES_SERVICE_PORT_HTTPS=443",
                "MY_DB_PORT=tcp://10.0.0.2:5432",
                "MY_DB_PORT_53_UDP=udp://10.0.0.2:53",
                "MY_DB_PORT_53_UDP_ADDR=10.0.0.2",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_5432_TCP=tcp://10.0.0.2:5432",
                "MY_DB_PORT_5432_TCP_ADDR=10.0.0.2",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_SERVICE_HOST=10.0.0.2",
                "MY_DB_SERVICE_PORT=5432",
                "MY_DB_SERVICE_PORT_DNS_UDP=53",
            ]
        );
        assert_eq!(service_links(&pod(false), services.iter()).len(), 8);
    }
}
