//! Extended resources that device classes stand for (`spec.extendedResourceName`): what a pod asks for by the name of a
//! resource becomes requests of a claim that is made for it
//! (pkg/scheduler/framework/plugins/dynamicresources/extendeddynamicresources.go, v1.37).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerExtendedResourceRequest, Pod};
use k8s_openapi::api::resource::v1::{
    DeviceClaim, DeviceRequest, ExactDeviceRequest, ResourceClaim, ResourceClaimSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::Devices;
use crate::node::Node;
use crate::requests::amount;

/// Marks a claim that was made for extended resources.
const ANNOTATION: &str = "resource.kubernetes.io/extended-resource-claim";
/// Before the name of a class: a resource that every class stands for.
const IMPLICIT: &str = "deviceclass.resource.kubernetes.io/";

/// A name of a resource, and the class that stands for it.
type Classes = BTreeMap<String, String>;

/// What a pod asks for by the names of extended resources that classes stand for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Extended {
    classes: Classes,
    /// Those that start the pod, then the others, as requests count them.
    containers: Vec<Asking>,
    owner: OwnerReference,
}

#[derive(Clone, Debug, PartialEq)]
struct Asking {
    name: String,
    /// It ends before those after it begin.
    brief: bool,
    /// All resources in the order of their names.
    requests: Vec<(String, i64)>,
}

/// A claim to be made for a pod on a node, and what its requests are for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Special {
    pub(crate) claim: Arc<ResourceClaim>,
    pub(crate) mappings: Vec<ContainerExtendedResourceRequest>,
}

impl Extended {
    /// What a pod asks for, if it asks for such.
    pub(crate) fn of(pod: &Pod, devices: &Devices) -> Option<Arc<Self>> {
        let spec = pod.spec.as_ref()?;
        let starts = spec.init_containers.iter().flatten().map(|one| (one, true));
        let all = starts.chain(spec.containers.iter().map(|one| (one, false)));
        let containers: Vec<Asking> = all.map(|(container, starts)| Asking::of(container, starts)).collect();
        let wanted = containers.iter().flat_map(|one| &one.requests).filter(|(_, count)| *count > 0);
        let class = |name: &String| Some((name.clone(), devices.class_of(name)?.to_owned()));
        let classes: Classes = wanted.filter_map(|(name, _)| class(name)).collect();
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        (!classes.is_empty()).then(|| Arc::new(Extended { classes, containers, owner }))
    }

