//! Whether a node has room for one more pod: the checks that a node's agent repeats before it takes one.
//!
//! What enters are the pods that the agent has taken and the node; what leaves is every check that
//! fails, in upstream's order and words (kubelet: pkg/kubelet/lifecycle/predicate.go).

use std::collections::HashMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Node as ApiNode, Pod};

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::node::Node;
use crate::plugins::{node_affinity, node_ports, taint_toleration};
use crate::snapshot::Row;

/// The pods of one node and what they take of it together.
#[derive(Debug, Default)]
pub struct Residents {
    row: Row,
    pods: HashMap<String, Needs>,
}

/// Where a pod comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Api,
    /// The node itself, whose static pods no taint keeps away.
    Node,
}

/// A check that a pod fails on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Too little of a resource is left; CPU in thousandths of a core, everything else in units or bytes.
    Shortage {
        /// The resource's name.
        resource: String,
        /// What the pod requests.
        requested: i64,
        /// What the pods of the node have.
        used: i64,
        /// What the node has for pods.
        capacity: i64,
    },
    /// Something else than an amount.
    Predicate {
        /// Upstream's name of the check.
        name: &'static str,
        /// What it says of the node.
        description: String,
    },
}

impl Misfit {
    /// The word for the pod's status.
    pub fn reason(&self) -> String {
        match self {
            Misfit::Shortage { resource, .. } => format!("OutOf{resource}"),
            Misfit::Predicate { name, .. } => (*name).to_owned(),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Shortage { resource, requested, used, capacity } => write!(
                f,
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: \
                 {capacity}"
            ),
            Misfit::Predicate { name, description } => write!(f, "Predicate {name} failed: {description}"),
        }
    }
}

impl Residents {
    /// A pod is there, or asks for something else than before.
    pub fn place(&mut self, uid: &str, pod: &Pod) {
        self.remove(uid);
        let needs = Needs::of(pod);
        self.row.account(&needs, 1);
        self.pods.insert(uid.to_owned(), needs);
    }

    /// A pod takes nothing any more.
    pub fn remove(&mut self, uid: &str) {
        if let Some(needs) = self.pods.remove(uid) {
            self.row.account(&needs, -1);
        }
    }

    /// What a pod that is there requests of a resource.
    pub fn requested(&self, uid: &str, resource: &str) -> i64 {
        let Some(Needs { requests, .. }) = self.pods.get(uid) else { return 0 };
        match resource {
            "pods" => 1,
            "cpu" => requests.cpu,
            "memory" => requests.memory,
            "ephemeral-storage" => requests.storage,
            other => requests.extended.get(other).copied().unwrap_or(0),
        }
    }

    /// Every check that a pod which is not there yet fails.
    pub fn misfits(&self, pod: &Pod, source: Source, node: &ApiNode) -> Vec<Misfit> {
        let needs = Needs::of(pod);
        let node = Node::of(node);
        let mut misfits = self.shortages(&needs, &node);
        let named = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
        let predicate =
            |name, reason: Reason<'_>| Misfit::Predicate { name, description: reason.to_string() };
        if let Err(reason) = node_affinity::filter(&needs, &node) {
            misfits.push(predicate("NodeAffinity", reason));
        }
        if !named.is_empty() && named != node.name {
            let description = "node(s) didn't match the requested node name".to_owned();
            misfits.push(Misfit::Predicate { name: "NodeName", description });
        }
        if let Err(reason) = node_ports::filter(&needs, &self.row) {
            misfits.push(predicate("NodePorts", reason));
        }
        if source == Source::Api && taint_toleration::expels(&needs, &node) {
            let description = "node(s) had taints that the pod didn't tolerate".to_owned();
            misfits.push(Misfit::Predicate { name: "TaintToleration", description });
        }
        misfits
    }

