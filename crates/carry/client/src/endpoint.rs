//! JSON to and from one address elsewhere: webhooks, issuers of identity tokens.

use std::path::Path;
use std::time::Duration;

use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

/// An answer longer than this many bytes is none.
const LONGEST: usize = 3 << 20;

/// One address that is asked, with its authority and our credentials there.
#[derive(Clone)]
pub struct Endpoint {
    client: Client,
    path: String,
    timeout: Duration,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("path", &self.path).finish()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address, authority or credentials are unusable.
    #[error("{0}")]
    Configuration(String),
    /// The connection failed.
    #[error("{0}")]
    Connection(String),
    /// Too slow.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Answered with another code than 2xx.
    #[error("the server answered {code}: {body}")]
    Refused {
        /// The code.
        code: u16,
        /// Begin of the body.
        body: String,
    },
    /// The answer is not JSON.
    #[error("the answer is no JSON: {0}")]
    Form(String),
}

impl EndpointError {
    /// Whether asking again may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Connection(_) => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }
}

impl Endpoint {
    /// The server that a file in the format of kubeconfig names, at exactly the path there.
    pub async fn from_kubeconfig(file: &Path, timeout: Duration) -> Result<Self, EndpointError> {
        let failed = |error: &dyn std::fmt::Display| EndpointError::Configuration(error.to_string());
        let file = Kubeconfig::read_from(file).map_err(|error| failed(&error))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        Self::new(config.map_err(|error| failed(&error))?, timeout)
    }

    /// The server at a URL, trusted by the authorities in `authority` (PEM), or the machine's.
    pub fn at(url: &str, authority: Option<&str>, timeout: Duration) -> Result<Self, EndpointError> {
        let failed = |error: &dyn std::fmt::Display| EndpointError::Configuration(format!("{url}: {error}"));
        let mut config = Config::new(url.parse().map_err(|error: http::uri::InvalidUri| failed(&error))?);
        if let Some(authority) = authority {
            let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authority.as_bytes())
                .map(|found| found.map(|certificate| certificate.to_vec()))
                .collect();
            let certificates = certificates.map_err(|error| failed(&error))?;
            if certificates.is_empty() {
                return Err(failed(&"no certificate in the authority's PEM"));
            }
            config.root_cert = Some(certificates);
        }
        Self::new(config, timeout)
    }

    fn new(mut config: Config, timeout: Duration) -> Result<Self, EndpointError> {
        let failed = |error: &dyn std::fmt::Display| EndpointError::Configuration(error.to_string());
        let mut parts = std::mem::take(&mut config.cluster_url).into_parts();
        let path = parts.path_and_query.take().map_or_else(|| "/".to_owned(), |path| path.to_string());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        config.cluster_url = Uri::from_parts(parts).map_err(|error| failed(&error))?;
        config.connect_timeout = Some(timeout);
        // Who asks decides whether to ask again.
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| failed(&error))?;
        Ok(Self { client, path, timeout })
    }

    /// Sends a document and reads the answer.
    pub async fn post(&self, document: &Value) -> Result<Value, EndpointError> {
        self.ask(Method::POST, document.to_string().into_bytes()).await
    }

    /// Reads the document there.
    pub async fn get(&self) -> Result<Value, EndpointError> {
        self.ask(Method::GET, Vec::new()).await
    }

    async fn ask(&self, method: Method, body: Vec<u8>) -> Result<Value, EndpointError> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(method, body)).await;
        answered.map_err(|_| EndpointError::Timeout(self.timeout))?
    }

    async fn exchange(&self, method: Method, body: Vec<u8>) -> Result<Value, EndpointError> {
        let failed = |error: &dyn std::fmt::Display| EndpointError::Connection(error.to_string());
        let request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .body(kube::client::Body::from(body))
            .map_err(|error| EndpointError::Configuration(error.to_string()))?;
        let response = self.client.send(request).await.map_err(|error| failed(&chain(&error)))?;
        let (head, body) = response.into_parts();
        let bytes = Limited::new(body, LONGEST).collect().await.map_err(|error| failed(&error))?.to_bytes();
        if !head.status.is_success() || head.status == StatusCode::NO_CONTENT {
            let body = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            return Err(EndpointError::Refused { code: head.status.as_u16(), body });
        }
        serde_json::from_slice(&bytes).map_err(|error| EndpointError::Form(error.to_string()))
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        next = cause.source();
    }
    text
}
