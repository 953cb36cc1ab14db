//! The container engine as this agent sees it: CRI calls in, this project's words out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use plimsoll_cri::v1::image_service_client::ImageServiceClient;
use plimsoll_cri::v1::runtime_service_client::RuntimeServiceClient;
use plimsoll_cri::{MESSAGE_LIMIT, v1};
use plimsoll_podlife::cgroup::name::Driver;
use plimsoll_podlife::observed::{Container, Exit, Sandbox, State};

use crate::config::Config;
use crate::metrics::{Metrics, Wire};

/// A client of a container engine. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Engine {
    runtime: RuntimeServiceClient<Wire>,
    images: ImageServiceClient<Wire>,
    /// Longest wait for calls that end soon or never; pulling takes its time.
    patience: Duration,
}

/// Everything that the engine has of one pod.
pub(crate) struct Seen {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

/// The text of an engine's error as users see it.
pub(crate) fn text(status: &tonic::Status) -> String {
    let code = format!("{:?}", status.code());
    format!("rpc error: code = {code} desc = {}", status.message())
}

fn gone_is_fine<T: Default>(result: Result<T, tonic::Status>) -> Result<T, tonic::Status> {
    match result {
        Err(status) if status.code() == tonic::Code::NotFound => Ok(T::default()),
        result => result,
    }
}

/// What a command in a container came to.
pub(crate) struct Executed {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) code: i32,
}

