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
use plimsoll_podlife::device::{Ledger, Resource};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Devices, clear};

/// The server's view of the node.
pub(crate) struct PodResources {
    pub(crate) devices: Arc<Devices>,
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
        let state = self.devices.state();
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
            ..wire::ContainerResources::default()
        });
        wire::PodResources {
            name: pod.metadata.name.clone().unwrap_or_default(),
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            containers: containers.collect(),
        }
    }
}

#[tonic::async_trait]
impl PodResourcesLister for PodResources {
    async fn list(
        &self,
        _: Request<wire::ListPodResourcesRequest>,
    ) -> Result<Response<wire::ListPodResourcesResponse>, Status> {
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let pods = self.pods.list();
        let pod_resources = pods.iter().filter(|pod| !ended(pod)).map(|pod| self.of(pod)).collect();
        Ok(Response::new(wire::ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<wire::AllocatableResourcesRequest>,
    ) -> Result<Response<wire::AllocatableResourcesResponse>, Status> {
        let state = self.devices.state();
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
        Ok(Response::new(wire::AllocatableResourcesResponse { devices, ..Default::default() }))
    }

    async fn get(
        &self,
        request: Request<wire::GetPodResourcesRequest>,
    ) -> Result<Response<wire::GetPodResourcesResponse>, Status> {
        let asked = request.into_inner();
        let pod = self.pods.get(&asked.pod_namespace, &asked.pod_name).ok_or_else(|| {
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
