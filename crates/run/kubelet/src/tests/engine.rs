//! A container engine without containers: it remembers what it was told, and tells when it is asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_cri::v1;
use plimsoll_cri::v1::image_service_server::ImageService;
use plimsoll_cri::v1::runtime_service_server::RuntimeService;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status};

#[derive(Default)]
struct State {
    calls: Vec<String>,
    sandbox: Option<(v1::PodSandboxConfig, bool)>,
    containers: Vec<(v1::ContainerConfig, v1::ContainerStatus)>,
    /// Nothing is told of what happens.
    mute: bool,
    /// The next sandbox is made, but does not come up.
    breaks: bool,
    /// Images that no container uses: ids and the files they are kept in.
    images: Vec<(String, PathBuf)>,
    can_checkpoint: bool,
    /// Images that would have to be pulled.
    absent: BTreeSet<String>,
    listeners: Vec<mpsc::UnboundedSender<Result<v1::ContainerEventResponse, Status>>>,
}

#[derive(Default)]
pub(super) struct FakeEngine {
    state: Mutex<State>,
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

impl FakeEngine {
    pub(super) fn serve(socket: &Path) -> Arc<Self> {
        let engine = Arc::new(Self::default());
        let (socket, served) = (socket.to_owned(), engine.clone());
        tokio::spawn(async move { plimsoll_cri::serve(&socket, served, std::future::pending()).await });
        engine
    }

    /// Has an image that nobody uses.
    pub(super) fn keep_image(&self, id: &str, file: PathBuf) {
        self.state.lock().unwrap().images.push((id.to_owned(), file));
    }

    /// Knows how to write down what containers are.
    pub(super) fn learn_checkpoints(&self) {
        self.state.lock().unwrap().can_checkpoint = true;
    }