    fn shortages(&self, needs: &Needs, node: &Node) -> Vec<Misfit> {
        let (requests, used, all) = (&needs.requests, &self.row.used, &node.allocatable);
        let own = [
            ("pods", 1, used.pods, all.pods),
            ("cpu", requests.cpu, used.cpu, all.cpu),
            ("memory", requests.memory, used.memory, all.memory),
            ("ephemeral-storage", requests.storage, used.storage, all.storage),
        ];
        let extended = requests.extended.iter().filter_map(|(name, amount)| {
            let used = self.row.used_extended.get(name).copied().unwrap_or(0);
            let capacity = node.extended.get(name).copied();
            // Extended resources that the node does not know belong to the cluster.
            let capacity = if name.contains('/') { capacity? } else { capacity.unwrap_or(0) };
            Some((name.as_str(), *amount, used, capacity))
        });
        own.into_iter()
            .chain(extended)
            .filter(|(_, requested, used, capacity)| *requested > 0 && *requested > capacity - used)
            .map(|(resource, requested, used, capacity)| Misfit::Shortage {
                resource: resource.to_owned(),
                requested,
                used,
                capacity,
            })
            .collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn asks(requests: Value) -> Pod {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": requests}}]}))
    }

    fn node() -> ApiNode {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "k", "effect": "NoExecute"}, {"key": "l", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi", "pods": "2",
                "example.com/device": "1"}},
        }))
        .unwrap()
    }

    fn port(number: i32) -> Pod {
        pod(json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": number}]}]}))
    }

    /// Reasons and messages of a static pod.
    fn said(residents: &Residents, pod: &Pod) -> Vec<(String, String)> {
        let misfits = residents.misfits(pod, Source::Node, &node());
        misfits.iter().map(|misfit| (misfit.reason(), misfit.to_string())).collect()
    }

    #[test]
    fn what_does_not_fit() {
        let mut residents = Residents::default();
        residents.place("a", &asks(json!({"cpu": "1500m", "example.com/device": 1})));
        let none: [(&str, &str); 0] = [];
        let cases: Vec<(Pod, &[(&str, &str)])> = vec![
            (asks(json!({})), &none),
            (asks(json!({"cpu": "500m", "memory": "1Gi"})), &none),
            (asks(json!({"example.com/unknown": 1})), &none),
            (
                asks(json!({"cpu": "501m"})),
                &[(
                    "OutOfcpu",
                    "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000",
                )],
            ),
            (
                asks(json!({"example.com/device": 1, "hugepages-2Mi": "2Mi"})),
                &[
                    (
                        "OutOfexample.com/device",
                        "Node didn't have enough resource: example.com/device, requested: 1, used: 1, capacity: 1",
                    ),
                    (
                        "OutOfhugepages-2Mi",
                        "Node didn't have enough resource: hugepages-2Mi, requested: 2097152, used: 0, capacity: 0",
                    ),
                ],
            ),
            (
                pod(json!({"nodeSelector": {"disk": "hdd"}, "nodeName": "m", "containers": []})),
                &[
                    (
                        "NodeAffinity",
                        "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
                    ),
                    ("NodeName", "Predicate NodeName failed: node(s) didn't match the requested node name"),
                ],
            ),
        ];
        for (pod, expected) in cases {
            let found = said(&residents, &pod);
            let found: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            assert_eq!(found, expected, "{pod:?}");
        }
    }

    #[test]
    fn room_comes_back() {
        let mut residents = Residents::default();
        residents.place("a", &port(80));
        let taken = vec![(
            "NodePorts".to_owned(),
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
                .to_owned(),
        )];
        assert_eq!(said(&residents, &port(80)), taken);
        residents.place("a", &port(81));
        assert_eq!(said(&residents, &port(80)), []);
        residents.place("b", &port(82));
        assert_eq!(said(&residents, &port(80))[0].0, "OutOfpods");
        assert_eq!(residents.requested("b", "pods"), 1);
        residents.remove("a");
        residents.remove("a");
        assert_eq!(said(&residents, &port(80)), []);
    }

    #[test]
    fn only_taints_that_expel_matter_and_not_to_static_pods() {
        let residents = Residents::default();
        let expected = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        let found = residents.misfits(&asks(json!({})), Source::Api, &node());
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        let tolerant = pod(json!({"containers": [], "tolerations": [{"key": "k", "operator": "Exists"}]}));
        assert_eq!(residents.misfits(&tolerant, Source::Api, &node()), []);
        assert_eq!(residents.misfits(&asks(json!({})), Source::Node, &node()), []);
    }
}
