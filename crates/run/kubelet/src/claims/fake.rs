//! A driver of claimed devices of a few lines.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use plimsoll_csi::registration::registration_server::{Registration, RegistrationServer};
use plimsoll_csi::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use plimsoll_plugins::dra as wire;
use plimsoll_plugins::dra::dra_plugin_server::{DraPlugin, DraPluginServer};
use plimsoll_plugins::dra_health::dra_resource_health_server::{DraResourceHealth, DraResourceHealthServer};
use plimsoll_plugins::dra_health::{
    DeviceHealth, DeviceIdentifier, HealthStatus, NodeWatchResourcesRequest, NodeWatchResourcesResponse,
};
use tokio::sync::watch;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Its name.
pub(crate) const DRIVER: &str = "gpu.example.com";

/// What it was asked, and whether it refuses.
#[derive(Clone, Default)]
pub(crate) struct Log {
    calls: Arc<Mutex<Vec<String>>>,
    broken: Arc<Mutex<bool>>,
    healths: Healths,
}

/// What it says of its device: how that is, why, and for how many seconds this holds.
#[derive(Clone)]
struct Healths(watch::Sender<(HealthStatus, &'static str, i64)>);

impl Default for Healths {
    fn default() -> Self {
        Self(watch::channel((HealthStatus::Healthy, "", 60)).0)
    }
}

impl Log {
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        *self.broken.lock().unwrap() = broken;
    }

    pub(crate) fn say(&self, health: HealthStatus, message: &'static str, seconds: i64) {
        self.healths.0.send_replace((health, message, seconds));
    }

    fn note(&self, what: &str, claims: &[wire::Claim]) -> String {
        for claim in claims {
            self.calls.lock().unwrap().push(format!("{what} {}/{}", claim.namespace, claim.name));
        }
        if *self.broken.lock().unwrap() { "it burns".to_owned() } else { String::new() }
    }
}

struct Fake {
    endpoint: PathBuf,
    log: Log,
}

#[tonic::async_trait]
impl Registration for Fake {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "DRAPlugin".into(),
            name: DRIVER.into(),
            endpoint: self.endpoint.to_str().unwrap().into(),
            supported_versions: vec!["v1.DRAPlugin".into()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        self.log
            .calls
            .lock()
            .unwrap()
            .push(format!("registered {} {}", status.plugin_registered, status.error));
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl DraPlugin for Fake {
    async fn node_prepare_resources(
        &self,
        request: Request<wire::NodePrepareResourcesRequest>,
    ) -> Result<Response<wire::NodePrepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims;
        let error = self.log.note("prepare", &claims);
        let device = wire::Device {
            request_names: vec!["gpu".into()],
            pool_name: "n1".into(),
            device_name: "g0".into(),
            cdi_device_ids: vec!["example.com/gpu=g0".into()],
            share_id: None,
        };
        let answer = wire::NodePrepareResourceResponse { devices: vec![device], error };
        let claims = claims.into_iter().map(|claim| (claim.uid, answer.clone())).collect();
        Ok(Response::new(wire::NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<wire::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<wire::NodeUnprepareResourcesResponse>, Status> {
        let claims = request.into_inner().claims;
        let error = self.log.note("unprepare", &claims);
        let answer = wire::NodeUnprepareResourceResponse { error };
        let claims = claims.into_iter().map(|claim| (claim.uid, answer.clone())).collect();
        Ok(Response::new(wire::NodeUnprepareResourcesResponse { claims }))
    }
}

#[tonic::async_trait]
impl DraResourceHealth for Fake {
    type NodeWatchResourcesStream =
        Pin<Box<dyn Stream<Item = Result<NodeWatchResourcesResponse, Status>> + Send>>;

    async fn node_watch_resources(
        &self,
        _: Request<NodeWatchResourcesRequest>,
    ) -> Result<Response<Self::NodeWatchResourcesStream>, Status> {
        let told = WatchStream::new(self.log.healths.0.subscribe()).map(|(health, message, seconds)| {
            let device = DeviceIdentifier { pool_name: "n1".into(), device_name: "g0".into() };
            Ok(NodeWatchResourcesResponse {
                devices: vec![DeviceHealth {
                    device: Some(device),
                    health: health.into(),
                    message: message.into(),
                    health_check_timeout_seconds: seconds,
                    ..DeviceHealth::default()
                }],
            })
        });
        Ok(Response::new(Box::pin(told)))
    }
}

/// Starts a driver whose registration is found in `folder`, until the token is cancelled.
pub(crate) fn start(folder: &Path, log: &Log) -> CancellationToken {
    std::fs::create_dir_all(folder).unwrap();
    let (socket, endpoint) = (folder.join("gpu-reg.sock"), folder.parent().unwrap().join("gpu-dra.sock"));
    let stop = CancellationToken::new();
    let fake = || Fake { endpoint: endpoint.clone(), log: log.clone() };
    let serve = |path: &Path, router: tonic::transport::server::Router| {
        // The registration appears when all is there.
        let listener = plimsoll_cri::listen(path).unwrap();
        let stop = stop.clone();
        tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await
        });
    };
    let server = tonic::transport::Server::builder;
    let health = DraResourceHealthServer::new(fake());
    serve(&endpoint, server().add_service(DraPluginServer::new(fake())).add_service(health));
    serve(&socket, server().add_service(RegistrationServer::new(fake())));
    stop
}
