#![expect(clippy::unwrap_used, reason = "tests")]

mod reference;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};

use super::plan::{Difference, Element, Plan, Rules};
use super::*;

/// The node that rules are decided for.
const HERE: &str = "here";

fn picture(namespaces: &[Namespace], pods: &[Pod], policies: &[NetworkPolicy]) -> Picture {
    let mut picture = Picture::default();
    for namespace in namespaces {
        picture.set_namespace(namespace.metadata.name.as_deref().unwrap(), Some(namespace));
    }
    for pod in pods {
        let key = (pod.metadata.namespace.clone().unwrap(), pod.metadata.name.clone().unwrap());
        picture.set_pod(&key, PodFacts::read(pod, HERE));
    }
    for policy in policies {
        let key = (policy.metadata.namespace.clone().unwrap(), policy.metadata.name.clone().unwrap());
        picture.set_policy(&key, Some(Arc::new(policy.clone())));
    }
    picture
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// What the kernel does with a packet to or from a pod of the node.
fn passes(
    rules: &Rules,
    direction: Direction,
    pod: IpAddr,
    peer: IpAddr,
    (protocol, port): (Option<Protocol>, u16),
) -> bool {
    let Some(group) = rules.elements.get(&Element::Isolated(direction, pod)) else { return true };
    let lets = |list: u32| match (&rules.lists[&list], protocol) {
        (Ports::All, _) => true,
        (ports, Some(protocol)) => ports.contains(protocol, port),
        (_, None) => false,
    };
    let chain = rules.groups[group];
    assert_eq!(chain.direction, direction);
    let blocks = rules.elements.iter().filter_map(|(element, list)| match element {
        Element::Block(number, range) if number == group => {
            (range.first <= peer && peer <= range.last).then_some(*list)
        }
        _ => None,
    });
    let blocks: Vec<_> = blocks.collect();
    assert!(blocks.len() <= 1, "ranges do not overlap");
    let peers = rules.elements.get(&Element::Peer(*group, peer)).copied();
    chain.anyone.into_iter().chain(peers).chain(blocks).any(lets)
}

/// Makes the changes in the order the kernel is told them, and refuses what it would refuse.
fn carry_out(kernel: &mut Rules, difference: &Difference) {
    kernel.lists.extend(difference.lists.iter().cloned());
    for (number, group) in &difference.groups {
        assert!(group.anyone.is_none_or(|list| kernel.lists.contains_key(&list)));
        kernel.groups.insert(*number, *group);
    }
    for element in &difference.removed {
        assert!(kernel.elements.remove(element).is_some(), "{element:?} is there");
    }
    for (element, number) in &difference.added {
        let there = match element {
            Element::Isolated(..) => kernel.groups.contains_key(number),
            _ => kernel.lists.contains_key(number),
        };
        assert!(there && kernel.elements.insert(*element, *number).is_none(), "{element:?}");
    }
    for number in &difference.old_groups {
        let leads =
            |(element, to): (&Element, &u32)| matches!(element, Element::Isolated(..)) && to == number;
        assert!(!kernel.elements.iter().any(leads), "nothing leads to group {number}");
        kernel.groups.remove(number).unwrap();
    }
    for number in &difference.old_lists {
        let leads =
            |(element, to): (&Element, &u32)| !matches!(element, Element::Isolated(..)) && to == number;
        assert!(!kernel.elements.iter().any(leads), "nothing leads to list {number}");
        assert!(!kernel.groups.values().any(|group| group.anyone == Some(*number)));
        kernel.lists.remove(number).unwrap();
    }
}

/// `web` and `db` of namespace `shop`, `tool` of `ops`, here; `far` of `shop` elsewhere.
fn pods() -> Vec<Pod> {
    let pod = |namespace: &str, name: &str, node: &str, address: &str, port: u16| {
        let ports = json!([{"name": "main", "containerPort": port}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]);
        read(json!({
            "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Running", "podIPs": [{"ip": address}, {"ip": format!("fd00::{port}")}]},
        }))
    };
    vec![
        pod("shop", "web", HERE, "10.42.0.2", 80),
        pod("shop", "db", HERE, "10.42.0.3", 5432),
        pod("ops", "tool", HERE, "10.42.0.4", 81),
        pod("shop", "far", "there", "10.42.1.5", 82),
    ]
}

