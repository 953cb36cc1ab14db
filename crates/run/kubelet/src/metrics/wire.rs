//! The connection to the engine, which counts what goes over it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use http::{Request, Response};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

use super::Metrics;

/// A channel whose calls are counted. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Wire {
    channel: Channel,
    metrics: Arc<Metrics>,
}

impl Wire {
    pub(crate) fn new(channel: Channel, metrics: Arc<Metrics>) -> Self {
        Self { channel, metrics }
    }
}

impl Service<Request<Body>> for Wire {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let operation = operation(request.uri().path());
        let (metrics, since) = (self.metrics.clone(), Instant::now());
        let answer = Service::call(&mut self.channel, request);
        Box::pin(async move {
            let answer = answer.await;
            // A call that fails has no body, so that its status stands at the head.
            let refused = |answer: &Response<Body>| {
                answer.headers().get("grpc-status").is_some_and(|status| status != "0")
            };
            let success = answer.as_ref().is_ok_and(|answer| !refused(answer));
            if let Some(operation) = operation {
                metrics.called(operation, since.elapsed(), success);
            }
            answer
        })
    }
}

/// Upstream's word for a call (kubelet: kuberuntime/instrumented_services.go).
fn operation(path: &str) -> Option<&'static str> {
    Some(match path.rsplit('/').next()? {
        "Attach" => "attach",
        "CheckpointContainer" => "checkpoint_container",
        "ContainerStats" => "container_stats",
        "ContainerStatus" => "container_status",
        "CreateContainer" => "create_container",
        "Exec" => "exec",
        "ExecSync" => "exec_sync",
        "ImageFsInfo" => "image_fs_info",
        "ImageStatus" => "image_status",
        "ListContainerStats" => "list_container_stats",
        "ListContainers" => "list_containers",
        "ListImages" => "list_images",
        "ListPodSandbox" => "list_podsandbox",
        "ListPodSandboxStats" => "list_podsandbox_stats",
        "PodSandboxStats" => "podsandbox_stats",
        "PodSandboxStatus" => "podsandbox_status",
        "PortForward" => "port_forward",
        "PullImage" => "pull_image",
        "RemoveContainer" => "remove_container",
        "RemoveImage" => "remove_image",
        "RemovePodSandbox" => "remove_podsandbox",
        "ReopenContainerLog" => "reopen_container_log",
        "RunPodSandbox" => "run_podsandbox",
        "RuntimeConfig" => "runtime_config",
        "StartContainer" => "start_container",
        "Status" => "status",
        "StopContainer" => "stop_container",
        "StopPodSandbox" => "stop_podsandbox",
        "UpdateContainerResources" => "update_container",
        "UpdateRuntimeConfig" => "update_runtime_config",
        "Version" => "version",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_upstreams_names() {
        assert_eq!(operation("/runtime.v1.RuntimeService/RunPodSandbox"), Some("run_podsandbox"));
        assert_eq!(operation("/runtime.v1.RuntimeService/GetContainerEvents"), None);
    }
}