impl Executed {
    /// Everything it said, output before errors, cut to `limit` bytes.
    pub(crate) fn output(mut self, limit: usize) -> String {
        self.stdout.extend(self.stderr);
        self.stdout.truncate(limit);
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl Engine {
    /// The engine at one socket, or at two: images may be somebody else's.
    pub(crate) fn connect(config: &Config, metrics: Arc<Metrics>) -> Self {
        let channel = Wire::new(plimsoll_cri::connect(&config.cri_socket), metrics.clone());
        let images = match &config.image_socket {
            Some(socket) => Wire::new(plimsoll_cri::connect(socket), metrics),
            None => channel.clone(),
        };
        let runtime = RuntimeServiceClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT);
        let images = ImageServiceClient::new(images).max_decoding_message_size(MESSAGE_LIMIT);
        Self { runtime, images, patience: config.runtime_request_timeout }
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Wire> {
        self.runtime.clone()
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Wire> {
        self.images.clone()
    }

    pub(crate) async fn version(&self) -> Result<v1::VersionResponse, tonic::Status> {
        let request = v1::VersionRequest { version: "v1".into() };
        Ok(self.runtime().version(self.soon(request)).await?.into_inner())
    }

    /// Changes the limits of a container that runs.
    pub(crate) async fn update_container(
        &self,
        id: &str,
        linux: v1::LinuxContainerResources,
    ) -> Result<(), tonic::Status> {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..v1::UpdateContainerResourcesRequest::default()
        };
        self.runtime().update_container_resources(self.soon(request)).await.map(drop)
    }

    /// Bytes of memory that a container uses, if the engine knows.
    pub(crate) async fn memory_usage(&self, id: &str) -> Option<u64> {
        let request = v1::ContainerStatsRequest { container_id: id.to_owned() };
        let stats = self.runtime().container_stats(self.soon(request)).await.ok()?.into_inner().stats?;
        Some(stats.memory?.usage_bytes?.value)
    }

    /// Who names control groups, if the engine says.
    pub(crate) async fn cgroup_driver(&self) -> Option<Driver> {
        let answer = self.runtime().runtime_config(v1::RuntimeConfigRequest {}).await.ok()?.into_inner();
        Some(match answer.linux?.cgroup_driver() {
            v1::CgroupDriver::Systemd => Driver::Systemd,
            v1::CgroupDriver::Cgroupfs => Driver::Cgroupfs,
        })
    }

    pub(crate) async fn status(&self) -> Result<v1::StatusResponse, tonic::Status> {
        Ok(self.runtime().status(self.soon(v1::StatusRequest::default())).await?.into_inner())
    }

    pub(crate) async fn sandboxes(&self, uid: Option<&str>) -> Result<Vec<v1::PodSandbox>, tonic::Status> {
        let filter =
            uid.map(|uid| v1::PodSandboxFilter { label_selector: by_uid(uid), ..Default::default() });
        let request = v1::ListPodSandboxRequest { filter };
        Ok(self.runtime().list_pod_sandbox(self.soon(request)).await?.into_inner().items)
    }

    pub(crate) async fn containers(&self, uid: Option<&str>) -> Result<Vec<v1::Container>, tonic::Status> {
        let filter = uid.map(|uid| v1::ContainerFilter { label_selector: by_uid(uid), ..Default::default() });
        let request = v1::ListContainersRequest { filter };
        Ok(self.runtime().list_containers(self.soon(request)).await?.into_inner().containers)
    }

    /// Everything that the engine has of a pod, asked for piece by piece.
    pub(crate) async fn observe(&self, uid: &str) -> Result<Seen, tonic::Status> {
        let mut sandboxes = Vec::new();
        for sandbox in self.sandboxes(Some(uid)).await? {
            sandboxes.extend(self.sandbox(&sandbox.id).await?);
        }
        let mut containers = Vec::new();
        for listed in self.containers(Some(uid)).await? {
            containers.extend(self.container(&listed.id, &listed.pod_sandbox_id).await?);
        }
        Ok(Seen { sandboxes, containers })
    }

    /// One sandbox; none when it is gone.
    pub(crate) async fn sandbox(&self, id: &str) -> Result<Option<Sandbox>, tonic::Status> {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let result =
            self.runtime().pod_sandbox_status(self.soon(request)).await.map(tonic::Response::into_inner);
        Ok(gone_is_fine(result)?.status.map(sandbox))
    }

    /// One container; none when it is gone.
    pub(crate) async fn container(
        &self,
        id: &str,
        sandbox: &str,
    ) -> Result<Option<Container>, tonic::Status> {
        Ok(self.container_status(id).await?.map(|status| container(status, sandbox)))
    }

    pub(crate) async fn container_status(
        &self,
        id: &str,
    ) -> Result<Option<v1::ContainerStatus>, tonic::Status> {
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let result =
            self.runtime().container_status(self.soon(request)).await.map(tonic::Response::into_inner);
        Ok(gone_is_fine(result)?.status)
    }

    pub(crate) async fn run_sandbox(&self, config: v1::PodSandboxConfig) -> Result<String, tonic::Status> {
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        Ok(self
            .runtime()
            .run_pod_sandbox(within(request, self.patience * 2))
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(self.runtime().stop_pod_sandbox(self.soon(request)).await.map(drop))
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(self.runtime().remove_pod_sandbox(self.soon(request)).await.map(drop))
    }

    pub(crate) async fn create_container(
        &self,
        sandbox: &str,
        config: v1::ContainerConfig,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, tonic::Status> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime().create_container(self.soon(request)).await?.into_inner().container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::StartContainerRequest { container_id: id.to_owned() };
        self.runtime().start_container(self.soon(request)).await.map(drop)
    }

    /// Stops a container; `grace` seconds lie between the stop signal and SIGKILL.
    pub(crate) async fn stop_container(&self, id: &str, grace: i64) -> Result<(), tonic::Status> {
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout: grace };
        let patience = self.patience + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        gone_is_fine(self.runtime().stop_container(within(request, patience)).await.map(drop))
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), tonic::Status> {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_fine(self.runtime().remove_container(self.soon(request)).await.map(drop))
    }

    /// Runs a command; the output of both streams, one after the other, and the exit code.
    pub(crate) async fn exec(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<Executed, tonic::Status> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let request = v1::ExecSyncRequest { container_id: id.to_owned(), cmd: command, timeout: seconds };
        // Without a limit of its own a command may take as long as it likes.
        let request = match timeout.is_zero() {
            true => tonic::Request::new(request),
            false => within(request, self.patience + timeout),
        };
        let response = self.runtime().exec_sync(request).await?.into_inner();
        Ok(Executed { stdout: response.stdout, stderr: response.stderr, code: response.exit_code })
    }

    pub(crate) async fn image(&self, image: v1::ImageSpec) -> Result<Option<v1::Image>, tonic::Status> {
        let request = v1::ImageStatusRequest { image: Some(image), verbose: false };
        Ok(self.images().image_status(self.soon(request)).await?.into_inner().image)
    }

    pub(crate) async fn list_images(&self) -> Result<Vec<v1::Image>, tonic::Status> {
        Ok(self.images().list_images(v1::ListImagesRequest { filter: None }).await?.into_inner().images)
    }

    pub(crate) async fn pull(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        sandbox_config: v1::PodSandboxConfig,
    ) -> Result<String, tonic::Status> {
        let request = v1::PullImageRequest { image: Some(image), auth, sandbox_config: Some(sandbox_config) };
        Ok(self.images().pull_image(request).await?.into_inner().image_ref)
    }

    pub(crate) async fn remove_image(&self, id: &str) -> Result<(), tonic::Status> {
        let image = v1::ImageSpec { image: id.to_owned(), ..v1::ImageSpec::default() };
        let request = v1::RemoveImageRequest { image: Some(image) };
        gone_is_fine(self.images().remove_image(self.soon(request)).await.map(drop))
    }

    pub(crate) async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, tonic::Status> {
        Ok(self.images().image_fs_info(self.soon(v1::ImageFsInfoRequest {})).await?.into_inner())
    }

    pub(crate) async fn container_stats(&self) -> Result<Vec<v1::ContainerStats>, tonic::Status> {
        let request = v1::ListContainerStatsRequest::default();
        Ok(self.runtime().list_container_stats(self.soon(request)).await?.into_inner().stats)
    }

    /// Writes what a container is at this moment into a file; after `seconds` it is given up, the usual time for 0.
    pub(crate) async fn checkpoint(&self, id: &str, file: &Path, seconds: i64) -> Result<(), tonic::Status> {
        let request = v1::CheckpointContainerRequest {
            container_id: id.to_owned(),
            location: file.to_string_lossy().into_owned(),
            timeout: seconds,
        };
        let own = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0);
        let patience = own.map_or(self.patience, Duration::from_secs);
        self.runtime().checkpoint_container(within(request, patience)).await.map(drop)
    }

    fn soon<T>(&self, message: T) -> tonic::Request<T> {
        within(message, self.patience)
    }

    pub(crate) async fn set_pod_range(&self, range: &str) -> Result<(), tonic::Status> {
        let network = v1::NetworkConfig { pod_cidr: range.to_owned() };
        let runtime_config = v1::RuntimeConfig { network_config: Some(network) };
        let request = v1::UpdateRuntimeConfigRequest { runtime_config: Some(runtime_config) };
        self.runtime().update_runtime_config(self.soon(request)).await.map(drop)
    }
}

fn within<T>(message: T, patience: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(patience);
    request
}

fn by_uid(uid: &str) -> HashMap<String, String> {
    HashMap::from([(plimsoll_cri::POD_UID.to_owned(), uid.to_owned())])
}

/// A sandbox in this project's words.
pub(crate) fn sandbox(status: v1::PodSandboxStatus) -> Sandbox {
    let network = status.network.unwrap_or_default();
    let more = network.additional_ips.into_iter().map(|it| it.ip);
    let ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
    Sandbox {
        attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
        ready: status.state == v1::PodSandboxState::SandboxReady as i32,
        created: time(status.created_at),
        id: status.id,
        ips,
    }
}

/// A container in this project's words. The runtime interface does not say in its status which sandbox
/// it is in.
pub(crate) fn container(status: v1::ContainerStatus, sandbox: &str) -> Container {
    let metadata = status.metadata.clone().unwrap_or_default();
    let user = status.user.as_ref().and_then(|user| user.linux.clone());
    let image = status.image.clone().unwrap_or_default();
    let shown = if image.user_specified_image.is_empty() { image.image } else { image.user_specified_image };
    Container {
        state: state(&status),
        name: metadata.name,
        attempt: metadata.attempt,
        sandbox: sandbox.to_owned(),
        created: time(status.created_at),
        image: shown,
        image_ref: status.image_ref,
        hash: status.annotations.get(plimsoll_cri::CONTAINER_HASH).cloned().unwrap_or_default(),
        user: user.map(|user| (user.uid, user.gid, user.supplemental_groups)),
        id: status.id,
    }
}

fn state(status: &v1::ContainerStatus) -> State {
    let started = Some(status.started_at).filter(|nanos| *nanos > 0).map(time);
    match v1::ContainerState::try_from(status.state) {
        Ok(v1::ContainerState::ContainerCreated) => State::Created,
        Ok(v1::ContainerState::ContainerRunning) => {
            State::Running(started.unwrap_or_else(|| time(status.created_at)))
        }
        Ok(v1::ContainerState::ContainerExited) => State::Exited(Exit {
            // One that never came to run started at the beginning of time (kubelet: toKubeContainerStatus).
            started: Some(time(status.started_at.max(0))),
            finished: time(status.finished_at),
            code: status.exit_code,
            reason: status.reason.clone(),
            message: last_words(status).unwrap_or_else(|| status.message.clone()),
        }),
        Ok(v1::ContainerState::ContainerUnknown) | Err(_) => State::Unknown,
    }
}

fn time(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The longest last words, in bytes (kubelet: kuberuntime, MaxContainerTerminationMessageLength).
const WORDS: u64 = 4096;
/// The longest last words taken from the log, in bytes and lines.
const LOGGED: (usize, usize) = (2048, 80);

/// What an ended container wrote into its termination file, or last into its log when it failed and
/// wants that.
fn last_words(status: &v1::ContainerStatus) -> Option<String> {
    let path = status.annotations.get(plimsoll_cri::TERMINATION_MESSAGE_PATH)?;
    let mount = status.mounts.iter().find(|mount| mount.container_path == *path);
    let written = mount.and_then(|mount| read_some(Path::new(&mount.host_path)));
    if let Some(text) = written.filter(|text| !text.is_empty()) {
        return Some(text);
    }
    let policy = status.annotations.get(plimsoll_cri::TERMINATION_MESSAGE_POLICY)?;
    (policy == "FallbackToLogsOnError" && status.exit_code != 0)
        .then(|| crate::logs::last_lines(Path::new(&status.log_path), LOGGED.0, LOGGED.1))
        .filter(|text| !text.is_empty())
}

fn read_some(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(WORDS).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