fn namespaces() -> Vec<Namespace> {
    ["shop", "ops", "kube-system"]
        .map(|name| read(json!({"metadata": {"name": name, "labels": {"name": name}}})))
        .into()
}

fn policy(name: &str, spec: &Value) -> NetworkPolicy {
    read(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}))
}

/// What is asked: direction, the isolated pod, the other side, protocol and port.
type Question = (Direction, &'static str, &'static str, &'static str, u16);

/// What a case shows, the policies of namespace `shop`, and the answers they give.
type Case = (&'static str, Vec<Value>, Vec<(Question, bool)>);

fn answers(policies: &[Value], questions: &[Question]) -> Vec<bool> {
    let policies: Vec<_> =
        policies.iter().enumerate().map(|(at, spec)| policy(&at.to_string(), spec)).collect();
    let mut picture = picture(&namespaces(), &pods(), &policies);
    let (key, facts) = resolver(["10.43.0.10".parse().unwrap()]);
    picture.set_pod(&key, Some(facts));
    let mut plan = Plan::default();
    plan.wish(&desired(&picture, true));
    plan.apply();
    let address = |name: &str| match name {
        "web" => "10.42.0.2".parse().unwrap(),
        "db" => "10.42.0.3".parse().unwrap(),
        "tool" => "10.42.0.4".parse().unwrap(),
        "far" => "10.42.1.5".parse().unwrap(),
        "resolver" => "10.43.0.10".parse().unwrap(),
        text => text.parse::<IpAddr>().unwrap(),
    };
    let answer = |(direction, pod, peer, protocol, port): &Question| {
        let protocol = if *protocol == "ICMP" { None } else { Protocol::parse(Some(protocol)) };
        passes(plan.applied(), *direction, address(pod), address(peer), (protocol, *port))
    };
    questions.iter().map(answer).collect()
}

#[test]
fn what_is_allowed_is_what_the_api_documents() {
    use Direction::{Egress as Out, Ingress as In};
    let web = json!({"matchLabels": {"app": "web"}});
    let from = |peers: Value| json!({"podSelector": web, "ingress": [{"from": peers}]});
    let ports = |ports: Value| json!({"podSelector": web, "ingress": [{"ports": ports}]});
    let to = |rule: Value| json!({"podSelector": web, "policyTypes": ["Egress"], "egress": [rule]});
    let table: Vec<Case> = vec![
        ("no policy", vec![], vec![((In, "web", "db", "TCP", 80), true)]),
        (
            "default deny of ingress",
            vec![json!({"podSelector": {}})],
            vec![
                ((In, "web", "db", "TCP", 80), false),
                ((In, "db", "192.0.2.9", "UDP", 53), false),
                ((In, "web", "db", "ICMP", 0), false),
                ((Out, "web", "db", "TCP", 80), true),
                ((In, "tool", "web", "TCP", 80), true),
            ],
        ),
        (
            "egress rules imply the type Egress, and Ingress is implied always",
            vec![json!({"podSelector": web, "egress": [{}]})],
            vec![((Out, "web", "db", "ICMP", 0), true), ((In, "web", "db", "TCP", 80), false)],
        ),
        (
            "an empty list of egress rules implies nothing",
            vec![json!({"podSelector": web, "egress": []})],
            vec![((Out, "web", "db", "TCP", 80), true), ((In, "web", "db", "TCP", 80), false)],
        ),
        (
            "default deny of egress",
            vec![json!({"podSelector": {}, "policyTypes": ["Egress"]})],
            vec![
                ((Out, "web", "db", "TCP", 80), false),
                ((Out, "web", "resolver", "UDP", 53), false),
                ((In, "web", "db", "TCP", 80), true),
            ],
        ),
        (
            "pods of the policy's namespace",
            vec![from(json!([{"podSelector": {}}]))],
            vec![
                ((In, "web", "db", "ICMP", 0), true),
                ((In, "web", "far", "SCTP", 9), true),
                ((In, "web", "tool", "TCP", 80), false),
                ((In, "db", "tool", "TCP", 80), true),
            ],
        ),
        (
            "expressions",
            vec![from(
                json!([{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}}]),
            )],
            vec![((In, "web", "db", "TCP", 80), false), ((In, "web", "far", "TCP", 80), true)],
        ),
        (
            "namespaces",
            vec![from(json!([{"namespaceSelector": {"matchLabels": {"name": "ops"}}}]))],
            vec![((In, "web", "tool", "TCP", 80), true), ((In, "web", "db", "TCP", 80), false)],
        ),
        (
            "both selectors of one peer",
            vec![from(json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}]))],
            vec![((In, "web", "tool", "TCP", 80), false), ((In, "web", "db", "TCP", 80), true)],
        ),
        (
            "both selectors, as two peers",
            vec![from(
                json!([{"namespaceSelector": {"matchLabels": {"name": "ops"}}}, {"podSelector": {"matchLabels": {"app": "db"}}}]),
            )],
            vec![
                ((In, "web", "tool", "TCP", 80), true),
                ((In, "web", "db", "TCP", 80), true),
                ((In, "web", "far", "TCP", 80), false),
            ],
        ),
        (
            "a block with a hole, which pods may be in",
            vec![from(json!([{"ipBlock": {"cidr": "10.42.0.0/15", "except": ["10.42.1.0/24"]}}]))],
            vec![
                ((In, "web", "db", "TCP", 80), true),
                ((In, "web", "far", "TCP", 80), false),
                ((In, "web", "10.43.255.255", "ICMP", 0), true),
                ((In, "web", "10.44.0.0", "TCP", 80), false),
            ],
        ),
        (
            "a hole of one block is no hole of another",
            vec![from(json!([
                {"ipBlock": {"cidr": "10.42.0.0/16", "except": ["10.42.1.0/24"]}}, {"ipBlock": {"cidr": "10.42.1.5/32"}}
            ]))],
            vec![((In, "web", "far", "TCP", 80), true), ((In, "web", "10.42.1.6", "TCP", 80), false)],
        ),
        (
            "ports",
            vec![ports(
                json!([{"port": 80}, {"protocol": "UDP", "port": 90, "endPort": 99}, {"protocol": "SCTP"}]),
            )],
            vec![
                ((In, "web", "db", "TCP", 80), true),
                ((In, "web", "db", "TCP", 95), false),
                ((In, "web", "db", "UDP", 90), true),
                ((In, "web", "192.0.2.9", "UDP", 99), true),
                ((In, "web", "db", "UDP", 100), false),
                ((In, "web", "db", "SCTP", 65535), true),
                ((In, "web", "db", "ICMP", 0), false),
            ],
        ),
        (
            "named ports are those of the pod that receives",
            vec![
                json!({"podSelector": {}, "ingress": [{"ports": [{"port": "main"}, {"port": "none"}, {"port": "dns"}]}]}),
            ],
            vec![
                ((In, "web", "db", "TCP", 80), true),
                ((In, "web", "db", "TCP", 5432), false),
                ((In, "db", "web", "TCP", 5432), true),
                ((In, "db", "web", "UDP", 53), false),
            ],
        ),
        (
            "named ports of those that an isolated pod sends to",
            vec![to(json!({"ports": [{"port": "main"}, {"port": 443}]}))],
            vec![
                ((Out, "web", "db", "TCP", 5432), true),
                ((Out, "web", "db", "TCP", 443), true),
                ((Out, "web", "db", "TCP", 80), false),
                ((Out, "web", "far", "TCP", 82), true),
                ((Out, "web", "192.0.2.9", "TCP", 82), false),
                ((Out, "web", "192.0.2.9", "TCP", 443), true),
            ],
        ),
        (
            "named ports in a block",
            vec![to(json!({"to": [{"ipBlock": {"cidr": "10.42.1.0/24"}}], "ports": [{"port": "main"}]}))],
            vec![((Out, "web", "far", "TCP", 82), true), ((Out, "web", "db", "TCP", 5432), false)],
        ),
        (
            "the resolver is found as CoreDNS is",
            vec![to(json!({
                "to": [{"namespaceSelector": {"matchLabels": {"name": "kube-system"}}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": "dns-tcp"}],
            }))],
            vec![
                ((Out, "web", "resolver", "UDP", 53), true),
                ((Out, "web", "resolver", "TCP", 53), true),
                ((Out, "web", "resolver", "TCP", 9153), false),
                ((Out, "web", "db", "UDP", 53), false),
            ],
        ),
        (
            "what any policy allows",
            vec![
                json!({"podSelector": {}}),
                ports(json!([{"port": 80}])),
                from(json!([{"podSelector": {"matchLabels": {"app": "db"}}}])),
            ],
            vec![
                ((In, "web", "tool", "TCP", 80), true),
                ((In, "web", "tool", "TCP", 81), false),
                ((In, "web", "db", "TCP", 81), true),
                ((In, "db", "web", "TCP", 80), false),
            ],
        ),
        (
            "what selects nobody, and peers that are nobody",
            vec![
                from(json!([{"podSelector": {"matchLabels": {"app": "none"}}}, {}])),
                json!({"podSelector": {"matchLabels": {"app": "tool"}}}),
            ],
            vec![((In, "web", "db", "TCP", 80), false), ((In, "tool", "db", "TCP", 80), true)],
        ),
    ];
    for (what, policies, questions) in table {
        let asked: Vec<_> = questions.iter().map(|(question, _)| *question).collect();
        for ((question, expected), answer) in questions.iter().zip(answers(&policies, &asked)) {
            assert_eq!(answer, *expected, "{what}: {question:?}");
        }
    }
}

