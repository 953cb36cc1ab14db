//! What decides whether a pod fits a node, apart from other pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, NodeAffinity, Pod};

use crate::node::Node;
use crate::requests::Requests;
use crate::terms::NodeTerm;
use crate::tolerate::Toleration;

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The port's number.
    pub port: i32,
    /// TCP, UDP or SCTP.
    pub protocol: String,
    /// The address; `0.0.0.0` takes all.
    pub address: String,
}

impl HostPort {
    /// Whether both cannot be taken at once.
    pub(crate) fn clashes(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || self.address == ANY || other.address == ANY)
    }
}

const ANY: &str = "0.0.0.0";

/// Everything in a pod that filters and scores look at, apart from other pods. Pods with equal
/// needs get equal verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Needs {
    /// The profile that decides about the pod, by its place in the list.
    pub(crate) profile: usize,
    /// Resources.
    pub requests: Requests,
    /// Ports of the node.
    pub ports: Vec<HostPort>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) selector: BTreeMap<String, String>,
    /// One of them must hold.
    pub(crate) required: Option<Vec<NodeTerm>>,
    pub(crate) preferred: Vec<(i32, NodeTerm)>,
    pub(crate) images: Vec<String>,
    /// Extended resources that device classes stand for, on nodes that have no plugin for them.
    pub(crate) of_devices: BTreeSet<String>,
}

impl Needs {
    /// The needs of a pod.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Needs::default() };
        let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
        let mut ports: Vec<HostPort> = spec.containers.iter().flat_map(host_ports).collect();
        // Sidecars keep their ports, too.
        let sidecars = spec.init_containers.iter().flatten();
        ports.extend(
            sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always")).flat_map(host_ports),
        );
        ports.sort();
        ports.dedup();
        Needs {
            profile: 0,
            requests: Requests::of(pod),
            ports,
            tolerations: spec.tolerations.iter().flatten().filter_map(Toleration::of).collect(),
            selector: spec.node_selector.clone().unwrap_or_default(),
            required: affinity.and_then(required),
            preferred: affinity.map(preferred).unwrap_or_default(),
            images: spec.init_containers.iter().flatten().chain(&spec.containers).map(image).collect(),
            of_devices: BTreeSet::new(),
        }
    }

    /// True if the node's labels and name are what the pod asks for.
    pub(crate) fn match_node(&self, node: &Node) -> bool {
        self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|term| term.holds(node)))
    }

    /// Whether [`match_node`](Self::match_node) may say no.
    pub(crate) fn choose_nodes(&self) -> bool {
        !self.selector.is_empty() || self.required.is_some()
    }

    /// The nodes that the pod names, if every alternative names some (as those of daemons do).
    pub(crate) fn named_nodes(&self) -> Option<Vec<&str>> {
        let terms = self.required.as_deref().filter(|terms| !terms.is_empty())?;
        let named: Option<Vec<Vec<&str>>> = terms.iter().map(NodeTerm::names).collect();
        named.map(|lists| lists.concat())
    }
}

fn host_ports(container: &Container) -> impl Iterator<Item = HostPort> {
    let used = container.ports.iter().flatten().filter(|port| port.host_port.is_some_and(|port| port > 0));
    used.map(|port| HostPort {
        port: port.host_port.unwrap_or(0),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        address: port.host_ip.clone().filter(|address| !address.is_empty()).unwrap_or_else(|| ANY.to_owned()),
    })
}

fn required(affinity: &NodeAffinity) -> Option<Vec<NodeTerm>> {
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(selector.node_selector_terms.iter().map(NodeTerm::of).collect())
}

fn preferred(affinity: &NodeAffinity) -> Vec<(i32, NodeTerm)> {
    let list = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    list.map(|term| (term.weight, NodeTerm::of(&term.preference))).collect()
}

/// The image's name with a tag, as nodes report it.
fn image(container: &Container) -> String {
    let name = container.image.clone().unwrap_or_default();
    let tagged = name.rfind(':') > name.rfind('/');
    if tagged { name } else { format!("{name}:latest") }
}
