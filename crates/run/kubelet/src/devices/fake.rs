//! A device plugin of a few lines.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use plimsoll_plugins::device as wire;
use plimsoll_plugins::device::device_plugin_server::{DevicePlugin, DevicePluginServer};
use plimsoll_plugins::device::registration_client::RegistrationClient;
use plimsoll_plugins::{DEVICE_VERSION, HEALTHY, SOCKET};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// The resource that it has.
pub(crate) const GPU: &str = "example.com/gpu";

type Told = Result<wire::ListAndWatchResponse, Status>;

/// Gives what it is asked for, and says so.
struct Fake {
    told: Mutex<Option<mpsc::UnboundedReceiver<Told>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl DevicePlugin for Fake {
    type ListAndWatchStream = UnboundedReceiverStream<Told>;

    async fn get_device_plugin_options(
        &self,
        _: Request<wire::Empty>,
    ) -> Result<Response<wire::DevicePluginOptions>, Status> {
        Ok(Response::new(options()))
    }

    async fn list_and_watch(
        &self,
        _: Request<wire::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let told = self.told.lock().unwrap().take().unwrap();
        Ok(Response::new(UnboundedReceiverStream::new(told)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<wire::PreferredAllocationRequest>,
    ) -> Result<Response<wire::PreferredAllocationResponse>, Status> {
        let request = request.into_inner().container_requests.remove(0);
        // The last ones first.
        let mut liked = request.available_device_i_ds;
        liked.sort();
        liked.reverse();
        let answer = wire::ContainerPreferredAllocationResponse { device_i_ds: liked };
        Ok(Response::new(wire::PreferredAllocationResponse { container_responses: vec![answer] }))
    }

    async fn allocate(
        &self,
        request: Request<wire::AllocateRequest>,
    ) -> Result<Response<wire::AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests.remove(0).devices_ids.join(",");
        self.calls.lock().unwrap().push(format!("allocate {ids}"));
        if ids.contains("bad") {
            return Err(Status::internal("it burns"));
        }
        let answer = wire::ContainerAllocateResponse {
            envs: [("GPUS".to_owned(), ids.clone())].into(),
            mounts: vec![wire::Mount {
                container_path: "/gpu".into(),
                host_path: "/opt/gpu".into(),
                read_only: true,
            }],
            devices: vec![wire::DeviceSpec {
                container_path: "/dev/gpu".into(),
                host_path: "/dev/null".into(),
                permissions: "rw".into(),
            }],
            annotations: [("gpu".to_owned(), ids.clone())].into(),
            cdi_devices: vec![wire::CdiDevice { name: format!("{GPU}={ids}") }],
        };
        Ok(Response::new(wire::AllocateResponse { container_responses: vec![answer] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<wire::PreStartContainerRequest>,
    ) -> Result<Response<wire::PreStartContainerResponse>, Status> {
        let ids = request.into_inner().devices_ids.join(",");
        self.calls.lock().unwrap().push(format!("start {ids}"));
        Ok(Response::new(wire::PreStartContainerResponse {}))
    }
}

fn options() -> wire::DevicePluginOptions {
    wire::DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: true }
}

/// A plugin that runs.
pub(crate) struct Running {
    tell: mpsc::UnboundedSender<Told>,
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
    pub(crate) stop: CancellationToken,
}

impl Running {
    /// Starts a plugin and registers it.
    pub(crate) async fn start(folder: &Path, endpoint: &str) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let (calls, stop) = (Arc::<Mutex<Vec<String>>>::default(), CancellationToken::new());
        let fake = Fake { told: Mutex::new(Some(told)), calls: calls.clone() };
        let listener = plimsoll_cri::listen(&folder.join(endpoint)).unwrap();
        let stopped = stop.clone();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(DevicePluginServer::new(fake))
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped.cancelled_owned()),
        );
        register(folder, endpoint, GPU, DEVICE_VERSION).await.unwrap();
        Self { tell, calls, stop }
    }

    pub(crate) fn tell(&self, devices: &[(&str, bool)]) {
        self.tell_on(0, devices);
    }

    /// Tells of devices that are near to a memory node.
    pub(crate) fn tell_on(&self, node: i64, devices: &[(&str, bool)]) {
        let one = |(id, healthy): &(&str, bool)| wire::Device {
            id: (*id).to_owned(),
            health: if *healthy { HEALTHY.to_owned() } else { "Unhealthy".to_owned() },
            topology: Some(wire::TopologyInfo { nodes: vec![wire::NumaNode { id: node }] }),
        };
        self.tell
            .send(Ok(wire::ListAndWatchResponse { devices: devices.iter().map(one).collect() }))
            .unwrap();
    }
}

pub(crate) async fn register(
    folder: &Path,
    endpoint: &str,
    resource: &str,
    version: &str,
) -> Result<(), Status> {
    let mut client = RegistrationClient::new(plimsoll_cri::connect(&folder.join(SOCKET)));
    let request = wire::RegisterRequest {
        version: version.into(),
        endpoint: endpoint.into(),
        resource_name: resource.into(),
        options: Some(options()),
    };
    client.register(request).await.map(drop)
}
