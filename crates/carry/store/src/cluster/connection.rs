//! Connections to the members of an etcd cluster.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Response, Status};

use super::Cluster;
use crate::StoreError;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long an answer may take. A cluster that chooses its leader answers within its election timeout.
const ANSWER: Duration = Duration::from_secs(5);
/// etcd takes pings that come faster than every 5 seconds for an attack.
const PING: Duration = Duration::from_secs(6);
/// How long a ping may take.
const PONG: Duration = Duration::from_secs(3);
/// How long members are asked in vain: longer than they usually take to choose a leader.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two rounds.
const PAUSE: Duration = Duration::from_millis(400);
/// The largest answer that is taken: a page of a list, or the changes of a transaction.
pub(super) const LARGEST: usize = 256 << 20;

/// A member's channel, which asks it to refuse when it knows no leader.
pub(super) type Wire = InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>;

/// What may happen to a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// Another member is asked.
    Always,
    /// The same, if it is certain that this one did nothing.
    IfUndone,
}

/// The members, and which of them is asked.
pub(super) struct Members {
    members: Vec<(String, Wire)>,
    current: AtomicUsize,
}

/// A member was not reached: it did nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreached(#[source] io::Error);

impl Members {
    /// Connects when the first call is made.
    pub(super) fn new(cluster: &Cluster) -> Result<Self, StoreError> {
        let tls = tls(cluster)?;
        let member = |endpoint: &String| {
            let (secure, address) = split(endpoint)?;
            let tls = if secure { Some(Arc::clone(&tls)) } else { None };
            Ok((endpoint.clone(), wire(address, tls).map_err(|cause| bad(endpoint, &cause))?))
        };
        let members = cluster.endpoints.iter().map(member).collect::<Result<Vec<_>, StoreError>>()?;
        if members.is_empty() {
            return Err(StoreError::Cluster("name an endpoint of etcd (--datastore-endpoint)".into()));
        }
        Ok(Self { members, current: AtomicUsize::new(0) })
    }

    /// The member whose turn it is.
    pub(super) fn current(&self) -> (usize, Wire) {
        let at = self.current.load(Ordering::Relaxed) % self.members.len();
        (at, self.members[at].1.clone())
    }

