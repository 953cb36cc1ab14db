//! The semantics of NetworkPolicy, written down as directly as possible, against what is decided.

use proptest::prelude::*;

use super::*;

/// Bytes that choose; none left choose the first.
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    fn below(&mut self, bound: u8) -> u8 {
        self.0.next().unwrap_or(0) % bound
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.below(u8::try_from(of.len()).unwrap()))].clone()
    }

    fn several<T>(&mut self, most: u8, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    fn labels(&mut self) -> Value {
        let mut labels = json!({});
        for key in ["a", "b"] {
            if let Some(value) = self.one(&[None, Some("1"), Some("2")]) {
                labels[key] = value.into();
            }
        }
        labels
    }

    fn selector(&mut self) -> Value {
        match self.below(4) {
            0 => json!({}),
            1 => json!({"matchLabels": self.labels()}),
            2 => {
                let operator = self.one(&["In", "NotIn"]);
                json!({"matchExpressions": [{"key": self.one(&["a", "b"]), "operator": operator, "values": self.one(&[vec!["1"], vec!["1", "2"]])}]})
            }
            _ => {
                let operator = self.one(&["Exists", "DoesNotExist"]);
                json!({"matchExpressions": [{"key": self.one(&["a", "b"]), "operator": operator}]})
            }
        }
    }

    fn peer(&mut self) -> Value {
        match self.below(4) {
            0 => json!({"podSelector": self.selector()}),
            1 => json!({"namespaceSelector": self.selector()}),
            2 => json!({"namespaceSelector": self.selector(), "podSelector": self.selector()}),
            _ => {
                let blocks: [(&str, &[&str]); 5] = [
                    ("10.42.0.0/16", &["10.42.0.0/30", "10.42.0.5/32"]),
                    ("10.42.0.4/30", &[]),
                    ("0.0.0.0/0", &["10.42.0.0/16", "192.0.2.0/30"]),
                    ("192.0.2.1/32", &[]),
                    ("::/0", &["fd00::/125"]),
                ];
                let (cidr, except) = self.one(&blocks);
                json!({"ipBlock": {"cidr": cidr, "except": except}})
            }
        }
    }

    fn port(&mut self) -> Value {
        let protocol = self.one(&[None, Some("TCP"), Some("UDP"), Some("SCTP")]);
        let port = self.one(&[
            json!(80),
            json!({"port": 80, "endPort": 82}),
            json!("web"),
            json!("dns"),
            Value::Null,
        ]);
        let mut spec = if port.is_object() { port } else { json!({"port": port}) };
        spec["protocol"] = json!(protocol);
        spec
    }

    fn policy(&mut self, at: usize) -> NetworkPolicy {
        let rule = |peers: &'static str| move |dice: &mut Self| json!({peers: dice.several(2, Self::peer), "ports": dice.several(2, Self::port)});
        let mut spec = json!({"podSelector": self.selector()});
        spec["ingress"] = self.several(2, rule("from")).into();
        spec["egress"] = self.several(2, rule("to")).into();
        let types: [&[&str]; 4] = [&[], &["Ingress"], &["Egress"], &["Ingress", "Egress"]];
        spec["policyTypes"] = json!(self.one(&types));
        let namespace = self.one(&["x", "y"]);
        read(json!({"metadata": {"namespace": namespace, "name": at.to_string()}, "spec": spec}))
    }

    fn pod(&mut self, at: usize) -> Pod {
        let ports: [Value; 3] = [
            json!([]),
            json!([{"name": "web", "containerPort": 80}, {"name": "dns", "containerPort": 81, "protocol": "UDP"}]),
            json!([{"name": "web", "containerPort": 81}]),
        ];
        read(json!({
            "metadata": {"namespace": self.one(&["x", "y"]), "name": at.to_string(), "labels": self.labels()},
            "spec": {"nodeName": self.one(&[HERE, "there"]), "containers": [{"name": "c", "ports": self.one(&ports)}]},
            "status": {"phase": "Running", "podIPs": [{"ip": format!("10.42.0.{at}")}, {"ip": format!("fd00::{at}")}]},
        }))
    }
}

fn fits(selector: &LabelSelector, labels: Option<&BTreeMap<String, String>>) -> bool {
    let value = |key: &str| labels.and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, wanted)| value(key) == Some(wanted));
    let fulfilled = selector.match_expressions.iter().flatten().all(|expression| {
        let listed = value(&expression.key)
            .is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
        match expression.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value(&expression.key).is_some(),
            _ => value(&expression.key).is_none(),
        }
    });
    equal && fulfilled
}

/// One end of a connection.
#[derive(Clone, Copy)]
struct End<'a> {
    address: IpAddr,
    pod: Option<&'a Pod>,
}

struct World {
    namespaces: Vec<Namespace>,
    pods: Vec<Pod>,
    policies: Vec<NetworkPolicy>,
}

impl World {
    fn is_peer(&self, policy: &NetworkPolicy, peer: &NetworkPolicyPeer, end: End<'_>) -> bool {
        if let Some(block) = &peer.ip_block {
            let inside = |text: &String| text.parse::<IpNet>().unwrap().contains(&end.address);
            return inside(&block.cidr) && !block.except.iter().flatten().any(inside);
        }
        let Some(pod) = end.pod else { return false };
        let home = self.namespaces.iter().find(|namespace| namespace.metadata.name == pod.metadata.namespace);
        let namespace_fits = match &peer.namespace_selector {
            Some(selector) => fits(selector, home.and_then(|home| home.metadata.labels.as_ref())),
            None => pod.metadata.namespace == policy.metadata.namespace,
        };
        let pod_fits =
            peer.pod_selector.as_ref().is_none_or(|selector| fits(selector, pod.metadata.labels.as_ref()));
        namespace_fits && pod_fits
    }

