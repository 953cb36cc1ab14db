//! The agent's own API: logs, commands, forwarded ports, figures. Everything needs a certificate of the
//! cluster or a token that it knows, and the right to do it.

mod auth;
mod checkpoint;
mod container_logs;
mod health;
mod identity;
mod node_logs;
mod read_only;
mod running;
mod stream;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_pki::Subject;
use plimsoll_podlife::static_pod::is_mirror;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::figures::{self, Figures};
use crate::metrics::{self, Now};
use crate::peers::PATH;
pub use auth::Authorization;
use auth::Gate;
pub(crate) use health::{bind_plain, health};
pub use identity::Authentication;
use identity::Doorkeeper;
pub use tls::{Tls, TlsError};

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The agent's API.
pub(crate) struct Server {
    pub(crate) agent: Arc<Agent>,
    pub(crate) pods: Informer<Pod>,
    /// Ids of containers as they end.
    pub(crate) exits: broadcast::Sender<String>,
    figures: Figures,
    doorkeeper: Doorkeeper,
    gate: Gate,
}

/// Makes the listening socket; its port goes into the node's status.
pub(crate) fn bind(agent: &Agent) -> io::Result<TcpListener> {
    TcpListener::from_std(plimsoll_kernel::listen::tcp(SocketAddr::new(
        agent.config.listen,
        agent.config.port,
    ))?)
}

impl Server {
    pub(crate) fn new(agent: Arc<Agent>, pods: Informer<Pod>, exits: broadcast::Sender<String>) -> Self {
        let config = &agent.config;
        let gate = Gate::new(agent.client.clone(), config.node_name.clone(), config.authorization);
        let doorkeeper = Doorkeeper::new(agent.client.clone(), config.authentication);
        let figures = Figures::new(agent.clone(), pods.clone());
        Self { agent, pods, exits, figures, doorkeeper, gate }
    }

