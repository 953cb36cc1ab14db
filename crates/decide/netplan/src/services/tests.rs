//! Services as users write them, and the frontends they become.

#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;

fn service(spec: Value, extra: Value) -> Service {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9", "fd00::9"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    for (target, fragment) in [("/spec", spec), ("", extra)] {
        let target = object.pointer_mut(target).unwrap().as_object_mut().unwrap();
        target.extend(fragment.as_object().unwrap().clone());
    }
    serde_json::from_value(object).unwrap()
}

fn slice(endpoints: &[(u8, &str)]) -> EndpointSlice {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(last, node)| json!({"addresses": [format!("10.42.0.{last}")], "nodeName": node}))
        .collect();
    let object = json!({
        "addressType": "IPv4",
        "metadata": {"name": "web-1"},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    serde_json::from_value(object).unwrap()
}

/// One line for each frontend, in order.
fn describe(service: &Service, endpoints: &[(u8, &str)]) -> Vec<String> {
    let surroundings = Surroundings {
        node: NodeFacts { name: "here".to_owned(), zone: None },
        ipv4: true,
        own_addresses: BTreeSet::from(["10.96.0.10".parse().unwrap()]),
        node_addresses: vec!["198.51.100.1".parse().unwrap()],
    };
    let slices = [slice(endpoints)];
    let line = |(frontend, handling): (Frontend, Handling)| {
        let address = frontend.address.map_or("node".to_owned(), |address| address.to_string());
        let audience = if frontend.audience == Audience::Outside { " outside" } else { "" };
        let what = match handling {
            Handling::Reject => "reject".to_owned(),
            Handling::Drop => "drop".to_owned(),
            Handling::Balance { targets, affinity, masquerade, sources } => {
                let targets: Vec<_> = targets.iter().map(|t| format!("{}:{}", t.address, t.port)).collect();
                let affinity = affinity.map_or(String::new(), |seconds| format!(" affinity {seconds}"));
                let masquerade = if masquerade { " masquerade" } else { "" };
                let sources: String = sources.iter().map(|range| format!(" from {range}")).collect();
                format!("{}{affinity}{masquerade}{sources}", targets.join(" "))
            }
        };
        format!("{address}:{}{audience} -> {what}", frontend.port)
    };
    desired(service, &slices, &surroundings).into_iter().map(line).collect()
}

/// Name, spec, rest of the object, endpoints, frontends.
type Case<'a> = (&'a str, Value, Value, &'a [(u8, &'a str)], Vec<&'a str>);

