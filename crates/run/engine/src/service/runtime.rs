//! The runtime service.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use plimsoll_cri::v1::runtime_service_server::RuntimeService;
use plimsoll_cri::v1::*;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use crate::clock;
use crate::engine::Engine;
use crate::error::Error;
use crate::pods;

type Answer<T> = Result<Response<T>, Status>;

/// The version of the interface.
const API_VERSION: &str = "v1";

#[tonic::async_trait]
impl RuntimeService for Engine {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        answer(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "plimsoll".to_owned(),
            runtime_version: self.shared.config.version.clone(),
            runtime_api_version: API_VERSION.to_owned(),
        })
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request.config.ok_or_else(|| Status::invalid_argument("the request has no sandbox"))?;
        // A caller who gives up must not leave half a sandbox: the work goes on by itself.
        let (engine, handler) = (self.clone(), request.runtime_handler);
        let run = tokio::spawn(async move { engine.run_sandbox(config, &handler).await });
        let pod_sandbox_id = run.await.map_err(|error| Status::internal(error.to_string()))??;
        answer(RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        self.stop_sandbox(&request.into_inner().pod_sandbox_id).await?;
        answer(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        self.remove_sandbox(&request.into_inner().pod_sandbox_id).await?;
        answer(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self.shared.pods.sandbox(&request.pod_sandbox_id)?;
        let containers = self.shared.pods.containers_of(&sandbox.id);
        let mut info = HashMap::new();
        if request.verbose {
            let pid = sandbox.state().pause.map_or(0, |pause| pause.pid);
            let netns = self.shared.layout.network_namespace(&sandbox.id);
            info.insert(
                "info".to_owned(),
                serde_json::json!({ "pid": pid, "networkNamespace": netns }).to_string(),
            );
        }
        answer(PodSandboxStatusResponse {
            status: Some(sandbox.describe()),
            info,
            containers_statuses: containers.iter().map(|container| container.describe()).collect(),
            timestamp: clock::now(),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = filter.state.as_ref().map(PodSandboxStateValue::state);
        let wanted = |sandbox: &pods::Sandbox| {
            sandbox.id.starts_with(&filter.id)
                && state.is_none_or(|state| sandbox.cri_state() == state)
                && selected(&filter.label_selector, &sandbox.config.labels)
        };
        let items =
            self.shared.pods.sandboxes().into_iter().filter(|sandbox| wanted(sandbox)).map(|sandbox| {
                PodSandbox {
                    id: sandbox.id.clone(),
                    metadata: sandbox.config.metadata.clone(),
                    state: sandbox.cri_state().into(),
                    created_at: sandbox.created_at,
                    labels: sandbox.config.labels.clone(),
                    annotations: sandbox.config.annotations.clone(),
                    runtime_handler: sandbox.handler.clone(),
                }
            });
        answer(ListPodSandboxResponse { items: items.collect() })
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config =
            request.config.ok_or_else(|| Status::invalid_argument("the request has no container"))?;
        let (engine, sandbox) = (self.clone(), request.pod_sandbox_id);
        let create =
            tokio::spawn(
                async move { engine.create_container(&sandbox, config, request.sandbox_config).await },
            );
        let container_id = create.await.map_err(|error| Status::internal(error.to_string()))??;
        answer(CreateContainerResponse { container_id })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let (engine, id) = (self.clone(), request.into_inner().container_id);
        let start = tokio::spawn(async move { engine.start_container(&id).await });
        start.await.map_err(|error| Status::internal(error.to_string()))??;
        answer(StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let grace = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        Engine::stop_container(self, &request.container_id, grace).await?;
        answer(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        Engine::remove_container(self, &request.into_inner().container_id).await?;
        answer(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = filter.state.as_ref().map(ContainerStateValue::state);
        let wanted = |container: &pods::Container| {
            container.id.starts_with(&filter.id)
                && container.sandbox.id.starts_with(&filter.pod_sandbox_id)
                && state.is_none_or(|state| container.cri_state() == state)
                && selected(&filter.label_selector, &container.config.labels)
        };
        let found = self.shared.pods.containers().into_iter().filter(|container| wanted(container));
        let containers = found.map(|container| {
            let (image_ref, image_id, created_at) = {
                let record = container.record();
                (record.image_ref.clone(), record.image_id.clone(), record.created_at)
            };
            Container {
                id: container.id.clone(),
                pod_sandbox_id: container.sandbox.id.clone(),
                metadata: container.config.metadata.clone(),
                image: container.config.image.clone(),
                image_ref,
                state: container.cri_state().into(),
                created_at,
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
                image_id,
            }
        });
        answer(ListContainersResponse { containers: containers.collect() })
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.shared.pods.container(&request.container_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let pid = match container.status() {
                pods::Status::Running { pid, .. } => pid,
                pods::Status::Created | pods::Status::Exited { .. } => 0,
            };
            let spec = container.dir.spec();
            let text = tokio::fs::read_to_string(&spec).await.map_err(Error::io(spec))?;
            let spec: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let text =
                serde_json::json!({ "pid": pid, "sandboxID": container.sandbox.id, "runtimeSpec": spec });
            info.insert("info".to_owned(), text.to_string());
        }
        answer(ContainerStatusResponse { status: Some(container.describe()), info })
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        self.update_container(&request.container_id, request.linux.unwrap_or_default()).await?;
        answer(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        self.reopen_log(&request.into_inner().container_id).await?;
        answer(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let limit =
            u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let output = Engine::exec_sync(self, &request.container_id, &request.cmd, limit).await?;
        answer(ExecSyncResponse { stdout: output.stdout, stderr: output.stderr, exit_code: output.code })
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        answer(ExecResponse { url: self.prepare_exec(request.into_inner())? })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        answer(AttachResponse { url: self.prepare_attach(request.into_inner())? })
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        answer(PortForwardResponse { url: self.prepare_port_forward(request.into_inner())? })
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let container = self.shared.pods.container(&request.into_inner().container_id)?;
        let stats = Engine::container_stats(self, &container).await?;
        answer(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut stats = Vec::new();
        for container in self.shared.pods.containers() {
            let wanted = container.running()
                && container.id.starts_with(&filter.id)
                && container.sandbox.id.starts_with(&filter.pod_sandbox_id)
                && selected(&filter.label_selector, &container.config.labels);
            if wanted {
                stats.push(Engine::container_stats(self, &container).await?);
            }
        }
        answer(ListContainerStatsResponse { stats })
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self.shared.pods.sandbox(&request.into_inner().pod_sandbox_id)?;
        answer(PodSandboxStatsResponse { stats: Some(self.sandbox_stats(&sandbox).await?) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut stats = Vec::new();
        for sandbox in self.shared.pods.sandboxes() {
            let wanted = sandbox.state().ready
                && sandbox.id.starts_with(&filter.id)
                && selected(&filter.label_selector, &sandbox.config.labels);
            if wanted {
                stats.push(self.sandbox_stats(&sandbox).await?);
            }
        }
        answer(ListPodSandboxStatsResponse { stats })
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let config = request.into_inner().runtime_config.and_then(|config| config.network_config);
        let text = config.map(|config| config.pod_cidr).unwrap_or_default();
        let ranges: Result<Vec<ipnet::IpNet>, _> =
            text.split(',').map(str::trim).filter(|range| !range.is_empty()).map(str::parse).collect();
        let ranges = ranges.map_err(|_| Status::invalid_argument(format!("pod range {text} is no range")))?;
        if let Some(network) = self.shared.config.network.as_ref().filter(|_| !ranges.is_empty()) {
            network.set_pod_cidr(&ranges).await.map_err(Error::from)?;
        }
        answer(UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let trouble = match &self.shared.config.network {
            Some(network) => network.trouble().await,
            None => None,
        };
        let condition = |kind: &str, status: bool, reason: &str, message: &str| RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: if status { String::new() } else { reason.to_owned() },
            message: if status { String::new() } else { message.to_owned() },
        };
        let conditions = vec![
            condition("RuntimeReady", true, "", ""),
            condition(
                "NetworkReady",
                trouble.is_none(),
                "NetworkPluginNotReady",
                trouble.as_deref().unwrap_or_default(),
            ),
        ];
        let features = RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: true };
        answer(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: HashMap::new(),
            runtime_handlers: vec![RuntimeHandler { name: String::new(), features: Some(features) }],
            features: Some(RuntimeFeatures { supplemental_groups_policy: true }),
        })
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        Err(Status::unimplemented("containers cannot be checkpointed"))
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.shared.events.subscribe());
        // Who is too slow has to list anew, which the end of the stream tells.
        let events =
            events.map(|event| event.map_err(|_| Status::data_loss("too slow for the events: list anew")));
        answer(Box::pin(events) as Self::GetContainerEventsStream)
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        answer(ListMetricDescriptorsResponse { descriptors: Vec::new() })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        answer(ListPodSandboxMetricsResponse { pod_metrics: Vec::new() })
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: self.shared.config.cgroup_driver.into() };
        answer(RuntimeConfigResponse { linux: Some(linux) })
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the last line of every call")]
fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// Whether labels have every pair that is asked for.
fn selected(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}