    /// Serves until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else {
                // Out of descriptors, most likely: others need time to give theirs back.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(stop.clone().run_until_cancelled_owned(server.connection(acceptor, socket)));
        }
    }

    async fn connection(self: Arc<Self>, acceptor: TlsAcceptor, socket: tokio::net::TcpStream) {
        let _ = socket.set_nodelay(true);
        let Ok(stream) = acceptor.accept(socket).await else { return };
        let certificates = stream.get_ref().1.peer_certificates();
        let user = certificates.and_then(|it| it.first()).and_then(|it| plimsoll_pki::subject(it.as_ref()));
        let service = service_fn(move |request| {
            let (server, user) = (self.clone(), user.clone());
            async move { Ok::<_, Infallible>(server.answer(request, user).await) }
        });
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        // Clients that go away are no news.
        let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>, certificate: Option<Subject>) -> Response<Body> {
        let Some(user) = self.doorkeeper.recognize(certificate, request.headers()).await else {
            return plain(StatusCode::UNAUTHORIZED, "Unauthorized");
        };
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if let Err(refusal) = self.gate.check(&user, request.method(), &parts).await {
            return refusal;
        }
        let _counted =
            self.agent.metrics.asked(&metrics::Request { method: request.method().as_str(), path: &parts });
        if let Some(well) = health::wellness(&parts) {
            return well;
        }
        if let Some(told) = self.tell(&request, &parts).await {
            return told;
        }
        match parts.as_slice() {
            [PATH, uid] => match self.agent.endpoints.left(uid).await {
                Some(Ok(())) => plain(StatusCode::OK, "dropped"),
                Some(Err(_)) => plain(StatusCode::GATEWAY_TIMEOUT, "not dropped yet"),
                None => plain(StatusCode::NOT_FOUND, "nobody follows endpoints here"),
            },
            ["configz"] => json(&serde_json::json!({"kubeletconfig": self.agent.config.given})),
            ["runningpods"] if self.agent.config.debugging => self.running_pods().await,
            ["containerLogs" | "run" | "exec" | "attach" | "portForward" | "runningpods" | "logs", ..]
                if !self.agent.config.debugging =>
            {
                plain(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.")
            }
            ["logs", ..] => self.node_logs(request.uri()).await,
            ["checkpoint", namespace, pod, container] => {
                self.checkpoint(request.method(), request.uri(), namespace, pod, container).await
            }
            ["containerLogs", namespace, pod, container] => {
                self.container_logs(request.uri(), namespace, pod, container).await
            }
            ["run", namespace, pod, container] | ["run", namespace, pod, _, container] => {
                self.run_command(request.uri(), namespace, pod, container).await
            }
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                let (namespace, pod, container) =
                    (namespace.to_string(), pod.to_string(), container.to_string());
                self.exec(request, &namespace, &pod, &container).await
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                let (namespace, pod, container) =
                    (namespace.to_string(), pod.to_string(), container.to_string());
                self.attach(request, &namespace, &pod, &container).await
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                let (namespace, pod) = (namespace.to_string(), pod.to_string());
                self.port_forward(request, &namespace, &pod).await
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    /// What changes nothing and gives nothing away that is not in the API: pods and figures.
    async fn tell(&self, request: &Request<Incoming>, parts: &[&str]) -> Option<Response<Body>> {
        Some(match parts {
            ["pods"] => self.list_pods(),
            ["stats", "summary"] => {
                let short = yes(&query(request.uri()), &["only_cpu_and_memory"]);
                match self.figures.summary(short).await {
                    Ok(summary) => json(&summary),
                    Err(status) => failed(&status),
                }
            }
            ["metrics"] => self.own_metrics(&accept(request)).await,
            ["metrics", "probes"] => {
                let (media_type, text) = self.agent.metrics.probes_text(&accept(request));
                text_of(media_type, text)
            }
            ["metrics", "resource"] => text_of(figures::MEDIA_TYPE, self.figures.resource().await),
            ["metrics", "cadvisor"] => match self.figures.cadvisor().await {
                Ok(text) => text_of(figures::MEDIA_TYPE, text),
                Err(status) => failed(&status),
            },
            _ => return None,
        })
    }

    async fn own_metrics(&self, accept: &str) -> Response<Body> {
        let engine = &self.agent.engine;
        let now = Now {
            // An engine that is down has nothing running that is known.
            sandboxes: engine.sandboxes(None).await.unwrap_or_default(),
            containers: engine.containers(None).await.unwrap_or_default(),
            pods: self.pods.list(),
            placed: self.agent.placement.figures(),
            claims: self.agent.claims.in_use(),
        };
        let (media_type, text) = self.agent.metrics.text(&now, &self.agent.config.registries, accept);
        // What is written last ends OpenMetrics, so that volumes come first.
        text_of(media_type, self.figures.volumes().await + &text)
    }

    fn list_pods(&self) -> Response<Body> {
        let mut pods = self.pods.list();
        pods.retain(|pod| !is_mirror(pod));
        pods.extend(self.agent.statics.borrow().pods.values().cloned());
        let list = serde_json::json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {},
            "items": pods.iter().map(|pod| &**pod).collect::<Vec<_>>(),
        });
        json(&list)
    }

    /// The pods whose containers run, as the engine knows them.
    async fn running_pods(&self) -> Response<Body> {
        let (sandboxes, containers) =
            tokio::join!(self.agent.engine.sandboxes(None), self.agent.engine.containers(None));
        let (Ok(sandboxes), Ok(containers)) = (sandboxes, containers) else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the engine does not tell what it has");
        };
        json(&running::list(&sandboxes, &containers))
    }

    /// The pod, or the answer that there is none.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Box<Response<Body>>> {
        let full = (namespace.to_owned(), name.to_owned());
        let from_elsewhere = self.agent.statics.borrow().pods.get(&full).cloned();
        from_elsewhere
            .or_else(|| self.pods.get(namespace, name))
            .ok_or_else(|| Box::new(plain(StatusCode::NOT_FOUND, format!("pod \"{name}\" does not exist"))))
    }
}

pub(super) fn plain(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(whole(text.into()));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn accept(request: &Request<Incoming>) -> String {
    let value = request.headers().get(header::ACCEPT);
    value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn text_of(media_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(whole(text));
    let kind = header::HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What the engine has against it.
fn failed(status: &tonic::Status) -> Response<Body> {
    plain(StatusCode::INTERNAL_SERVER_ERROR, crate::engine::text(status))
}

pub(super) fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(whole(value.to_string()));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

pub(super) fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

/// The decoded values of a query, in order.
pub(super) fn query(uri: &http::Uri) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// The first value of a name.
pub(super) fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = query.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// Whether a value says yes.
pub(super) fn yes(query: &[(String, String)], names: &[&str]) -> bool {
    names.iter().any(|name| value(query, name).is_some_and(|value| matches!(value, "1" | "true" | "True")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let uri = "/x?command=echo&command=a%20b+c&tty=1&follow=true&empty=".parse().unwrap();
        let query = query(&uri);
        let commands: Vec<_> =
            query.iter().filter(|(name, _)| name == "command").map(|(_, value)| value.as_str()).collect();
        assert_eq!(commands, ["echo", "a b c"]);
        assert!(yes(&query, &["tty"]) && yes(&query, &["no", "follow"]) && !yes(&query, &["stdin"]));
        assert_eq!(value(&query, "empty"), None);
    }
}
