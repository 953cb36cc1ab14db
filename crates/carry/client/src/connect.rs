//! Making a `kube::Client`.

use std::path::Path;

use http::{Request, Response};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::Service;

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read, or names something that is not there.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// File, or `(text)`.
        path: String,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Its certificates or keys cannot be used.
    #[error("client for {path}: {source}")]
    Client {
        /// File, or `(text)`.
        path: String,
        /// What is wrong with it.
        source: Box<kube::Error>,
    },
}

/// A client for the current context of a kubeconfig file.
pub async fn connect_kubeconfig(path: impl AsRef<Path>) -> Result<kube::Client, ConnectError> {
    let name = path.as_ref().display().to_string();
    let config = Kubeconfig::read_from(path)
        .map_err(|source| ConnectError::Kubeconfig { path: name.clone(), source: Box::new(source) })?;
    connect(config, name).await
}

/// A client for the current context of a kubeconfig given as YAML.
pub async fn connect_kubeconfig_text(text: &str) -> Result<kube::Client, ConnectError> {
    let name = "(text)".to_owned();
    let config = Kubeconfig::from_yaml(text)
        .map_err(|source| ConnectError::Kubeconfig { path: name.clone(), source: Box::new(source) })?;
    connect(config, name).await
}

async fn connect(config: Kubeconfig, path: String) -> Result<kube::Client, ConnectError> {
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default())
        .await
        .map_err(|source| ConnectError::Kubeconfig { path: path.clone(), source: Box::new(source) })?;
    // The program links two providers of cryptography; the first one that is named here stays. An error only
    // says that one is named already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    kube::Client::try_from(config).map_err(|source| ConnectError::Client { path, source: Box::new(source) })
}

/// A client whose requests go to `service` in this process: no socket, no TLS, no copy of bodies.
///
/// Identity is the service's business: wrap it so that each request carries who calls.
pub fn from_service<S, B>(service: S) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    kube::Client::new(service, "default")
}