    /// The resources.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &String> {
        self.classes.keys()
    }

    /// Those of them that a node has no plugin for.
    pub(crate) fn missing<'a>(&'a self, node: &Node) -> Vec<&'a str> {
        self.classes.keys().map(String::as_str).filter(|name| node.extended(name) == 0).collect()
    }

    /// The claim for these resources.
    pub(crate) fn claim(&self, namespace: &str, resources: &[&str]) -> Special {
        let (mut requests, mut mappings) = (Vec::new(), Vec::new());
        for resource in resources {
            let class = self.classes.get(*resource).map(String::as_str).unwrap_or_default();
            self.ask(resource, class, &mut requests, &mut mappings);
        }
        requests.sort_by(|one, two| one.name.cmp(&two.name));
        let meta = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            generate_name: Some(format!("{}-extended-resources-", self.owner.name)),
            // Until the API gives it one.
            uid: Some(temporary(&self.owner.uid)),
            owner_references: Some(vec![self.owner.clone()]),
            annotations: Some([(ANNOTATION.to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        };
        let devices = DeviceClaim { requests: Some(requests), ..DeviceClaim::default() };
        let spec = Some(ResourceClaimSpec { devices: Some(devices) });
        Special { claim: Arc::new(ResourceClaim { metadata: meta, spec, status: None }), mappings }
    }

    /// Requests of one resource: one for each container that stays. Those that end before use theirs, and together
    /// one more for what is missing then.
    fn ask(
        &self,
        resource: &str,
        class: &str,
        requests: &mut Vec<DeviceRequest>,
        mappings: &mut Vec<ContainerExtendedResourceRequest>,
    ) {
        let mapping = |container: &Asking, request: &str| ContainerExtendedResourceRequest {
            container_name: container.name.clone(),
            request_name: request.to_owned(),
            resource_name: resource.to_owned(),
        };
        let mut lasting: Vec<(usize, String, i64)> = Vec::new();
        for (at, container) in self.containers.iter().enumerate().filter(|(_, container)| !container.brief) {
            if let Some((place, count)) = container.asks(resource) {
                let name = format!("container-{at}-request-{place}");
                mappings.push(mapping(container, &name));
                lasting.push((at, name, count));
            }
        }
        let mut largest: Option<(String, i64)> = None;
        let mut waiting = Vec::new();
        for (at, container) in self.containers.iter().enumerate().filter(|(_, container)| container.brief) {
            let Some((place, count)) = container.asks(resource) else { continue };
            let mut there = 0;
            for (_, name, count_there) in lasting.iter().filter(|(later, ..)| *later >= at) {
                if there < count {
                    mappings.push(mapping(container, name));
                    there += count_there;
                }
            }
            if there < count {
                waiting.push(container);
                if largest.as_ref().is_none_or(|(_, most)| *most < count - there) {
                    largest = Some((format!("container-{at}-request-{place}"), count - there));
                }
            }
        }
        if let Some((name, _)) = &largest {
            mappings.extend(waiting.into_iter().map(|container| mapping(container, name)));
        }
        let all = largest.into_iter().chain(lasting.into_iter().map(|(_, name, count)| (name, count)));
        requests.extend(all.map(|(name, count)| DeviceRequest {
            name,
            exactly: Some(ExactDeviceRequest {
                device_class_name: class.to_owned(),
                allocation_mode: Some("ExactCount".to_owned()),
                count: Some(count),
                ..ExactDeviceRequest::default()
            }),
            first_available: None,
        }));
    }
}

impl Asking {
    fn of(container: &Container, starts: bool) -> Self {
        let requests = container.resources.iter().flat_map(|resources| resources.requests.iter().flatten());
        Asking {
            name: container.name.clone(),
            brief: starts && container.restart_policy.as_deref() != Some("Always"),
            requests: requests.map(|(name, text)| (name.clone(), amount(name, text))).collect(),
        }
    }

    /// The place of a resource among all, and how much of it is asked for.
    fn asks(&self, resource: &str) -> Option<(usize, i64)> {
        let place = self.requests.iter().position(|(name, count)| name == resource && *count > 0)?;
        Some((place, self.requests[place].1))
    }
}

impl Devices {
    /// The class that stands for an extended resource.
    pub(crate) fn class_of(&self, resource: &str) -> Option<&str> {
        let implicit =
            resource.strip_prefix(IMPLICIT).and_then(|name| Some(self.classes.get_key_value(name)?.0));
        implicit.or_else(|| self.resources.get(resource)).map(String::as_str)
    }

    /// Which class stands for which resource: of several the youngest, of those the first by name.
    pub(super) fn map_resources(&mut self) {
        let mut best = BTreeMap::new();
        for class in self.classes.values() {
            let name = class.metadata.name.clone().unwrap_or_default();
            let resource = class.spec.as_ref().and_then(|spec| spec.extended_resource_name.clone());
            let made = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
            let Some(resource) = resource.filter(|resource| !resource.is_empty()) else { continue };
            let one = (std::cmp::Reverse(made), name);
            let there = best.entry(resource).or_insert_with(|| one.clone());
            if one < *there {
                *there = one;
            }
        }
        let resources = best.into_iter().map(|(resource, (_, name))| (resource, name)).collect();
        let names: BTreeSet<String> = self.classes.keys().cloned().collect();
        self.remapped |= resources != self.resources || names != self.class_names;
        (self.resources, self.class_names) = (resources, names);
    }

    /// Whether other classes stand for resources since this was asked last: pods are to be read again then.
    pub fn take_remapped(&mut self) -> bool {
        std::mem::take(&mut self.remapped)
    }

    /// The claim that was made for the extended resources of a pod.
    pub(crate) fn made_for(&self, pod: &str) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(self.special.get(pod)?)
    }
}

/// The id of a claim that is not made yet, by its pod's.
pub(super) fn temporary(pod: &str) -> String {
    format!("extended-resources/{pod}")
}

