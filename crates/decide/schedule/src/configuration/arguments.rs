//! Arguments of plugins, and their defaults.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::{Deserialize, Serialize};

use super::fields::Span;

/// Of DefaultPreemption.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DefaultPreemptionArgs {
    pub(super) min_candidate_nodes_percentage: i32,
    pub(super) min_candidate_nodes_absolute: i32,
}

impl Default for DefaultPreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// Of InterPodAffinity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct InterPodAffinityArgs {
    pub(super) hard_pod_affinity_weight: i32,
    pub(super) ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

/// Of NodeAffinity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NodeAffinityArgs {
    pub(super) added_affinity: Option<NodeAffinity>,
}

/// Of NodeResourcesBalancedAllocation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BalancedAllocationArgs {
    pub(super) resources: Vec<ResourceSpec>,
}

/// Of NodeResourcesFit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FitArgs {
    pub(super) ignored_resources: Vec<String>,
    pub(super) ignored_resource_groups: Vec<String>,
    pub(super) scoring_strategy: Option<ScoringStrategy>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScoringStrategy {
    pub(super) r#type: String,
    pub(super) resources: Vec<ResourceSpec>,
    pub(super) requested_to_capacity_ratio: Option<CapacityRatio>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CapacityRatio {
    pub(super) shape: Vec<ShapePoint>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ShapePoint {
    pub(super) utilization: i32,
    pub(super) score: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResourceSpec {
    pub(super) name: String,
    pub(super) weight: i64,
}

/// Of PodTopologySpread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SpreadArgs {
    pub(super) default_constraints: Vec<TopologySpreadConstraint>,
    pub(super) defaulting_type: String,
}

impl Default for SpreadArgs {
    fn default() -> Self {
        Self { default_constraints: Vec::new(), defaulting_type: "System".to_owned() }
    }
}

/// Of VolumeBinding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct VolumeBindingArgs {
    pub(super) bind_timeout_seconds: i64,
    pub(super) shape: Option<Vec<ShapePoint>>,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self { bind_timeout_seconds: 600, shape: None }
    }
}

/// Of DynamicResources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DynamicResourcesArgs {
    pub(super) filter_timeout: Option<Span>,
    pub(super) binding_timeout: Option<Span>,
}

/// CPU and memory where none are named; a weight that is not given is 1.
pub(super) fn with_defaults(resources: &mut Vec<ResourceSpec>) {
    if resources.is_empty() {
        resources.extend(["cpu", "memory"].map(|name| ResourceSpec { name: name.to_owned(), weight: 1 }));
    }
    for resource in resources.iter_mut().filter(|resource| resource.weight == 0) {
        resource.weight = 1;
    }
}
