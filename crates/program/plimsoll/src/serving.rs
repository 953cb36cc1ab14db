//! The small server of a process of the control plane: its health for everybody, its metrics for who may read them.

use std::convert::Infallible;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use plimsoll_kubelet::Tls;
use plimsoll_pki::{Authority, Purpose, Request, Subject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::controllers::ServingArgs;

type Answer = Response<Full<Bytes>>;

/// Writes the metrics for a reader that accepts these types: the media type and the text.
pub(crate) type Text = dyn Fn(&str) -> (&'static str, String) + Send + Sync;

/// The server.
pub(crate) struct Serving {
    /// Decides who may read what.
    pub(crate) client: kube::Client,
    /// Paths that everybody may read; one that ends in `*` stands for all that begin like it.
    pub(crate) open: Vec<String>,
    /// The name of the check that the process works, and whether it does.
    pub(crate) check: (&'static str, Box<dyn Fn() -> bool + Send + Sync>),
    pub(crate) metrics: Box<Text>,
}

/// A process of the control plane, as its server shows it.
pub(crate) struct Process {
    /// Its name, and that of its certificate.
    pub(crate) name: &'static str,
    /// Where it listens unless flags say otherwise.
    pub(crate) port: u16,
    pub(crate) client: kube::Client,
    /// Whether it works.
    pub(crate) works: Box<dyn Fn() -> bool + Send + Sync>,
    pub(crate) metrics: Box<Text>,
}

impl Process {
    /// Serves as the flags say, if at all.
    pub(crate) async fn serve(self, flags: &ServingArgs, stop: &CancellationToken) -> anyhow::Result<()> {
        let Some(address) = flags.address(self.port) else { return Ok(()) };
        let pair = flags.tls_cert_file.clone().zip(flags.tls_private_key_file.clone());
        let (certificate, key) = match pair {
            Some(pair) => pair,
            None => certificate(self.name, &flags.cert_dir, address.ip())?,
        };
        let tls = Tls { certificate, key, clients: flags.client_ca_file.clone(), ..Tls::default() };
        let server = Serving {
            client: self.client,
            open: flags.authorization_always_allow_paths.clone(),
            check: ("leaderElection", self.works),
            metrics: self.metrics,
        };
        server.start(address, tls.server().context("TLS")?, stop.clone()).await
    }
}

/// A certificate of its own, as nobody gave it one.
fn certificate(name: &str, folder: &Path, address: IpAddr) -> anyhow::Result<(PathBuf, PathBuf)> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let own = format!("{name}-ca");
    let authority = Authority::ensure(folder, &own, &own).context("certificate")?;
    let request = Request {
        purpose: Purpose::Server,
        dns_names: vec!["localhost".to_owned()],
        addresses: vec![IpAddr::from([127, 0, 0, 1]), address],
        ..Request::client(name, &[])
    };
    let files = authority.ensure_issued(folder, name, &request).context("certificate")?;
    Ok((files.certificate, files.key))
}

impl Serving {
    /// Listens now and serves until `stop`.
    pub(crate) async fn start(
        self,
        address: SocketAddr,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let (server, acceptor) = (Arc::new(self), TlsAcceptor::from(tls));
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    // Out of descriptors, most likely: others need time to give theirs back.
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    continue;
                };
                let connection = server.clone().connection(acceptor.clone(), socket);
                tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
            }
        }));
        Ok(())
    }

    async fn connection(self: Arc<Self>, acceptor: TlsAcceptor, socket: TcpStream) {
        let Ok(stream) = acceptor.accept(socket).await else { return };
        let certificates = stream.get_ref().1.peer_certificates();
        let user = certificates.and_then(|it| it.first()).and_then(|it| plimsoll_pki::subject(it.as_ref()));
        let service = service_fn(move |request| {
            let (server, user) = (self.clone(), user.clone());
            async move { Ok::<_, Infallible>(server.answer(&request, user).await) }
        });
        let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        // Clients that go away are no news.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: &http::Request<Incoming>, certificate: Option<Subject>) -> Answer {
        let path = request.uri().path();
        if !is_open(&self.open, path)
            && let Err(refusal) = self.admit(request, certificate).await
        {
            return refusal;
        }
        let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        match path {
            "/healthz" | "/livez" | "/readyz" => {
                let (check, works) = &self.check;
                health(path.trim_start_matches('/'), check, works(), verbose(request))
            }
            "/metrics" => {
                let (media_type, text) = (self.metrics)(accept.unwrap_or_default());
                let mut answer = plain(StatusCode::OK, text);
                answer.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media_type));
                answer
            }
            _ => plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    /// Finds out who asks, and asks the API server whether he may.
    async fn admit(
        &self,
        request: &http::Request<Incoming>,
        certificate: Option<Subject>,
    ) -> Result<(), Answer> {
        let unauthorized = || plain(StatusCode::UNAUTHORIZED, "Unauthorized");
        let user = match (certificate, bearer(request.headers())) {
            (Some(subject), _) => of_certificate(subject),
            (None, Some(token)) => self.review(token).await.ok_or_else(unauthorized)?,
            (None, None) => nobody(),
        };
        let name = user.username.clone().unwrap_or_default();
        match self.may(user, request.method(), request.uri().path()).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let verb = verb(request.method());
                let text = format!("Forbidden: \"{}\"", request.uri().path());
                tracing::debug!(user = name, verb, "{text}");
                Err(plain(StatusCode::FORBIDDEN, text))
            }
            Err(error) => {
                tracing::warn!(%error, "the API does not say who may read");
                Err(plain(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"))
            }
        }
    }

    async fn review(&self, token: &str) -> Option<UserInfo> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer =
            Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let status = answer.ok()?.status?;
        status.user.filter(|_| status.authenticated == Some(true))
    }

    async fn may(&self, user: UserInfo, method: &Method, path: &str) -> Result<bool, kube::Error> {
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            non_resource_attributes: Some(NonResourceAttributes {
                path: Some(path.to_owned()),
                verb: Some(verb(method)),
            }),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }
}

