//! The kind `ProportionalAutoscaler`, as [`DEFINITION`] defines it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta, Time};
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::{Deserialize, Serialize};

/// A List of the definition and of the roles for it, in YAML.
pub const DEFINITION: &str = include_str!("definition.yaml");

/// Keeps the replicas of a workload in proportion to the cluster's size.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProportionalAutoscaler {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is scaled, and by which rule.
    pub spec: Spec,
    /// What was seen at the last look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl Resource for ProportionalAutoscaler {
    const API_VERSION: &'static str = "autoscaling.plimsoll.io/v1";
    const GROUP: &'static str = "autoscaling.plimsoll.io";
    const KIND: &'static str = "ProportionalAutoscaler";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "proportionalautoscalers";
    type Scope = NamespaceResourceScope;
}

impl Metadata for ProportionalAutoscaler {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What is scaled, and by which rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// What is scaled.
    pub scale_target_ref: Reference,
    /// Which nodes count; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// A straight line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear: Option<Linear>,
    /// Steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Ladder>,
}

/// A workload of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Reference {
    /// `v1` or `group/version`.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// So many replicas for so many nodes and cores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Linear {
    /// Cores that one replica serves; 0 counts no cores.
    pub cores_per_replica: f64,
    /// Nodes that one replica serves; 0 counts no nodes.
    pub nodes_per_replica: f64,
    /// Fewest replicas; 0 means 1.
    pub min: i32,
    /// Most replicas; 0 means no limit.
    pub max: i32,
    /// At least two where there is more than one node.
    pub prevent_single_point_failure: bool,
    /// Nodes that take no pods count, too.
    pub include_unschedulable_nodes: bool,
}

/// So many replicas from so many nodes or cores on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ladder {
    /// Pairs of cores and replicas.
    pub cores_to_replicas: Vec<[i32; 2]>,
    /// Pairs of nodes and replicas.
    pub nodes_to_replicas: Vec<[i32; 2]>,
    /// Nodes that take no pods count, too.
    pub include_unschedulable_nodes: bool,
}

/// What was seen at the last look.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes that were counted.
    pub nodes: i32,
    /// Cores of these nodes.
    pub cores: i64,
    /// Replicas that the target asked for.
    pub current_replicas: i32,
    /// Replicas that nodes and cores ask for.
    pub desired_replicas: i32,
    /// When the target was scaled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// What works and what does not.
    pub conditions: Vec<Condition>,
}
