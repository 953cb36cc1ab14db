//! What policies are judged against: pods with labels, addresses and ports, and namespaces with labels.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use plimsoll_meta::selector::Labels;

use super::ports::PortRange;
use crate::endpoints::Protocol;

/// Namespace and name.
pub type Key = (String, String);

/// What policies ask of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Its ports that have names.
    pub ports: BTreeSet<(String, PortRange)>,
    /// Whether it runs on the node that the rules are for.
    pub here: bool,
}

impl PodFacts {
    /// Reads a pod; nothing for one that policies do not see: it has the node's network, or it has ended
    /// and its addresses may be another's.
    pub fn read(pod: &Pod, node: &str) -> Option<Self> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.clone().unwrap_or_default());
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if ended || spec.host_network == Some(true) {
            return None;
        }
        let addresses = status.pod_ips.iter().flatten().map(|entry| &entry.ip).chain(&status.pod_ip);
        let lasting = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.iter().flatten().filter(lasting);
        Some(Self {
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            addresses: addresses.filter_map(|text| text.parse().ok()).collect(),
            ports: spec.containers.iter().chain(sidecars).flat_map(named_ports).collect(),
            here: spec.node_name.as_deref() == Some(node),
        })
    }

    /// The ports of this name and protocol.
    pub(super) fn named(&self, name: &str, protocol: Protocol) -> impl Iterator<Item = PortRange> + '_ {
        let wanted = name.to_owned();
        let found = move |(name, range): &&(String, PortRange)| *name == wanted && range.protocol == protocol;
        self.ports.iter().filter(found).map(|(_, range)| *range)
    }
}

fn named_ports(container: &Container) -> impl Iterator<Item = (String, PortRange)> + '_ {
    container.ports.iter().flatten().filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let number = u16::try_from(port.container_port).ok()?;
        Some((port.name.clone()?, PortRange { protocol, first: number, last: number }))
    })
}

/// Everything that policies are judged against, and the policies.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// By namespace and name.
    pods: BTreeMap<String, BTreeMap<String, PodFacts>>,
    policies: BTreeMap<Key, Arc<NetworkPolicy>>,
}

impl Picture {
    /// Tells a pod, or that it is not to be seen any more; whether that changes anything.
    pub fn set_pod(&mut self, key: &Key, facts: Option<PodFacts>) -> bool {
        let Some(facts) = facts else {
            let Some(pods) = self.pods.get_mut(&key.0) else { return false };
            let known = pods.remove(&key.1).is_some();
            if pods.is_empty() {
                self.pods.remove(&key.0);
            }
            return known;
        };
        let pods = self.pods.entry(key.0.clone()).or_default();
        let changes = pods.get(&key.1) != Some(&facts);
        pods.insert(key.1.clone(), facts);
        changes
    }

    /// Tells a namespace, or that it is gone; whether that changes anything.
    pub fn set_namespace(&mut self, name: &str, namespace: Option<&Namespace>) -> bool {
        let Some(namespace) = namespace else { return self.namespaces.remove(name).is_some() };
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        self.namespaces.insert(name.to_owned(), labels.clone()) != Some(labels)
    }

    /// Tells a policy, or that it is gone; whether that changes anything.
    pub fn set_policy(&mut self, key: &Key, policy: Option<Arc<NetworkPolicy>>) -> bool {
        let Some(policy) = policy else { return self.policies.remove(key).is_some() };
        let spec = policy.spec.clone();
        self.policies.insert(key.clone(), policy).is_none_or(|before| before.spec != spec)
    }

    /// How many policies there are.
    pub fn policies(&self) -> usize {
        self.policies.len()
    }

    /// A policy.
    pub(super) fn policy(&self, key: &Key) -> Option<&NetworkPolicy> {
        self.policies.get(key).map(Arc::as_ref)
    }

    /// All policies of a namespace.
    pub(super) fn policies_in<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a NetworkPolicy)> {
        let first = (namespace.to_owned(), String::new());
        let rest = self.policies.range(first..).take_while(move |(key, _)| key.0 == namespace);
        rest.map(|(key, policy)| (key, policy.as_ref()))
    }

    /// All namespaces with their pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = (&str, &PodFacts)> {
        self.pods.iter().flat_map(|(namespace, pods)| pods.values().map(|pod| (namespace.as_str(), pod)))
    }

    /// The pods of namespaces with such labels.
    pub(super) fn pods_of(&self, namespaces: &Labels) -> impl Iterator<Item = &PodFacts> {
        let matching = |(name, _): &(&String, _)| namespaces.matches_map(self.namespaces.get(*name));
        self.pods.iter().filter(matching).flat_map(|(_, pods)| pods.values())
    }

    /// The pods of one namespace.
    pub(super) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &PodFacts> {
        self.pods.get(namespace).into_iter().flat_map(BTreeMap::values)
    }
}
