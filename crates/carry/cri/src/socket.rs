//! CRI over a Unix socket, as a client and as a server.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::MESSAGE_LIMIT;
use crate::v1::image_service_server::{ImageService, ImageServiceServer};
use crate::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};

/// How long running calls may take after the shutdown.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Why a socket could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The server ended by an error.
    #[error("serving the container runtime interface: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A channel to the engine, or the plugin, behind `socket`.
///
/// Connects at the first call and again after the other side was restarted, so it is made once.
#[must_use]
pub fn connect(socket: &Path) -> Channel {
    let path = socket.to_owned();
    // The URI only fills the authority of the requests: the connector knows the path.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    }))
}

/// Serves an engine on `socket` until `shutdown` ends.
///
/// A socket file that a killed process left is replaced; the new one is accessible to root only.
/// Calls that run when `shutdown` ends may finish; event streams are cut after a second.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve<E, S>(socket: &Path, engine: Arc<E>, shutdown: S) -> Result<(), Error>
where
    E: RuntimeService + ImageService,
    S: Future<Output = ()>,
{
    let listener = listen(socket).map_err(|source| Error::Listen { path: socket.to_owned(), source })?;
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .add_service(RuntimeServiceServer::from_arc(engine.clone()).max_decoding_message_size(MESSAGE_LIMIT))
        .add_service(ImageServiceServer::from_arc(engine).max_decoding_message_size(MESSAGE_LIMIT))
        .serve_with_incoming_shutdown(incoming, async {
            // An error only says that the sender is gone, which means the same.
            let _ = stopped.await;
        });
    let cut = async {
        shutdown.await;
        drop(stop);
        tokio::time::sleep(LAST_CALLS).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = cut => Ok(()),
    }
}

/// Listens on a socket that root alone can use; one that a killed process left is replaced.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    // Under a private name first, so that nobody can connect before the mode is set.
    let fresh = socket.with_extension(format!("{}.new", std::process::id()));
    remove(&fresh)?;
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&fresh, socket)?;
    Ok(listener)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
