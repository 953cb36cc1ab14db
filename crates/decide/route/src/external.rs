//! Services of the type ExternalName as backends: they stand for a host outside the cluster, or in another namespace.
//!
//! Only Ingresses lead there. Who may make a Service decides by it where this node connects to, so what only this node
//! reaches is refused: its loopback and its link.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::draft::Port;

/// Where a Service of that type leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum External {
    /// To an address.
    Address(SocketAddr),
    /// To a port of all addresses that a name has.
    Name(String, u16),
    /// Nowhere.
    Nowhere,
}

/// Whether a Service is of that type.
pub fn is_external(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

/// Where a Service leads, if it is of that type.
pub fn external(service: &Service, wanted: &Port) -> Option<External> {
    if !is_external(service) {
        return None;
    }
    let spec = service.spec.as_ref()?;
    let host = spec.external_name.as_deref().unwrap_or_default();
    let Some(port) = port(spec.ports.as_deref().unwrap_or_default(), wanted) else {
        return Some(External::Nowhere);
    };
    Some(match host.parse::<IpAddr>() {
        Ok(address) if is_elsewhere(address) => External::Address(SocketAddr::new(address, port)),
        Ok(_) => External::Nowhere,
        Err(_) => match name(host) {
            Some(name) => External::Name(name, port),
            None => External::Nowhere,
        },
    })
}

/// Whether an address is not one that only this node reaches.
pub fn is_elsewhere(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            !(v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.octets()[0] == 0)
        }
        IpAddr::V6(v6) => {
            !(v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local())
        }
    }
}

/// The port there: that to which the Service's port leads, else the port itself. Such Services need not name any.
fn port(ports: &[ServicePort], wanted: &Port) -> Option<u16> {
    let known = ports.iter().find(|port| match wanted {
        Port::Number(number) => port.port == i32::from(*number),
        Port::Name(name) => port.name.as_deref() == Some(name),
    });
    let target = known.and_then(|port| match port.target_port {
        Some(IntOrString::Int(number)) if number > 0 => u16::try_from(number).ok(),
        _ => None,
    });
    let itself = || match wanted {
        Port::Number(number) => Some(*number),
        Port::Name(_) => u16::try_from(known?.port).ok(),
    };
    target.or_else(itself)
}

fn name(host: &str) -> Option<String> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && bytes.first().is_some_and(|first| word(*first))
            && bytes.last().is_some_and(|last| word(*last))
            && bytes.iter().all(|byte| word(*byte) || *byte == b'-')
    };
    let local = name == "localhost" || name.ends_with(".localhost");
    (name.len() <= 253 && !local && name.split('.').all(label)).then_some(name)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn services_lead_to_names_and_addresses_elsewhere() {
        let ports = json!([{"name": "web", "port": 80, "targetPort": 8080}, {"name": "same", "port": 81},
            {"name": "word", "port": 82, "targetPort": "http"}]);
        let number = |number| Port::Number(number);
        let named = |name: &str| Port::Name(name.to_owned());
        let table = [
            ("Example.org.", json!([]), number(443), "example.org:443"),
            ("example.org", ports.clone(), number(80), "example.org:8080"),
            ("example.org", ports.clone(), named("web"), "example.org:8080"),
            ("example.org", ports.clone(), named("same"), "example.org:81"),
            ("example.org", ports.clone(), named("word"), "example.org:82"),
            ("example.org", ports.clone(), number(9), "example.org:9"),
            ("example.org", ports, named("other"), "-"),
            ("web.other.svc.cluster.local", json!([]), number(80), "web.other.svc.cluster.local:80"),
            ("192.0.2.1", json!([]), number(80), "192.0.2.1:80"),
            ("2001:db8::1", json!([]), number(80), "[2001:db8::1]:80"),
            ("127.0.0.1", json!([]), number(80), "-"),
            ("::1", json!([]), number(80), "-"),
            ("::ffff:127.0.0.1", json!([]), number(80), "-"),
            ("0.0.0.0", json!([]), number(80), "-"),
            ("169.254.169.254", json!([]), number(80), "-"),
            ("fe80::1", json!([]), number(80), "-"),
            ("localhost", json!([]), number(80), "-"),
            ("a.localhost.", json!([]), number(80), "-"),
            ("a_b.org", json!([]), number(80), "-"),
            ("a..org", json!([]), number(80), "-"),
            ("", json!([]), number(80), "-"),
        ];
        for (host, ports, port, expected) in table {
            let spec = json!({"type": "ExternalName", "externalName": host, "ports": ports});
            let service = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let told = match external(&service, &port).unwrap() {
                External::Address(address) => address.to_string(),
                External::Name(name, port) => format!("{name}:{port}"),
                External::Nowhere => "-".to_owned(),
            };
            assert_eq!(told, expected, "{host} {port:?}");
        }
        let other = serde_json::from_value(json!({"metadata": {}, "spec": {"type": "ClusterIP"}})).unwrap();
        assert_eq!(external(&other, &number(80)), None);
    }
}
