//! A CSI driver of a few lines: folders that it mounts, and everything that it was asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use plimsoll_csi::registration::registration_server::{Registration, RegistrationServer};
use plimsoll_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use plimsoll_csi::v1;
use plimsoll_csi::v1::node_server::{Node, NodeServer};
use plimsoll_csi::v1::node_service_capability::rpc::Type;
use plimsoll_kernel::mount;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

pub(super) const NAME: &str = "folder.example";

#[derive(Default)]
struct State {
    calls: Vec<String>,
    registered: Option<Result<(), String>>,
    published: Option<v1::NodePublishVolumeRequest>,
    expanded: Option<v1::NodeExpandVolumeRequest>,
    refusal: Option<Status>,
}

/// The driver, with its data in a folder.
#[derive(Clone)]
pub(super) struct FakeDriver {
    state: Arc<Mutex<State>>,
    data: PathBuf,
    socket: PathBuf,
}

impl FakeDriver {
    /// Appears in the folder that the agent watches.
    pub(super) fn serve(kubelet: &Path, data: PathBuf) -> (Self, tokio::task::JoinHandle<()>) {
        let registry = kubelet.join("plugins_registry");
        fs::create_dir_all(&registry).unwrap();
        fs::create_dir_all(&data).unwrap();
        let socket = registry.join("folder.example-reg.sock");
        let _ = fs::remove_file(&socket);
        let driver = Self { state: Arc::default(), data, socket: socket.clone() };
        let incoming = UnixListenerStream::new(UnixListener::bind(&socket).unwrap());
        let server = Server::builder()
            .add_service(RegistrationServer::new(driver.clone()))
            .add_service(NodeServer::new(driver.clone()));
        (driver, tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() }))
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    pub(super) fn registered(&self) -> Option<Result<(), String>> {
        self.state.lock().unwrap().registered.clone()
    }

    pub(super) fn published(&self) -> v1::NodePublishVolumeRequest {
        self.state.lock().unwrap().published.clone().unwrap()
    }

    pub(super) fn expanded(&self) -> v1::NodeExpandVolumeRequest {
        self.state.lock().unwrap().expanded.clone().unwrap()
    }

    /// What it says next when a volume is to grow.
    pub(super) fn refuse(&self, refusal: Option<Status>) {
        self.state.lock().unwrap().refusal = refusal;
    }

    fn note(&self, call: String) {
        self.state.lock().unwrap().calls.push(call);
    }
}

#[tonic::async_trait]
impl Registration for FakeDriver {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".into(),
            name: NAME.into(),
            endpoint: self.socket.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let result = if status.plugin_registered { Ok(()) } else { Err(status.error) };
        self.state.lock().unwrap().registered = Some(result);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for FakeDriver {
    async fn node_stage_volume(
        &self,
        request: Request<v1::NodeStageVolumeRequest>,
    ) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        self.note(format!("stage {}", request.into_inner().volume_id));
        Ok(Response::new(v1::NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Result<Response<v1::NodeUnstageVolumeResponse>, Status> {
        self.note(format!("unstage {}", request.into_inner().volume_id));
        Ok(Response::new(v1::NodeUnstageVolumeResponse {}))
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Result<Response<v1::NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("publish {}", request.volume_id));
        if request.volume_context.contains_key("fail") {
            return Err(Status::internal("no such disk"));
        }
        let (from, target) = (self.data.join(&request.volume_id), PathBuf::from(&request.target_path));
        let capability = request.volume_capability.as_ref().unwrap();
        if matches!(capability.access_type, Some(v1::volume_capability::AccessType::Block(_))) {
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(&target, "a device").unwrap();
            self.state.lock().unwrap().published = Some(request);
            return Ok(Response::new(v1::NodePublishVolumeResponse {}));
        }
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(&target).unwrap();
        mount::unmount(&target).unwrap();
        mount::bind(&from, &target).unwrap();
        self.state.lock().unwrap().published = Some(request);
        Ok(Response::new(v1::NodePublishVolumeResponse {}))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<v1::NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("unpublish {}", request.volume_id));
        mount::unmount(Path::new(&request.target_path)).unwrap();
        let _ = fs::remove_dir(&request.target_path).or_else(|_| fs::remove_file(&request.target_path));
        Ok(Response::new(v1::NodeUnpublishVolumeResponse {}))
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<v1::NodeGetVolumeStatsResponse>, Status> {
        let usage = v1::VolumeUsage {
            available: 70,
            total: 100,
            used: 30,
            unit: v1::volume_usage::Unit::Bytes as i32,
        };
        let volume_condition = Some(v1::VolumeCondition { abnormal: true, message: "worn".into() });
        Ok(Response::new(v1::NodeGetVolumeStatsResponse { usage: vec![usage], volume_condition }))
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Result<Response<v1::NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        self.note(format!("expand {}", request.volume_id));
        let mut state = self.state.lock().unwrap();
        if let Some(refusal) = state.refusal.clone() {
            return Err(refusal);
        }
        state.expanded = Some(request);
        Ok(Response::new(v1::NodeExpandVolumeResponse { capacity_bytes: 0 }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<v1::NodeGetCapabilitiesResponse>, Status> {
        let all = [Type::StageUnstageVolume, Type::ExpandVolume, Type::GetVolumeStats, Type::VolumeCondition];
        let capability = |ability: Type| {
            let rpc = v1::node_service_capability::Rpc { r#type: ability as i32 };
            v1::NodeServiceCapability { r#type: Some(v1::node_service_capability::Type::Rpc(rpc)) }
        };
        let capabilities = all.into_iter().map(capability).collect();
        Ok(Response::new(v1::NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<v1::NodeGetInfoRequest>,
    ) -> Result<Response<v1::NodeGetInfoResponse>, Status> {
        let topology = v1::Topology { segments: [("folder.example/rack".into(), "r1".into())].into() };
        Ok(Response::new(v1::NodeGetInfoResponse {
            node_id: "node-one".into(),
            max_volumes_per_node: 7,
            accessible_topology: Some(topology),
        }))
    }
}
