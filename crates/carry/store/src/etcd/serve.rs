//! Connections: gRPC and HTTP on one port, told apart by the type of what comes.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use plimsoll_etcd::etcdserverpb::auth_server::AuthServer;
use plimsoll_etcd::etcdserverpb::cluster_server::ClusterServer;
use plimsoll_etcd::etcdserverpb::kv_server::KvServer;
use plimsoll_etcd::etcdserverpb::lease_server::LeaseServer;
use plimsoll_etcd::etcdserverpb::maintenance_server::MaintenanceServer;
use plimsoll_etcd::etcdserverpb::watch_server::WatchServer;
use plimsoll_etcd::health::health_server::HealthServer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

use super::authority::Unnamed;
use super::{Etcd, REQUEST, http as plain};

/// Beside what a client wants to write there may be so much around it.
const AROUND: usize = 512 << 10;
/// Who connects has this long to show a certificate.
const PATIENCE: Duration = Duration::from_secs(10);

/// How connections are protected: by certificates of both sides.
pub type Tls = Arc<rustls::ServerConfig>;

/// Where the API is served.
#[derive(Clone, Debug)]
pub enum Listen {
    /// On an address; without certificates, whoever reaches it has everything.
    Tcp(SocketAddr, Option<Tls>),
    /// On a socket that the owner alone can use. HTTP/2 refuses clients that name its path as their host (etcdctl 3.4).
    Unix(PathBuf),
}

/// The API cannot be served there.
#[derive(Debug, thiserror::Error)]
#[error("serve the etcd API on {place}: {source}")]
pub struct ListenError {
    place: String,
    source: io::Error,
}

impl Etcd {
    /// Serves the API until `shutdown`; listening when this returns.
    ///
    /// # Errors
    /// When the address or socket cannot be had.
    pub async fn serve(&self, listen: Listen, shutdown: CancellationToken) -> Result<(), ListenError> {
        let (socket, tls) = match listen {
            Listen::Tcp(address, tls) => {
                let failed = |source| ListenError { place: address.to_string(), source };
                (Socket::Tcp(TcpListener::bind(address).await.map_err(failed)?), tls)
            }
            Listen::Unix(path) => {
                let failed = |source| ListenError { place: path.display().to_string(), source };
                (Socket::Unix(private(&path).map_err(failed)?, path), None)
            }
        };
        tracing::info!(%socket, "serving the etcd API");
        let etcd = self.clone();
        tokio::spawn(async move { etcd.accept(socket, tls, shutdown).await });
        Ok(())
    }

    async fn accept(&self, socket: Socket, tls: Option<Tls>, shutdown: CancellationToken) {
        let routes = self.routes();
        let acceptor = tls.map(TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            let Ok(stream) = accepted else {
                // Out of file descriptors, most likely: others may end meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (etcd, routes, acceptor) = (self.clone(), routes.clone(), acceptor.clone());
            let stop = shutdown.clone();
            tokio::spawn(async move {
                let serve = async {
                    match acceptor {
                        None => etcd.connection(stream, routes).await,
                        Some(acceptor) => {
                            let shown = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await;
                            if let Ok(Ok(stream)) = shown {
                                etcd.connection(stream, routes).await;
                            }
                        }
                    }
                };
                tokio::select! {
                    () = serve => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    async fn connection<S>(&self, stream: S, routes: Routes)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| self.respond(&routes, request));
        let mut server = Builder::new(TokioExecutor::new());
        server.http2().max_concurrent_streams(None).adaptive_window(true);
        // Who went away does not mind.
        let _ = server.serve_connection(TokioIo::new(Unnamed::new(stream)), service).await;
    }

    fn respond(
        &self,
        routes: &Routes,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<> {
        let kind = request.headers().get(CONTENT_TYPE);
        let grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let answered = (!grpc).then(|| plain::answer(self, &request));
        let mut routes = routes.clone();
        async move {
            match answered {
                Some(answer) => Ok(answer),
                None => routes.call(request).await,
            }
        }
    }

    fn routes(&self) -> Routes {
        let most = REQUEST + AROUND;
        Routes::new(KvServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(WatchServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(LeaseServer::new(self.clone()))
            .add_service(ClusterServer::new(self.clone()))
            .add_service(MaintenanceServer::new(self.clone()))
            .add_service(AuthServer::new(self.clone()))
            .add_service(HealthServer::new(self.clone()))
            .prepare()
    }
}

/// What is listened on; the file of a socket goes with it.
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// A connection.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

impl Socket {
    async fn accept(&self) -> io::Result<Box<dyn Duplex>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Small answers must not wait for more to come.
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener, _) => Box::new(listener.accept().await?.0),
        })
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => address.fmt(f),
                Err(error) => error.fmt(f),
            },
            Self::Unix(_, path) => path.display().fmt(f),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // It may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Listens on a socket that its owner alone can use; one that a killed process left is replaced.
fn private(path: &Path) -> io::Result<UnixListener> {
    // Under a private name first, so that nobody can connect before the mode is set.
    let fresh = path.with_extension("new");
    clear(&fresh)?;
    clear(path)?;
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Removes a socket on which nobody listens any more, and nothing else.
fn clear(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something is there that is no socket: name another path",
        )),
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"))
        }
        Ok(_) => std::fs::remove_file(path),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_socket_that_is_left_over_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etcd.sock");
        for name in ["etcd.sock", "etcd.new"] {
            let file = folder.path().join(name);
            std::fs::write(&file, "kept").unwrap();
            assert_eq!(private(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
            std::fs::remove_file(&file).unwrap();
        }
        let listener = private(&path).unwrap();
        assert_eq!(private(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        private(&path).unwrap();
    }
}
