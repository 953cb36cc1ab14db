//! Key management services (KMS v2) over Unix sockets.
//!
//! What enters: the path of a socket and what is to be encrypted or decrypted. What leaves: what the service
//! said. The messages are compiled from `proto/kms.proto`; this crate never decides when a call is made.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::v2::key_management_service_client::KeyManagementServiceClient;

/// The messages and services of package `v2`.
#[expect(
    missing_docs,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated from the interface description, where the explanations stand"
)]
pub mod v2 {
    tonic::include_proto!("v2");
}

/// A service behind a socket. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Client {
    inner: KeyManagementServiceClient<Channel>,
    timeout: Duration,
}

impl Client {
    /// A client that connects at its first call, and again when the service was restarted.
    #[must_use]
    pub fn new(socket: &str, timeout: Duration) -> Self {
        let socket = socket.to_owned();
        // The URI only fills the authority of the requests: the connector knows the path.
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { connect(&socket).await.map(TokioIo::new) }
        }));
        Self { inner: KeyManagementServiceClient::new(channel), timeout }
    }

    /// How the service is.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn status(&self) -> Result<v2::StatusResponse, Status> {
        let mut inner = self.inner.clone();
        self.in_time(inner.status(v2::StatusRequest {})).await
    }

    /// Encrypts; `uid` names the call in the logs of both sides.
    ///
    /// # Errors
    /// When it does not answer in time, or cannot.
    pub async fn encrypt(&self, plaintext: Vec<u8>, uid: String) -> Result<v2::EncryptResponse, Status> {
        let mut inner = self.inner.clone();
        self.in_time(inner.encrypt(v2::EncryptRequest { plaintext, uid })).await
    }

    /// Decrypts.
    ///
    /// # Errors
    /// When it does not answer in time, or cannot.
    pub async fn decrypt(&self, request: v2::DecryptRequest) -> Result<Vec<u8>, Status> {
        let mut inner = self.inner.clone();
        self.in_time(inner.decrypt(request)).await.map(|answer| answer.plaintext)
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
        }
    }
}

/// Connects to a socket of the file system, or to an abstract one, whose name begins with `@`.
async fn connect(socket: &str) -> std::io::Result<UnixStream> {
    match socket.strip_prefix('@') {
        None => UnixStream::connect(socket).await,
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::{SocketAddr, UnixStream as Blocking};
            let stream = Blocking::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        }
    }
}
