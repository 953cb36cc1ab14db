//! Error text of Services and what is around them.

use serde_json::{Value, json};

use super::check;

#[test]
fn services_and_networking_are_checked() {
    let service = |patch: Value, expected: &[&str]| check("", "services", json!({"spec": patch}), expected);
    service(json!({"ports": []}), &["spec.ports: Required value"]);
    service(json!({"ports": [], "clusterIP": "None"}), &[]);
    service(
        json!({"ports": [{"port": 80}, {"port": 81}]}),
        &["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
    );
    service(
        json!({"ports": [{"port": 0}]}),
        &[
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
        ],
    );
    service(
        json!({"ports": [{"port": 80, "nodePort": 30000}]}),
        &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
    );
    service(
        json!({"type": "X"}),
        &[
            "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
        ],
    );
    service(json!({"type": "ExternalName"}), &["spec.externalName: Required value"]);
    service(
        json!({"clusterIP": "x"}),
        &[
            "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ],
    );
    service(
        json!({"externalIPs": ["127.0.0.1"]}),
        &[
            "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ],
    );
    service(
        json!({"externalTrafficPolicy": "Local"}),
        &[
            "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set when `type` is 'NodePort' or 'LoadBalancer'",
        ],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": null}),
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": {"rules": [{"host": "1.2.3.4"}]}}),
        &["spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address"],
    );
    check(
        "networking.k8s.io",
        "ingresses",
        json!({"spec": {"rules": [{"http": {"paths": [{"path": "x", "pathType": "Exact"}]}}]}}),
        &[
            "spec.rules[0].http.paths[0].path: Invalid value: \"x\": must be an absolute path",
            "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
        ],
    );
    check(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]}]}}),
        &[
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
        ],
    );
    check(
        "discovery.k8s.io",
        "endpointslices",
        json!({"endpoints": [{"addresses": ["x"]}, {}]}),
        &[
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IPv4 address",
            "endpoints[0].addresses[0]: Invalid value: \"x\": must be a valid IP address",
            "endpoints[1].addresses: Required value: must contain at least 1 address",
        ],
    );
}