fn verb(method: &Method) -> String {
    method.as_str().to_ascii_lowercase()
}

fn health(name: &str, check: &str, works: bool, verbose: bool) -> Answer {
    match (works, verbose) {
        (true, false) => plain(StatusCode::OK, "ok"),
        (true, true) => plain(StatusCode::OK, format!("[+]ping ok\n[+]{check} ok\n{name} check passed\n")),
        (false, _) => plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("[+]ping ok\n[-]{check} failed: reason withheld\n{name} check failed\n"),
        ),
    }
}

fn verbose(request: &http::Request<Incoming>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|one| one.starts_with("verbose")))
}

fn is_open(open: &[String], path: &str) -> bool {
    open.iter().any(|one| match one.strip_suffix('*') {
        Some(begin) => path.starts_with(begin),
        None => path == one,
    })
}

fn of_certificate(subject: Subject) -> UserInfo {
    let Subject { common_name, organizations: mut groups } = subject;
    groups.push("system:authenticated".to_owned());
    UserInfo { username: Some(common_name), groups: Some(groups), ..UserInfo::default() }
}

fn nobody() -> UserInfo {
    UserInfo {
        username: Some("system:anonymous".to_owned()),
        groups: Some(vec!["system:unauthenticated".to_owned()]),
        ..UserInfo::default()
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then_some(token.trim())
}

fn plain(code: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text.into())));
    *answer.status_mut() = code;
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_paths_may_stand_for_many() {
        let open = ["/healthz".to_owned(), "/open/*".to_owned()];
        for (path, expected) in
            [("/healthz", true), ("/healthz/x", false), ("/metrics", false), ("/open/x", true)]
        {
            assert_eq!(is_open(&open, path), expected, "{path}");
        }
    }
}