/// The pod for whose extended resources a claim was made.
pub(super) fn pod_of(claim: &ResourceClaim) -> Option<&str> {
    let marks = claim.metadata.annotations.as_ref()?;
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true) && owner.kind == "Pod");
    (marks.get(ANNOTATION)? == "true").then_some(owner?.uid.as_str())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class(name: &str, made: &str, resource: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": made}, "spec": {"extendedResourceName": resource}})
    }

    fn devices(classes: &[Value]) -> Devices {
        let mut devices = Devices::default();
        for class in classes {
            devices.set_class(Arc::new(serde_json::from_value(class.clone()).unwrap()));
        }
        devices
    }

    #[test]
    fn the_youngest_class_stands_for_a_resource() {
        let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let mut devices = devices(&[
            class("old", old, "x.io/gpu"),
            class("b", new, "x.io/gpu"),
            class("a", new, "x.io/gpu"),
        ]);
        assert!(devices.take_remapped() && !devices.take_remapped());
        for (resource, expected) in [
            ("x.io/gpu", Some("a")),
            ("x.io/other", None),
            ("deviceclass.resource.kubernetes.io/old", Some("old")),
            ("deviceclass.resource.kubernetes.io/none", None),
            ("cpu", None),
        ] {
            assert_eq!(devices.class_of(resource), expected, "{resource}");
        }
        devices.remove_class(&serde_json::from_value(class("a", new, "x.io/gpu")).unwrap());
        assert_eq!((devices.take_remapped(), devices.class_of("x.io/gpu")), (true, Some("b")));
    }

    #[test]
    fn requests_and_what_they_are_for() {
        let gpus = |name: &str, count: u32| json!({"name": name, "resources": {"requests": {"cpu": "1", "x.io/gpu": count.to_string()}}});
        let sidecar = |name: &str, count| {
            let mut one = gpus(name, count);
            one["restartPolicy"] = json!("Always");
            one
        };
        let table = [
            (vec![], vec![gpus("a", 2)], "container-0-request-1=2", "a:container-0-request-1"),
            (
                vec![],
                vec![gpus("a", 1), json!({"name": "none"}), gpus("c", 3)],
                "container-0-request-1=1 container-2-request-1=3",
                "a:container-0-request-1 c:container-2-request-1",
            ),
            // Who starts the pod uses what is for later, and more where that is too little.
            (
                vec![gpus("i", 2), gpus("j", 4)],
                vec![gpus("a", 3)],
                "container-1-request-1=1 container-2-request-1=3",
                "a:container-2-request-1 i:container-2-request-1 j:container-2-request-1 j:container-1-request-1",
            ),
            // What a sidecar before it has is its own.
            (
                vec![sidecar("s", 2), gpus("i", 1)],
                vec![json!({"name": "a"})],
                "container-0-request-1=2 container-1-request-1=1",
                "s:container-0-request-1 i:container-1-request-1",
            ),
        ];
        let devices = devices(&[class("gpu", "2026-01-01T00:00:00Z", "x.io/gpu")]);
        for (starts, containers, requests, mappings) in table {
            let pod = json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
                "spec": {"initContainers": starts, "containers": containers}});
            let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
            let extended = Extended::of(&pod, &devices).unwrap();
            let special = extended.claim("ns", &["x.io/gpu"]);
            let asked = super::super::request::requests(&special.claim).iter();
            let asked = asked.map(|one| {
                let exactly = one.exactly.as_ref().unwrap();
                assert_eq!(exactly.device_class_name, "gpu");
                format!("{}={}", one.name, exactly.count.unwrap())
            });
            assert_eq!(asked.collect::<Vec<_>>().join(" "), requests);
            let said =
                special.mappings.iter().map(|one| format!("{}:{}", one.container_name, one.request_name));
            assert_eq!(said.collect::<Vec<_>>().join(" "), mappings);
            assert_eq!(pod_of(&special.claim), Some("u"));
        }
        let none = json!({"metadata": {}, "spec": {"containers": [gpus("a", 0)]}});
        assert_eq!(Extended::of(&serde_json::from_value(none).unwrap(), &devices), None);
    }
}