    /// Does not have an image.
    pub(super) fn lack_image(&self, name: &str) {
        self.state.lock().unwrap().absent.insert(name.to_owned());
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    pub(super) fn container(&self, id: &str) -> v1::ContainerConfig {
        let state = self.state.lock().unwrap();
        state.containers.iter().find(|(_, status)| status.id == id).unwrap().0.clone()
    }

    pub(super) fn sandbox(&self) -> v1::PodSandboxConfig {
        self.state.lock().unwrap().sandbox.clone().unwrap().0
    }

    /// What a container says.
    pub(super) fn say(&self, id: &str, text: &str) {
        use std::io::Write;
        let path = self.state.lock().unwrap().log(id);
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// A container ends by itself, once somebody listens.
    pub(super) async fn exit(&self, id: &str, code: i32) {
        while self.state.lock().unwrap().listeners.iter().all(|it| it.is_closed()) {
            tokio::task::yield_now().await;
        }
        let mut state = self.state.lock().unwrap();
        state.end(id, code);
        state.tell(id, v1::ContainerEventType::ContainerStoppedEvent);
    }
}

impl FakeEngine {
    /// From now on it tells nothing, like engines of before.
    pub(super) fn mute(&self) {
        let mut state = self.state.lock().unwrap();
        (state.mute, state.listeners) = (true, Vec::new());
    }

    /// The next sandbox does not come up, and what there is of it stays.
    pub(super) fn break_sandbox(&self) {
        self.state.lock().unwrap().breaks = true;
    }

    /// A container ends, and nobody is told.
    pub(super) fn exit_silently(&self, id: &str, code: i32) {
        self.state.lock().unwrap().end(id, code);
    }
}

impl State {
    fn end(&mut self, id: &str, code: i32) {
        let found = self.containers.iter_mut().find(|(_, status)| status.id == id);
        let (_, status) = found.unwrap();
        status.state = v1::ContainerState::ContainerExited as i32;
        (status.finished_at, status.exit_code) = (now(), code);
    }

    fn log(&self, id: &str) -> PathBuf {
        let (config, _) = self.containers.iter().find(|(_, status)| status.id == id).unwrap();
        Path::new(&self.sandbox.as_ref().unwrap().0.log_directory).join(&config.log_path)
    }

    fn sandbox_status(&self) -> Option<v1::PodSandboxStatus> {
        let (config, ready) = self.sandbox.clone()?;
        Some(v1::PodSandboxStatus {
            id: sandbox_id(&config),
            metadata: config.metadata,
            state: i32::from(!ready),
            created_at: 1,
            network: Some(v1::PodSandboxNetworkStatus { ip: "10.0.0.1".into(), additional_ips: Vec::new() }),
            labels: config.labels,
            ..Default::default()
        })
    }

    fn tell(&mut self, id: &str, kind: v1::ContainerEventType) {
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: now(),
            pod_sandbox_status: self.sandbox_status(),
            containers_statuses: self.containers.iter().map(|(_, status)| status.clone()).collect(),
        };
        self.listeners.retain(|listener| listener.send(Ok(event.clone())).is_ok());
    }
}

/// The first one is called `s`.
fn sandbox_id(config: &v1::PodSandboxConfig) -> String {
    match config.metadata.as_ref().map_or(0, |it| it.attempt) {
        0 => "s".into(),
        attempt => format!("s-{attempt}"),
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// An answer as the attribute of the traits spells it, which does not see into macros.
type Later<'b, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'b>>;

/// Calls that the test does not need.
macro_rules! unused {
    ($($name:ident: $request:ident -> $response:ident),* $(,)?) => {$(
        fn $name<'a, 'b>(&'a self, _: Request<v1::$request>) -> Later<'b, v1::$response>
        where
            'a: 'b,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        }
    )*};
}

#[tonic::async_trait]
impl RuntimeService for FakeEngine {
    type GetContainerEventsStream = UnboundedReceiverStream<Result<v1::ContainerEventResponse, Status>>;

    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        ok(v1::VersionResponse {
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            ..Default::default()
        })
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let condition =
            |name: &str| v1::RuntimeCondition { r#type: name.into(), status: true, ..Default::default() };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        ok(v1::StatusResponse { status: Some(v1::RuntimeStatus { conditions }), ..Default::default() })
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap();
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("sandbox {}", config.metadata.as_ref().unwrap().attempt));
        let id = sandbox_id(&config);
        if state.sandbox.as_ref().is_some_and(|(known, _)| sandbox_id(known) == id) {
            return Err(Status::unknown(format!("name is reserved for {id:?}")));
        }
        let breaks = std::mem::take(&mut state.breaks);
        state.sandbox = Some((config, !breaks));
        if breaks {
            return Err(Status::unknown("failed to setup network"));
        }
        ok(v1::RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(
        &self,
        _: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let mut state = self.state.lock().unwrap();
        state.calls.push("stop sandbox".into());
        // One that is gone is stopped.
        if let Some(sandbox) = &mut state.sandbox {
            sandbox.1 = false;
        }
        ok(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let mut state = self.state.lock().unwrap();
        state.calls.push("remove sandbox".into());
        let id = request.into_inner().pod_sandbox_id;
        if state.sandbox.as_ref().is_some_and(|(known, _)| sandbox_id(known) == id) {
            (state.sandbox, state.containers) = (None, Vec::new());
        }
        ok(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        _: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let status = self.state.lock().unwrap().sandbox_status();
        ok(v1::PodSandboxStatusResponse { status, ..Default::default() })
    }

    async fn list_pod_sandbox(
        &self,
        _: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let items = self.state.lock().unwrap().sandbox_status().map(|status| v1::PodSandbox {
            id: status.id,
            metadata: status.metadata,
            state: status.state,
            labels: status.labels,
            ..Default::default()
        });
        ok(v1::ListPodSandboxResponse { items: items.into_iter().collect() })
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let config = request.into_inner().config.unwrap();
        let metadata = config.metadata.clone().unwrap();
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("create {} {}", metadata.name, metadata.attempt));
        let id = format!("{}-{}", metadata.name, metadata.attempt);
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: Some(metadata),
            created_at: now(),
            image: config.image.clone(),
            image_ref: "sha256:1".into(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            mounts: config.mounts.clone(),
            ..Default::default()
        };
        state.containers.push((config, status));
        state.tell(&id, v1::ContainerEventType::ContainerCreatedEvent);
        ok(v1::CreateContainerResponse { container_id: id })
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("start {id}"));
        let found = state.containers.iter_mut().find(|(_, status)| status.id == id);
        let (_, status) = found.unwrap();
        (status.state, status.started_at) = (v1::ContainerState::ContainerRunning as i32, now());
        state.tell(&id, v1::ContainerEventType::ContainerStartedEvent);
        ok(v1::StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("stop {} {}", request.container_id, request.timeout));
        state.end(&request.container_id, 143);
        state.tell(&request.container_id, v1::ContainerEventType::ContainerStoppedEvent);
        ok(v1::StopContainerResponse {})
    }

    async fn list_containers(
        &self,
        _: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let state = self.state.lock().unwrap();
        let sandbox = state.sandbox.as_ref().map(|(config, _)| sandbox_id(config)).unwrap_or_default();
        let containers = state.containers.iter().map(|(_, status)| v1::Container {
            id: status.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            labels: status.labels.clone(),
            ..Default::default()
        });
        ok(v1::ListContainersResponse { containers: containers.collect() })
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let state = self.state.lock().unwrap();
        let found = state.containers.iter().find(|(_, status)| status.id == id);
        let status = found.map(|(_, status)| status.clone()).ok_or_else(|| Status::not_found(id))?;
        ok(v1::ContainerStatusResponse { status: Some(status), ..Default::default() })
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let id = request.into_inner().container_id;
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("reopen {id}"));
        let path = state.log(&id);
        std::fs::File::create_new(path).map_err(|error| Status::internal(error.to_string()))?;
        ok(v1::ReopenContainerLogResponse {})
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let linux = request.linux.unwrap();
        let change = match linux.memory_limit_in_bytes {
            0 => format!("shares {}", linux.cpu_shares),
            bytes => format!("memory {}Mi", bytes >> 20),
        };
        self.state.lock().unwrap().calls.push(format!("update {} {change}", request.container_id));
        ok(v1::UpdateContainerResourcesResponse {})
    }

    /// Every container uses 32 MiB.
    async fn container_stats(
        &self,
        _: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let usage_bytes = Some(v1::UInt64Value { value: 32 << 20 });
        let memory = Some(v1::MemoryUsage { usage_bytes, ..Default::default() });
        ok(v1::ContainerStatsResponse { stats: Some(v1::ContainerStats { memory, ..Default::default() }) })
    }

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state.lock().unwrap();
        if state.mute {
            return Err(Status::unimplemented("get_container_events"));
        }
        state.listeners.push(sender);
        ok(UnboundedReceiverStream::new(receiver))
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        let request = request.into_inner();
        if !self.state.lock().unwrap().can_checkpoint {
            return Err(Status::unimplemented("containers cannot be checkpointed"));
        }
        std::fs::write(&request.location, format!("{} in {} s", request.container_id, request.timeout))
            .unwrap();
        ok(v1::CheckpointContainerResponse {})
    }

    unused! {
        remove_container: RemoveContainerRequest -> RemoveContainerResponse,
        exec_sync: ExecSyncRequest -> ExecSyncResponse,
        exec: ExecRequest -> ExecResponse,
        attach: AttachRequest -> AttachResponse,
        port_forward: PortForwardRequest -> PortForwardResponse,
        list_container_stats: ListContainerStatsRequest -> ListContainerStatsResponse,
        pod_sandbox_stats: PodSandboxStatsRequest -> PodSandboxStatsResponse,
        list_pod_sandbox_stats: ListPodSandboxStatsRequest -> ListPodSandboxStatsResponse,
        update_runtime_config: UpdateRuntimeConfigRequest -> UpdateRuntimeConfigResponse,
        list_metric_descriptors: ListMetricDescriptorsRequest -> ListMetricDescriptorsResponse,
        list_pod_sandbox_metrics: ListPodSandboxMetricsRequest -> ListPodSandboxMetricsResponse,
        runtime_config: RuntimeConfigRequest -> RuntimeConfigResponse,
    }
}

#[tonic::async_trait]
impl ImageService for FakeEngine {
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let state = self.state.lock().unwrap();
        let image = |(id, file): &(String, PathBuf)| v1::Image {
            id: id.clone(),
            size: std::fs::metadata(file).map_or(0, |it| it.len()),
            ..Default::default()
        };
        ok(v1::ListImagesResponse { images: state.images.iter().map(image).collect() })
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let id = request.into_inner().image.unwrap().image;
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("remove image {id}"));
        let at = state.images.iter().position(|(known, _)| *known == id).unwrap();
        std::fs::remove_file(state.images.remove(at).1).unwrap();
        ok(v1::RemoveImageResponse {})
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let name = request.into_inner().image.unwrap().image;
        let is_absent = self.state.lock().unwrap().absent.contains(&name);
        let image = v1::Image { id: "sha256:1".into(), ..Default::default() };
        ok(v1::ImageStatusResponse { image: (!is_absent).then_some(image), ..Default::default() })
    }

    /// Everybody whose password is `good` gets an image, and nobody else.
    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let request = request.into_inner();
        let (name, auth) = (request.image.unwrap().image, request.auth.unwrap_or_default());
        let mut state = self.state.lock().unwrap();
        state.calls.push(format!("pull {name} {}", auth.username));
        if auth.password != "good" {
            return Err(Status::unknown(format!("{name}: {:?} is not let in", auth.username)));
        }
        state.absent.remove(&name);
        ok(v1::PullImageResponse { image_ref: "sha256:1".into() })
    }

    unused! {
        image_fs_info: ImageFsInfoRequest -> ImageFsInfoResponse,
    }
}
