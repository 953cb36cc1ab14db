//! What the scheduler knows of a node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node as ApiNode;

use crate::profile::Resource;
use crate::requests::amount;
use crate::tolerate::Taint;

/// The facts of a node, without what runs on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    /// Extended resources, huge pages and the like.
    pub(crate) extended: BTreeMap<String, i64>,
    /// Names of images that are there, with their bytes.
    pub(crate) images: BTreeMap<String, i64>,
}

/// Amounts of the resources that every node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu: i64,
    pub(crate) memory: i64,
    pub(crate) storage: i64,
    pub(crate) pods: i64,
}

impl Node {
    /// What it has of a resource for pods.
    pub(crate) fn capacity(&self, resource: &Resource) -> i64 {
        match resource {
            Resource::Cpu => self.allocatable.cpu,
            Resource::Memory => self.allocatable.memory,
            Resource::Storage => self.allocatable.storage,
            Resource::Other(name) => self.extended(name),
        }
    }

    /// What it has of an extended resource or the like.
    pub(crate) fn extended(&self, name: &str) -> i64 {
        self.extended.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn of(node: &ApiNode) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let mut extended: BTreeMap<String, i64> = status
            .and_then(|status| status.allocatable.as_ref())
            .map(|list| list.iter().map(|(name, text)| (name.clone(), amount(name, text))).collect())
            .unwrap_or_default();
        let mut take = |name: &str| extended.remove(name).unwrap_or(0);
        let allocatable = Amounts {
            cpu: take("cpu"),
            memory: take("memory"),
            storage: take("ephemeral-storage"),
            pods: take("pods"),
        };
        Node {
            name: node.metadata.name.clone().unwrap_or_default(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec
                .and_then(|spec| spec.taints.as_deref())
                .unwrap_or_default()
                .iter()
                .filter_map(Taint::of)
                .collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            allocatable,
            extended,
            images: images(node),
        }
    }
}

fn images(node: &ApiNode) -> BTreeMap<String, i64> {
    let list = node.status.as_ref().and_then(|status| status.images.as_deref()).unwrap_or_default();
    list.iter()
        .flat_map(|image| {
            let size = image.size_bytes.unwrap_or(0);
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        })
        .collect()
}