    /// The next one's turn, unless it is already.
    pub(super) fn leave(&self, at: usize) {
        let next = (at + 1) % self.members.len();
        // Who was slower finds that somebody else has left.
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// All of them with their names.
    pub(super) fn each(&self) -> impl Iterator<Item = (&str, Wire)> {
        self.members.iter().map(|(endpoint, wire)| (endpoint.as_str(), wire.clone()))
    }

    /// Asks the current member, and others when it does not answer.
    pub(super) async fn ask<T, F>(&self, repeat: Repeat, call: impl Fn(Wire) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (since, mut tried) = (Instant::now(), 0);
        loop {
            let (at, wire) = self.current();
            let answer = tokio::time::timeout(ANSWER, call(wire)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("etcd does not answer in time")));
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            if is_absent(&status) {
                self.leave(at);
            }
            tried += 1;
            let again = match repeat {
                Repeat::Always => is_absent(&status),
                Repeat::IfUndone => is_undone(&status),
            };
            if !again || since.elapsed() > PATIENCE {
                return Err(status);
            }
            if tried % self.members.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Another member may do better.
pub(super) fn is_absent(status: &Status) -> bool {
    // What did not come from a member has a cause, whatever its code.
    std::error::Error::source(status).is_some()
        || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
        || status.message().contains("etcdserver: request timed out")
}

/// The member certainly did nothing.
fn is_undone(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<Unreached>() {
            return true;
        }
        source = cause.source();
    }
    ["etcdserver: no leader", "etcdserver: not capable", "etcdserver: server stopped"]
        .iter()
        .any(|message| status.message().contains(message))
}

fn wire(address: String, tls: Option<Arc<rustls::ClientConfig>>) -> Result<Wire, String> {
    // Security is the connector's matter.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(|error| error.to_string())?;
    let connect = move |_: Uri| {
        let (address, tls, name) = (address.clone(), tls.clone(), name.clone());
        async move {
            let connected = tokio::time::timeout(CONNECT, connect(&address, tls, name)).await;
            let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            connected.map(TokioIo::new).map_err(Unreached)
        }
    };
    let channel = endpoint
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .tcp_nodelay(true)
        .connect_with_connector_lazy(tower::service_fn(connect));
    Ok(InterceptedService::new(channel, needs_leader as fn(_) -> _))
}

fn needs_leader(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    Ok(request)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(
    address: &str,
    tls: Option<Arc<rustls::ClientConfig>>,
    name: ServerName<'static>,
) -> io::Result<Box<dyn Stream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    match tls {
        Some(tls) => Ok(Box::new(tokio_rustls::TlsConnector::from(tls).connect(name, socket).await?)),
        None => Ok(Box::new(socket)),
    }
}

/// The version that a member's cluster works as; none where it does not tell.
pub(super) async fn agreed(cluster: &Cluster, endpoint: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Versions {
        etcdcluster: String,
    }
    let told = get(cluster, endpoint, "/version").await.ok()?;
    let (_, body) = told.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok().map(|Versions { etcdcluster }| etcdcluster)
}

/// What a member tells of itself over plain HTTP where it serves, such as its metrics.
pub(super) async fn get(cluster: &Cluster, endpoint: &str, what: &str) -> Result<String, StoreError> {
    const MOST: u64 = 8 << 20;
    let (secure, address) = split(endpoint)?;
    let failed = |error: io::Error| StoreError::Cluster(format!("{endpoint}{what}: {error}"));
    let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| bad(endpoint, &error.to_string()))?;
    let mut tls = tls(cluster)?;
    Arc::make_mut(&mut tls).alpn_protocols = vec![b"http/1.1".to_vec()];
    let asked = async {
        let mut stream = connect(&address, secure.then_some(tls), name).await?;
        stream.write_all(format!("GET {what} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.take(MOST).read_to_string(&mut text).await?;
        Ok(text)
    };
    let told =
        tokio::time::timeout(ANSWER, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    told.map_err(failed)
}

/// Whether the connection is secured, and to what it goes.
fn split(endpoint: &str) -> Result<(bool, String), StoreError> {
    let (secure, address) = match endpoint.split_once("://") {
        Some(("https", address)) => (true, address),
        Some(("http", address)) => (false, address),
        None => (false, endpoint),
        Some(_) => return Err(bad(endpoint, "it begins with neither http:// nor https://")),
    };
    let address = address.trim_end_matches('/');
    let port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match port && !address.contains('/') {
        true => Ok((secure, address.to_owned())),
        false => Err(bad(endpoint, "it is not SCHEME://HOST:PORT")),
    }
}

fn bad(endpoint: &str, cause: &str) -> StoreError {
    StoreError::Cluster(format!("--datastore-endpoint {endpoint:?}: {cause}"))
}

/// Who is believed, and who we are.
fn tls(cluster: &Cluster) -> Result<Arc<rustls::ClientConfig>, StoreError> {
    let failed = |path: &Path, cause: &dyn std::fmt::Display| {
        StoreError::Cluster(format!("{}: {cause}", path.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = &cluster.authority {
        for certificate in certificates(path).map_err(|error| failed(path, &error))? {
            roots.add(certificate).map_err(|error| failed(path, &error))?;
        }
    }
    let builder =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| StoreError::Cluster(error.to_string()))?
            .with_root_certificates(roots);
    let mut tls = match &cluster.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate).map_err(|error| failed(certificate, &error))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
            builder.with_client_auth_cert(chain, secret).map_err(|error| failed(certificate, &error))?
        }
    };
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(tls))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn endpoints_name_a_scheme_a_host_and_a_port() {
        for (endpoint, means) in [
            ("http://10.0.0.1:2379", Some((false, "10.0.0.1:2379"))),
            ("https://etcd.example:2379/", Some((true, "etcd.example:2379"))),
            ("[::1]:2379", Some((false, "[::1]:2379"))),
            ("https://10.0.0.1", None),
            ("ftp://10.0.0.1:2379", None),
            ("http://10.0.0.1:2379/path", None),
            ("", None),
        ] {
            let found = split(endpoint).ok();
            assert_eq!(found, means.map(|(secure, address)| (secure, address.to_owned())), "{endpoint}");
        }
    }

    #[tokio::test]
    async fn a_member_that_is_not_there_did_nothing() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let cluster = Cluster::plain(vec![format!("http://{gone}")], |_| None);
        let members = Members::new(&cluster).unwrap();
        let status = members
            .ask(Repeat::IfUndone, |wire| async move {
                use plimsoll_etcd::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient};
                MaintenanceClient::new(wire).status(StatusRequest {}).await
            })
            .await
            .unwrap_err();
        assert!(is_undone(&status) && is_absent(&status), "{status:?}");
        assert!(!is_undone(&Status::unavailable("etcdserver: request timed out")));
        assert!(is_undone(&Status::unavailable("etcdserver: no leader")));
    }
}