    fn lets(
        &self,
        policy: &NetworkPolicy,
        (ports, peers): (&Option<Vec<NetworkPolicyPort>>, &Option<Vec<NetworkPolicyPeer>>),
        peer: End<'_>,
        receiver: End<'_>,
        (protocol, number): (&str, u16),
    ) -> bool {
        let peers = peers.as_deref().unwrap_or_default();
        let ports = ports.as_deref().unwrap_or_default();
        let port_fits = |port: &NetworkPolicyPort| {
            let wanted = port.protocol.as_deref().unwrap_or("TCP");
            wanted == protocol
                && match &port.port {
                    None => true,
                    Some(IntOrString::Int(first)) => {
                        (*first..=port.end_port.unwrap_or(*first)).contains(&i32::from(number))
                    }
                    Some(IntOrString::String(name)) => receiver.pod.is_some_and(|pod| {
                        let containers = &pod.spec.as_ref().unwrap().containers;
                        containers.iter().flat_map(|container| container.ports.iter().flatten()).any(|port| {
                            port.name.as_ref() == Some(name)
                                && port.protocol.as_deref().unwrap_or("TCP") == protocol
                                && port.container_port == i32::from(number)
                        })
                    }),
                }
        };
        (peers.is_empty() || peers.iter().any(|one| self.is_peer(policy, one, peer)))
            && (ports.is_empty() || ports.iter().any(port_fits))
    }

    /// Whether the policies of one direction let a connection pass.
    fn passes(&self, direction: Direction, from: End<'_>, to: End<'_>, what: (&str, u16)) -> bool {
        let (subject, peer) = if direction == Direction::Ingress { (to, from) } else { (from, to) };
        let pod = subject.pod.unwrap();
        let mut isolated = false;
        for policy in self.policies.iter().filter(|it| it.metadata.namespace == pod.metadata.namespace) {
            let spec = policy.spec.as_ref().unwrap();
            let types: Vec<&str> = match spec.policy_types.as_deref() {
                Some(types) if !types.is_empty() => types.iter().map(String::as_str).collect(),
                _ if spec.egress.iter().flatten().next().is_some() => vec!["Ingress", "Egress"],
                _ => vec!["Ingress"],
            };
            if !types.contains(&format!("{direction:?}").as_str())
                || !fits(spec.pod_selector.as_ref().unwrap(), pod.metadata.labels.as_ref())
            {
                continue;
            }
            isolated = true;
            let lets = |rule| self.lets(policy, rule, peer, to, what);
            let allowed = match direction {
                Direction::Ingress => {
                    spec.ingress.iter().flatten().any(|rule| lets((&rule.ports, &rule.from)))
                }
                Direction::Egress => spec.egress.iter().flatten().any(|rule| lets((&rule.ports, &rule.to))),
            };
            if allowed {
                return true;
            }
        }
        !isolated
    }

    /// All ends of one family: the pods, and some that are none.
    fn ends(&self, ipv4: bool) -> Vec<End<'_>> {
        let mut ends = Vec::new();
        for pod in &self.pods {
            let addresses = pod.status.as_ref().unwrap().pod_ips.as_ref().unwrap();
            let address = addresses[usize::from(!ipv4)].ip.parse().unwrap();
            ends.push(End { address, pod: Some(pod) });
        }
        let others: &[&str] =
            if ipv4 { &["192.0.2.1", "192.0.2.5", "10.42.0.250"] } else { &["2001:db8::1"] };
        ends.extend(others.iter().map(|text| End { address: text.parse().unwrap(), pod: None }));
        ends
    }

    fn agrees_with(&self, rules: &Rules, ipv4: bool) {
        let here = |end: &End<'_>| {
            end.pod.is_some_and(|pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(HERE))
        };
        let packets = ["TCP", "UDP", "SCTP"].iter().flat_map(|it| [80, 81, 83].map(|port| (*it, port)));
        for packet in packets {
            let asked = (Protocol::parse(Some(packet.0)), packet.1);
            for subject in self.ends(ipv4).into_iter().filter(here) {
                for peer in self.ends(ipv4) {
                    for direction in [Direction::Ingress, Direction::Egress] {
                        let (from, to) =
                            if direction == Direction::Ingress { (peer, subject) } else { (subject, peer) };
                        let expected = self.passes(direction, from, to, packet);
                        let decided = passes(rules, direction, subject.address, peer.address, asked);
                        assert_eq!(
                            decided, expected,
                            "{direction:?} of {} with {} by {packet:?}: {:#?}",
                            subject.address, peer.address, self.policies
                        );
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_those_of_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut dice = Dice(bytes.into_iter());
        let namespace = |name: &str, labels: Value| read(json!({"metadata": {"name": name, "labels": labels}}));
        let mut world = World { namespaces: Vec::new(), pods: Vec::new(), policies: Vec::new() };
        let (mut plans, mut kernels) = ([Plan::default(), Plan::default()], [Rules::default(), Rules::default()]);
        for _ in 0..3 {
            world.namespaces = vec![namespace("x", dice.labels()), namespace("y", dice.labels())];
            world.pods = (1..=1 + usize::from(dice.below(5))).map(|at| dice.pod(at)).collect();
            world.policies = (0..usize::from(dice.below(4))).map(|at| dice.policy(at)).collect();
            let picture = picture(&world.namespaces, &world.pods, &world.policies);
            for (at, (plan, kernel)) in plans.iter_mut().zip(&mut kernels).enumerate() {
                carry_out(kernel, &plan.wish(&desired(&picture, at == 0)));
                plan.apply();
                prop_assert_eq!(&*kernel, plan.applied());
                world.agrees_with(kernel, at == 0);
            }
        }
    }
}
