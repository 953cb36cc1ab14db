//! Commands, attachments and forwarded ports: the engine streams, the agent passes the bytes through.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;
use plimsoll_podlife::spec::specs;
use tokio::net::TcpStream;

use super::{Body, Server, plain, query, yes};
use crate::engine::text;

type Answer = Result<Response<Body>, Box<Response<Body>>>;

impl Server {
    pub(super) async fn exec(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Response<Body> {
        unbox(self.try_exec(request, namespace, pod, container).await)
    }

    async fn try_exec(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Answer {
        let query = query(request.uri());
        let id = self.running(&*self.pod(namespace, pod)?, container).await?;
        let tty = yes(&query, &["tty"]);
        let ask = v1::ExecRequest {
            container_id: id,
            cmd: query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.clone()).collect(),
            tty,
            stdin: yes(&query, &["input", "stdin"]),
            stdout: yes(&query, &["output", "stdout"]),
            // A terminal has one stream out.
            stderr: yes(&query, &["error", "stderr"]) && !tty,
        };
        let answer = self.agent.engine.runtime().exec(ask).await.map_err(|status| refused(&status))?;
        pass_through(request, &answer.into_inner().url).await
    }

    pub(super) async fn attach(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Response<Body> {
        unbox(self.try_attach(request, namespace, pod, container).await)
    }

    async fn try_attach(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Answer {
        let query = query(request.uri());
        let pod = self.pod(namespace, pod)?;
        let id = self.running(&pod, container).await?;
        let all = specs(&pod);
        let spec = all.iter().find(|spec| spec.name() == container);
        let tty = spec.and_then(|spec| spec.container.tty).unwrap_or(false);
        let ask = v1::AttachRequest {
            container_id: id,
            stdin: yes(&query, &["input", "stdin"]),
            tty,
            stdout: yes(&query, &["output", "stdout"]),
            stderr: yes(&query, &["error", "stderr"]) && !tty,
        };
        let answer = self.agent.engine.runtime().attach(ask).await.map_err(|status| refused(&status))?;
        pass_through(request, &answer.into_inner().url).await
    }

    pub(super) async fn port_forward(
        &self,
        request: Request<Incoming>,
        namespace: &str,
        pod: &str,
    ) -> Response<Body> {
        unbox(self.try_port_forward(request, namespace, pod).await)
    }

    async fn try_port_forward(&self, request: Request<Incoming>, namespace: &str, pod: &str) -> Answer {
        let ports = query(request.uri()).into_iter().filter(|(name, _)| name == "port" || name == "ports");
        let ports = ports.flat_map(|(_, value)| {
            value.split(',').filter_map(|port| port.parse().ok()).collect::<Vec<i32>>()
        });
        let pod = self.pod(namespace, pod)?;
        let sandboxes = self.agent.engine.sandboxes(pod.metadata.uid.as_deref()).await;
        let sandboxes = sandboxes.map_err(|status| refused(&status))?;
        let ready = sandboxes.into_iter().find(|it| it.state == v1::PodSandboxState::SandboxReady as i32);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let sandbox = ready
            .ok_or_else(|| Box::new(plain(StatusCode::NOT_FOUND, format!("pod not found (\"{name}\")"))))?;
        let ask = v1::PortForwardRequest { pod_sandbox_id: sandbox.id, port: ports.collect() };
        let answer =
            self.agent.engine.runtime().port_forward(ask).await.map_err(|status| refused(&status))?;
        pass_through(request, &answer.into_inner().url).await
    }

    /// `POST /run/…?cmd=`: runs a command without streams and answers with what it printed.
    pub(super) async fn run_command(
        &self,
        uri: &Uri,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Response<Body> {
        let query = query(uri);
        let command = super::value(&query, "cmd").unwrap_or_default();
        let command: Vec<_> = command.split(' ').map(str::to_owned).collect();
        let run = async {
            let id = self.running(&*self.pod(namespace, pod)?, container).await?;
            let result = self.agent.engine.exec(&id, command, Duration::ZERO).await;
            let executed = result.map_err(|status| refused(&status))?;
            Ok(plain(StatusCode::OK, executed.output(usize::MAX)))
        };
        unbox(run.await)
    }

    /// The run of a container that has a process.
    async fn running(&self, pod: &Pod, container: &str) -> Result<String, Box<Response<Body>>> {
        let runs = self.agent.engine.containers(pod.metadata.uid.as_deref()).await;
        let runs = runs.map_err(|status| refused(&status))?;
        let named = |run: &v1::Container| run.metadata.as_ref().is_some_and(|it| it.name == container);
        let running = v1::ContainerState::ContainerRunning as i32;
        let run = runs.into_iter().find(|run| named(run) && run.state == running);
        run.map(|run| run.id).ok_or_else(|| {
            Box::new(plain(StatusCode::NOT_FOUND, format!("container not found (\"{container}\")")))
        })
    }
}

fn unbox(answer: Answer) -> Response<Body> {
    answer.unwrap_or_else(|refusal| *refusal)
}

fn refused(status: &tonic::Status) -> Box<Response<Body>> {
    Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, text(status)))
}

fn broken(error: &dyn std::fmt::Display) -> Box<Response<Body>> {
    Box::new(plain(StatusCode::BAD_GATEWAY, format!("streaming from the engine: {error}")))
}

/// Sends the request on to the engine's URL and joins both connections when it agrees to switch
/// protocols. Nothing of the streams is understood here.
async fn pass_through(mut request: Request<Incoming>, url: &str) -> Answer {
    let uri: Uri = url.parse().map_err(|error| broken(&error))?;
    let authority = uri.authority().ok_or_else(|| broken(&"the engine's URL names no host"))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let socket = TcpStream::connect(&address).await.map_err(|error| broken(&error))?;
    let _ = socket.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|error| broken(&error))?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::builder().method(request.method()).uri(path);
    if let Some(headers) = onward.headers_mut() {
        headers.clone_from(request.headers());
        let host = header::HeaderValue::from_str(authority.as_str()).map_err(|error| broken(&error))?;
        headers.insert(header::HOST, host);
    }
    let onward = onward.body(Empty::<Bytes>::new()).map_err(|error| broken(&error))?;
    let mut answer = sender.send_request(onward).await.map_err(|error| broken(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        return Ok(Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync()));
    }
    let there = hyper::upgrade::on(&mut answer);
    let here = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (Ok(here), Ok(there)) = tokio::join!(here, there) else { return };
        let (mut here, mut there) = (TokioIo::new(here), TokioIo::new(there));
        // Either side may hang up at any time.
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    });
    let (parts, _) = answer.into_parts();
    Ok(Response::from_parts(parts, super::whole("")))
}