#[test]
fn pods_that_policies_do_not_see() {
    let plain = json!({
        "metadata": {"labels": {"app": "a"}},
        "spec": {"nodeName": HERE, "containers": [], "initContainers": [
            {"name": "side", "restartPolicy": "Always", "ports": [{"name": "side", "containerPort": 9}]},
            {"name": "once", "ports": [{"name": "once", "containerPort": 8}]},
        ]},
        "status": {"phase": "Pending", "podIP": "10.42.0.2", "podIPs": [{"ip": "10.42.0.2"}, {"ip": "fd00::2"}]},
    });
    let facts = PodFacts::read(&read(plain.clone()), HERE).unwrap();
    assert_eq!((facts.addresses.len(), facts.here), (2, true));
    assert_eq!(facts.ports.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["side"]);
    for (pointer, value) in [("/spec/hostNetwork", json!(true)), ("/status/phase", json!("Failed"))] {
        let mut pod = plain.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        assert_eq!(PodFacts::read(&read(pod), HERE), None, "{pointer}");
    }
}

#[test]
fn a_pod_that_comes_is_one_element() {
    let policies = [
        policy("deny", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})),
        policy(
            "web",
            &json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 80}]}]}),
        ),
    ];
    let mut plan = Plan::after(7);
    let mut pods = pods();
    let mut step = |pods: &[Pod]| {
        let difference = plan.wish(&desired(&picture(&namespaces(), pods, &policies), true));
        plan.apply();
        difference
    };
    let first = step(&pods);
    assert_eq!((first.added.len(), first.groups.len(), first.lists.len()), (7, 3, 1));
    assert!(first.groups.iter().all(|(number, _)| *number > 7));
    assert!(step(&pods).is_empty());
    let mut more = pods[3].clone();
    more.metadata.name = Some("further".to_owned());
    more.status.as_mut().unwrap().pod_ips.as_mut().unwrap()[0].ip = "10.42.1.6".to_owned();
    pods.push(more);
    let second = step(&pods);
    let expected = Difference { added: second.added.clone(), ..Difference::default() };
    assert!(second == expected && second.added.len() == 1, "{second:?}");
    assert_eq!(step(&pods[..4]).removed.len(), 1);
    let gone = step(&[]);
    assert_eq!((gone.removed.len(), gone.old_groups.len(), gone.old_lists.len()), (7, 3, 1));
}
