//! Telling which pod has which devices (`PodResourcesLister`), on `pod-resources/kubelet.sock`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_plugins::SOCKET;
use plimsoll_plugins::resources as wire;
use plimsoll_plugins::resources::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use plimsoll_podlife::claim::{Device as Claimed, Held};
use plimsoll_podlife::device::{Ledger, Resource};
use plimsoll_podlife::placement::CpuSet;
use plimsoll_podlife::placement::memory::Block;
use plimsoll_podlife::spec::is_over;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::clear;
use crate::agent::Agent;
use crate::metrics::Question;

/// The server's view of the node.
pub(crate) struct PodResources {
    pub(crate) agent: Arc<Agent>,
    pub(crate) pods: Informer<Pod>,
}

impl PodResources {
    /// Serves in `folder` until `stop`.
    pub(crate) async fn run(self, folder: PathBuf, stop: CancellationToken) {
        let socket = folder.join(SOCKET);
        let listener = match clear(&folder).and_then(|()| plimsoll_cri::listen(&socket)) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(socket = %socket.display(), %error, "nobody can ask for pods' resources");
                return;
            }
        };
        let served = tonic::transport::Server::builder()
            .add_service(PodResourcesListerServer::new(self))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled());
        if let Err(error) = served.await {
            tracing::warn!(%error, "nobody can ask for pods' resources any more");
        }
    }

    fn of(&self, pod: &Pod) -> wire::PodResources {
        let state = self.agent.devices.state();
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let spec = pod.spec.iter();
        // Init containers that end have nothing to tell, sidecars have.
        let sidecars = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
        let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always"));
        let all = sidecars.chain(spec.flat_map(|spec| spec.containers.iter()));
        let containers = all.map(|it| wire::ContainerResources {
            name: it.name.clone(),
            devices: state
                .ledger
                .of(uid, &it.name)
                .flat_map(|(resource, held)| told(&state.ledger, resource, held.devices.iter()))
                .collect(),
            cpu_ids: self.cpus(uid, &it.name),
            memory: self.memory(uid, &it.name),
            dynamic_resources: self.agent.claims.held(pod, it).iter().map(dynamic).collect(),
        });
        wire::PodResources {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            containers: containers.collect(),
        }
    }

    /// The processors that are a container's own.
    fn cpus(&self, uid: &str, container: &str) -> Vec<i64> {
        self.agent.placement.look(|given| {
            let own = given.cpus.as_ref().and_then(|cpus| cpus.own(uid, container));
            own.into_iter().flat_map(CpuSet::iter).map(i64::from).collect()
        })
    }

    /// The memory that is a container's own.
    fn memory(&self, uid: &str, container: &str) -> Vec<wire::ContainerMemory> {
        self.agent.placement.look(|given| {
            let own = given.memory.as_ref().and_then(|memory| memory.own(uid, container));
            own.into_iter().flatten().map(block).collect()
        })
    }
}

fn block(block: &Block) -> wire::ContainerMemory {
    let nodes = block.numa_affinity.iter().map(|id| wire::NumaNode { id: i64::from(*id) }).collect();
    wire::ContainerMemory {
        memory_type: block.resource.clone(),
        size: block.size,
        topology: Some(wire::TopologyInfo { nodes }),
    }
}

fn dynamic(held: &Held) -> wire::DynamicResource {
    let of = |(driver, devices): (&String, &Vec<Claimed>)| -> Vec<wire::ClaimResource> {
        let one = |device: &Claimed| wire::ClaimResource {
            cdi_devices: device.cdi.iter().map(|name| wire::CdiDevice { name: name.clone() }).collect(),
            driver_name: driver.clone(),
            pool_name: device.pool.clone(),
            device_name: device.name.clone(),
            share_id: device.share.clone(),
        };
        devices.iter().map(one).collect()
    };
    wire::DynamicResource {
        // Claims are of no class any more.
        class_name: String::new(),
        claim_name: held.claim.name.clone(),
        claim_namespace: held.claim.namespace.clone(),
        claim_resources: held.claim.drivers.iter().flat_map(of).collect(),
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResources {
    async fn list(
        &self,
        _: Request<wire::ListPodResourcesRequest>,
    ) -> Result<Response<wire::ListPodResourcesResponse>, Status> {
        self.agent.metrics.resources_asked(Question::List);
        let pods = self.pods.list();
        let pod_resources = pods.iter().filter(|pod| !is_over(pod)).map(|pod| self.of(pod)).collect();
        Ok(Response::new(wire::ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<wire::AllocatableResourcesRequest>,
    ) -> Result<Response<wire::AllocatableResourcesResponse>, Status> {
        self.agent.metrics.resources_asked(Question::GetAllocatable);
        let state = self.agent.devices.state();
        let healthy = |(name, resource): (&String, &Resource)| {
            let ids: Vec<String> = resource
                .devices
                .iter()
                .filter(|(_, device)| device.healthy)
                .map(|(id, _)| id.clone())
                .collect();
            told(&state.ledger, name, ids.iter())
        };
        let devices = state.ledger.resources().iter().flat_map(healthy).collect();
        let (cpu_ids, memory) = self.agent.placement.look(|given| {
            let cpus = given.cpus.as_ref().map(|cpus| cpus.allocatable());
            let memory = given.memory.as_ref().map(|memory| memory.allocatable());
            let cpus = cpus.iter().flat_map(CpuSet::iter).map(i64::from).collect();
            (cpus, memory.iter().flatten().map(block).collect())
        });
        Ok(Response::new(wire::AllocatableResourcesResponse { devices, cpu_ids, memory }))
    }

    async fn get(
        &self,
        request: Request<wire::GetPodResourcesRequest>,
    ) -> Result<Response<wire::GetPodResourcesResponse>, Status> {
        self.agent.metrics.resources_asked(Question::Get);
        let asked = request.into_inner();
        let pod = self.pods.get(&asked.pod_namespace, &asked.pod_name).ok_or_else(|| {
            self.agent.metrics.resources_not_told(Question::Get);
            Status::unknown(format!("pod {} in namespace {} not found", asked.pod_name, asked.pod_namespace))
        })?;
        Ok(Response::new(wire::GetPodResourcesResponse { pod_resources: Some(self.of(&pod)) }))
    }
}

/// Devices of a resource, those that are near to the same memory together.
fn told<'a>(
    ledger: &Ledger,
    resource: &str,
    ids: impl Iterator<Item = &'a String>,
) -> Vec<wire::ContainerDevices> {
    let mut by_nodes: BTreeMap<BTreeSet<i64>, Vec<String>> = BTreeMap::new();
    for id in ids {
        let device = ledger.resources().get(resource).and_then(|resource| resource.devices.get(id));
        let nodes = device.map(|device| device.nodes.iter().copied().collect()).unwrap_or_default();
        by_nodes.entry(nodes).or_default().push(id.clone());
    }
    let one = |(nodes, device_ids): (BTreeSet<i64>, Vec<String>)| {
        let nodes: Vec<_> = nodes.into_iter().map(|id| wire::NumaNode { id }).collect();
        let topology = (!nodes.is_empty()).then_some(wire::TopologyInfo { nodes });
        wire::ContainerDevices { resource_name: resource.to_owned(), device_ids, topology }
    };
    by_nodes.into_iter().map(one).collect()
}
