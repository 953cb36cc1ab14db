//! Whether a pod that ends may still be sent requests, and how long its stop signal waits for that.
//!
//! A program that exits on its stop signal refuses connections from then on, while the data planes may send it
//! some for a moment longer. So the signal comes after they have dropped the pod, as part of its grace period.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// The UIDs of the pods to which a slice sends new connections. Those that end get none, whatever
/// `publishNotReadyAddresses` says of their readiness.
#[must_use]
pub fn receivers(slice: &EndpointSlice) -> Vec<String> {
    let receives = slice.endpoints.iter().flatten().filter(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        conditions.ready != Some(false) && conditions.terminating != Some(true)
    });
    receives.filter_map(|endpoint| endpoint.target_ref.as_ref()?.uid.clone()).collect()
}

/// Where the agent of another node answers that its data planes have dropped a pod; none where nothing can be asked.
/// A node that is not ready is none of them: it may not answer for long.
#[must_use]
pub fn peer(node: &Node, own: &str) -> Option<SocketAddr> {
    let status = node.status.as_ref().filter(|_| node.metadata.name.as_deref() != Some(own))?;
    let mut conditions = status.conditions.iter().flatten();
    if !conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True") {
        return None;
    }
    let port = status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref()?.port;
    let mut internal = status.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    let address: IpAddr = internal.find_map(|address| address.address.parse().ok())?;
    Some(SocketAddr::new(address, u16::try_from(port).ok().filter(|port| *port > 0)?))
}

/// The longest wait of a container that gets `grace` seconds: half of them are left to itself.
#[must_use]
pub fn patience(grace: i64, most: Duration) -> Duration {
    (Duration::from_secs(grace.max(0).unsigned_abs()) / 2).min(most)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_receives() {
        let cases = [
            (json!({"ready": true}), true),
            (json!(null), true),
            (json!({"ready": false}), false),
            (json!({"ready": false, "serving": true, "terminating": true}), false),
            (json!({"ready": true, "serving": true, "terminating": true}), false),
        ];
        for (conditions, receives) in cases {
            let mut endpoint = json!({"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "uid": "u"}});
            if !conditions.is_null() {
                endpoint["conditions"] = conditions.clone();
            }
            let slice = json!({"addressType": "IPv4", "metadata": {"name": "s"},
                "endpoints": [endpoint, {"addresses": ["10.0.0.2"]}]});
            let slice = serde_json::from_value(slice).unwrap();
            let expected: &[&str] = if receives { &["u"] } else { &[] };
            assert_eq!(receivers(&slice), expected, "{conditions}");
        }
    }

    #[test]
    fn who_is_asked() {
        let status = |ready: &str, port: i32, address: &str| {
            json!({"conditions": [{"type": "Ready", "status": ready}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
                "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": address}]})
        };
        let cases = [
            ("n", status("True", 10250, "192.0.2.1"), Some("192.0.2.1:10250")),
            ("n", status("True", 7, "2001:db8::1"), Some("[2001:db8::1]:7")),
            ("own", status("True", 10250, "192.0.2.1"), None),
            ("n", status("Unknown", 10250, "192.0.2.1"), None),
            ("n", status("True", 0, "192.0.2.1"), None),
            ("n", status("True", 70_000, "192.0.2.1"), None),
            ("n", status("True", 10250, "?"), None),
            ("n", json!({}), None),
        ];
        for (name, status, expected) in cases {
            let node = json!({"metadata": {"name": name}, "status": status});
            let found = peer(&serde_json::from_value(node.clone()).unwrap(), "own");
            assert_eq!(found.map(|address| address.to_string()).as_deref(), expected, "{node}");
        }
    }

    #[test]
    fn at_most_half_of_the_grace() {
        let most = Duration::from_secs(5);
        for (grace, millis) in [(30, 5000), (4, 2000), (1, 500), (0, 0), (-1, 0)] {
            assert_eq!(patience(grace, most), Duration::from_millis(millis), "{grace}");
        }
    }
}
