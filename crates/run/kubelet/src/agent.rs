//! What every part of the agent shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use plimsoll_client::{EventRecorder, EventType, Informer, Informers};
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::acceptance::Abilities;
use plimsoll_podlife::cgroup::Machine as Machinery;
use plimsoll_podlife::eviction::Condition;
use plimsoll_podlife::names::{Resolver, parse_resolver};
use plimsoll_podlife::{Event, Node};
use tokio::sync::{broadcast, mpsc, watch};

use crate::cgroups::Cgroups;
use crate::claims::Claims;
use crate::config::Config;
use crate::csi::Drivers;
use crate::devices::Devices;
use crate::endpoints::Endpoints;
use crate::engine::Engine;
use crate::logins::Logins;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::placement::Placement;
use crate::pulled::Records;
use crate::pulls::Pulls;
use crate::rotation::Writer;
use crate::statics::Statics;
use crate::users::Users;
use crate::volume::Volumes;

/// What an engine may or may not be able to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Features {
    pub(crate) recursive_read_only: bool,
    pub(crate) user_namespaces: bool,
    pub(crate) strict_groups: bool,
}

/// The parts that pods, the node and the server use together.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) client: kube::Client,
    pub(crate) informers: Informers,
    pub(crate) services: Informer<Service>,
    pub(crate) endpoints: Endpoints,
    pub(crate) recorder: EventRecorder,
    pub(crate) engine: Engine,
    /// What the engine says that it can do.
    pub(crate) engine_has: Features,
    /// What pods may ask of the node.
    pub(crate) abilities: Abilities,
    pub(crate) cgroups: Cgroups,
    pub(crate) volumes: Volumes,
    pub(crate) drivers: Drivers,
    pub(crate) users: Users,
    pub(crate) placement: Placement,
    pub(crate) machine: Machine,
    pub(crate) node: Arc<Node>,
    /// The engine's name and version, as nodes show them.
    pub(crate) runtime_version: String,
    /// Containers as they start to write logs.
    pub(crate) writers: mpsc::UnboundedSender<Writer>,
    /// When this agent was started.
    pub(crate) started: Timestamp,
    pub(crate) allocatable: BTreeMap<String, Quantity>,
    /// What the node says of itself while it is short of something.
    pub(crate) pressure: watch::Receiver<Vec<Condition>>,
    /// Pods that come from elsewhere than the API.
    pub(crate) statics: watch::Receiver<Statics>,
    /// Credentials of registries.
    pub(crate) logins: Logins,
    /// Which images were pulled, and with whose credentials.
    pub(crate) records: Records,
    /// Turns for pulling images.
    pub(crate) pulls: Pulls,
    /// Ids of containers as they end.
    pub(crate) exits: broadcast::Sender<String>,
    pub(crate) metrics: Arc<Metrics>,
    /// Devices that are allocated by claims.
    pub(crate) claims: Arc<Claims>,
    /// Devices of plugins.
    pub(crate) devices: Arc<Devices>,
}

impl Agent {
    /// What decides about the values of a pod's group. Who has processors of his own needs no quota.
    pub(crate) fn rules(&self, uid: &str) -> Machinery {
        self.rules_unless(self.placement.has_own(uid))
    }

    /// What decides about the values of a container's group.
    pub(crate) fn rules_of(&self, uid: &str, container: &str) -> Machinery {
        self.rules_unless(self.placement.is_own(uid, container))
    }

    fn rules_unless(&self, own: bool) -> Machinery {
        let mut rules = self.cgroups.rules().clone();
        if own {
            rules.period = None;
        }
        rules
    }

    /// Tells users about a pod.
    pub(crate) fn tell(&self, pod: &Pod, event: &Event) {
        self.tell_annotated(pod, event, BTreeMap::new());
    }

    /// Tells users about a pod, and programs some facts.
    pub(crate) fn tell_annotated(&self, pod: &Pod, event: &Event, annotations: BTreeMap<String, String>) {
        let kind = if event.warning { EventType::Warning } else { EventType::Normal };
        let meta = &pod.metadata;
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: event.field_path.clone(),
        };
        self.recorder.annotated(&object, kind, &event.reason, event.message.clone(), annotations);
    }

    /// Tells users about the node.
    pub(crate) fn tell_node(&self, reason: &str, message: String) {
        self.recorder.event(&self.node_reference(), EventType::Normal, reason, message);
    }

    /// Tells users about trouble of the node.
    pub(crate) fn warn_node(&self, reason: &str, message: String) {
        self.recorder.event(&self.node_reference(), EventType::Warning, reason, message);
    }

    fn node_reference(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Node".into()),
            name: Some(self.config.node_name.clone()),
            uid: Some(self.config.node_name.clone()),
            ..ObjectReference::default()
        }
    }

    /// The node's resolver, read anew because users and DHCP clients change it.
    pub(crate) fn resolver(&self) -> Resolver {
        let text = std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default();
        parse_resolver(&text)
    }

    /// The cluster's name servers as text.
    pub(crate) fn cluster_dns(&self) -> Vec<String> {
        self.config.cluster_dns.iter().map(ToString::to_string).collect()
    }
}