#[test]
fn frontends_of_services() {
    let here_and_there: &[(u8, &str)] = &[(1, "here"), (2, "there")];
    let there: &[(u8, &str)] = &[(2, "there")];
    let node_port = json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    let balancer = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.7", "ipMode": "VIP"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "x"},
    ]}});
    let cases: Vec<Case<'_>> = vec![
        (
            "plain",
            json!({}),
            json!({}),
            here_and_there,
            vec!["10.96.0.9:80 -> 10.42.0.1:8080 10.42.0.2:8080"],
        ),
        ("without endpoints", json!({}), json!({}), &[], vec!["10.96.0.9:80 -> reject"]),
        ("headless", json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({}), here_and_there, vec![]),
        ("external name", json!({"type": "ExternalName", "externalName": "a.b"}), json!({}), there, vec![]),
        (
            "served by another proxy",
            json!({}),
            json!({"metadata": {"name": "web", "labels": {"service.kubernetes.io/service-proxy-name": "x"}}}),
            there,
            vec![],
        ),
        ("the resolver's address", json!({"clusterIPs": ["10.96.0.10"]}), json!({}), there, vec![]),
        (
            "affinity",
            json!({"sessionAffinity": "ClientIP"}),
            json!({}),
            there,
            vec!["10.96.0.9:80 -> 10.42.0.2:8080 affinity 10800"],
        ),
        (
            "affinity for a minute",
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}),
            json!({}),
            there,
            vec!["10.96.0.9:80 -> 10.42.0.2:8080 affinity 60"],
        ),
        (
            "internal traffic stays here",
            json!({"internalTrafficPolicy": "Local"}),
            json!({}),
            here_and_there,
            vec!["10.96.0.9:80 -> 10.42.0.1:8080"],
        ),
        (
            "internal traffic has nothing here",
            json!({"internalTrafficPolicy": "Local"}),
            json!({}),
            there,
            vec!["10.96.0.9:80 -> drop"],
        ),
        (
            "node port",
            json!({"type": "NodePort", "ports": node_port}),
            json!({}),
            there,
            vec!["node:30080 -> 10.42.0.2:8080 masquerade", "10.96.0.9:80 -> 10.42.0.2:8080"],
        ),
        (
            "node port without endpoints",
            json!({"type": "NodePort", "ports": node_port}),
            json!({}),
            &[],
            vec!["node:30080 -> reject", "10.96.0.9:80 -> reject"],
        ),
        (
            "node port for endpoints here",
            json!({"type": "NodePort", "ports": node_port, "externalTrafficPolicy": "Local"}),
            json!({}),
            here_and_there,
            vec![
                "node:30080 -> 10.42.0.1:8080 10.42.0.2:8080",
                "node:30080 outside -> 10.42.0.1:8080",
                "10.96.0.9:80 -> 10.42.0.1:8080 10.42.0.2:8080",
            ],
        ),
        (
            "node port with nothing here",
            json!({"type": "NodePort", "ports": node_port, "externalTrafficPolicy": "Local"}),
            json!({}),
            there,
            vec![
                "node:30080 -> 10.42.0.2:8080",
                "node:30080 outside -> drop",
                "10.96.0.9:80 -> 10.42.0.2:8080",
            ],
        ),
        (
            "external addresses",
            json!({"externalIPs": ["192.0.2.1", "0.0.0.0", "fd00::1"]}),
            json!({}),
            there,
            vec!["10.96.0.9:80 -> 10.42.0.2:8080", "192.0.2.1:80 -> 10.42.0.2:8080 masquerade"],
        ),
        (
            "load balancer",
            json!({"type": "LoadBalancer"}),
            json!({"status": balancer}),
            there,
            vec!["10.96.0.9:80 -> 10.42.0.2:8080", "192.0.2.7:80 -> 10.42.0.2:8080 masquerade"],
        ),
        (
            "load balancer for some",
            json!({
                "type": "LoadBalancer", "externalIPs": ["192.0.2.1"], "ports": node_port,
                "loadBalancerSourceRanges": [" 203.0.113.0/25 ", "203.0.113.128/25", "203.0.113.7/32", "fd00::/8"],
            }),
            json!({"status": balancer}),
            there,
            vec![
                "node:30080 -> 10.42.0.2:8080 masquerade",
                "10.96.0.9:80 -> 10.42.0.2:8080",
                "192.0.2.1:80 -> 10.42.0.2:8080 masquerade",
                "192.0.2.7:80 -> 10.42.0.2:8080 masquerade from 203.0.113.0/24",
            ],
        ),
        (
            "load balancer for some, this node among them",
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["198.51.100.0/24"]}),
            json!({"status": balancer}),
            there,
            vec![
                "10.96.0.9:80 -> 10.42.0.2:8080",
                "192.0.2.7:80 -> 10.42.0.2:8080 masquerade from 192.0.2.7/32 from 198.51.100.0/24",
            ],
        ),
        (
            "load balancer for some, outsiders to endpoints here",
            json!({
                "type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"],
                "externalTrafficPolicy": "Local",
            }),
            json!({"status": balancer}),
            here_and_there,
            vec![
                "10.96.0.9:80 -> 10.42.0.1:8080 10.42.0.2:8080",
                "192.0.2.7:80 -> 10.42.0.1:8080 10.42.0.2:8080 from 203.0.113.0/24",
                "192.0.2.7:80 outside -> 10.42.0.1:8080",
            ],
        ),
        (
            "load balancer for everybody, and for one family only",
            json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24", "0.0.0.0/0"]}),
            json!({"status": balancer}),
            there,
            vec!["10.96.0.9:80 -> 10.42.0.2:8080", "192.0.2.7:80 -> 10.42.0.2:8080 masquerade"],
        ),
        ("ports out of range", json!({"ports": [{"port": 0x10050}, {"port": -1}]}), json!({}), there, vec![]),
    ];
    for (name, spec, extra, endpoints, expected) in cases {
        assert_eq!(describe(&service(spec, extra), endpoints), expected, "{name}");
    }
}

#[test]
fn load_balancers_ask_where_endpoints_stay_on_their_node() {
    let cases = [
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}),
            Some(30999),
        ),
        (json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}), None),
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "healthCheckNodePort": 30999}),
            None,
        ),
        (json!({"type": "NodePort", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30999}), None),
        (
            json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 99999}),
            None,
        ),
    ];
    for (spec, port) in cases {
        assert_eq!(health_check_port(&service(spec.clone(), json!({}))), port, "{spec}");
    }
}
